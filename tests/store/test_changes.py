"""The change log: what ends or alters a token is in it, in the order of the commits, and nothing else is."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from gateway.crypto import Keyring, digest
from gateway.errors import StoreUnavailable
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import ChangeFeed, Clock, Store, changes
from gateway.store.records import IssuedTokens
from gateway.store.uses import Uses
from gateway.supervisor import embedded
from tests.counts import scaled
from tests.serving import PATIENCE, until
from tests.store.rig import NEW_CLIENT, PASSWORD_HASH, MovableClock, Rig, fetch, outcome

DAY = 86400


async def logged(dsn: str) -> list[tuple[str, str]]:
    """The log but for its first row, which is there so that it has an end."""
    return [
        (row["kind"], row["key"]) for row in await fetch(dsn, "select kind, key from changes where id > 1 order by id")
    ]


@asynccontextmanager
async def feed(store: Store, hint: Callable[[], object] = lambda: None) -> AsyncIterator[ChangeFeed]:
    """A feed that has read the log to its end."""
    async with store.changes.feed(hint) as opened:
        assert not (await opened.read()).gapless
        yield opened


async def keys(dsn: str) -> dict[str, str]:
    """What there is of each kind in a database with one of each."""
    rows = await fetch(
        dsn,
        "select encode(t.digest, 'hex') as token, f.family_id as family, f.grant_id as grant, g.client_id as client, "
        "g.subject as user from access_tokens t join families f using (family_id) join grants g using (grant_id)",
    )
    return dict(rows[0])


# -- what is written -----------------------------------------------------------------------------------------

Act = Callable[[Rig, IssuedTokens], Awaitable[Any]]

ENDINGS: list[tuple[str, Act]] = [
    ("token", lambda rig, tokens: rig.store.tokens.revoke(tokens.access_token, None)),
    ("family", lambda rig, tokens: rig.store.tokens.revoke(tokens.refresh_token or "", rig.client)),
    ("grant", lambda rig, _: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id)),
    ("client", lambda rig, _: rig.store.clients.disable(rig.client.client_id)),
    ("client", lambda rig, _: rig.store.clients.revoke_tokens(rig.client.client_id)),
    ("client", lambda rig, _: rig.store.clients.delete(rig.client.client_id)),
    ("user", lambda rig, _: rig.store.users.disable("ada")),
    ("user", lambda rig, _: rig.store.users.revoke_tokens("ada")),
    ("user", lambda rig, _: rig.store.users.delete("ada")),
]
OF_SESSIONS: list[Act] = [
    lambda rig, _: rig.store.sessions.end(rig.session_token),
    lambda rig, _: rig.store.sessions.end_of(rig.user.subject),
    lambda rig, _: rig.store.holdings.revoke_sessions(session_id=rig.session_id, subject=None),
    lambda rig, _: rig.store.users.set_password("ada", PASSWORD_HASH[:-4] + "AAAA"),
]


@pytest.mark.parametrize(("kind", "act"), ENDINGS, ids=[f"{number}-{kind}" for number, (kind, _) in enumerate(ENDINGS)])
async def test_every_ending_writes_one_line(rig: Rig, database: str, kind: str, act: Act) -> None:
    tokens = await rig.tokens()
    known = await keys(database)
    assert await act(rig, tokens)
    assert [*dict.fromkeys(await logged(database))] == [(kind, known[kind])]  # a person who is out loses sessions too
    assert not await rig.lives(tokens)


@pytest.mark.parametrize("act", OF_SESSIONS)
async def test_session_that_ends_names_its_person(rig: Rig, database: str, act: Act) -> None:
    tokens = await rig.tokens()
    await act(rig, tokens)
    assert {*await logged(database)} == {("user", rig.user.subject)}
    assert await rig.lives(tokens)
    assert (await rig.store.sessions.find_many([digest(rig.session_token)])).tokens == {}


async def test_session_that_is_used_or_has_expired_names_nobody(rig: Rig, store: Store, database: str) -> None:
    await store.holdings.note(Uses([], [], [digest(rig.session_token)]))
    await fetch(database, "update sessions set expires_at = now()")  # as time would
    before = await logged(database)
    await fetch(database, "delete from sessions")
    assert await logged(database) == before == [("user", rig.user.subject)]


async def test_reuse_and_replay_write_one_line_each(rig: Rig, database: str) -> None:
    code = await rig.code()
    tokens = await rig.redeem(code)
    family = (await keys(database))["family"]
    await rig.refresh(tokens.refresh_token)
    assert await outcome(rig.refresh(tokens.refresh_token)) == "invalid_grant"
    assert await logged(database) == [("family", family)]
    assert await outcome(rig.redeem(code)) == "invalid_grant"  # ended already
    assert await logged(database) == [("family", family)]


TYPED: list[tuple[str, str]] = [
    ("update users set username = 'lovelace'", "user"),
    ("update users set email = null", "user"),
    ("update clients set mac_drafts = '{00}'", "client"),
    ("update sessions set expires_at = now()", "user"),
    ("delete from sessions", "user"),
    ("truncate sessions, flows cascade", "all"),
    ("update access_tokens set scopes = '{}'", "token"),
    ("update access_tokens set expires_at = now()", "token"),
    ("update families set revoked_at = now()", "family"),
    ("delete from access_tokens", "token"),
    ("delete from families", "family"),
    ("delete from grants", "grant"),
    ("delete from users", "user"),
    ("delete from clients", "client"),
    ("truncate access_tokens", "all"),
    ("truncate users, grants, families, codes, sessions, flows cascade", "all"),
]


@pytest.mark.parametrize(("statement", "kind"), TYPED, ids=[statement for statement, _ in TYPED])
async def test_statement_of_an_operator_is_logged_as_well(rig: Rig, database: str, statement: str, kind: str) -> None:
    await rig.tokens()
    known = await keys(database) | {"all": ""}
    await fetch(database, statement)
    assert set(await logged(database)) == {(kind, known[kind])}


async def test_what_ends_no_token_writes_nothing_and_tells_nobody(rig: Rig, store: Store, database: str) -> None:
    told: list[int] = []
    async with feed(store, lambda: told.append(1)) as opened:
        tokens = await rig.refresh((await rig.tokens()).refresh_token)
        await store.clients.rotate_secret(rig.client.client_id)
        await store.clients.update(rig.client.client_id, NEW_CLIENT)
        await store.scopes.create("extra", "More")
        await store.scopes.delete("extra")
        await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(frozenset()), store.now())
        store.guesses.begin("ada", None, None).wrong("wrong password")
        await store.sessions.end("unknown")
        await store.tokens.revoke("unknown", None)
        assert await outcome(rig.refresh("gwr_invented")) == "invalid_grant"
        assert await logged(database) == []
        assert (await opened.read()).changes == ()
        assert told == []
        assert await store.tokens.revoke(tokens.access_token, None)
        await until(lambda: told)


async def test_sweep_of_what_is_dead_writes_nothing(rig: Rig, store: Store, database: str, clock: MovableClock) -> None:
    for _ in range(3):
        await rig.refresh((await rig.tokens()).refresh_token)
    await store.grants.withdraw(rig.user.subject, rig.client.client_id)
    before = await logged(database)
    await fetch(database, "update access_tokens set expires_at = now()")
    await fetch(database, "update families set expires_at = now()")
    touched = await logged(database)
    clock.advance(1)
    while await store.upkeep.sweep():
        pass
    assert await fetch(database, "select 1 from access_tokens") == []
    assert await fetch(database, "select 1 from grants") == []
    assert await logged(database) == touched
    assert len(before) == 1


async def test_line_is_written_in_the_transaction_that_ends_the_token(rig: Rig, database: str) -> None:
    tokens = await rig.tokens()
    connection = await asyncpg.connect(database)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("update access_tokens set revoked_at = now()")
    await transaction.rollback()
    await connection.close()
    assert await rig.lives(tokens)
    assert await logged(database) == []


# -- order ---------------------------------------------------------------------------------------------------


@pytest.mark.long
async def test_reader_misses_nothing_of_many_writers_that_overlap(
    rig: Rig, store: Store, database: str, another: Callable[..., Awaitable[Store]]
) -> None:
    async with feed(store) as opened:
        stores = [await another(size=6) for _ in range(2)]
        tokens = [
            await store.tokens.issue(rig.client.client_id, None, frozenset(), 60, None) for _ in range(scaled(600))
        ]
        seen: list[str] = []

        async def read_on() -> None:
            while len(seen) < len(tokens):
                seen.extend(key for _, key in (await opened.read()).changes)

        reading = asyncio.create_task(read_on())
        for start in range(0, len(tokens), 12):
            await asyncio.gather(
                *(
                    stores[number % 2].tokens.revoke(one.access_token, None)
                    for number, one in enumerate(tokens[start : start + 12])
                )
            )
        async with asyncio.timeout(PATIENCE):
            await reading
    assert sorted(seen) == sorted(digest(one.access_token).hex() for one in tokens)


async def test_writers_of_the_same_rows_in_opposite_orders_do_not_deadlock(
    rig: Rig, store: Store, database: str
) -> None:
    tokens = [await store.tokens.issue(rig.client.client_id, None, frozenset(), 60, None) for _ in range(2)]
    digests = [digest(one.access_token) for one in tokens]
    one, other = await asyncpg.connect(database), await asyncpg.connect(database)
    update = "update access_tokens set revoked_at = now() where digest = $1"
    first = one.transaction()
    await first.start()
    await one.execute(update, digests[0])
    commit = asyncio.create_task(other.execute(update, digests[1]))  # draws its id and commits
    await commit
    await one.execute(update, digests[1])
    await first.commit()
    await asyncio.gather(one.close(), other.close())
    assert [key for _, key in await logged(database)] == [digests[n].hex() for n in (1, 0, 1)]


async def test_lock_that_is_not_to_be_had_undoes_the_revocation_in_time(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    holder = await asyncpg.connect(database)
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock(1667788398)")
        for one_statement in (True, False):
            async with asyncio.timeout(2.5):
                with pytest.raises(StoreUnavailable):
                    await (
                        store.tokens.revoke(tokens.access_token, None)
                        if one_statement
                        else store.users.revoke_tokens("ada")
                    )
    await holder.close()
    assert await rig.lives(tokens)
    assert await logged(database) == []


async def test_long_deletion_does_not_hold_up_other_revocations(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    other = await Rig.build(store, username="bob")
    holder = await asyncpg.connect(database)
    transaction = holder.transaction()
    await transaction.start()
    await holder.execute("delete from users where username = 'bob'")  # it goes on and on
    assert await store.tokens.revoke(tokens.access_token, None)
    await transaction.commit()
    await holder.close()
    assert (await logged(database))[1] == ("user", other.user.subject)


# -- what is read --------------------------------------------------------------------------------------------


async def test_feed_reads_each_change_once(rig: Rig, store: Store) -> None:
    async with feed(store) as opened:
        for username in ("bob", "eve"):
            user = await store.users.create(username, None, None, PASSWORD_HASH)
            await store.users.disable(username)
            reading = await opened.read()
            assert (reading.gapless, reading.changes) == (True, (("user", user.subject),))
        assert (await opened.read()).changes == ()


async def test_feeds_of_one_server_name_it_alike_and_find_it_beside_the_tokens(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    async with feed(store) as one, feed(store) as other:
        server = (await one.read()).server
        assert (await other.read()).server == server
    found = await store.access_tokens.find_many([digest(tokens.access_token), b"x" * 32])
    assert found.server == server
    assert list(found.tokens) == [digest(tokens.access_token)]
    token = found.tokens[digest(tokens.access_token)]
    assert token.family_id is not None
    assert token.grant_id is not None
    assert (await store.access_tokens.find_many([b"x" * 32])).server is None


async def test_feed_that_read_too_late_says_so(rig: Rig, store: Store, database: str) -> None:
    async with feed(store) as opened:
        for _ in range(3):
            await store.users.revoke_tokens("ada")
        await fetch(database, "update changes set at = at - interval '2 hours'")
        while await store.upkeep.sweep():
            pass
        assert len(await fetch(database, "select 1 from changes")) == 1
        assert not (await opened.read()).gapless
        await store.users.revoke_tokens("ada")
        assert (await opened.read()).gapless


async def test_log_is_kept_for_an_hour_and_does_not_grow(store: Store, rig: Rig, database: str) -> None:
    for _ in range(5):
        await store.users.revoke_tokens("ada")
    assert await store.upkeep.sweep() == 0
    await fetch(database, "update changes set at = at - interval '61 minutes'")
    assert await store.upkeep.sweep(3) == 3
    assert await store.upkeep.sweep(3) == 2
    assert await store.upkeep.sweep(3) == 0
    assert len(await fetch(database, "select 1 from changes")) == 1


async def test_more_than_one_reading_holds_is_not_gapless(
    rig: Rig, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "_MOST", 3)
    async with feed(store) as opened:
        for _ in range(3):
            await store.users.revoke_tokens("ada")
        reading = await opened.read()
        assert (reading.gapless, reading.changes) == (False, ())
        await store.users.revoke_tokens("ada")
        assert len((await opened.read()).changes) == 1


async def test_log_that_was_taken_back_is_noticed(rig: Rig, store: Store, database: str) -> None:
    await store.users.revoke_tokens("ada")
    async with feed(store) as opened:
        await fetch(database, "delete from changes where id = (select max(id) from changes)")
        assert not (await opened.read()).gapless


async def test_another_timeline_is_noticed(store: Store) -> None:
    async with feed(store) as opened:
        assert (await opened.read()).gapless
        assert opened._history is not None
        opened._history = (opened._history[0], "00000002")
        assert not (await opened.read()).gapless


async def test_restarted_server_is_noticed_and_the_feed_ends(durable_server: embedded.Server, keyring: Keyring) -> None:
    store = await Store.open(durable_server.dsn, keyring)
    ended = asyncio.Event()
    async with feed(store, ended.set) as opened:
        before = (await opened.read()).server
        assert durable_server.pid is not None
        os.kill(durable_server.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await ended.wait()
        with pytest.raises(StoreUnavailable):
            await opened.read()

    async def another_server() -> bool:
        try:
            async with feed(store) as again:
                return (await again.read()).server != before
        except StoreUnavailable:
            return False

    await until(another_server)
    await store.close()


async def test_ordinary_role_may_read_the_log(store: Store, database: str, rig: Rig) -> None:
    await store.users.revoke_tokens("ada")
    connection = await asyncpg.connect(database)
    role = f"plain_{os.getpid()}"
    await connection.execute(f"create role {role}")
    try:
        await connection.execute(f"grant select on changes to {role}; set role {role}")
        opened = ChangeFeed(connection, Clock())
        await opened.read()
        assert (await opened.read()).gapless
    finally:
        await connection.execute(f"reset role; revoke all on changes from {role}; drop role {role}")
        await connection.close()


async def test_feed_that_is_terminated_hints_at_once(store: Store, database: str) -> None:
    hinted = asyncio.Event()
    async with feed(store, hinted.set):
        await fetch(
            database, "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'gateway-listen' and datname = current_database()",
        )  # fmt: skip
        async with asyncio.timeout(PATIENCE):
            await hinted.wait()
