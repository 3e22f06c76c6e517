"""A channel that hangs, is cut or goes deaf, a server that restarts, a worker that stood still: slower, never wrong."""

import os
import signal
import time
from collections.abc import Awaitable
from contextlib import suppress

import pytest
import structlog

from gateway.crypto import Keyring
from gateway.errors import StoreUnavailable
from gateway.guard import Allowed, follower
from gateway.guard.ledger import LEASE
from gateway.store import Store
from gateway.store.records import IssuedTokens
from gateway.supervisor import embedded
from tests.counts import scaled
from tests.guard.conftest import Offset, Worker, World
from tests.guard.relay import Relay
from tests.serving import until
from tests.store.rig import fetch

TOKENS = 25  # that are revoked while the channel is lost once; of each way to lose it 500 in all

# -- a channel that is lost ----------------------------------------------------------------------------------


async def _held(world: World, worker: Worker) -> list[IssuedTokens]:
    held = [await world.token() for _ in range(TOKENS)]
    for tokens in held:
        await worker.holds(tokens)
    return held


async def _revoked_and_refused(world: World, worker: Worker, held: list[IssuedTokens], within: float) -> None:
    for tokens in held:
        assert await world.store.tokens.revoke(tokens.access_token, None)
    revoked_at = time.monotonic()
    for tokens in held:
        await worker.refuses(tokens, within)
    assert time.monotonic() - revoked_at < 5


@pytest.mark.long
async def test_lost_notifications_make_revocation_slower_and_nothing_else(world: World, relay: Relay) -> None:
    relay.deaf = True
    async with world.worker(relay.dsn) as worker:
        for _ in range(scaled(20)):
            await _revoked_and_refused(world, worker, await _held(world, worker), LEASE)
        assert relay.notifications > 0


async def test_where_nothing_can_listen_the_log_is_read_at_every_beat(world: World, relay: Relay) -> None:
    relay.listenless = True
    async with world.worker(relay.dsn) as worker:
        assert relay.refused_listens == relay.connections("gateway-listen") == 1
        for _ in range(2):
            tokens = await world.token()
            await worker.holds(tokens)
            assert await world.store.tokens.revoke(tokens.access_token, None)
            await worker.refuses(tokens, LEASE)
        assert relay.notifications == 0
        assert relay.refused_listens == 1  # what can be read is no channel to give up


@pytest.mark.long
async def test_hung_channel_passes_no_revoked_token_beyond_the_lease(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn) as worker:
        for _ in range(scaled(20)):
            held = await _held(world, worker)
            relay.hold("gateway-listen")
            await _revoked_and_refused(world, worker, held, LEASE + 0.5)
            relay.release("gateway-listen")
            await until(worker.follows)


async def test_hung_channel_is_given_up_and_another_one_opened(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn) as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        hung = relay.connections("gateway-listen")
        assert hung == 1
        (pid,) = await _listeners(world.database)
        os.kill(pid, signal.SIGSTOP)  # the server's end of it: it holds the connection and says nothing
        try:
            assert await world.store.tokens.revoke(tokens.access_token, None)
            await worker.refuses(tokens, LEASE + 0.5)
            await until(lambda: _another_listener(world.database, pid))
            await until(worker.follows)
            again = await world.token()
            await worker.holds(again)
            assert await world.store.tokens.revoke(again.access_token, None)
            await worker.refuses(again, 1)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_channel_that_hangs_ends_even_a_long_stale_for(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn, stale_for="1h") as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        (pid,) = await _listeners(world.database)
        os.kill(pid, signal.SIGSTOP)
        try:
            assert await world.store.tokens.revoke(tokens.access_token, None)
            await worker.refuses(tokens, 5)
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.long
async def test_killed_listener_is_replaced_and_what_was_cached_is_asked_anew(world: World) -> None:
    async with world.worker() as worker:
        for _ in range(scaled(20)):
            held, other = await _held(world, worker), await world.token()
            await worker.holds(other)
            position = worker.ledger.position
            (pid,) = await _listeners(world.database)
            await fetch(world.database, "select pg_terminate_backend($1, 2000)", pid)
            await _revoked_and_refused(world, worker, held, 1)
            await worker.moves(position)
            assert worker.at_once(other) is None
            await worker.holds(other)


