"""Leases of a day's quota, by arithmetic alone: over all workers no call passes more than the quota has."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from gateway.guard.lease import BLOCK, Lease, part

TODAY, TOMORROW = date(2026, 11, 28), date(2026, 11, 29)


class Books:
    """What the database knows of a quota, by the arithmetic of the statement."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, 0

    def take(self, asked: int, workers: int) -> tuple[int, int]:
        remaining = self.most - self.taken
        given = max(0, min(remaining, max(asked, min(BLOCK, int(remaining * part(workers))))))
        self.taken += given
        return given, self.most - self.taken


def ask(lease: Lease, books: Books, workers: int, now: float, day: date = TODAY, ends_at: float = 1000.0) -> None:
    given, remaining = books.take(1, workers)
    lease.given(given, remaining, day, ends_at, now)


@given(
    most=st.integers(1, 3000),
    workers=st.integers(1, 5),
    steps=st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["call", "calls", "rest", "kill"])), max_size=200),
)
def test_no_call_passes_more_than_the_quota_has(most: int, workers: int, steps: list[tuple[int, str]]) -> None:
    books, now, passed, lost = Books(most), 0.0, 0, 0
    leases = [Lease(b"", most, now) for _ in range(workers)]
    for number, step in steps:
        now += 0.01
        lease = leases[number % workers]
        if step == "rest":
            now += 1.0
            books.taken -= sum(one.unspent(now) for one in leases)
        elif step == "kill":
            lost += lease.units
            leases[number % workers] = Lease(b"", most, now)
        else:
            for _ in range(1 if step == "call" else 50):
                if not lease.has_one(now) and not lease.is_spent(now):
                    ask(lease, books, workers, now)
                if lease.has_one(now):
                    lease.take(now)
                    passed += 1
        assert passed + lost + sum(one.units for one in leases) == books.taken <= most

    now += 2.0
    books.taken -= sum(one.unspent(now) for one in leases)
    while not leases[0].is_spent(now):  # what is left is there for whoever calls
        if not leases[0].has_one(now):
            ask(leases[0], books, workers, now)
            continue
        leases[0].take(now)
        passed += 1
    assert passed + lost == most


def test_blocks_shrink_and_the_last_calls_are_given_one_by_one() -> None:
    books = Books(1000)
    blocks = []
    while (given := books.take(1, 2)[0]) > 0:
        blocks.append(given)
    assert blocks[0] == 62
    assert blocks == sorted(blocks, reverse=True)
    assert blocks[-16:] == [1] * 16


def test_calls_of_one_day_pass_in_no_other() -> None:
    lease = Lease(b"", 10, 0.0)
    lease.given(5, 5, TODAY, 100.0, 0.0)
    assert lease.has_one(99.9)
    assert not lease.has_one(100.0)
    assert (lease.is_spent(100.0), lease.unspent(200.0)) == (False, 0)
    lease.given(2, 8, TOMORROW, 86500.0, 100.0)
    assert lease.has_one(100.0)
    assert lease.remaining == 10
    late = Lease(b"", 10, 0.0)
    late.given(5, 5, TODAY, 100.0, 0.0)
    late.given(1, 9, TOMORROW, 86500.0, 150.0)  # nobody called in between
    assert late.units == 1


def test_what_others_gave_back_is_found_a_second_later() -> None:
    lease = Lease(b"", 10, 0.0)
    lease.given(0, 0, TODAY, 100.0, 1.0)
    assert lease.is_spent(1.9)
    assert not lease.is_spent(2.0)
    assert lease.wait(1.0) == 99
