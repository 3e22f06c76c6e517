"""Calls under way, counted in memory that workers share."""

import os
from contextlib import ExitStack

from hypothesis import given
from hypothesis import strategies as st

from gateway.underway import COLUMNS, Counter, Counters, UnderWay
from tests.counts import scaled


def test_workers_count_together_and_routes_apart() -> None:
    shared = UnderWay()
    with shared.of_one(["a", "b"]) as one, shared.of_one(["b", "a"]) as other:
        first, second = Counters(one).of("a", 2), Counters(other).of("a", 2)
        assert [first.enter(), second.enter(), first.enter(), second.enter()] == [True, True, False, False]
        assert Counters(other).of("b", 1).enter()
        first.leave()
        assert (first.own, second.own) == (0, 1)
        assert second.enter()


def test_what_a_dead_worker_had_begun_is_under_way_no_more() -> None:
    shared = UnderWay()
    with shared.of_one(["a"]) as one:
        survivor = Counters(one).of("a", 1)
        with shared.of_one(["a"]) as other:
            assert Counters(other).of("a", 1).enter()
            assert not survivor.enter()
        assert survivor.enter()


def test_worker_without_a_bounded_route_has_no_place() -> None:
    with UnderWay().of_one([]) as place:
        assert place is None


def test_other_processes_see_it_at_once() -> None:
    shared = UnderWay()
    with shared.of_one(["a"]) as one, shared.of_one(["a"]) as other:
        child = os.fork()
        if child == 0:
            os._exit(0 if Counters(other).of("a", 1).enter() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert not Counters(one).of("a", 1).enter()


def test_columns_of_routes_that_went_are_taken_again() -> None:
    shared = UnderWay()
    for number in range(0, 2 * COLUMNS, COLUMNS // 4):
        with shared.of_one([f"r{one}" for one in range(number, number + COLUMNS // 4)]) as place:
            assert place is not None
            assert len(set(place.columns.values())) == COLUMNS // 4
            assert max(place.columns.values()) < COLUMNS


@given(
    most=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=scaled(500)),
)
def test_never_more_are_under_way_than_may_be(most: int, steps: list[tuple[int, bool]]) -> None:
    shared = UnderWay()
    with ExitStack() as stack:
        places = [stack.enter_context(shared.of_one(["a"])) for _ in range(4)]
        counters: list[Counter] = [Counters(place).of("a", most) for place in places]
        for number, enters in steps:
            before = sum(counter.own for counter in counters)
            if enters:
                assert counters[number].enter() == (before < most)
            elif counters[number].own:
                counters[number].leave()
            assert 0 <= sum(counter.own for counter in counters) <= most
