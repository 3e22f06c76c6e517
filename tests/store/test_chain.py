"""The record of events proves itself: whatever somebody does to it who has the database alone, shows."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.crypto import Keyring, new_identifier
from gateway.store import Store, chain, queries
from gateway.store.acting import acting
from gateway.store.chain import Proven
from gateway.store.events import KINDS, Event, Wanted
from tests.counts import scaled
from tests.store.rig import Rig, aged, count, fetch

DAY = 86400


async def filled(store: Store, rig: Rig, times: int = 3) -> None:
    """Some events of several kinds, each with its place."""
    for number in range(times):
        with acting(actor=f"client:{rig.client.client_id}", request_id=f"r{number}", address="192.0.2.7"):
            await rig.tokens()
    await store.users.disable("ada")
    await store.users.enable("ada")
    await store.chain.complete()


async def events(store: Store, **wanted: str) -> list[Event]:
    return [one async for one in store.events.before(await store.events.newest(), Wanted(**wanted))]


def said(proven: Proven) -> list[str]:
    return [fault.fault for fault in proven.faults]


async def test_what_was_written_is_proven_with_who_did_it(rig: Rig, store: Store) -> None:
    await filled(store, rig)
    proven = await store.chain.verify()
    assert (proven.faults, proven.waiting) == ((), 0)
    assert proven.events == len(await events(store))
    issued = (await events(store, kind="token"))[0]
    assert (issued.actor, issued.request_id, issued.address) == (f"client:{rig.client.client_id}", "r2", "192.0.2.7")
    assert (issued.username, issued.client_name) == ("ada", "Example")
    assert (await store.chain.verify(anchored(proven.anchor))).faults == ()


def anchored(anchor: str) -> tuple[int, str]:
    seq, _, link = anchor.partition(":")
    return int(seq), link


# What somebody does to an event, in SQL; $1 is its place.
TAMPERING: dict[str, tuple[str, str]] = {
    "kind": ("altered", "update events set kind = 'token.revoked' || kind where seq = $1"),
    "time": ("altered", "update events set at = at - interval '1 microsecond' where seq = $1"),
    "endless time": ("altered", "update events set at = 'infinity' where seq = $1"),
    "time of no calendar": ("altered", "update events set at = '200000-01-01' where seq = $1"),
    "subject": ("altered", "update events set subject = coalesce(subject || 'x', 'u1') where seq = $1"),
    "client": ("altered", "update events set client_id = coalesce(client_id || 'x', 'c1') where seq = $1"),
    "actor": ("altered", "update events set actor = 'operator:root' where seq = $1"),
    "address": ("altered", "update events set address = '198.51.100.1' where seq = $1"),
    "request": ("altered", "update events set request_id = coalesce(request_id, '') || ' ' where seq = $1"),
    "detail": ("altered", """update events set detail = detail || '{"x": 1}' where seq = $1"""),
    "link": ("altered", "update events set proof = sha256(proof) where seq = $1"),
    "no link": ("altered", "update events set proof = null where seq = $1"),
    "number": ("altered", "update events set event_id = default where seq = $1"),
    "removed": ("removed", "delete from events where seq = $1"),
    "all after it removed": ("removed", "delete from events where seq >= $1"),
    "all before it removed": ("removed", "delete from events where seq <= $1"),
    "place taken away": ("removed", "update events set seq = null where seq = $1"),
    "set aside": ("removed", "update events set seq = -seq where seq = $1"),
    "moved to the end": ("removed", "update events set seq = (select max(seq) + 1 from events) where seq = $1"),
    "put in": ("inserted", "insert into events (at, kind) select at, kind from events where seq = $1"),
    "copied": (
        "inserted",
        (
            "insert into events (at, kind, subject, client_id, detail, actor, proof) "
            "select at, kind, subject, client_id, detail, actor, proof from events where seq = $1"
        ),
    ),
    "put in at the end": (
        "inserted",
        (
            "insert into events (at, kind, seq, proof) select at, kind, (select max(seq) + 1 from events), proof "
            "from events where seq = $1"
        ),
    ),
    "replaced": (
        "altered",
        (
            "with gone as (delete from events where seq = $1 returning *) insert into events (at, kind, seq, proof) "
            "overriding system value select at, kind, seq + 100000, proof from gone; "
            "update events set seq = seq - 100000 where seq > 100000"
        ),
    ),
    "swapped": (
        "altered",
        (
            "update events set seq = 100000 where seq = $1; "
            "update events set seq = $1 where seq = (select min(seq) from events where seq > $1 and seq < 100000); "
            "update events set seq = $1 + 1 where seq = 100000"
        ),
    ),
}


async def tampered(database: str, sql: str, seq: int) -> None:
    connection = await asyncpg.connect(database)
    for statement in sql.replace("$1", str(seq)).split("; "):
        await connection.execute(statement)
    await connection.close()


async def snapshot(database: str, *, put_back: bool = False) -> None:
    """Keep the record as it is, or put it back."""
    both = ("events", "event_chain")
    if not put_back:
        for table in both:
            await fetch(database, f"create table if not exists kept_{table} as table {table}")
        return
    for table in both:
        await fetch(database, f"delete from {table}")
        await fetch(database, f"insert into {table} overriding system value select * from kept_{table}")


@pytest.mark.long
async def test_whatever_is_done_to_any_event_shows_and_names_it(rig: Rig, store: Store, database: str) -> None:
    await filled(store, rig)
    await snapshot(database)
    whole = await store.chain.verify()
    chance = random.Random(11)
    tried = [*TAMPERING] + [chance.choice([*TAMPERING]) for _ in range(scaled(200) - len(TAMPERING))]
    for name in tried:
        fault, sql = TAMPERING[name]
        last = whole.events - (name == "swapped")  # which needs one after it
        seq = chance.randint(1, last)
        if name == "moved to the end":
            seq = chance.randint(1, last - 1)
        await tampered(database, sql, seq)
        found = await store.chain.verify()
        assert found.faults, (name, seq)
        first = found.faults[0]
        assert first.fault == fault, (name, seq, found.faults)
        if name == "all before it removed":
            assert first.seq == 1, (name, first)
        elif fault != "inserted":
            assert first.seq == seq, (name, seq, first)
        await snapshot(database, put_back=True)
        assert await store.chain.verify() == whole, name


async def put_in(database: str, sql: str, seq: int = 1) -> list[int]:
    """The event_ids of the events that somebody puts in, in their order; $1 is the place of one that is there."""
    before = {row["event_id"] for row in await fetch(database, "select event_id from events")}
    await tampered(database, sql, seq)
    rows = await fetch(database, "select event_id from events order by event_id")
    return [row["event_id"] for row in rows if row["event_id"] not in before]


@pytest.mark.parametrize("name", [name for name, (fault, _) in TAMPERING.items() if fault == "inserted"])
async def test_an_event_that_is_put_in_is_named_and_still_is_when_others_were_written_since(
    rig: Rig, store: Store, database: str, name: str
) -> None:
    await filled(store, rig)
    [strange] = await put_in(database, TAMPERING[name][1], 4)
    for _ in range(2):
        proven = await store.chain.verify()
        assert [(fault.fault, fault.event_id) for fault in proven.faults] == [("inserted", strange)]
        await store.users.disable("ada")
        await store.users.enable("ada")


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("insert into events (at, kind) select at, kind from events where seq < 4 order by seq", 0),
        (
            (
                "insert into events (at, kind, seq) select at, kind, (select max(seq) from events) + 4 - seq "
                "from events where seq < 4 order by seq"
            ),
            2,  # the first in place
        ),
        ("insert into events (at, kind, seq) select at, kind, -seq from events where seq < 4 order by seq", 0),
    ],
)
async def test_of_several_events_that_are_put_in_the_first_is_named(
    rig: Rig, store: Store, database: str, sql: str, named: int
) -> None:
    await filled(store, rig)
    strange = await put_in(database, sql)
    [fault] = (await store.chain.verify()).faults
    assert (fault.fault, fault.event_id) == ("inserted", strange[named])


@pytest.mark.parametrize("name", [name for name, (fault, _) in TAMPERING.items() if fault == "altered"])
async def test_of_several_tamperings_the_first_is_named_whenever_it_was_done(
    rig: Rig, store: Store, database: str, name: str
) -> None:
    await filled(store, rig)
    await tampered(database, "update events set kind = 'signed_out' where seq = $1", 8)
    await tampered(database, "delete from events where seq = $1", 10)
    await tampered(database, TAMPERING["put in"][1], 6)
    assert (await store.chain.verify()).faults[0].seq == 8
    await tampered(database, TAMPERING[name][1], 5)
    [row] = await fetch(database, "select event_id from events where seq = 5")
    first = (await store.chain.verify()).faults[0]
    assert (first.fault, first.seq, first.event_id) == ("altered", 5, row["event_id"])
    await tampered(database, "delete from events where seq = $1", 2)
    first = (await store.chain.verify()).faults[0]
    assert (first.fault, first.seq) == ("removed", 2)


@pytest.mark.parametrize(
    "sql",
    [
        "update event_chain set seq = seq - 1",
        "update event_chain set base_seq = 2, base_link = (select proof from events where seq = 2)",
        "update event_chain set link = (select proof from events where seq = 2), seq = 2",
        "update event_chain set sealed_key = 'another'",
        "update event_chain set sealed_key = null",
        "update event_chain set mac = null",
        "delete from event_chain",
        "delete from event_chain; insert into event_chain default values",
    ],
)
async def test_the_ends_of_the_chain_can_not_be_moved(rig: Rig, store: Store, database: str, sql: str) -> None:
    await filled(store, rig)
    await tampered(database, sql, 0)
    proven = await store.chain.verify()
    assert said(proven) == ["ends"]
    await store.users.disable("ada")  # and nobody is kept from acting by it
    assert said(await store.chain.verify()) == ["ends"]


async def test_a_record_that_was_put_back_whole_is_seen_by_its_anchor_and_by_who_serves(
    rig: Rig, store: Store, database: str, another: Callable[..., Awaitable[Store]]
) -> None:
    await filled(store, rig)
    await snapshot(database)
    await store.users.disable("ada")
    anchor = anchored((await store.chain.verify()).anchor)
    await snapshot(database, put_back=True)
    fresh = await another()
    assert (await fresh.chain.verify()).faults == ()  # it can't know
    assert said(await fresh.chain.verify(anchor)) == ["removed"]
    await fresh.users.enable("ada")
    assert said(await fresh.chain.verify(anchor)) == ["altered"]
    await store.users.disable("ada")
    with capture_logs() as lines:
        await store.chain.extend()
        assert said(await store.chain.verify(anchor)) == ["altered"]
    assert [line["event"].partition(":")[0] for line in lines] == ["events were taken back"]


async def test_an_event_that_is_altered_or_put_in_before_it_has_its_place_gets_none(
    rig: Rig, store: Store, database: str
) -> None:
    await filled(store, rig)
    await store.users.disable("ada")
    await store.users.enable("ada")
    await fetch(database, "update events set actor = 'nobody' where kind = 'user.disabled' and seq is null")
    await fetch(
        database, "insert into events (at, kind, proof) values (now(), 'token.issued', sha256('') || sha256(''))"
    )
    with capture_logs() as lines:
        assert said(await store.chain.verify()) == ["inserted"]
    (line,) = [line for line in lines if "did not write" in line["event"]]
    assert len(line["event_ids"]) == 2
    await store.users.disable("ada")  # what comes after them gets its place
    assert (await store.chain.verify()).waiting == 0
    assert await store.chain.begin_anew() == 2
    proven = await store.chain.verify()
    assert (proven.faults, proven.events) == ((), 1)
    assert (await events(store))[0].kind == "events.begun_anew"


async def test_retention_keeps_what_is_left_provable(rig: Rig, store: Store, database: str) -> None:
    await filled(store, rig)
    before = await store.chain.verify()
    with capture_logs() as lines:
        assert await store.upkeep.sweep() == 0
        later = store.now() + timedelta(days=91)
        connection = await asyncpg.connect(database)
        await connection.execute("update event_chain set mac = mac")
        await connection.close()
        async with store._database.transaction() as statements:
            row = await statements.rows(
                "events_oldest", after=0, now=later, kept=timedelta(0), batch=3
            )  # whose time is over by one clock alone
            assert [one["over"] for one in row] == [True] * 3
    assert not lines
    async with store._database.transaction() as statements:
        for _ in range(2):
            assert await retired(store, statements, 3) == 3
    after = await store.chain.verify()
    assert (after.faults, after.events, after.anchor) == ((), before.events - 6, before.anchor)
    await fetch(database, "delete from events where seq = 7")
    assert [fault.seq for fault in (await store.chain.verify()).faults] == [7]


async def retired(store: Store, statements: object, batch: int) -> int:
    """What retention removes where all events are old enough."""
    kept, chain.EVENTS_KEPT = chain.EVENTS_KEPT, timedelta(0)  # type: ignore[misc]  # for this call
    try:
        return await store.chain.retire(statements, store.now(), batch)  # type: ignore[arg-type]
    finally:
        chain.EVENTS_KEPT = kept  # type: ignore[misc]


async def test_retention_says_that_what_it_removes_was_tampered_with(rig: Rig, store: Store, database: str) -> None:
    await filled(store, rig)
    await aged(database, 91 * DAY)
    with capture_logs() as lines:
        while await store.upkeep.sweep(4):
            pass
    assert await count(database, "events") == 0
    assert "tampered" in lines[0]["event"]
    await store.users.disable("ada")
    assert (await store.chain.verify()).faults == ()


async def test_workers_that_write_and_give_places_at_once_make_one_chain_and_wait_for_nobody(
    rig: Rig, store: Store, another: Callable[..., Awaitable[Store]]
) -> None:
    others = [await another(), await another()]

    async def place(one: Store) -> None:
        for _ in range(scaled(100)):
            await one.chain.extend(20)
            await asyncio.sleep(0)

    await asyncio.gather(*(rig.tokens() for _ in range(scaled(300))), *map(place, [store, *others]))
    await store.chain.complete()
    proven = await store.chain.verify()
    assert (proven.faults, proven.waiting) == ((), 0)
    assert proven.events == len(await events(store))


async def test_the_chain_goes_on_under_another_master_key_and_is_sealed_by_it(
    rig: Rig, store: Store, database: str, keyring: Keyring, another: Callable[..., Awaitable[Store]]
) -> None:
    await filled(store, rig)
    await store.users.disable("ada")  # which waits for its place
    new = bytes(range(32))
    rotated = await another(keys=Keyring(new, (keyring._current.master,)))
    await rotated.chain.complete()
    await fetch(database, "update settings set master_key_id = $1", Keyring(new).key_id)
    only = await another(keys=Keyring(new))
    assert (await only.chain.verify()).faults == ()
    gone = await another(keys=Keyring(bytes(32), (new,)))
    await gone.close()
    assert said(await store.chain.verify()) == ["ends"]  # to who has the former key alone


async def test_events_from_before_there_was_a_chain_are_its_beginning(rig: Rig, store: Store, database: str) -> None:
    await fetch(database, "update events set proof = null")
    proven = await store.chain.verify()
    assert (proven.faults, proven.events) == ((), 3)


HOSTILE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=scaled(200), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(actor=HOSTILE, request_id=HOSTILE, name=HOSTILE.filter(lambda text: text.strip() != ""))
async def test_any_text_is_proven_as_the_database_writes_it(
    rig: Rig, store: Store, actor: str, request_id: str, name: str
) -> None:
    with acting(actor=actor, request_id=request_id, address="\x1b[2J"):
        await store.scopes.create(new_identifier("s"), name)
        await store.tokens.issue(rig.client.client_id, "ada", frozenset({"read"}), 60, None)
    await store.chain.complete()
    assert (await store.chain.verify()).faults == ()


def test_every_kind_of_event_that_is_written_can_be_asked_for() -> None:
    texts = [query.sql for query in queries.load().values() if "insert into events" in query.sql]
    written = {kind for text in texts for kind in re.findall(r"'((?:[a-z_]+\.[a-z_]+)|signed_out)'", text)}
    others = {"sign_in.failed", "client.secrets_guessed", "code.replayed", "refresh.reused"}  # given as parameters
    assert written | others == set(KINDS)
