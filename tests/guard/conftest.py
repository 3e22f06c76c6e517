"""A guard over a real store, with clients, tokens of both kinds, a route, and a clock that the test sets."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fuzz.values import changed
from gateway import config
from gateway.config import Settings
from gateway.credentials import mac
from gateway.crypto import Keyring, digest
from gateway.errors import Refused
from gateway.guard import Allowed, BodyAwaited, Call, Guard, Pending, Verdict, settled
from gateway.guard.ledger import Ledger, parts
from gateway.model import Client, TokenType
from gateway.routing import Route
from gateway.store import NewClient, Store
from gateway.store.clock import since_boot
from gateway.store.records import IssuedTokens
from tests.guard.relay import Relay, relaying
from tests.loops import pytest_asyncio_loop_factories
from tests.serving import holds_within, until

__all__ = ["pytest_asyncio_loop_factories"]

TABLES: dict[str, Any] = {
    "server": {"public_url": "https://api.example.com"},
    "scopes": {"read": "Read", "write": "Write"},
    "mac": {"algorithms": ["hmac-sha-256", "hmac-sha-1"], "drafts": ["01", "00"]},
    "routes": [
        {
            "name": "notes",
            "path": "/notes",
            "upstreams": ["http://127.0.0.1:9"],
            "auth": ["bearer", "mac"],
            "scopes": {"GET": ["read"], "*": ["write"]},
        },
        {"name": "other", "path": "/other", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer", "mac"]},
        {"name": "bearer", "path": "/bearer", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]},
        {
            "name": "both",
            "path": "/both",
            "upstreams": ["http://127.0.0.1:9"],
            "auth": ["bearer"],
            "scopes": ["read", "write"],
        },
        {"name": "mac", "path": "/mac", "upstreams": ["http://127.0.0.1:9"], "auth": ["mac"]},
        {"name": "public", "path": "/public", "upstreams": ["http://127.0.0.1:9"], "auth": "none"},
    ],
}


SIGNATURE_FIELDS = ((b"signature", b"Signature", b"sig=:AA==:"), (b"signature-input", b"Signature-Input", b"sig=()"))


def settings_for(keyring: Keyring, **tables: Any) -> Settings:
    """The settings of the tests' configuration, with some of its tables replaced."""
    read = config.parse(TABLES | tables)
    return Settings(read, Path("/nowhere/config.toml"), None, keyring, ())


class Clock:
    """The system's time, and what a test adds to it; or a moment at which it stands still."""

    offset = 0.0
    _stopped_at: float | None = None

    def __call__(self) -> float:
        return (time.time() if self._stopped_at is None else self._stopped_at) + self.offset

    def stop(self, at: float | None = None) -> None:
        """Let it stand still, now or at another moment, so that what a test does takes none of the time it judges."""
        self._stopped_at, self.offset = self() if at is None else at, 0.0


async def verdict_of(guard: Guard, call: Call) -> Verdict:
    """The verdict, waited for where it must be; a body that is awaited is for the tests of bodies."""
    verdict = await settled(guard.check(call))
    assert not isinstance(verdict, BodyAwaited)
    return verdict


def new_client(token_type: TokenType = "bearer", **changes: Any) -> NewClient:
    """A confidential client that may do everything, with some of it changed."""
    return changed(
        NewClient(
            name="App",
            confidential=True,
            redirect_uris=(),
            grant_types=frozenset({"client_credentials"}),
            scopes=frozenset({"read", "write"}),
            token_type=token_type,
            mac_drafts=("01",),
            mac_algorithm="hmac-sha-256",
        ),
        **changes,
    )


