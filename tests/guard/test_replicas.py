"""Replicas answer for tokens that live, as far as they have replayed what the change log says; never for the others."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import asyncpg
import pytest
import structlog

from gateway.crypto import Keyring, digest
from gateway.doctor import examine
from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.store import Store
from gateway.store.database import Server
from gateway.store.migrations import migrate
from gateway.store.pool import DEADLINE
from gateway.store.records import IssuedTokens
from gateway.store.replicas import Replicas
from gateway.supervisor import embedded
from tests.conftest import new_data_dir
from tests.counts import scaled
from tests.guard.conftest import Worker, World
from tests.guard.pooler import PROGRAM as PGBOUNCER
from tests.guard.pooler import pooling
from tests.guard.relay import relaying
from tests.serving import holds_within, serving, until
from tests.several import naming, silence
from tests.standbys import Standby

WITHIN = 1.0  # seconds, as is promised


@pytest.fixture(scope="module")
def followed() -> Iterator[str]:
    """The DSN of a server of this module's own, which standbys may follow."""
    folder = new_data_dir()
    use = embedded.Use(folder / "data", options=("fsync=off",))

    async def begin() -> str:
        dsn = await use.join()
        await migrate(dsn)
        return dsn

    try:
        yield asyncio.run(begin())
    finally:
        asyncio.run(use.leave())
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
async def primary(followed: str, keyring: Keyring) -> AsyncIterator[World]:
    store = await Store.open(followed, keyring, size=4, name="gateway-test")
    try:
        yield await World.over(store, followed, keyring)
    finally:
        await store.close()


@asynccontextmanager
async def near(world: World, *replicas: str) -> AsyncIterator[Worker]:
    """A worker that asks replicas first."""
    async with world.worker(replicas=replicas) as worker:
        yield worker


def replicas_of(worker: Worker) -> Replicas:
    replicas = worker.store.access_tokens.replicas
    assert replicas is not None
    return replicas


def asked_the_primary(worker: Worker) -> bool:
    """Whether the worker has looked anything up there, which opens a connection for that."""
    return worker.store._lookups.idle + worker.store._lookups.lent > 0


def forget(worker: Worker) -> None:
    """Have each token asked for anew."""
    cache = worker.guard._tokens.cache
    cache._entries.clear()
    cache._queue.clear()
    cache.size = 0


async def passed_over(worker: Worker) -> None:
    await until(lambda: not replicas_of(worker).ready)


async def is_asked(worker: Worker) -> None:
    await until(lambda: replicas_of(worker).ready)


async def is_refused(worker: Worker, tokens: IssuedTokens) -> Refused:
    verdict = await worker.check(tokens)
    assert isinstance(verdict, Refused)
    assert verdict.status == 401
    return verdict


async def test_replica_answers_for_what_lives_and_the_primary_for_all_else(primary: World) -> None:
    async with Standby.of(primary.database) as standby, near(primary, standby.dsn) as worker:
        tokens = [await primary.token() for _ in range(3)]
        await standby.catches_up(primary.database)
        for one in tokens:
            await worker.holds(one)
        assert not asked_the_primary(worker)

        # Whoever does not know what was revoked lately asks the primary.
        async with primary.worker(follows=False, replicas=(standby.dsn,)) as other:
            assert isinstance(await other.check(tokens[0]), Allowed)
            assert asked_the_primary(other)

        # What it does not know, or knows to be dead, the primary is asked for.
        await standby.ask("select pg_wal_replay_pause()")
        fresh = await primary.token()
        assert isinstance(await worker.check(fresh), Allowed)
        assert asked_the_primary(worker)
        assert replicas_of(worker).ready
        expired = await primary.token(ttl=1)
        primary.clock.offset += 5
        assert (await is_refused(worker, expired)).cause == "expired token"
        primary.clock.offset -= 5

        # Revoked while it replays nothing: refused within a second, also where no cache holds it.
        for held in (tokens[0], tokens[1]):
            assert await primary.store.tokens.revoke(held.access_token, None)
            await worker.refuses(held, WITHIN)
        await passed_over(worker)
        async with near(primary, standby.dsn) as other:
            for one in (tokens[0], tokens[1]):
                assert (await is_refused(other, one)).cause == "revoked token"
            assert isinstance(await other.check(tokens[2]), Allowed)

        # Once it has replayed that, it is asked again.
        await standby.ask("select pg_wal_replay_resume()")
        await is_asked(worker)
        async with near(primary, standby.dsn) as other:
            await worker.refuses(tokens[0], WITHIN)
            assert isinstance(await other.check(tokens[2]), Allowed)
            assert not asked_the_primary(other)