async def test_revocation_while_nothing_can_connect_is_known_when_something_can_again(
    world: World, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whatever another test made of this process's log, by which a logger may go on.
    monkeypatch.setattr(follower, "_log", structlog.get_logger())
    with structlog.testing.capture_logs() as lines:
        await _revoked_while_nothing_can_connect(world, relay)
    said = [line["event"] for line in lines if "change log" in line["event"]]
    assert [text.partition(";")[0] for text in said] == ["the change log is lost", "the change log is followed again"]


async def _revoked_while_nothing_can_connect(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn) as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        relay.closed = True
        for use in ("gateway-listen", "gateway-lookups"):
            relay.cut(use)
        assert await world.store.tokens.revoke(tokens.access_token, None)
        await until(lambda: worker.at_once(tokens) is None)
        verdict = await worker.check(tokens)
        assert not isinstance(verdict, Allowed)
        assert verdict.status == 503
        relay.closed = False
        await until(worker.follows, 5)
        await worker.refuses(tokens, 0.5)


async def test_restarted_postgres_empties_the_cache(durable_server: embedded.Server, keyring: Keyring) -> None:
    store = await Store.open(durable_server.dsn, keyring, name="gateway-test")
    world = await World.over(store, durable_server.dsn, keyring)
    async with world.worker() as worker:
        tokens, other = await world.token(), await world.token()
        await worker.holds(tokens)
        await worker.holds(other)
        server, position = worker.ledger.server, worker.ledger.position
        killed = durable_server.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: durable_server.pid not in (None, killed))
        await until(lambda: _revoked(store, tokens))
        await worker.refuses(tokens, 5)
        await until(lambda: worker.ledger.server != server, 5)
        await until(worker.follows)
        assert worker.ledger.position > position
        await until(lambda: _passes(worker.check(other)))
    await store.close()


# -- a worker that stood still -------------------------------------------------------------------------------


async def test_worker_that_stood_still_trusts_nothing_from_before(world: World) -> None:
    elapsed = Offset()
    async with world.worker(elapsed=elapsed) as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        elapsed.seconds += LEASE
        assert worker.at_once(tokens) is None
        assert isinstance(await worker.check(tokens), Allowed)
        await worker.still_holds(tokens)  # the log, read again, has said nothing against it


@pytest.mark.plain
async def test_lease_counts_from_when_the_log_was_asked_however_late_the_answer(world: World, relay: Relay) -> None:
    elapsed = Offset()
    async with world.worker(relay.dsn, elapsed=elapsed) as worker:
        answers, renew, ends = relay.answers["gateway-listen"], worker.ledger.renew, list[float]()

        def noted(sent_at: float) -> None:
            renew(sent_at)
            ends.append(worker.ledger.holds_until)

        relay.hold("gateway-listen")
        await relay.more_answers("gateway-listen", answers)
        asked_before = elapsed()
        elapsed.seconds += LEASE
        worker.ledger.renew = noted  # type: ignore[method-assign]  # it is the real one, and is noted
        relay.release("gateway-listen")
        await until(lambda: ends)
        assert ends[0] == asked_before + LEASE


async def test_worker_that_slept_longer_than_the_log_is_kept_begins_anew(world: World, relay: Relay) -> None:
    async with world.worker(relay.dsn, stale_for="1h") as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        relay.hold("gateway-listen")
        assert await world.store.tokens.revoke(tokens.access_token, None)
        assert await world.store.tokens.revoke((await world.token()).access_token, None)
        await fetch(world.database, "delete from changes where id < (select max(id) from changes)")  # it is swept
        assert isinstance(worker.at_once(tokens), Allowed)
        relay.release("gateway-listen")
        await worker.refuses(tokens, 2)


async def _listeners(dsn: str) -> list[int]:
    rows = await fetch(
        dsn,
        "select pid from pg_stat_activity where application_name = 'gateway-listen' and datname = current_database()",
    )
    return [row["pid"] for row in rows]


async def _another_listener(dsn: str, than: int) -> bool:
    return any(pid != than for pid in await _listeners(dsn))


async def _revoked(store: Store, tokens: IssuedTokens) -> bool:
    with suppress(StoreUnavailable):
        return await store.tokens.revoke(tokens.access_token, None)
    return False


async def _passes(check: Awaitable[object]) -> bool:
    return isinstance(await check, Allowed)
