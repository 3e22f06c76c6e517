"""The choice among upstreams, who is left out of it, and what may be sent again: pure decisions, by tables and laws."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing import HealthCheck
from gateway.routing.balance import choose
from gateway.routing.health import FAILURES, FIRST_PAUSE, LONGEST_PAUSE, STEADY, Health
from gateway.routing.retrying import FLOOR, IDEMPOTENT, REGAINED, SHARE, RetryBudget
from tests.counts import scaled

CHECK = HealthCheck(b"/healthz", 5.0, 2.0, healthy=2, unhealthy=3)
WEIGHTS = st.lists(st.integers(1, 1000), min_size=1, max_size=20)
CHANCE = st.floats(0, 1, exclude_max=True)


# -- the choice ------------------------------------------------------------------------------------------------------


@given(WEIGHTS, st.data(), CHANCE, CHANCE)
def test_choice_is_always_one_of_them(weights: list[int], data: st.DataObject, first: float, second: float) -> None:
    loads = data.draw(st.lists(st.integers(0, 1000), min_size=len(weights), max_size=len(weights)))
    assert 0 <= choose(weights, loads.__getitem__, first, second) < len(weights)


@given(st.lists(st.integers(1, 1000), min_size=2, max_size=2), CHANCE, CHANCE, st.tuples(*[st.integers(0, 1000)] * 2))
def test_of_two_the_one_with_more_to_do_for_its_weight_is_never_chosen(
    weights: list[int], first: float, second: float, loads: tuple[int, int]
) -> None:
    chosen = choose(weights, loads.__getitem__, first, second)
    other = 1 - chosen
    assert loads[chosen] * weights[other] <= loads[other] * weights[chosen]


@given(st.lists(st.integers(1, 1000), min_size=3, max_size=20), CHANCE, CHANCE)
def test_the_busiest_of_several_is_never_chosen(weights: list[int], first: float, second: float) -> None:
    busiest = len(weights) // 2
    assert choose(weights, lambda number: 10**6 if number == busiest else 0, first, second) != busiest


@pytest.mark.parametrize("weights", [[1, 1], [1, 2], [1, 2, 5], [10, 1, 1, 1]])
def test_calls_one_after_another_are_spread_by_weight(weights: list[int]) -> None:
    dice, count = random.Random(1), scaled(100_000)
    chosen = Counter(choose(weights, lambda _: 0, dice.random(), dice.random()) for _ in range(count))
    for number, weight in enumerate(weights):
        assert chosen[number] / count == pytest.approx(weight / sum(weights), abs=0.02)


@pytest.mark.parametrize("weights", [[1, 1], [1, 3], [1, 2, 5]])
def test_calls_under_way_are_spread_by_weight(weights: list[int]) -> None:
    dice, under_way, count = random.Random(2), [0] * len(weights), 0
    sums = [0] * len(weights)
    order = list[int]()  # that calls began in, and end in
    for _ in range(scaled(100_000)):
        number = choose(weights, under_way.__getitem__, dice.random(), dice.random())
        under_way[number] += 1
        order.append(number)
        if len(order) > 100:
            under_way[order.pop(0)] -= 1
            count += 1
            sums = [total + now for total, now in zip(sums, under_way, strict=True)]
    for number, weight in enumerate(weights):
        assert sums[number] / count == pytest.approx(100 * weight / sum(weights), rel=0.1)


def test_one_that_takes_ten_times_as_long_gets_a_fraction_of_the_calls() -> None:
    dice, under_way, got, ends = random.Random(3), [0, 0], Counter[int](), list[tuple[float, int]]()
    for now in range(scaled(100_000)):
        for end in [end for end in ends if end[0] <= now]:
            ends.remove(end)
            under_way[end[1]] -= 1
        number = choose([1, 1], under_way.__getitem__, dice.random(), dice.random())
        under_way[number] += 1
        got[number] += 1
        ends.append((now + (50 if number else 5), number))
    assert got[1] < 0.25 * got[0]


# -- who is left out -------------------------------------------------------------------------------------------------


def ejected(at: float) -> Health:
    health = Health(at)
    assert [health.fail(at) for _ in range(FAILURES)] == [False] * (FAILURES - 1) + [True]
    return health


def test_upstream_is_left_out_after_some_failures_in_a_row_and_not_for_others() -> None:
    health = Health(0.0)
    for _ in range(100):
        assert not health.fail(1.0)
        assert not health.fail(1.0)
        assert not health.succeed(1.0)
    assert health.takes(1.0)
    assert not ejected(5.0).takes(5.0)


def test_upstream_that_is_out_gets_one_call_at_the_end_of_each_pause_and_the_pauses_grow() -> None:
    health, now, pauses = ejected(100.0), 100.0, list[float]()
    for _ in range(10):
        pauses.append(health.pause)
        assert not health.takes(now + health.pause - 0.001)
        now += health.pause
        assert health.takes(now)
        health.give(now)
        assert not health.takes(now)
        assert health.fail(now)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]
    assert (pauses[0], pauses[-1]) == (FIRST_PAUSE, LONGEST_PAUSE)


def test_call_that_was_given_to_it_and_never_ended_keeps_it_out_no_longer_than_a_pause() -> None:
    health = ejected(0.0)
    health.give(1.0)
    assert not health.takes(1.5)
    assert health.takes(2.0)


def test_calls_that_were_under_way_when_it_was_left_out_do_not_lengthen_its_pause() -> None:
    health = ejected(0.0)
    assert not any(health.fail(0.1) for _ in range(100))
    assert health.pause == FIRST_PAUSE
    assert health.takes(1.0)


def test_success_brings_it_back_at_once_and_an_early_relapse_doubles_its_pause() -> None:
    health = ejected(0.0)
    assert health.succeed(1.0)
    assert health.takes(1.0)
    for _ in range(FAILURES):
        health.fail(2.0)
    assert health.pause == 2 * FIRST_PAUSE
    health.succeed(3.0)
    for _ in range(FAILURES):
        health.fail(3.0 + STEADY)
    assert health.pause == FIRST_PAUSE


def test_health_checks_need_so_many_in_a_row_either_way() -> None:
    health = Health(0.0, checked=True)
    answers = [False, False, True, False, False, False, True, False, True, True, True]
    assert [health.check(answer, CHECK) for answer in answers] == [False] * 5 + [True] + [False] * 3 + [True, False]
    assert health.well


def test_what_was_known_before_a_reload_is_where_it_begins() -> None:
    by_calls, by_checks = Health(7.0, out=True), Health(7.0, checked=True, out=True)
    assert by_calls.takes(7.0)  # one call, to see
    by_calls.give(7.0)
    assert not by_calls.takes(7.0)
    assert not by_checks.takes(1000.0)
    assert [by_checks.check(True, CHECK) for _ in range(2)] == [False, True]
    assert by_checks.takes(7.0)


@given(st.lists(st.tuples(st.sampled_from(["give", "succeed", "fail", "good", "bad"]), st.floats(0, 100))))
def test_standing_never_keeps_an_upstream_out_for_longer_than_the_longest_pause(steps: list[tuple[str, float]]) -> None:
    now, health = 0.0, Health(0.0)
    for step, later in steps:
        now += later
        match step:
            case "give":
                health.give(now)
            case "succeed":
                health.succeed(now)
            case "fail":
                health.fail(now)
            case _:
                health.check(step == "good", CHECK)
        assert health.ill or health.takes(now + LONGEST_PAUSE)
        assert health.well == (health.takes(now) and not health.ejected)


# -- what may be sent again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [b"POST", b"PATCH", b"CONNECT", b"LOCK", b"get", b""])
def test_methods_that_nobody_says_are_idempotent_are_not_sent_twice(method: bytes) -> None:
    assert method not in IDEMPOTENT  # RFC 9110, section 9.2.2: and methods are told by case, section 9.1


@given(st.lists(st.tuples(st.integers(0, 200), st.floats(0, 30))))
def test_repeats_are_a_tenth_of_the_calls_at_most_and_a_few(steps: list[tuple[int, float]]) -> None:
    budget, calls, now, repeats = RetryBudget(0.0), 0, 0.0, 0
    for more, later in steps:
        calls, now = calls + more, now + later
        while budget.spend(calls, now):
            repeats += 1
        assert repeats <= FLOOR + SHARE * calls + REGAINED * now


def test_repeats_of_a_busy_route_come_to_a_tenth() -> None:
    budget, repeats = RetryBudget(0.0), 0
    for calls in range(10_000):
        repeats += budget.spend(calls, 0.0)
    assert repeats == pytest.approx(1000, abs=FLOOR + 1)
