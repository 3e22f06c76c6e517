"""The parts of a bucket that several workers take from, by arithmetic alone: what passes, over any time and however the
calls move between them."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from math import exp

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.guard.bucket import STALE, Bucket
from gateway.routing.limits import Limit
from tests.counts import scaled

BEAT, LATENCY = 0.05, 0.003
Split = Callable[[float, random.Random], int]


@dataclass
class Shared:
    """What the database holds of a bucket, by the arithmetic of the statement."""

    limit: Limit
    full_at: float = 0.0
    demand: float = 0.0
    told_at: float = 0.0

    def tell(self, owed: float, asked: int, now: float) -> tuple[float, float]:
        self.full_at = max(self.full_at, now) + owed / self.limit.pace
        self.demand = self.demand * exp(-min(50.0, now - self.told_at)) + asked
        self.told_at = now
        return self.limit.burst - (self.full_at - now) * self.limit.pace, self.demand


@dataclass
class Run:
    """Some workers that are called so often a second, each of which tells the others when it has something to tell."""

    limit: Limit
    workers: int
    load: float
    split: Split
    seed: int = 1
    away: tuple[float, float] = (0.0, 0.0)  # from when until when the database is
    passed: list[float] = field(default_factory=list)
    calls: int = 0

    def over(self, seconds: float) -> "Run":
        """All that passed in this time."""
        chance, shared = random.Random(self.seed), Shared(self.limit)
        parts = [Bucket("", b"", self.limit, self.workers, 0.0) for _ in range(self.workers)]
        order = itertools.count()
        events: list[tuple[float, int, str, int]] = [(0.0, next(order), "call", 0)]
        events += [(chance.uniform(0, BEAT), next(order), "tell", number) for number in range(self.workers)]
        heapq.heapify(events)
        while events[0][0] < seconds:
            now, _, what, number = heapq.heappop(events)
            if what == "call":
                self.calls += 1
                part = parts[self.split(now, chance)]
                if part.has_one(now, self.workers):
                    part.take(now)
                    self.passed.append(now)
                else:
                    part.refuse(now)
                heapq.heappush(events, (now + chance.expovariate(self.load), next(order), "call", 0))
                continue
            part = parts[number]
            if part.asked and not self.away[0] <= now < self.away[1]:
                told = part.passed, part.asked
                level, demand = shared.tell(part.owed(now), part.asked, now)
                part.reported(*told, now + LATENCY)
                part.heard(level, demand, now + LATENCY)
            heapq.heappush(events, (now + BEAT, next(order), "tell", number))
        return self

    def within(self, begin: float, end: float) -> int:
        return sum(begin <= at < end for at in self.passed)


def evenly(workers: int) -> Split:
    return lambda _now, chance: chance.randrange(workers)


def moving(workers: int) -> Split:
    return lambda now, _chance: int(now / 2) % workers


def mostly_one(workers: int) -> Split:
    return lambda _now, chance: 0 if chance.random() < 0.95 else chance.randrange(workers)


@pytest.mark.parametrize("split", [evenly, moving, mostly_one])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_four_times_the_rate_passes_within_a_tenth_of_it_in_every_second(
    split: Callable[[int], Split], workers: int
) -> None:
    run = Run(Limit("client", 100, "second", 100), workers, 400, split(workers)).over(12)
    assert 190 <= run.within(0, 1) <= 210  # the burst, and what flows in
    counts = [run.within(second, second + 1) for second in range(2, 12)]
    assert all(90 <= count <= 110 for count in counts), counts


@pytest.mark.parametrize("split", [evenly, moving, mostly_one])
def test_what_is_below_the_rate_passes_whichever_worker_it_comes_to(split: Callable[[int], Split]) -> None:
    run = Run(Limit("client", 100, "second", 200), 4, 90, split(4)).over(12)
    assert len(run.passed) >= 0.99 * run.calls


def test_a_small_bucket_is_paid_back_where_each_of_many_workers_lent_one_call() -> None:
    run = Run(Limit("client", 10, "minute", 10), 32, 2, evenly(32)).over(600)
    assert run.within(0, 60) <= 32 + 10 + 10
    assert 90 <= run.within(0, 600) <= 110 + 32


def test_a_fair_part_passes_while_the_database_is_away_and_no_debt_is_left_of_it() -> None:
    run = Run(Limit("client", 100, "second", 100), 4, 400, evenly(4), away=(5.0, 25.0)).over(40)
    counts = [run.within(second, second + 1) for second in range(2, 40)]
    assert all(85 <= count <= 115 for count in counts[:3] + counts[6:22] + counts[27:]), counts
    assert run.within(5, 40) <= 1.05 * 100 * 35 + 100

    alone = Run(Limit("client", 100, "second", 100), 4, 400, lambda *_: 0, away=(5.0, 25.0)).over(25)
    assert 20 <= alone.within(10, 11) <= 30  # its part of four


@settings(max_examples=scaled(300), deadline=None)
@given(
    count=st.integers(1, 500),
    burst=st.integers(1, 500),
    workers=st.integers(1, 8),
    excess=st.floats(0.5, 8.0),
    seed=st.integers(0, 2**32),
)
def test_no_more_passes_than_burst_and_rate_let_but_for_a_moments_ignorance(
    count: int, burst: int, workers: int, excess: float, seed: int
) -> None:
    limit = Limit("client", count, "second", burst)
    run = Run(limit, workers, min(2000.0, excess * count), evenly(workers), seed).over(3)
    ignorance = workers + 0.15 * count + 0.1 * burst
    assert len(run.passed) <= burst + 3 * count + ignorance


@given(st.lists(st.tuples(st.floats(0, 5), st.sampled_from(["call", "heard", "told"])), max_size=60))
def test_what_is_left_and_the_wait_for_more_are_never_absurd(steps: list[tuple[float, str]]) -> None:
    limit, now = Limit("client", 10, "second", 5), 0.0
    part = Bucket("", b"", limit, 3, now)
    for pause, step in steps:
        now += pause
        if step == "told":
            part.reported(part.passed, part.asked, now)
        elif step == "heard":
            part.heard(-3.0, max(1.0, part.demand * 2), now)
        elif part.has_one(now, 3):
            part.take(now)
        else:
            part.refuse(now)
            assert part.remaining == 0
            assert part.wait > 0.0
        assert 0 <= part.remaining <= limit.burst
        assert 0.0 <= part.owed(now) <= max(part.passed, 5.0)


def test_what_nobody_was_told_of_for_long_is_made_good_for() -> None:
    part = Bucket("", b"", Limit("client", 10, "second", 10), 1, 0.0)
    for _ in range(10):
        assert part.has_one(0.0, 1)
        part.take(0.0)
    assert part.owed(STALE) == 10
    assert part.owed(STALE + 0.5) == 5.0
    assert part.owed(STALE + 60) == 0.0
