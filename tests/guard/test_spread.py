"""Nonces over several databases: each is spent in one of them, whoever asks, and a change lets none pass twice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from gateway.crypto import digest
from gateway.errors import Refused, StoreUnavailable
from gateway.guard import Allowed, Verdict, spread
from gateway.guard.spread import Spread, home
from gateway.store.nonces import MADE_AHEAD, READ_AHEAD
from gateway.store.records import IssuedTokens
from tests.databases import cloned
from tests.guard.conftest import Worker, World
from tests.guard.pooler import PROGRAM as PGBOUNCER
from tests.guard.pooler import pooling
from tests.guard.relay import relaying
from tests.serving import until
from tests.store.rig import count, fetch

NAMES = ("alpha", "beta")


@dataclass
class Spreading:
    """A world whose nonces may be spread over two further databases."""

    world: World
    dsns: tuple[str, ...]

    async def lay(self, *names: str, second: int = 1) -> None:
        """Have a layout count from a second on."""
        sql = "insert into nonce_layouts (from_second, databases) values ($1, $2)"
        await fetch(self.world.database, sql, second, sorted({"", *names}))

    async def spent(self) -> list[int]:
        """How many nonces each database has."""
        return [await count(dsn, "nonces") for dsn in (self.world.database, *self.dsns)]

    def at_home(self, name: str, tokens: list[IssuedTokens], names: tuple[str, ...] = ("", *NAMES)) -> IssuedTokens:
        """A token whose nonces belong into a database."""
        return next(one for one in tokens if home(digest(one.access_token), names) == name)

    async def tokens(self) -> list[IssuedTokens]:
        """Enough MAC tokens for each database to have some."""
        return [await self.world.token(kind="mac") for _ in range(30)]

    async def signed(self, worker: Worker, tokens: IssuedTokens, nonce: str = "n1", **changes: Any) -> Verdict:
        return await self.world.check(self.world.signed(tokens, nonce=nonce, **changes), worker.guard)


@pytest.fixture
async def spreading(world: World, server: str, template: str) -> AsyncIterator[Spreading]:
    async with AsyncExitStack() as stack:
        dsns = tuple([await stack.enter_async_context(cloned(server, template)) for _ in NAMES])
        for dsn, name in zip(dsns, NAMES, strict=True):
            await fetch(dsn, "update nonce_database set name = $1", name)
        world.clock.stop()
        yield Spreading(world, dsns)


@asynccontextmanager
async def knowing(spreading: Spreading, *dsns: str) -> AsyncIterator[Worker]:
    """A worker with these further databases, once it knows their names."""
    async with spreading.world.worker(nonces=dsns) as worker:
        await until(lambda: spread_of(worker)._until and all(one.name for one in spread_of(worker)._others))
        yield worker


def spread_of(worker: Worker) -> Spread:
    return worker.guard._nonces


def cause_of(verdict: Verdict) -> str:
    assert isinstance(verdict, Refused)
    return verdict.cause


async def test_nonce_passes_once_over_workers_whichever_database_has_it(spreading: Spreading) -> None:
    await spreading.lay(*NAMES)
    tokens = await spreading.tokens()
    async with knowing(spreading, *spreading.dsns) as one, knowing(spreading, *reversed(spreading.dsns)) as other:
        for number, each in enumerate(tokens):
            first, second = (one, other) if number % 2 else (other, one)
            assert isinstance(await spreading.signed(first, each), Allowed)
            for worker in (first, second):
                assert cause_of(await spreading.signed(worker, each)) == "replayed nonce"
        found = await asyncio.gather(*(spreading.signed(one if n % 2 else other, tokens[0], "n2") for n in range(20)))
        assert sum(isinstance(verdict, Allowed) for verdict in found) == 1
    spent = await spreading.spent()
    assert sum(spent) == len(tokens) + 1
    assert all(spent)


async def test_database_that_is_away_costs_calls_of_its_own_tokens_alone(spreading: Spreading) -> None:
    await spreading.lay(*NAMES)
    tokens = await spreading.tokens()
    alpha, beta, main = (spreading.at_home(name, tokens) for name in ("alpha", "beta", ""))
    async with relaying(spreading.dsns[0]) as relay, knowing(spreading, relay.dsn, spreading.dsns[1]) as worker:
        assert isinstance(await spreading.signed(worker, alpha), Allowed)
        relay.closed = True
        relay.cut("gateway-nonces")
        async with spreading.world.worker(nonces=(relay.dsn, spreading.dsns[1])) as late:  # it has never seen it
            for number, each in enumerate((worker, late)):
                verdict = await spreading.signed(each, alpha, "n2")
                assert isinstance(verdict, Refused)
                assert verdict.status == 503
                for well in (beta, main):
                    assert isinstance(await spreading.signed(each, well, f"away{number}"), Allowed)
            relay.closed = False
            await until(lambda: all(one.name for one in spread_of(late)._others))
            assert isinstance(await spreading.signed(late, alpha, "n3"), Allowed)
            assert cause_of(await spreading.signed(worker, alpha, "n3")) == "replayed nonce"
            assert cause_of(await spreading.signed(late, alpha)) == "replayed nonce"


async def test_change_of_the_list_lets_no_nonce_pass_twice(spreading: Spreading) -> None:
    """Workers of the old and of the new list side by side, as in a reload or where machines restart in turn."""
    world, tokens = spreading.world, await spreading.tokens()
    now = int(world.clock())
    moves, soon = spreading.at_home("alpha", tokens, ("", "alpha")), now + 20
    await spreading.lay("alpha", second=soon)
    async with knowing(spreading) as old, knowing(spreading, spreading.dsns[0]) as new:
        for first, second, nonce in ((old, new, "a"), (new, old, "b")):  # from before: where they have always been
            assert isinstance(await spreading.signed(first, moves, nonce, ts=str(soon - 1)), Allowed)
            assert cause_of(await spreading.signed(second, moves, nonce, ts=str(soon - 1))) == "replayed nonce"
        assert await spreading.spent() == [2, 0, 0]
        for nonce in ("a", "c"):  # from then on: in the other one, which the old list does not name
            assert isinstance(await spreading.signed(new, moves, nonce, ts=str(soon)), Allowed)
            assert "not among database.nonces" in cause_of(await spreading.signed(old, moves, nonce, ts=str(soon)))
        assert await spreading.spent() == [2, 2, 0]
        stays = spreading.at_home("", tokens, ("", "alpha"))
        assert isinstance(await spreading.signed(old, stays, ts=str(soon)), Allowed)
    # It leaves the list again, and those from before that moment stay where they were.
    await spreading.lay(second=soon + 20)
    async with knowing(spreading) as short, knowing(spreading, spreading.dsns[0]) as long:
        assert "not among" in cause_of(await spreading.signed(short, moves, "a", ts=str(soon)))
        assert cause_of(await spreading.signed(long, moves, "a", ts=str(soon))) == "replayed nonce"
        assert isinstance(await spreading.signed(short, moves, "a", ts=str(soon + 20)), Allowed)
        assert cause_of(await spreading.signed(long, moves, "a", ts=str(soon + 20))) == "replayed nonce"


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: install the package pgbouncer")
async def test_databases_behind_poolers_spend_as_well(spreading: Spreading) -> None:
    await spreading.lay(*NAMES)
    tokens = await spreading.tokens()
    async with AsyncExitStack() as stack:
        ways = [
            await stack.enter_async_context(pooling(dsn, prepared=kept))
            for dsn, kept in zip((spreading.world.database, *spreading.dsns), (0, 0, 200), strict=True)
        ]
        pooled = await stack.enter_async_context(spreading.world.worker(ways[0], nonces=ways[1:]))
        direct = await stack.enter_async_context(knowing(spreading, *spreading.dsns))
        await until(lambda: all(one.name for one in spread_of(pooled)._others))
        for each in tokens[:10]:
            assert isinstance(await spreading.signed(pooled, each), Allowed)
            assert cause_of(await spreading.signed(direct, each)) == "replayed nonce"


async def test_timestamp_beyond_the_last_reading_waits_for_another_one(
    spreading: Spreading, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await spreading.tokens()
    moves = spreading.at_home("alpha", tokens, ("", "alpha"))
    monkeypatch.setattr(spread, "_EVERY", 600.0)
    async with knowing(spreading, spreading.dsns[0]) as worker:
        now = int(spreading.world.clock())
        assert now + READ_AHEAD - 60 < spread_of(worker)._until < now + READ_AHEAD + 60
        await spreading.lay("alpha", second=now)
        spread_of(worker)._until = now
        assert isinstance(await spreading.signed(worker, moves), Allowed)
        assert await spreading.spent() == [0, 1, 0]
        # Where the main database gives no answer meanwhile, nothing passes.
        spread_of(worker)._until = now
        async with locked(spreading.world.database):
            verdict = await spreading.signed(worker, moves, "n2")
            assert isinstance(verdict, Refused)
            assert verdict.status == 503
        assert await spreading.spent() == [0, 1, 0]


@asynccontextmanager
async def locked(dsn: str) -> AsyncIterator[None]:
    """Nobody reads the layouts, as while one is added whose commit takes its time."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute("select pg_advisory_xact_lock($1)", 0x6E6F6E6C)
            yield
    finally:
        await connection.close()


