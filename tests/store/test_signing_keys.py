"""Keys that sign: made once, published before they sign and until all that they signed has expired, always sealed."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from gateway.crypto import Keyring
from gateway.model import SIGNING_ALGORITHMS
from gateway.store import Store
from gateway.store.events import Wanted
from gateway.store.signing_keys import KEPT, LEAD, PublishedKey
from tests.store.rig import MovableClock, everything, fetch

Another = Callable[..., Awaitable[Store]]


async def kids(store: Store) -> set[object]:
    return {key["kid"] for key in await store.signing_keys.published()}


async def of(store: Store, algorithm: str = "ES256") -> list[PublishedKey]:
    return [key for key in await store.signing_keys.all() if key.algorithm == algorithm]


async def test_keys_are_made_when_the_document_is_read_and_stay(store: Store) -> None:
    first = await store.signing_keys.published()
    assert sorted(str(key["alg"]) for key in first) == sorted(SIGNING_ALGORITHMS)
    assert await store.signing_keys.published() == first
    for algorithm in SIGNING_ALGORITHMS:
        assert (await store.signing_keys.key(algorithm)).kid in await kids(store)


async def test_a_first_signature_makes_its_own_key_alone(store: Store) -> None:
    key = await store.signing_keys.key("ES256")
    assert [one.kid for one in await store.signing_keys.all()] == [key.kid]
    assert len(await kids(store)) == len(SIGNING_ALGORITHMS)


async def test_workers_that_ask_at_once_have_one_key(another: Another) -> None:
    stores = [await another() for _ in range(4)]
    found = await asyncio.gather(*(one.signing_keys.key("EdDSA") for one in stores for _ in range(3)))
    assert len({key.kid for key in found}) == 1


async def test_a_first_key_that_a_clock_ahead_made_signs_for_all(
    store: Store, another: Another, clock: MovableClock
) -> None:
    clock.advance(20)
    key = await store.signing_keys.key("ES256")
    assert (await (await another()).signing_keys.key("ES256")).kid == key.kid
    assert [one.kid for one in await of(store)] == [key.kid]


async def test_new_key_is_published_before_it_signs_and_the_old_one_until_what_it_signed_expires(
    store: Store, another: Another, clock: MovableClock
) -> None:
    old = await store.signing_keys.key("ES256", ttl=7200)
    [made] = [key for key in await store.signing_keys.rotate() if key.algorithm == "ES256"]
    assert made.state == "next"
    assert {old.kid, made.kid} <= await kids(store)
    clock.advance(LEAD.total_seconds() - 5)
    assert (await (await another(clock=clock)).signing_keys.key("ES256", ttl=7200)).kid == old.kid
    clock.advance(10)
    assert (await (await another(clock=clock)).signing_keys.key("ES256")).kid == made.kid
    retired, current = await of(store)
    assert (retired.kid, retired.state, current.state) == (old.kid, "retired", "current")
    assert retired.published_until is not None
    assert retired.published_until >= store.now() + timedelta(seconds=7200 - 15)


async def test_retired_key_is_removed_once_all_that_it_signed_has_expired(
    store: Store, database: str, clock: MovableClock
) -> None:
    old = await store.signing_keys.key("ES256", ttl=3600)
    await store.signing_keys.rotate()
    for needed, there in (("1 second", True), ("-1 second", False)):
        # As if that had been long ago: what expires is judged by the database's clock too.
        await fetch(
            database,
            f"update signing_keys set signs_until = now() - interval '3 hours', "
            f"needed_until = now() - interval '{KEPT.total_seconds():.0f} seconds' + interval '{needed}' "
            f"where kid = '{old.kid}'",
        )
        await store.upkeep.sweep()
        assert (old.kid in {key.kid for key in await store.signing_keys.all()}) is there


async def test_another_rotation_waits_until_nothing_rests_on_the_key_before(store: Store, database: str) -> None:
    assert len(await kids(store)) == len(SIGNING_ALGORITHMS)
    assert len(await store.signing_keys.rotate()) == len(SIGNING_ALGORITHMS)
    assert await store.signing_keys.rotate() == []
    await fetch(database, "delete from signing_keys where signs_until is not null")
    assert {key.algorithm for key in await store.signing_keys.rotate()} == set(SIGNING_ALGORITHMS)


async def test_keys_that_others_have_end_at_once(store: Store, another: Another) -> None:
    stolen = {(await store.signing_keys.key(algorithm)).kid for algorithm in SIGNING_ALGORITHMS}
    made = await store.signing_keys.rotate(at_once=True)
    assert {key.state for key in made} == {"current"}
    assert not stolen & await kids(store)
    assert (await (await another()).signing_keys.key("ES256")).kid in {key.kid for key in made}
    kinds = [event.kind async for event in store.events.before(await store.events.newest(), Wanted())]
    assert kinds.count("signing_key.removed") == len(SIGNING_ALGORITHMS)


async def test_until_when_a_key_is_needed_is_written_seldom(store: Store, database: str, clock: MovableClock) -> None:
    key = await store.signing_keys.key("ES256", ttl=3600)
    before = await fetch(database, "select needed_until, xmin::text from signing_keys")
    for _ in range(20):
        clock.advance(60)
        await store.signing_keys.key("ES256", ttl=3600)
    assert await fetch(database, "select needed_until, xmin::text from signing_keys") == before
    clock.advance(3600)
    await store.signing_keys.key("ES256", ttl=3600)
    [row] = await fetch(database, "select kid, needed_until from signing_keys")
    assert row["kid"] == key.kid
    assert row["needed_until"] >= store.now() + timedelta(seconds=3600)


async def test_keys_are_sealed_anew_by_another_master_key(store: Store, another: Another) -> None:
    key = await store.signing_keys.key("ES256")
    fresh = Keyring(b"another-fake-key-of-32-bytes!!!!", (b"obviously-a-fake-key-for-tests!!",))
    other = await another(keys=fresh)
    assert dict(await other.master_keys.sealed_by_others(other.master_keys._keyring.key_id)) != {}
    assert await other.signing_keys.reseal() == 1
    assert await other.signing_keys.reseal() == 0
    assert {one.sealed_by for one in await other.signing_keys.all()} == {fresh.key_id}
    assert (await other.signing_keys.key("ES256")).kid == key.kid


async def test_a_key_whose_master_key_is_gone_is_followed_by_a_new_one(store: Store, another: Another) -> None:
    lost = await store.signing_keys.key("ES256")
    fresh = Keyring(b"another-fake-key-of-32-bytes!!!!", (b"obviously-a-fake-key-for-tests!!",))
    rotated = await another(keys=fresh)
    await rotated.master_keys.note_current()
    alone = await another(keys=Keyring(b"another-fake-key-of-32-bytes!!!!"))
    made = await alone.signing_keys.key("ES256")
    assert made.kid != lost.kid
    assert {made.kid, lost.kid} <= await kids(alone)


async def test_dump_shows_no_private_key_in_any_form(store: Store, database: str) -> None:
    made = [await store.signing_keys.key(algorithm) for algorithm in SIGNING_ALGORITHMS]
    dump = "\n".join(line for lines in (await everything(database)).values() for line in lines)
    for key in made:
        numbers = key.private_bytes
        assert key.kid in dump
        for form in (numbers.hex(), numbers[20:].hex()[:60], numbers[-24:].hex()):
            assert form not in dump
