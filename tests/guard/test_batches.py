"""Questions that wait together: shared, in order, bounded, and each told what became of it."""

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from gateway.guard.batches import Batches, Overloaded


class Oracle:
    """Answers when it is let; `asked` holds every batch."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []
        self.free = asyncio.Event()
        self.free.set()
        self.fault: Exception | None = None
        self.at_once = 0

    async def __call__(self, keys: Sequence[int]) -> Mapping[int, str]:
        self.asked.append(list(keys))
        self.at_once += 1
        assert self.at_once == 1, "two queries in flight"
        try:
            await self.free.wait()
            if self.fault is not None:
                raise self.fault
            return {key: f"answer {key}" for key in keys if key >= 0}
        finally:
            self.at_once -= 1

    async def busy(self, batches: Batches[int, str]) -> "asyncio.Task[str | None]":
        """Have one question in flight that is not answered yet."""
        self.free.clear()
        first = asyncio.create_task(batches.answer(0))
        while not self.asked:
            await asyncio.sleep(0)
        return first


@pytest.fixture
async def oracle() -> Oracle:
    return Oracle()


async def test_question_is_sent_at_once_with_all_of_the_same_turn(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=100)
    answers = await asyncio.gather(*(batches.answer(key) for key in (1, 2, 3, 2)))
    assert answers == ["answer 1", "answer 2", "answer 3", "answer 2"]
    assert oracle.asked == [[1, 2, 3]]


async def test_next_query_collects_while_one_is_in_flight(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=1000)
    first = await oracle.busy(batches)
    waiting = [asyncio.create_task(batches.answer(key)) for key in range(1, 301)]
    await asyncio.sleep(0)
    oracle.free.set()
    assert await asyncio.gather(first, *waiting) == [f"answer {key}" for key in range(301)]
    assert oracle.asked == [[0], list(range(1, 257)), list(range(257, 301))]  # in the order in which they came


async def test_question_never_joins_a_query_that_is_in_flight(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=100)
    first = await oracle.busy(batches)
    again = asyncio.create_task(batches.answer(0))
    await asyncio.sleep(0)
    oracle.free.set()
    await asyncio.gather(first, again)
    assert oracle.asked == [[0], [0]]


async def test_key_without_an_answer_is_none(oracle: Oracle) -> None:
    assert await Batches(oracle, limit=100).answer(-1) is None


async def test_those_beyond_the_limit_are_refused_and_the_others_answered(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=3)
    first = await oracle.busy(batches)
    waiting = [asyncio.create_task(batches.answer(key)) for key in (1, 2, 3)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await batches.answer(4)
    shared = asyncio.create_task(batches.answer(3))  # costs nothing more
    await asyncio.sleep(0)
    oracle.free.set()
    assert await asyncio.gather(first, *waiting, shared) == [f"answer {key}" for key in (0, 1, 2, 3, 3)]
    assert await batches.answer(4) == "answer 4"


async def test_caller_who_gives_up_harms_nobody_and_leaves_no_question(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=2)
    first = await oracle.busy(batches)
    shared = [asyncio.create_task(batches.answer(1)) for _ in range(2)]
    lone = asyncio.create_task(batches.answer(2))
    await asyncio.sleep(0)
    for task in (first, shared[0], lone):
        task.cancel()
    await asyncio.gather(first, shared[0], lone, return_exceptions=True)
    third = asyncio.create_task(batches.answer(3))  # there is room again
    await asyncio.sleep(0)
    oracle.free.set()
    assert [await shared[1], await third] == ["answer 1", "answer 3"]
    assert oracle.asked == [[0], [1, 3]]


async def test_fault_is_told_to_all_who_asked_and_to_nobody_else(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=100)
    oracle.fault = ZeroDivisionError("obviously")
    outcomes = await asyncio.gather(*(batches.answer(key) for key in (1, 2, 1)), return_exceptions=True)
    assert all(outcome is oracle.fault for outcome in outcomes)
    oracle.fault = None
    assert await batches.answer(1) == "answer 1"


async def test_closing_leaves_nobody_waiting(oracle: Oracle) -> None:
    batches = Batches(oracle, limit=100)
    first = await oracle.busy(batches)
    second = asyncio.create_task(batches.answer(1))
    await asyncio.sleep(0)
    await batches.close()
    outcomes = await asyncio.gather(first, second, batches.answer(2), return_exceptions=True)
    assert all(isinstance(outcome, Overloaded) for outcome in outcomes)
    await batches.close()