async def test_answer_of_a_replica_from_before_a_revocation_counts_no_more(primary: World) -> None:
    async with (
        Standby.of(primary.database) as standby,
        relaying(standby.dsn) as relay,
        near(primary, relay.dsn) as worker,
    ):
        first, tokens = await primary.token(), await primary.token()
        await standby.catches_up(primary.database)
        await worker.holds(first)
        answers = relay.answers["gateway-lookups"]
        relay.hold("gateway-lookups")
        waiting = asyncio.create_task(worker.check(tokens))
        await relay.more_answers("gateway-lookups", answers)
        position = worker.ledger.position
        assert await primary.store.tokens.revoke(tokens.access_token, None)
        await until(lambda: worker.ledger.position > position)
        relay.release("gateway-lookups")
        verdict = await waiting
        assert isinstance(verdict, Refused)
        assert verdict.cause == "revoked token"


async def test_replica_that_dies_or_hangs_under_load_costs_no_call(primary: World) -> None:
    tokens = [await primary.token() for _ in range(40)]
    async with Standby.of(primary.database) as standby, Standby.of(primary.database) as other:
        for end, revive in ((standby.kill, standby.start), (lambda: standby.signal(signal.SIGSTOP), None)):
            async with near(primary, standby.dsn, other.dsn) as worker:
                for rounds in range(scaled(10)):
                    verdicts = await asyncio.gather(*map(worker.check, tokens))
                    assert all(isinstance(verdict, Allowed) for verdict in verdicts)
                    if rounds == 0:
                        end()
                    forget(worker)
            if revive is not None:
                await revive()
        standby.signal(signal.SIGCONT)


async def test_replica_that_was_promoted_says_nothing_any_more(primary: World) -> None:
    async with Standby.of(primary.database) as standby, near(primary, standby.dsn) as worker:
        tokens, revoked = await primary.token(), await primary.token()
        await standby.catches_up(primary.database)
        assert await standby.ask("select pg_promote()")
        forked = await Store.open(standby.dsn, primary.keyring, size=2, name="gateway-test-forked")
        try:
            theirs = await forked.tokens.issue(primary.client.client_id, None, frozenset({"read"}), 3600, None)
        finally:
            await forked.close()
        with structlog.testing.capture_logs() as logs:
            assert isinstance(await worker.check(tokens), Allowed)
            await passed_over(worker)
        assert [line["cause"] for line in logs if "replica" in line] == ["it is no standby, but takes writes itself"]
        assert (await is_refused(worker, theirs)).cause == "unknown token"
        assert await primary.store.tokens.revoke(revoked.access_token, None)
        await worker.refuses(revoked, WITHIN)


async def test_address_of_several_hosts_leads_to_another_standby_when_its_first_is_promoted(primary: World) -> None:
    async with (
        Standby.of(primary.database) as standby,
        Standby.of(primary.database) as other,
        near(primary, naming(standby.dsn, other.dsn)) as worker,
    ):
        tokens = await primary.token()
        await standby.catches_up(primary.database)
        await other.catches_up(primary.database)
        await worker.holds(tokens)
        assert await standby.ask(_LOOKED_UP_HERE) == 1
        assert await standby.ask("select pg_promote()")
        forget(worker)
        assert isinstance(await worker.check(tokens), Allowed)
        await is_asked(worker)
        forget(worker)
        await worker.holds(tokens)
        assert await other.ask(_LOOKED_UP_HERE) == 1


_LOOKED_UP_HERE = "select count(*) from pg_stat_activity where application_name = 'gateway-lookups'"