async def test_layout_that_is_being_added_is_never_read_past(spreading: Spreading) -> None:
    store = spreading.world.store
    async with locked(spreading.world.database):
        with pytest.raises(StoreUnavailable):
            await store.nonce_layouts.read()
    layout = await store.nonce_layouts.change(["alpha"])
    assert layout is not None
    assert layout.databases == ("", "alpha")
    assert time.time() + MADE_AHEAD - 5 < layout.from_second < time.time() + MADE_AHEAD + 60
    found = await store.nonce_layouts.read()
    assert found.layouts[-1] == layout
    assert found.until < layout.from_second  # whoever read before it was made knows no timestamp of its time
    assert await store.nonce_layouts.change(["alpha"]) is None
    back = await store.nonce_layouts.change([])
    assert back is not None
    assert back.from_second > layout.from_second


async def test_nonce_without_a_timestamp_is_spent_in_the_main_database(spreading: Spreading) -> None:
    world = spreading.world
    await spreading.lay(*NAMES)
    client = world.client.client_id
    await fetch(world.database, "update clients set mac_drafts = '{00,01}' where client_id = $1", client)
    async with knowing(spreading, *spreading.dsns) as worker:
        for each in await spreading.tokens():
            call = world.signed(each, ts=None, nonce="5:abc")
            assert isinstance(await world.check(call, worker.guard), Allowed)
            assert cause_of(await world.check(call, worker.guard)) == "replayed nonce"
    assert [await count(dsn, "token_nonces") for dsn in (world.database, *spreading.dsns)] == [30, 0, 0]


def test_few_tokens_find_another_home_when_a_database_comes() -> None:
    digests = [number.to_bytes(32, "big") for number in range(3000)]
    before = [home(each, ("", "a", "b")) for each in digests]
    after = [home(each, ("", "a", "b", "c")) for each in digests]
    moved = [new for old, new in zip(before, after, strict=True) if old != new]
    assert set(moved) == {"c"}
    assert 600 < len(moved) < 900
    assert all(900 < before.count(name) < 1100 for name in ("", "a", "b"))
