"""What a nonce costs: spent in shared statements and in one each, remembered, forgotten; and a MAC without its nonce.

`python -m bench.nonces` prints the tables, `--write` writes them to NONCES.md. Rounds are interleaved, so that what
the machine does meanwhile falls on all ways alike; ratios are taken within a round.

A *single* statement is the least that one would write instead: one row into the same table, `on conflict do nothing
returning`, for each waiting request on one of ten connections of the store, with its deadline. It looks at no floor.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median
from typing import Final

import asyncpg
import uvloop

from bench import machine
from bench.machine import LOAD_CORE, PROXY_CORE, Tree
from bench.report import spread, table
from gateway import config
from gateway.config import Settings
from gateway.credentials import mac
from gateway.credentials.signed import Signed
from gateway.crypto import Keyring
from gateway.errors import Refused
from gateway.guard import Call, Guard, settled
from gateway.guard.nonces import Nonces, key
from gateway.model import AccessToken, Identity
from gateway.routing import Route
from gateway.store import NewClient, Store
from gateway.store.database import Database, Server
from gateway.store.migrations import migrate
from gateway.store.nonces import MINUTE
from gateway.supervisor import embedded

WAITING: Final = (1, 16, 64, 256)
CONNECTIONS: Final = 10
SLOTS: Final = 32
TURNED: Final = 8  # partitions that are emptied in a round
_KEYRING: Final = Keyring(b"obviously-a-fake-key-for-tests!!")
_SINGLE: Final = "insert into nonces (slot, key) values ($1, $2) on conflict do nothing returning key"
_FILE: Final = Path(__file__).with_name("NONCES.md")

Spend = Callable[[str], Awaitable[bool]]


@dataclass(slots=True)
class Figures:
    """One way under one load, a value for each round: nonces per second, milliseconds, microseconds of CPU."""

    rate: list[float] = field(default_factory=list)
    p50: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    client: list[float] = field(default_factory=list)
    server: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Bench:
    """A durable database with the schema, a store on it, and nonces as a worker has them."""

    dsn: str
    store: Store
    nonces: Nonces
    token: AccessToken
    database: Tree
    numbers: "count[int]" = field(default_factory=count)

    def signed(self, nonce: str) -> Signed:
        return Signed(scheme="mac", token="t", nonce=nonce, proofs=(), draft="01", created=int(time.time()))

    async def batched(self, nonce: str) -> bool:
        """As the guard does it."""
        return bool(await self.nonces.spend(self.token, self.signed(nonce)))

    def server_cpu(self) -> float:
        return sum(process.cpu for process in self.database.processes())


@asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """A bench on a durable database of its own; both end with the context."""
    folder = _folder()
    try:
        async with embedded.Server(folder / "data") as server:
            await migrate(server.dsn)
            assert server.pid is not None
            os.sched_setaffinity(server.pid, {PROXY_CORE})
            store = await Store.open(server.dsn, _KEYRING)
            nonces = Nonces(store.nonces, 60.0, time.time)
            await nonces.keep()
            yield Bench(server.dsn, store, nonces, _token(), Tree(server.pid))
            await nonces.close()
            await store.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="gateway-bench-"))
    folder.chmod(0o711)  # for the system user that Postgres runs as
    return folder


def _token() -> AccessToken:
    now = datetime.now(UTC)
    return AccessToken(
        digest=os.urandom(32), identity=Identity(subject="app", client_id="app"), scopes=frozenset(), token_type="mac",
        audience=(), issued_at=now, expires_at=now + timedelta(days=1), mac_key=b"k" * 43, mac_algorithm="hmac-sha-256",
        mac_drafts=("01",),
    )  # fmt: skip


class Singles(Database):
    """One statement for each nonce, with a deadline like all statements of the store, on its connections in turn."""

    def __init__(self, made: Bench) -> None:
        super().__init__(partial(Server(made.dsn).connect, "gateway-bench"), CONNECTIONS)
        self._made = made

    async def spend(self, nonce: str) -> bool:
        signed = self._made.signed(nonce)
        assert signed.created is not None
        slot, its_key = signed.created // MINUTE % SLOTS, key(self._made.token, signed)
        async with self.lend() as connection:
            return await connection.fetchrow(_SINGLE, slot, its_key) is not None


# -- spending ------------------------------------------------------------------------------------------------


async def load(made: Bench, spend: Spend, waiting: int, seconds: float) -> list[float]:
    """The seconds that each nonce took, with so many that wait at any time."""
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def one() -> None:
        while (started := time.perf_counter()) < end:
            assert await spend(f"n{next(made.numbers)}")
            took.append(time.perf_counter() - started)

    await asyncio.gather(*(one() for _ in range(waiting)))
    return took


async def measure(made: Bench, spend: Spend, waiting: int, seconds: float, into: Figures) -> None:
    """One round."""
    client, server, started = time.process_time(), made.server_cpu(), time.perf_counter()
    took = sorted(await load(made, spend, waiting, seconds))
    passed = time.perf_counter() - started
    into.rate.append(len(took) / passed)
    into.p50.append(took[len(took) // 2] * 1e3)
    into.p99.append(took[len(took) * 99 // 100] * 1e3)
    into.client.append((time.process_time() - client) / len(took) * 1e6)
    into.server.append((made.server_cpu() - server) / len(took) * 1e6)


async def spending(made: Bench, rounds: int, seconds: float) -> str:
    """Batched against one statement each."""
    found: dict[tuple[int, str], Figures] = {}
    singles = Singles(made)
    ways: dict[str, Spend] = {"one statement each": singles.spend, "batched": made.batched}
    for way in ways.values():
        await load(made, way, 64, 0.5)
    for round_ in range(rounds):
        for waiting in WAITING:
            for name in list(ways)[:: 1 if round_ % 2 else -1]:
                figures = found.setdefault((waiting, name), Figures())
                await measure(made, ways[name], waiting, seconds, figures)
    await singles.close()
    rows = [
        [
            str(waiting), name, spread(figures.rate, "{:,.0f}"), spread(figures.p50), spread(figures.p99),
            f"{median(figures.client):.1f} + {median(figures.server):.1f}",
        ]
        for waiting in WAITING for name in ways for figures in [found[waiting, name]]
    ]  # fmt: skip
    return "\n\n".join(
        [
            "### Spending",
            table(["waiting", "way", "nonces/s", "p50 ms", "p99 ms", "CPU µs, client + server"], rows),
            _floors(found),
        ]
    )


def _floors(found: dict[tuple[int, str], Figures]) -> str:
    def ratios(waiting: int, of: Callable[[Figures], list[float]]) -> list[float]:
        pairs = zip(of(found[waiting, "batched"]), of(found[waiting, "one statement each"]), strict=True)
        return [batched / one for batched, one in pairs]

    return table(
        ["floor", "wanted", "found"],
        [
            ["64 waiting: nonces, batched to single", "≥ 3", spread(ratios(64, lambda figures: figures.rate))],
            ["64 waiting: p99, batched to single", "≤ 1", spread(ratios(64, lambda figures: figures.p99))],
            ["a lone request: p50, batched to single", "≤ 1.2", spread(ratios(1, lambda figures: figures.p50))],
        ],
    )


# -- remembering and forgetting ------------------------------------------------------------------------------


async def turning(made: Bench, rounds: int, seconds: float) -> str:
    """Spends while partitions are emptied, against spends while none is."""
    seconds *= 2
    quiet, busy, emptying = Figures(), Figures(), list[float]()
    for _ in range(rounds):
        await measure(made, made.batched, 64, seconds, quiet)
        await _left_behind(made)
        turned = asyncio.create_task(_empty(made, seconds, emptying))
        await measure(made, made.batched, 64, seconds, busy)
        await turned
    ratios = [one / other for one, other in zip(busy.p99, quiet.p99, strict=True)]
    return "### Partitions that turn over, 64 waiting\n\n" + table(
        ["", "p50 ms", "p99 ms"],
        [
            ["none is emptied", spread(quiet.p50), spread(quiet.p99)],
            [f"{TURNED} of 10,000 nonces each are emptied", spread(busy.p50), spread(busy.p99)],
            ["p99, ratio (wanted: ≤ 3)", "", spread(ratios)],
            ["emptying one, ms", spread([took * 1e3 for took in emptying], "{:.1f}"), ""],
        ],
    )


async def _left_behind(made: Bench) -> None:
    """Fill the partitions that the floor has left behind, as if they were from before."""
    connection = await asyncpg.connect(made.dsn)
    await connection.execute(
        "insert into nonces select (floor / 60 + 24 + n % 8) % 32, decode(md5(random()::text || n), 'hex') "
        "from generate_series(1, 80000) n, nonce_floor"
    )
    await connection.close()


async def _empty(made: Bench, seconds: float, took: list[float]) -> None:
    """Empty them one by one, spread over the round; the floor moves too, as it does with each."""
    connection = await asyncpg.connect(made.dsn)
    for slot in range(24, 32):
        await asyncio.sleep(seconds / (TURNED + 1))
        started = time.perf_counter()
        assert await connection.fetchval("select empty_nonce_slot((floor / 60 + $1)::int % 32) from nonce_floor", slot)
        took.append(time.perf_counter() - started)
        await connection.execute("update nonce_floor set floor = floor + 1 where floor % 60 < 59")
    await connection.close()


async def storage(made: Bench, number: int) -> str:
    """Bytes for each million that is remembered, and what forgetting them costs."""
    connection = await asyncpg.connect(made.dsn)
    await connection.execute("truncate nonces, token_nonces")
    found = (await made.store.nonces.terms()).terms
    later, rows = datetime.now(UTC) - timedelta(seconds=1), list[list[str]]()
    for name in ("nonces", "token_nonces"):
        for start in range(0, number, 1000):
            keys = [os.urandom(16) for _ in range(1000)]
            if name == "nonces":
                await made.store.nonces.spend(keys, [found.floor + 1 + start * 240 // number] * 1000, found)
            else:
                await made.store.nonces.spend_untimed([(key, later) for key in keys])
        size = await connection.fetchval(
            "select sum(pg_total_relation_size(relid)) from pg_partition_tree($1::regclass)", name
        ) or await connection.fetchval("select pg_total_relation_size($1::regclass)", name)
        before, started = await connection.fetchval("select pg_current_wal_lsn()"), time.perf_counter()
        if name == "nonces":
            await made.store.nonces.raise_floor(found.floor + 6 * MINUTE)
            await made.store.nonces.empty_slots()
        else:
            while await made.store.upkeep.sweep(1000):
                pass
        seconds = time.perf_counter() - started
        written = await connection.fetchval("select pg_wal_lsn_diff(pg_current_wal_lsn(), $1)", before)
        million = 1e6 / number
        kind = "with a timestamp" if name == "nonces" else "of a token's life (draft 00)"
        rows.append(
            [
                kind,
                f"{float(size) * million / 1e6:.0f}",
                f"{seconds * million:.2f}",
                f"{float(written) / 1e6 * million:.1f}",
            ]
        )
    await connection.close()
    head = ["nonces", "MB per million", "s to forget a million", "MB of WAL for that"]
    return "### Remembering and forgetting\n\n" + table(head, rows)


# -- a MAC without its nonce ---------------------------------------------------------------------------------


async def verifying(made: Bench, rounds: int, number: int) -> str:
    """The CPU of all checks of a MAC request but the nonce: the last one before it, the scope, refuses."""
    route = {
        "name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["mac"], "scopes": ["write"],
    }  # fmt: skip
    tables = {"server": {"public_url": "https://api.example.com"}, "scopes": {"write": "Write"}, "routes": [route]}
    settings = Settings(config.parse(tables), Path("/nowhere/config.toml"), None, _KEYRING, ())
    client, _ = await made.store.clients.create(
        NewClient(
            name="App", confidential=True, redirect_uris=(), grant_types=frozenset({"client_credentials"}),
            scopes=frozenset({"read"}), token_type="mac", mac_drafts=("01",), mac_algorithm="hmac-sha-256",
        )
    )  # fmt: skip
    tokens = await made.store.tokens.issue(client.client_id, None, frozenset({"read"}), 3600, None)
    (compiled,) = config.compile_routes(settings.config)
    guard = Guard(made.store, settings)
    await guard.start()
    costs = []
    for _ in range(rounds):
        calls = [_call(compiled, tokens.access_token, (tokens.mac_key or "").encode(), n) for n in range(number)]
        await _scope_refused(guard, calls[:100])
        started = time.process_time()
        await _scope_refused(guard, calls)
        costs.append((time.process_time() - started) / number * 1e6)
    await guard.close()
    return "### A MAC request, all checks but the nonce\n\n" + table(
        ["", "wanted", "found"], [["CPU µs", "< 40", spread(costs, "{:.1f}")]]
    )


async def _scope_refused(guard: Guard, calls: list[Call]) -> None:
    for call in calls:
        verdict = await settled(guard.check(call))
        assert isinstance(verdict, Refused)
        assert verdict.status == 403, verdict


def _call(route: Route, token: str, key: bytes, number: int) -> Call:
    target = b"/notes/1?b=1&a=2"
    nonce, ts = f"dj83hs9s{number}", str(int(time.time()))
    covered = mac.Covered(method="GET", target=target, host="api.example.com", port=443)
    text = mac.normalized_string(covered, nonce=nonce, ts=ts, bodyhash=None, ext=None)
    credentials = mac.Credentials(
        id=token, ts=ts, nonce=nonce, bodyhash=None, ext=None, mac=mac.sign(key, "hmac-sha-256", text)
    )
    return Call(
        route=route, method="GET", target=target, host="api.example.com", port=443,
        authorization=(mac.render(credentials).encode(),),
    )  # fmt: skip


# -- the command ---------------------------------------------------------------------------------------------


async def _run(rounds: int, seconds: float, number: int) -> str:
    async with bench() as made:
        parts = [
            await spending(made, rounds, seconds),
            await turning(made, rounds, seconds),
            await verifying(made, rounds, max(200, int(5000 * seconds))),
            await storage(made, number),
        ]
    return "\n\n".join(parts)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.nonces", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="of one round, way and load")
    parser.add_argument("--million", type=int, default=1_000_000, help="nonces to remember")
    parser.add_argument("--write", action="store_true", help="write NONCES.md")
    given = parser.parse_args()
    began = time.monotonic()
    text = uvloop.run(_pinned(given.rounds, given.seconds, given.million))
    text += f"\n\n{machine.description()}; measured in {(time.monotonic() - began) / 60:.1f} minutes."
    print(text)
    if given.write:
        about = (__doc__ or "").partition("\n")[2].strip()
        head = f"# What a nonce costs\n\n{about}\n\nFigures are medians of the rounds, with their range.\n\n"
        _FILE.write_text(head + text + "\n", encoding="utf-8")


async def _pinned(rounds: int, seconds: float, number: int) -> str:
    """The client on one core, the database on the other, where there are two."""
    if {LOAD_CORE, PROXY_CORE} <= os.sched_getaffinity(0):
        os.sched_setaffinity(0, {LOAD_CORE})
    return await _run(rounds, seconds, number)


if __name__ == "__main__":
    main()