async def test_silent_host_of_an_address_holds_up_neither_the_primary_nor_a_standby(primary: World) -> None:
    async with Standby.of(primary.database) as standby, silence() as silent:
        # What takes no writes is passed over where the primary is wanted, and its connection ended.
        url = naming(standby.dsn, silent.dsn, primary.database, target_session_attrs="read-write")
        async with asyncio.timeout(DEADLINE):
            connection = await Server(url).connect("gateway-test-hosts")
        assert await connection.fetchval("select pg_is_in_recovery()") is False
        await connection.close()
        ours = "select count(*) from pg_stat_activity where application_name = 'gateway-test-hosts'"
        await until(lambda: not silent.open)
        await has(standby, ours, 0)

        # And the primary where a standby is.
        async with near(primary, naming(silent.dsn, primary.database, standby.dsn)) as worker:
            tokens = await primary.token()
            await standby.catches_up(primary.database)
            await worker.holds(tokens)
            assert await standby.ask(_LOOKED_UP_HERE) == 1
            assert not asked_the_primary(worker)
        await has(standby, _LOOKED_UP_HERE, 0)
        await until(lambda: not silent.open)


async def has(standby: Standby, asked: str, answer: object) -> None:
    """Wait until a standby answers so."""

    async def answers() -> bool:
        return bool(await standby.ask(asked) == answer)

    await until(answers)


async def test_what_was_revoked_is_heard_of_at_a_standby_whose_address_begins_with_a_silent_host(
    primary: World,
) -> None:
    async with (
        Standby.of(primary.database) as standby,
        silence() as silent,
        relaying(primary.database) as relay,
        primary.worker(relay.dsn, replicas=(naming(silent.dsn, standby.dsn),), stale_for="1h") as worker,
    ):
        revoked, other = await primary.token(), await primary.token()
        await standby.catches_up(primary.database)
        await worker.holds(revoked)
        await worker.holds(other)
        relay.hold("gateway-listen")
        relay.closed = True
        assert await primary.store.tokens.revoke(revoked.access_token, None)
        await until(lambda: worker.at_once(revoked) is None)
        assert isinstance(worker.at_once(other), Allowed)


async def test_what_was_revoked_before_the_primary_was_lost_does_not_pass_while_others_do(primary: World) -> None:
    """Tokens that were seen before pass without the primary, but for what it acknowledged to be revoked: a standby
    knows, and neither that it lags nor what another one that lags believes brings it back."""
    async with (
        Standby.of(primary.database) as lagging,
        Standby.of(primary.database) as standby,
        relaying(primary.database) as relay,
        primary.worker(relay.dsn, replicas=(lagging.dsn, standby.dsn), stale_for="1h") as worker,
    ):
        revoked, other = await primary.token(), await primary.token()
        await standby.catches_up(primary.database)
        await lagging.catches_up(primary.database)
        await worker.holds(revoked)
        await worker.holds(other)
        await lagging.ask("select pg_wal_replay_pause()")
        relay.hold("gateway-listen")
        relay.closed = True
        assert await primary.store.tokens.revoke(revoked.access_token, None)
        await until(lambda: worker.at_once(revoked) is None)
        for _ in range(10):
            verdict = await worker.check(revoked)
            assert isinstance(verdict, Refused)
        assert isinstance(worker.at_once(other), Allowed)

        # When the primary is back, its word counts.
        relay.closed = False
        relay.release("gateway-listen")
        await worker.refuses(revoked, WITHIN)
        await worker.holds(other)


@pytest.mark.skipif(PGBOUNCER is None, reason="pgbouncer is not installed: install the package pgbouncer")
async def test_replica_behind_a_pooler_answers_as_well(primary: World) -> None:
    """One that keeps prepared statements, and one that does not."""
    async with Standby.of(primary.database) as standby:
        for kept in (200, 0):
            async with pooling(standby.dsn, prepared=kept) as dsn, near(primary, dsn) as worker:
                tokens = await primary.token()
                hashed = digest(tokens.access_token)

                async def answers(worker: Worker = worker, hashed: bytes = hashed) -> bool:
                    assert worker.ledger.newest is not None
                    found = await worker.store.access_tokens.find_near([hashed, b"x" * 32], worker.ledger.newest)
                    return found is not None and found.keys() == {hashed}

                await until(answers)
                await worker.holds(tokens)
                assert await primary.store.tokens.revoke(tokens.access_token, None)
                await worker.refuses(tokens, WITHIN)