@dataclass(kw_only=True)
class World:
    """What a test of the guard works with."""

    store: Store
    database: str
    keyring: Keyring
    guard: Guard
    clock: Clock
    routes: dict[str, Route]
    client: Client

    @classmethod
    async def over(cls, store: Store, database: str, keyring: Keyring) -> "World":
        """A guard, its routes and a client, in the database of a store."""
        settings, clock = settings_for(keyring), Clock()
        client, _ = await store.clients.create(new_client())
        return cls(
            store=store,
            database=database,
            keyring=keyring,
            guard=Guard(store, settings, clock=clock),
            clock=clock,
            routes={route.name: route for route in config.compile_routes(settings.config)},
            client=client,
        )

    async def token(self, *scopes: str, kind: TokenType = "bearer", ttl: float = 3600.0) -> IssuedTokens:
        """A token of the usual client's, with the scope `read` unless others are named."""
        return await self.store.tokens.issue(self.client.client_id, None, frozenset(scopes or {"read"}), ttl, kind)

    async def check(self, call: Call, guard: Guard | None = None) -> Verdict:
        """The verdict on a call."""
        return await verdict_of(guard or self.guard, call)

    def call(self, *authorization: str | bytes, route: str = "notes", **changes: Any) -> Call:
        """A GET of `/notes/1`, or of another route, with these Authorization fields."""
        fields = tuple(value if isinstance(value, bytes) else value.encode() for value in authorization)
        usual = Call(
            route=self.routes[route],
            method="GET",
            target=self.routes[route].path + b"/1?b=1&a=2",
            host="api.example.com",
            port=443,
            authorization=fields,
        )
        return changed(usual, **changes)

    def signed(self, tokens: IssuedTokens, *, route: str = "notes", **changes: Any) -> Call:
        """A call with a right signature; `changes` to attributes and to the request are made before signing."""
        parts = {name: changes.pop(name) for name in ("method", "target", "host", "port") if name in changes}
        return self.call(self.authorization(tokens, self.call(route=route, **parts), **changes), route=route, **parts)

    def authorization(self, tokens: IssuedTokens, call: Call, **changes: Any) -> str:
        """The Authorization value of a right signature for `call`."""
        attributes: dict[str, Any] = {"ts": str(int(self.clock())), "nonce": "n1", "ext": None, "bodyhash": None}
        attributes |= {name: value for name, value in changes.items() if name in attributes}
        covered = mac.Covered(method=call.method, target=call.target, host=call.host, port=call.port)
        text = mac.normalized_string(covered, **attributes)
        key, algorithm = changes.get("key") or tokens.mac_key, changes.get("algorithm") or tokens.mac_algorithm
        assert key is not None
        assert algorithm is not None
        signature = mac.sign(key.encode(), algorithm, text)
        return mac.render(mac.Credentials(id=changes.get("id", tokens.access_token), mac=signature, **attributes))

    async def nonces(self) -> int:
        """How many nonces the database remembers."""
        connection = await asyncpg.connect(self.database)
        try:
            return int(
                await connection.fetchval("select (select count(*) from nonces) + (select count(*) from token_nonces)")
            )
        finally:
            await connection.close()

    @asynccontextmanager
    async def worker(self, dsn: str | None = None, *, follows: bool = True, **options: Any) -> AsyncIterator["Worker"]:
        """A guard with a store of its own that follows the change log, as each worker has one."""
        stale_for = options.pop("stale_for", "0s")
        further = {name: options.pop(name, ()) for name in ("replicas", "nonces")}
        other = Store.over(dsn or self.database, self.keyring, size=4, name="gateway-test-worker", **further)
        guard = Guard(other, settings_for(self.keyring, tokens={"stale_for": stale_for}), clock=self.clock, **options)
        worker = Worker(self, other, guard)
        try:
            if follows:
                await guard.start()
                await until(worker.follows)
            yield worker
        finally:
            await guard.close()
            await other.close()

    @asynccontextmanager
    async def second_guard(self) -> AsyncIterator[Guard]:
        """A guard with a store of its own, as another worker has."""
        other = await Store.open(self.database, self.keyring, size=4, name="gateway-test-2")
        try:
            yield Guard(other, settings_for(self.keyring), clock=self.clock)
        finally:
            await other.close()


@dataclass(kw_only=True)
class Offset:
    """Seconds since boot that stand still but for what a test adds: as a worker sees it that was stopped meanwhile.

    Where a test adds nothing, no lease lapses, however slow the machine.
    """

    seconds: float = 0.0
    began: float = field(default_factory=since_boot)

    def __call__(self) -> float:
        return self.began + self.seconds


@dataclass
class Worker:
    """A guard that follows the change log."""

    world: World
    store: Store
    guard: Guard

    @property
    def ledger(self) -> Ledger:
        return self.guard._ledger

    def follows(self) -> bool:
        """Whether what it has cached counts at this moment."""
        return self.ledger.server is not None and self.ledger.elapsed() < self.ledger.holds_until

    async def check(self, tokens: IssuedTokens, **changes: Any) -> Verdict:
        return await verdict_of(self.guard, self.world.call(f"Bearer {tokens.access_token}", **changes))

    def at_once(self, tokens: IssuedTokens, **changes: Any) -> Verdict | None:
        """The verdict, if no database is needed for it."""
        found = self.guard.check(self.world.call(f"Bearer {tokens.access_token}", **changes))
        if isinstance(found, Allowed | Refused):
            return found
        assert isinstance(found, Pending)
        found.drop()
        return None

    async def holds(self, tokens: IssuedTokens) -> None:
        """Have a token in the cache, and in the lease (which a busy machine may let lapse for a moment)."""
        assert isinstance(await self.check(tokens), Allowed)
        await self.still_holds(tokens)

    def marks(self, tokens: IssuedTokens) -> set[int]:
        """What the life of a token in the cache hangs on; two things may share a mark (`guard.ledger`)."""
        held = self.guard._tokens.cache._entries[digest(tokens.access_token)]
        return {*parts(held.allowed.marks)}

    async def still_holds(self, tokens: IssuedTokens) -> None:
        """Wait until a token that is in the cache is in the lease too; what is not in the cache never is."""
        await until(lambda: isinstance(self.at_once(tokens), Allowed))

    async def refuses(self, tokens: IssuedTokens, within: float) -> None:
        """See that the token does not pass where it comes so many seconds from now, and is refused for good (401)."""

        async def does_not_pass() -> bool:
            return not isinstance(await self.check(tokens), Allowed)

        async def is_refused() -> bool:
            verdict = await self.check(tokens)
            assert not isinstance(verdict, Allowed)
            if verdict.status == 503:  # the database has its own time
                return False
            assert (verdict.status, verdict.error) == (401, "invalid_token")
            return True

        await holds_within(within, does_not_pass)
        await until(is_refused)
        for _ in range(5):
            assert not isinstance(await self.check(tokens), Allowed)

    async def moves(self, position: int) -> None:
        """Wait until more of the log has been applied than up to `position`."""
        await until(lambda: self.ledger.position > position)


@pytest.fixture
async def world(store: Store, database: str, keyring: Keyring) -> World:
    """A guard, its routes and a client."""
    return await World.over(store, database, keyring)


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    """A wire to the database that the test can cut."""
    async with relaying(database) as made:
        yield made
