"""The cache of tokens: bounded by entries and by bytes, and what is used stays."""

import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cached_tokens import token
from gateway.guard.cache import Cache
from gateway.guard.ledger import Ledger
from gateway.model import AccessToken


def ledger() -> Ledger:
    made = Ledger()
    made.forget(1.0)
    made.renew(made.elapsed() + 3600)
    return made


def fill(cache: Cache, *tokens: AccessToken) -> None:
    for one in tokens:
        cache.put(cache.made(one, cache._ledger.position))


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_tokens_beyond_the_bound_go_the_oldest_first() -> None:
    cache = Cache(ledger(), entries=10)
    fill(cache, *map(token, range(25)))
    assert [number for number in range(25) if key(number) in cache] == list(range(15, 25))
    assert len(cache) == 10


def test_token_in_use_outlives_those_that_are_not() -> None:
    cache = Cache(ledger(), entries=10)
    for number in range(200):
        fill(cache, token(number))
        assert cache.get(key(0)) is not None
        if number > 3:
            assert cache.get(key(3)) is not None
    assert key(1) not in cache
    assert len(cache) == 10


def test_flood_evicts_in_bounded_steps_when_all_are_in_use() -> None:
    cache = Cache(ledger(), entries=1000)
    fill(cache, *map(token, range(1000)))
    for number in range(1000):
        cache.get(key(number))
    fill(cache, token(1000))
    assert len(cache) == 1000
    assert sum(held.used for held in cache._queue) >= 900  # not all of them were looked at


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("users", [None, 50, 1000, 5000])
def test_bytes_are_bounded_and_what_is_counted_is_what_is_taken(users: int | None, signs: bool) -> None:
    count = 5000
    tracemalloc.start()
    try:
        cache = Cache(ledger(), entries=count)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            fill(cache, token(number, user=None if users is None else number % users, signs=signs))
            principal = cache._queue[-1].principal
            principal.rendered = principal.rendered or bytes(190 if users is None else 230)
            if signs and principal.by_signature is None:
                principal.by_signature = replace(principal, rendered=bytes(236), holders=0)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == count
    assert 0.7 * cache.size < taken < 1.02 * cache.size  # a dict's table is now half full, now full


@pytest.mark.parametrize("users", [None, 5000])
def test_hundred_thousand_tokens_fit_into_forty_megabytes(users: int | None) -> None:
    cache = Cache(ledger())
    for number in range(100_000):
        fill(cache, token(number, user=None if users is None else number % users))
    assert len(cache) == 100_000
    assert cache.size <= 40_000_000


def test_principal_goes_with_the_last_token_that_shares_it() -> None:
    cache = Cache(ledger(), entries=3)
    one, alike = cache.made(token(1, user=1), 0), cache.made(token(2, user=1), 0)  # neither is held yet
    for held in (one, alike, cache.made(token(3, user=1), 0)):
        cache.put(held)
    assert alike.principal is not one.principal
    assert [*cache._principals] == [one.principal]
    fill(cache, *(token(number, user=2) for number in range(4, 7)))
    [left] = cache._principals
    assert left.identity is not None
    assert left.identity.subject == token(4, user=2).identity.subject
    assert left.holders == 3


def test_bytes_run_out_before_entries_where_tokens_are_large() -> None:
    cache = Cache(ledger(), entries=1000, size=50_000)
    fill(cache, *(token(number, user=number) for number in range(500)))
    assert cache.size <= 50_000
    assert 30 < len(cache) < 100
    assert key(499) in cache
    wide = replace(token(500), scopes=frozenset({"x" * 60_000}))
    fill(cache, wide)
    assert cache.size <= 50_000
    assert key(500) not in cache  # one that alone is too large is not held


def test_tokens_that_agree_share_their_principal() -> None:
    cache = Cache(ledger())
    fill(cache, token(1, user=1), token(2, user=1), token(3, user=2))
    one, two, three = (cache.get(key(number)) for number in (1, 2, 3))
    assert one is not None
    assert two is not None
    assert three is not None
    assert one.principal is two.principal
    assert three.principal is not one.principal
    assert three.principal.scopes is one.principal.scopes
    fill(cache, replace(token(4, user=1), scopes=frozenset()), replace(token(5, user=1), audience=("https://a",)))
    for number in (4, 5):
        other = cache.get(key(number))
        assert other is not None
        assert other.principal is not one.principal


def test_token_that_is_put_again_takes_the_place_of_the_old_one() -> None:
    cache = Cache(ledger(), entries=3)
    for _ in range(10):
        fill(cache, token(1), token(2))
    assert len(cache) == 2
    assert len(cache._queue) <= 3
    fill(cache, token(3), token(4))
    assert len(cache) <= 3
    assert key(4) in cache


def test_entry_counts_only_within_the_lease() -> None:
    elapsed = [1000.0]
    made = Ledger(elapsed=lambda: elapsed[0])
    cache = Cache(made)
    made.forget(1.0)
    fill(cache, token(1))
    assert cache.get(key(1)) is None
    made.renew(1000.0)
    assert cache.get(key(1)) is not None
    elapsed[0] = 1001.999
    assert cache.get(key(1)) is not None
    elapsed[0] = 1002.0
    assert cache.get(key(1)) is None
    made.renew(1001.5)
    assert cache.get(key(1)) is not None


def test_entry_that_was_touched_never_counts_again() -> None:
    made = ledger()
    cache = Cache(made)
    fill(cache, token(1), token(2))
    made.apply([("family", token(1).family_id or "")])
    for _ in range(3):
        assert cache.get(key(1)) is None
        assert cache.get(key(2)) is not None
        made.apply([("user", "somebody")])
    fill(cache, token(1))
    assert cache.get(key(1)) is not None


STEPS = st.lists(st.tuples(st.sampled_from(["put", "get", "touch", "forget"]), st.integers(0, 12)), max_size=80)


@given(steps=STEPS, entries=st.integers(1, 8))
def test_cache_never_gives_what_is_touched_and_keeps_its_bounds(steps: list[tuple[str, int]], entries: int) -> None:
    made = ledger()
    cache = Cache(made, entries=entries)
    good: set[int] = set()
    for step, number in steps:
        if step == "put":
            fill(cache, token(number, user=number % 3))
            good.add(number)
        elif step == "get":
            assert cache.get(key(number)) is None or number in good
        elif step == "touch":
            made.apply([("token", key(number).hex())])
            good.discard(number)
        else:
            made.forget(1.0)
            good.clear()
        assert len(cache) <= len(cache._queue) <= entries
    holders = {id(held.principal): held.principal for held in cache._queue}
    for principal in holders.values():
        assert principal.holders == sum(held.principal is principal for held in cache._queue)
    empty = Cache(made, entries=entries)
    for held in list(cache._queue):
        cache._drop(held)
    assert cache.size == empty.size == 0