async def test_what_is_no_replica_of_the_database_is_passed_over(
    world: World, server: str, template: str, empty_database: str
) -> None:
    """The primary itself, a database without a schema, a server that is not there."""
    nowhere = world.database.replace("host=", "host=/nowhere")
    for dsn in (world.database, empty_database, nowhere):
        async with near(world, dsn) as worker:
            tokens = await world.token()
            assert isinstance(await worker.check(tokens), Allowed)
            assert asked_the_primary(worker)
            await passed_over(worker)
            assert await world.store.tokens.revoke(tokens.access_token, None)
            await worker.refuses(tokens, WITHIN)


async def test_replica_of_another_database_is_passed_over_though_it_knows_the_token(
    primary: World, world: World
) -> None:
    """A standby of a server that went its own way: the token lives there, and its log has as many changes."""
    async with Standby.of(primary.database) as standby, near(world, standby.dsn) as worker:
        tokens = await world.token()
        await _copy_token(world.database, primary.database)
        await standby.catches_up(primary.database)
        assert await world.store.tokens.revoke(tokens.access_token, None)
        other = await primary.token()
        assert await primary.store.tokens.revoke(other.access_token, None)
        await standby.catches_up(primary.database)
        assert (await is_refused(worker, tokens)).cause == "revoked token"
        await passed_over(worker)


async def _copy_token(source: str, target: str) -> None:
    """Have another database know the clients and tokens of this one."""
    here, there = await asyncpg.connect(source), await asyncpg.connect(target)
    try:
        for table in ("clients", "access_tokens"):
            rows = await here.fetchval(f"select json_agg(t)::text from {table} t")
            await there.execute(
                f"insert into {table} overriding system value select * from json_populate_recordset(null::{table}, $1)",
                rows,
            )
    finally:
        await here.close()
        await there.close()


async def test_gateway_asks_a_replica_and_no_worker_passes_what_was_revoked_while_that_is_paused(
    tmp_path: Path, primary: World
) -> None:
    route = {"name": "notes", "path": "/notes", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    tokens = [await primary.token() for _ in range(2)]
    async with Standby.of(primary.database) as standby:
        await standby.catches_up(primary.database)
        database = {"replicas": [standby.dsn]}
        async with (
            serving(tmp_path, dsn=primary.database, routes=[route], database=database) as gateway,
            aiohttp.ClientSession() as session,
        ):

            async def status(one: IssuedTokens) -> int:
                headers = {"Authorization": f"Bearer {one.access_token}", "Connection": "close"}  # whichever worker
                async with session.get(f"{gateway.url}/notes/1", headers=headers) as answer:
                    return answer.status

            assert await status(tokens[0]) == 502
            assert not [found for found in (await examine(gateway.config)).findings if "replicas" in found.about]
            async with session.get(f"{gateway.admin_url}/metrics") as answer:
                assert 'gateway_replica_lookups_total{outcome="living"} 1.0' in await answer.text()
            await standby.ask("select pg_wal_replay_pause()")
            for one in tokens:  # one is held by a worker, the other by none
                assert await primary.store.tokens.revoke(one.access_token, None)
            for one in tokens:
                await holds_within(WITHIN, partial(_is, 401, status, one))
                for _ in range(10):
                    assert await status(one) == 401
            [finding] = [found for found in (await examine(gateway.config)).findings if "replicas" in found.about]
            assert "its replay is paused" in finding.what

            rewritten = gateway.config.read_text().replace(standby.dsn, primary.database)
            gateway.config.write_text(rewritten)
            reloaded = await gateway.run("reload")
            assert [line.partition(": ")[0] for line in reloaded["changed"]] == ["database.replicas"]
            assert await status(await primary.token()) == 502
            [finding] = [found for found in (await examine(gateway.config)).findings if "replicas" in found.about]
            assert "takes writes itself" in finding.what


async def _is(wanted: int, status: Callable[[IssuedTokens], Awaitable[int]], one: IssuedTokens) -> bool:
    return await status(one) == wanted
