"""The cache of tokens: bounded by entries and by bytes, what is used stays, and what is put away comes back whole."""

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.cached_tokens import put, token
from gateway.guard.cache import Cache, _Generation
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
    for number in range(500):
        cache.get(key(number))
    fill(cache, token(1000))
    assert len(cache) == 1000
    assert [*cache._queue][-65:] == [key(1000), *map(key, range(64))]  # no more of them were looked at


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
def test_hundred_thousand_tokens_fit_into_forty_megabytes(users: int | None) -> None:
    cache = Cache(ledger())
    for number in range(100_000):
        put(cache, token(number, user=None if users is None else number % users), as_of=1)
    assert len(cache) == 100_000
    assert cache.size <= 40_000_000


@given(
    one=st.builds(
        AccessToken,
        digest=st.binary(min_size=32, max_size=32),
        identity=st.builds(
            Identity,
            subject=st.text(max_size=20),
            client_id=st.text(max_size=20),
            username=st.none() | st.text(max_size=20),
            email=st.none() | st.text(max_size=20),
        ),
        scopes=st.frozensets(st.text(max_size=10), max_size=4),
        token_type=st.sampled_from(["bearer", "mac"]),
        audience=st.lists(st.text(max_size=10), max_size=2).map(tuple),
        issued_at=st.just(datetime.now(UTC)),
        expires_at=st.datetimes(timezones=st.just(UTC)),
        mac_key=st.none() | st.binary(min_size=1, max_size=64),
        mac_algorithm=st.sampled_from(["hmac-sha-1", "hmac-sha-256"]),
        mac_drafts=st.lists(st.sampled_from(["00", "01", "02"])).map(tuple),
        family_id=st.none() | st.text(max_size=10),
        grant_id=st.none() | st.text(max_size=10),
    )
)
def test_what_is_put_away_comes_back_whole(one: AccessToken) -> None:
    cache = Cache(ledger())
    made = cache.made(one, 7)
    cache._ledger.position = 7
    cache.put(made)
    assert cache.get(one.digest) == made
    assert cache.get(one.digest) == made  # now at hand


def test_tokens_in_turn_stay_at_hand_if_there_is_room_for_them() -> None:
    cache = Cache(ledger(), entries=100)
    fill(cache, *map(token, range(40)))
    first = [cache.get(key(number)) for number in range(25)]
    for _ in range(5):
        for number, held in enumerate(first):
            assert cache.get(key(number)) is held


def test_what_tokens_have_in_common_goes_with_the_last_of_them() -> None:
    cache = Cache(ledger(), entries=3)
    fill(cache, *(replace(token(number), scopes=frozenset({"old"})) for number in range(3)))
    assert len(cache._commons) == 1
    fill(cache, token(3), token(4))
    assert len(cache._commons) == 2
    fill(cache, token(5))
    assert len(cache._commons) == 1
    held = cache.get(key(5))
    assert held is not None
    assert held.principal.scopes == token(5).scopes


def test_bytes_run_out_before_entries_where_tokens_are_large() -> None:
    cache = Cache(ledger(), entries=1000, size=50_000)
    fill(cache, *(token(number, user=number) for number in range(500)))
    assert cache.size <= 50_000
    assert 60 < len(cache) < 150
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
    fill(cache, token(1), token(2))
    size = cache.size
    old = cache.get(key(1))
    for _ in range(10):
        fill(cache, replace(token(1), audience=("https://a",)), token(2))
    new = cache.get(key(1))
    assert new is not None
    assert new is not old
    assert new.principal.audience == ("https://a",)
    assert len(cache) == len(cache._queue) == 2
    fill(cache, token(1))
    cache._younger, cache._older = _Generation(), _Generation()
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
        assert set(cache._queue) == set(cache._records)
        assert len(cache) == len(cache._queue) <= entries
        assert cache._younger.held.keys() | cache._older.held.keys() <= cache._records.keys()
    for digest in list(cache._queue):
        cache._let_go(digest, cache._records.pop(digest))
    assert cache._size_put_away == cache._commons.size == len(cache._commons) == 0
