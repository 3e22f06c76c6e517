"""The cache of tokens: bounded by entries and by bytes, and nothing counts that was touched."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bench.cached_tokens import put, token
from gateway.guard.cache import Cache
from gateway.guard.footprint import footprint
from gateway.guard.ledger import Ledger
from gateway.model import AccessToken, Identity


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


@pytest.mark.parametrize("signs", [False, True])
@pytest.mark.parametrize("users", [None, 50, 1000, 5000])
def test_bytes_are_bounded_and_what_is_counted_is_what_is_taken(users: int | None, signs: bool) -> None:
    count = 5000
    tracemalloc.start()
    try:
        cache = Cache(ledger(), entries=count)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(count):
            put(cache, token(number, user=None if users is None else number % users, signs=signs), as_of=1)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(cache) == count
    assert 0.7 * cache.size < taken < cache.size  # which knows nothing of rounding up to 16 bytes


@pytest.mark.parametrize("users", [None, 5000, 100_000])
def test_hundred_thousand_tokens_fit_into_sixty_four_megabytes(users: int | None) -> None:
    cache = Cache(ledger())
    for number in range(100_000):
        put(cache, token(number, user=None if users is None else number % users), as_of=1)
    assert len(cache) == 100_000
    assert cache.size <= 64_000_000


def test_bytes_run_out_before_entries_where_tokens_are_large() -> None:
    cache = Cache(ledger(), entries=1000, size=50_000)
    fill(cache, *(token(number, user=number) for number in range(500)))
    assert cache.size <= 50_000
    assert 60 < len(cache) < 90
    assert key(499) in cache
    wide = replace(token(500), identity=Identity(subject="x" * 60_000, client_id="c"))
    fill(cache, wide)
    assert cache.size <= 50_000
    assert key(500) not in cache  # one that alone is too large is not held


def test_tokens_that_agree_share_their_scopes() -> None:
    cache = Cache(ledger())
    fill(cache, token(1, user=1), token(2, user=2), replace(token(3), scopes=frozenset()))
    one, two, three = (cache.get(key(number)) for number in (1, 2, 3))
    assert one is not None
    assert two is not None
    assert three is not None
    assert one.allowed.scopes is two.allowed.scopes
    assert three.allowed.scopes == frozenset()


def test_token_that_is_put_again_takes_the_place_of_the_old_one() -> None:
    cache = Cache(ledger(), entries=3)
    fill(cache, token(1), token(2))
    size = cache.size
    old = cache.get(key(1))
    for _ in range(10):
        fill(cache, replace(token(1), audience=("https://a",)), token(2))
    new = cache.get(key(1))
    assert new is not None
    assert new is not old
    assert new.allowed.audience == ("https://a",)
    assert len(cache) == len(cache._queue) == 2
    fill(cache, token(1))
    assert cache.size == size
    fill(cache, token(3), token(4))
    assert len(cache) == 3
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
        assert set(cache._queue) == set(cache._entries)
        assert len(cache) == len(cache._queue) <= entries
        assert cache.size == sum(map(footprint, cache._entries.values()))
