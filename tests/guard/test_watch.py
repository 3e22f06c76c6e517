"""What goes on after its call was let pass ends with the token that opened it, and with no other."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from gateway.guard import Allowed
from gateway.guard.watch import Watched
from gateway.store.records import IssuedTokens
from tests.guard.conftest import Offset, Worker, World
from tests.guard.relay import Relay
from tests.serving import until
from tests.store.rig import Rig, fetch


@dataclass
class Opened:
    """What a token has opened, and why it ended."""

    causes: list[str] = field(default_factory=list)
    watched: Watched | None = None

    @classmethod
    async def by(cls, worker: Worker, tokens: IssuedTokens) -> "Opened":
        verdict = await worker.check(tokens)
        assert isinstance(verdict, Allowed)
        return cls.of(worker, verdict)

    @classmethod
    def of(cls, worker: Worker, allowed: Allowed) -> "Opened":
        opened = cls()
        opened.watched = worker.guard.watch.add(
            allowed, lambda cause, _: opened.causes.append(cause.text if cause else "")
        )
        return opened


@pytest.fixture
async def worker(world: World) -> AsyncIterator[Worker]:
    async with world.worker() as made:
        yield made


Act = Callable[[Rig, IssuedTokens], Awaitable[object]]
ENDS: dict[str, tuple[Act, str]] = {
    "itself": (lambda rig, tokens: rig.store.tokens.revoke(tokens.access_token, rig.client), "revoked token"),
    "its family": (
        lambda rig, tokens: rig.store.tokens.revoke(tokens.refresh_token or "", rig.client),
        "revoked token",
    ),
    "its grant": (lambda rig, _: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id), "revoked token"),
    "its client": (lambda rig, _: rig.store.clients.disable(rig.client.client_id), "token of a disabled client"),
    "its client’s tokens": (lambda rig, _: rig.store.clients.revoke_tokens(rig.client.client_id), "revoked token"),
    "its user": (lambda rig, _: rig.store.users.disable("ada"), "token of a disabled user"),
    "its user, gone": (lambda rig, _: rig.store.users.delete("ada"), ""),
}


@pytest.mark.parametrize("what", ENDS)
async def test_what_a_token_opened_ends_with(what: str, world: World, worker: Worker) -> None:
    act, cause = ENDS[what]
    rig = await Rig.build(world.store)
    tokens, other = await rig.tokens(), await world.token()
    opened = [await Opened.by(worker, tokens) for _ in range(2)]
    untouched = await Opened.by(worker, other)
    await act(rig, tokens)
    await until(lambda: all(one.causes for one in opened), 1)
    assert all(len(one.causes) == 1 and one.causes[0].startswith(cause) for one in opened)
    assert untouched.causes == []


async def test_change_that_ends_nothing_ends_no_stream(world: World, worker: Worker) -> None:
    rig = await Rig.build(world.store)
    opened = await Opened.by(worker, await rig.tokens())
    token = next(iter(worker.guard.watch._watched.values()))
    before = worker.ledger.position
    await fetch(world.database, "update users set username = 'lovelace'")
    await worker.moves(before)
    await until(lambda: token._asked == 1 and token.unconfirmed_since == float("inf"))
    assert opened.causes == []


async def test_streams_of_tokens_that_share_a_mark_stay(world: World, worker: Worker) -> None:
    dead, alive = await world.token(), await world.token()
    ending, staying = await Opened.by(worker, dead), await Opened.by(worker, alive)
    watch = worker.guard.watch
    one, two = watch._watched.values()
    for tokens in watch._by_mark.values():  # as if all hung on the same
        tokens |= {one: None, two: None}
    await world.store.tokens.revoke(dead.access_token, None)
    await until(lambda: ending.causes, 1)
    await until(lambda: two._asked == 1 and two.unconfirmed_since == float("inf"))
    assert (ending.causes, staying.causes) == (["revoked token"], [])


async def test_revocation_between_the_verdict_and_the_watch_is_found(world: World, worker: Worker) -> None:
    tokens = await world.token()
    verdict = await worker.check(tokens)
    assert isinstance(verdict, Allowed)
    before = worker.ledger.position
    await world.store.tokens.revoke(tokens.access_token, None)
    await worker.moves(before)
    opened = Opened.of(worker, verdict)
    assert opened.causes == []  # never at once: whoever watches may not be ready for it
    await until(lambda: opened.causes == ["revoked token"], 1)


async def test_what_has_ended_by_itself_is_told_nothing_and_is_forgotten(world: World, worker: Worker) -> None:
    tokens = await world.token()
    opened, other = await Opened.by(worker, tokens), await Opened.by(worker, tokens)
    assert opened.watched is not None
    assert other.watched is not None
    opened.watched.drop()
    await world.store.tokens.revoke(tokens.access_token, None)
    await until(lambda: other.causes, 1)
    assert opened.causes == []
    alone = await Opened.by(worker, await world.token())
    assert alone.watched is not None
    alone.watched.drop()
    worker.guard.watch.beat()
    assert (len(worker.guard.watch), worker.guard.watch._by_mark) == (0, {})


async def test_streams_are_asked_for_at_each_beat_while_the_log_is_not_followed(world: World) -> None:
    async with world.worker(follows=False) as worker:
        tokens = await world.token()
        opened, other = await Opened.by(worker, tokens), await Opened.by(worker, await world.token())
        await world.store.tokens.revoke(tokens.access_token, None)

        def ended() -> bool:
            worker.guard.watch.beat()
            return bool(opened.causes)

        await until(ended)
        assert other.causes == []


async def test_streams_end_where_nobody_can_say_for_long_whether_their_tokens_live(world: World, relay: Relay) -> None:
    since_start = Offset()
    async with world.worker(relay.dsn, elapsed=since_start) as worker:
        tokens = await world.token()
        await worker.holds(tokens)
        opened = await Opened.by(worker, tokens)
        for use in ("gateway-lookups", "gateway-listen", "gateway-test-worker"):
            relay.hold(use)
        since_start.seconds = 2.5  # the lease is over
        worker.guard.watch.beat()
        since_start.seconds = 5.0
        worker.guard.watch.beat()
        assert opened.causes == []
        since_start.seconds = 5.6
        worker.guard.watch.beat()
        assert opened.causes == [""]  # nobody could say


async def test_fault_in_ending_one_stream_ends_the_others_all_the_same(world: World, worker: Worker) -> None:
    tokens = await world.token()
    verdict = await worker.check(tokens)
    assert isinstance(verdict, Allowed)

    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    opened = Opened.of(worker, verdict)
    worker.guard.watch.add(verdict, fail)
    opened_later = Opened.of(worker, verdict)
    await world.store.tokens.revoke(tokens.access_token, None)
    await until(lambda: opened.causes and opened_later.causes, 1)
