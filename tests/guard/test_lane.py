"""Questions that wait together: asked together, in order, bounded, and each told what became of it."""

import asyncio
from collections.abc import Sequence
from time import monotonic

import pytest
import uvloop

from gateway.errors import StoreUnavailable
from gateway.guard.lane import PATIENCE, Lane, Pending
from tests.serving import until


class Oracle:
    """Answers when it is let; `asked` holds every batch."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.fault: Exception | None = None
        self.at_once = 0

    async def __call__(self, keys: Sequence[int]) -> list[str]:
        self.asked.append(list(keys))
        self.at_once += 1
        assert self.at_once == 1, "two statements in flight"
        try:
            await self.free.wait()
            if self.fault is not None:
                raise self.fault
            return [f"answer {key}" for key in keys]
        finally:
            self.at_once -= 1

    def lane(self, limit: int = 1000, largest: int = 256) -> Lane[int]:
        return Lane(self, largest=largest, limit=limit)

    async def busy(self, lane: Lane[int]) -> Pending[object]:
        """Have one question in flight that is not answered yet."""
        self.free.clear()
        first = ask(lane, 0)
        await until(lambda: bool(self.asked))
        return first


def ask(lane: Lane[int], key: int, since: float | None = None) -> Pending[object]:
    """The pending outcome of one question."""
    return lane.add(key, lambda outcome: outcome, since)


async def outcomes(*pending: Pending[object]) -> list[object]:
    return [await each for each in pending]


@pytest.fixture
async def oracle() -> Oracle:
    return Oracle()


async def test_question_is_sent_at_once_with_all_of_the_same_turn(oracle: Oracle) -> None:
    lane = oracle.lane()
    asked = [ask(lane, key) for key in (1, 2, 3, 2)]
    assert await outcomes(*asked) == ["answer 1", "answer 2", "answer 3", "answer 2"]
    assert oracle.asked == [[1, 2, 3, 2]]


async def test_next_statement_collects_while_one_is_in_flight_and_keeps_the_order(oracle: Oracle) -> None:
    lane = oracle.lane()
    first = await oracle.busy(lane)
    waiting = [ask(lane, key) for key in range(1, 301)]
    oracle.free.set()
    assert await outcomes(first, *waiting) == [f"answer {key}" for key in range(301)]
    assert oracle.asked == [[0], list(range(1, 257)), list(range(257, 301))]


async def test_question_never_joins_a_statement_that_is_in_flight(oracle: Oracle) -> None:
    lane = oracle.lane()
    first = await oracle.busy(lane)
    again = ask(lane, 0)
    oracle.free.set()
    await outcomes(first, again)
    assert oracle.asked == [[0], [0]]


async def test_those_who_ask_again_as_soon_as_they_are_told_go_together(oracle: Oracle) -> None:
    """As clients on kept connections do, whose next calls come some turns of the loop later."""
    lane = oracle.lane()

    async def call_twice(key: int) -> object:
        await ask(lane, key)
        for _ in range(key):
            await asyncio.sleep(0)
        return await ask(lane, 10 + key)

    async with asyncio.timeout(10):
        told = await asyncio.gather(*map(call_twice, (1, 2, 3)))
    assert told == ["answer 11", "answer 12", "answer 13"]
    assert oracle.asked == [[1, 2, 3], [11, 12, 13]]


async def test_those_beyond_the_limit_are_refused_and_the_others_answered(oracle: Oracle) -> None:
    lane = oracle.lane(limit=3)
    first = await oracle.busy(lane)
    waiting = [ask(lane, key) for key in (1, 2, 3)]
    with pytest.raises(StoreUnavailable, match="3 questions wait already"):
        ask(lane, 4)
    oracle.free.set()
    assert await outcomes(first, *waiting) == [f"answer {key}" for key in (0, 1, 2, 3)]
    assert await ask(lane, 4) == "answer 4"


async def test_caller_who_gives_up_harms_nobody_and_leaves_no_question(oracle: Oracle) -> None:
    lane = oracle.lane()
    first = await oracle.busy(lane)
    gone, stays = ask(lane, 1), ask(lane, 2)
    gone.drop()
    oracle.free.set()
    assert await outcomes(first, stays) == ["answer 0", "answer 2"]
    assert oracle.asked == [[0], [2]]


async def test_outage_is_told_to_all_who_asked_and_to_nobody_else(oracle: Oracle) -> None:
    lane = oracle.lane()
    for fault, said in ((StoreUnavailable("away"), "away"), (ZeroDivisionError("obviously"), "ZeroDivisionError")):
        oracle.fault = fault
        for outcome in await outcomes(ask(lane, 1), ask(lane, 2)):
            assert isinstance(outcome, StoreUnavailable)
            assert str(outcome) == said
    oracle.fault = None
    assert await ask(lane, 1) == "answer 1"


async def test_nobody_waits_beyond_patience_counted_from_where_the_waiting_began(oracle: Oracle) -> None:
    lane = oracle.lane()
    now = monotonic()
    first = await oracle.busy(lane)
    late, later = ask(lane, 1, now - PATIENCE + 0.05), ask(lane, 2, now - PATIENCE + 0.1)
    for pending in (late, later):
        outcome = await pending
        assert isinstance(outcome, StoreUnavailable)
        assert str(outcome) == "no answer in time"
    assert monotonic() - now < PATIENCE  # which those without such a past still have
    oracle.free.set()
    assert await first == "answer 0"


def test_who_has_waited_too_long_already_is_told_so_in_the_loop_of_the_workers_too() -> None:
    """In uvloop a timer that is due at once is none."""

    async def told() -> list[object]:
        oracle = Oracle()
        lane = oracle.lane()
        await oracle.busy(lane)
        late = [ask(lane, key, monotonic() - PATIENCE) for key in (1, 2)]
        outcome = await outcomes(*late)
        oracle.free.set()
        await lane.close()
        return outcome

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert all(isinstance(one, StoreUnavailable) for one in runner.run(told()))


async def test_closing_leaves_nobody_waiting(oracle: Oracle) -> None:
    lane = oracle.lane()
    first = await oracle.busy(lane)
    second = ask(lane, 1)
    await lane.close()
    for outcome in await outcomes(first, second):
        assert isinstance(outcome, StoreUnavailable)
    with pytest.raises(StoreUnavailable, match="closed"):
        ask(lane, 2)
    await lane.close()
