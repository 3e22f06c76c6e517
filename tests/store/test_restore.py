"""A backup brought back: what lives then, what stays ended, and what may not pass twice."""

import asyncio
import hashlib
import json
import random
import stat
import zipfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from msgspec import structs

from gateway.credentials.signed import Signed
from gateway.crypto import Keyring, hash_password, password_matches
from gateway.faults import FaultyConfiguration, OperatorError
from gateway.guard.nonces import Nonces, Spending
from gateway.model import Client
from gateway.store import Store, Unauthenticated, backup, migrations
from gateway.store import restore as restoring
from gateway.store.backup import Backup, back_up
from gateway.store.migrations import Migration, migrate
from gateway.store.registrations import NotAdmitted, Registered
from gateway.store.restore import Order, Report, require_key, restore
from gateway.store.revival import Fate
from tests.counts import scaled
from tests.databases import made
from tests.serving import until
from tests.store.rig import NEW_CLIENT, Rig, count, everything, fetch, outcome

SKEW = 60.0
KEY = b"obviously-a-fake-key-for-tests!!"
DISCARD = Order(discard=True)


@pytest.fixture
async def rig(store: Store) -> Rig:
    return await Rig.build(store)


@pytest.fixture
async def elsewhere(server: str) -> AsyncIterator[str]:
    """A migrated database that is another one, not a clone of the same."""
    async with made(server, "template0") as dsn:
        await migrate(dsn)
        yield dsn


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "gateway.backup"


async def restored(dsn: str, file: Path, order: Order = DISCARD) -> Report:
    with Backup(file) as opened:
        return await restore(dsn, opened, order, keyring=Keyring(KEY), skew=SKEW)


async def known(dsn: str) -> dict[str, list[str]]:
    """What a database knows, but for what no backup holds and every restore adds."""
    rows = await everything(dsn)
    rows["events"] = [row for row in rows["events"] if "database.restored" not in row]
    return {name: rows[name] for name in rows if name not in backup.LEFT_OUT and not name.startswith("nonces")}


# -- there and back ----------------------------------------------------------------------------------------------


async def test_a_backup_restored_in_another_database_holds_all_that_was_known(
    rig: Rig, database: str, elsewhere: str, file: Path
) -> None:
    tokens = await rig.tokens()
    await rig.store.scopes.create("read", "Read – “everything”\n\tand \\ more")
    manifest = await back_up(database, file)
    await restored(elsewhere, file, Order(fate=Fate.TRUST))
    assert await known(elsewhere) == await known(database)
    assert manifest.rows("users") == manifest.rows("access_tokens") == 1
    other = await Store.open(elsewhere, Keyring(KEY), size=2, name="gateway-test")
    try:
        assert await other.access_tokens.find(tokens.access_token) is not None
        assert isinstance(await other.clients.authenticate(rig.client.client_id, rig.secret), Client)
        assert (await other.users.create("eve", None, None, hash_password("obviously fake"))).username == "eve"
    finally:
        await other.close()


async def test_a_backup_goes_into_a_database_without_a_schema(
    rig: Rig, database: str, empty_database: str, file: Path
) -> None:
    await back_up(database, file)
    await restored(empty_database, file, Order(fate=Fate.TRUST))
    assert await known(empty_database) == await known(database)
    assert await migrate(empty_database) == []


async def test_a_backup_is_of_one_moment_and_only_its_owner_reads_it(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        assert rig.user.username.encode() in archive.read("users.copy")
        assert "nonces.copy" not in archive.namelist()


async def test_what_was_there_is_kept_as_it_was_last_and_can_be_put_back(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await rig.tokens()
    await rig.store.users.create("eve", None, None, hash_password("obviously fake"))
    before, kept = await known(database), file.with_name("kept.backup")
    report = await restored(database, file, Order(keep=kept))
    assert report.kept == kept
    assert await rig.store.users.find("eve") is None
    await restored(database, kept, Order(discard=True, fate=Fate.TRUST))
    assert await known(database) == before


async def test_a_backup_of_an_older_release_is_migrated(
    rig: Rig, database: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back_up(database, file)
    more = Migration("9998_more", "alter table users add column note text not null default 'new'")
    later = Migration(
        "9999_then", "-- gateway: no transaction\ncreate index concurrently if not exists users_note on users (note)"
    )
    newer = (*migrations.migrations(), more, later)
    monkeypatch.setattr(migrations, "migrations", lambda: newer)
    await migrate(database)
    await restored(database, file)
    assert [row["note"] for row in await fetch(database, "select note from users")] == ["new"]
    assert await migrate(database) == []
    both = file.with_name("newer.backup")
    await back_up(database, both)
    await restored(database, both)  # begins with the index in the same transaction
    assert await count(database, "users") == 1
    monkeypatch.undo()
    with pytest.raises(
        OperatorError, match=r"newer\.backup: its schema is not one .* install that version, or a later"
    ):
        Backup(both)


# -- what stays ended --------------------------------------------------------------------------------------------

Act = Callable[[Rig], Awaitable[object]]


async def _done(rig: Rig, sql: str) -> bool:
    await fetch(rig.store._server.dsn, sql)
    return True


ENDINGS: dict[str, Act] = {
    "a token revoked": lambda rig: _done(rig, "update access_tokens set revoked_at = now()"),
    "a token gone": lambda rig: _done(rig, "delete from access_tokens"),
    "a grant withdrawn": lambda rig: rig.store.grants.withdraw(rig.user.subject, rig.client.client_id),
    "a grant gone": lambda rig: _done(rig, "delete from grants"),
    "a person's tokens revoked": lambda rig: rig.store.users.revoke_tokens("ada"),
    "a person disabled": lambda rig: rig.store.users.disable("ada"),
    "a person deleted": lambda rig: rig.store.users.delete("ada"),
    "a client's tokens revoked": lambda rig: rig.store.clients.revoke_tokens(rig.client.client_id),
    "a client disabled": lambda rig: rig.store.clients.disable(rig.client.client_id),
    "a client deleted": lambda rig: rig.store.clients.delete(rig.client.client_id),
}


@pytest.mark.parametrize("act", ENDINGS.values(), ids=ENDINGS)
async def test_what_was_ended_since_stays_ended_and_lives_again_only_by_order(
    act: Act, rig: Rig, database: str, file: Path
) -> None:
    tokens = await rig.tokens()
    await back_up(database, file)
    assert await act(rig) is not None
    assert not await rig.lives(tokens)
    report = await restored(database, file)
    assert report.carried_over
    assert not await rig.lives(tokens)
    assert report.revival.ended["tokens"].count == 1
    assert f"of {rig.client.client_id} for ada" in report.revival.ended["tokens"].names[0]
    await rig.store.users.enable("ada")
    await rig.store.clients.enable(rig.client.client_id)
    assert not await rig.lives(tokens)
    report = await restored(database, file, structs.replace(DISCARD, fate=Fate.TRUST))
    assert await rig.lives(tokens)
    assert report.revival.ended == {}


async def test_initial_access_tokens_that_were_used_or_revoked_since_open_nothing_again(
    rig: Rig, database: str, file: Path
) -> None:
    registrations = rig.store.registrations
    used, left = await registrations.create_token(600, 1), await registrations.create_token(600, 2)
    await back_up(database, file)

    async def register(token: str) -> object:
        return await registrations.add(NEW_CLIENT, {}, idle=600, place="192.0.2.7", initial_token=token)

    assert isinstance(await register(used), Registered)
    assert isinstance(await register(left), Registered)
    await restored(database, file)
    assert await register(used) is NotAdmitted.TOKEN
    assert isinstance(await register(left), Registered)
    assert await register(left) is NotAdmitted.TOKEN
    await registrations.revoke_tokens()
    await restored(database, file)
    assert await register(left) is NotAdmitted.TOKEN
    await restored(database, file, structs.replace(DISCARD, fate=Fate.END))
    assert await register(used) is NotAdmitted.TOKEN
    await restored(database, file, structs.replace(DISCARD, fate=Fate.TRUST))
    assert isinstance(await register(used), Registered), "by order"


async def test_what_still_lived_goes_on(rig: Rig, database: str, file: Path) -> None:
    tokens = await rig.tokens()
    await back_up(database, file)
    report = await restored(database, file)
    assert await rig.lives(tokens)
    assert await rig.store.sessions.find(rig.session_token) is not None
    assert (await rig.refresh(tokens.refresh_token)).access_token
    assert report.revival.ended == report.revival.lost == report.revival.changed == {}


async def test_who_was_disabled_or_deleted_since_is_named_and_comes_back_disabled(
    rig: Rig, database: str, file: Path
) -> None:
    other, _ = await rig.store.clients.create(structs.replace(NEW_CLIENT, name="Other"))
    await rig.store.users.create("bob", None, None, hash_password("obviously fake"))
    await back_up(database, file)
    await rig.store.users.delete("ada")
    await rig.store.users.disable("bob")
    await rig.store.clients.delete(other.client_id)
    report = await restored(database, file)
    assert report.revival.ended["users"].names == ("ada", "bob")
    assert report.revival.ended["clients"].names == (f"{other.client_id} (Other)",)
    assert [user.disabled_at is None for user in await rig.store.users.all()] == [False, False]
    assert await rig.store.sessions.find(rig.session_token) is None


async def test_a_session_that_was_signed_out_since_stays_so(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await rig.store.sessions.end(rig.session_token)
    report = await restored(database, file)
    assert await rig.store.sessions.find(rig.session_token) is None
    assert report.revival.ended["sessions"].names[0].startswith("ada, signed in ")


async def test_old_passwords_and_client_secrets_stay_old(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await rig.store.users.set_password("ada", hash_password("another fake one"))
    secret = await rig.store.clients.rotate_secret(rig.client.client_id)
    report = await restored(database, file)
    candidate = await rig.store.users.sign_in_candidate("ada")
    assert candidate is not None
    assert password_matches(candidate.password_hash, "another fake one")
    assert await rig.store.clients.authenticate(rig.client.client_id, rig.secret) == Unauthenticated("wrong secret")
    assert isinstance(await rig.store.clients.authenticate(rig.client.client_id, secret or ""), Client)
    assert report.revival.changed["passwords"].names == ("ada",)
    assert report.revival.changed["secrets"].names == (f"{rig.client.client_id} (Example)",)
    assert await rig.store.sessions.find(rig.session_token) is None


async def test_a_refresh_token_that_was_used_since_is_used_and_its_successor_goes_on(
    rig: Rig, database: str, file: Path
) -> None:
    first = await rig.tokens()
    await back_up(database, file)
    second = await rig.refresh(first.refresh_token)
    await restored(database, file)
    third = await rig.refresh(second.refresh_token)
    assert await rig.lives(third)
    assert await outcome(rig.refresh(first.refresh_token)) == "invalid_grant"
    assert not await rig.lives(third)  # reuse ended the family, as it does without a restore


async def test_a_grant_that_shrank_since_does_not_grow(rig: Rig, database: str, file: Path) -> None:
    tokens = await rig.tokens()
    await back_up(database, file)
    await fetch(database, "update grants set scopes = '{read}'")
    await restored(database, file)
    assert await rig.store.grants.scopes(rig.user.subject, rig.client.client_id) == {"read"}
    assert not await rig.lives(tokens)


async def test_a_code_is_never_restored_before_it_was_redeemed(rig: Rig, database: str, file: Path) -> None:
    code = await rig.code()
    await back_up(database, file)
    await rig.redeem(code)
    await restored(database, file, structs.replace(DISCARD, fate=Fate.TRUST))
    assert await outcome(rig.redeem(code)) == "invalid_grant"


async def test_what_is_newer_than_the_backup_is_named(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await rig.tokens()
    await rig.store.users.create("eve", None, None, hash_password("obviously fake"))
    await rig.store.clients.update(
        rig.client.client_id, structs.replace(NEW_CLIENT, redirect_uris=("https://new.example/cb",))
    )
    report = await restored(database, file)
    assert report.revival.lost["users"].names == ("eve",)
    assert report.revival.lost["grants"].names == (f"ada to {rig.client.client_id}: read write",)
    assert {kind: some.count for kind, some in report.revival.lost.items()} == {
        "users": 1, "grants": 1, "connections": 1, "tokens": 1,
    }  # fmt: skip
    assert report.revival.changed["registrations"].names == (f"{rig.client.client_id} (Example)",)


async def test_the_record_goes_on_through_a_restore(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await rig.store.users.disable("ada")
    before = [tuple(row) for row in await fetch(database, "select * from events order by event_id")]
    await restored(database, file)
    after = await fetch(database, "select * from events order by event_id")
    assert [tuple(row) for row in after[:-1]] == before
    assert after[-1]["kind"] == "database.restored"
    proven = await rig.store.chain.verify()
    assert proven.faults == ()


# -- where nobody knows what was ended ---------------------------------------------------------------------------


async def test_where_no_database_knows_what_was_ended_the_operator_is_asked(
    rig: Rig, database: str, elsewhere: str, file: Path
) -> None:
    await rig.tokens()
    await back_up(database, file)
    before = await known(elsewhere)
    with pytest.raises(OperatorError, match=r"gateway\.backup: is from .* ago\).*--end-all .*--trust"):
        await restored(elsewhere, file)
    assert await known(elsewhere) == before


async def test_all_tokens_and_sessions_can_be_ended(rig: Rig, database: str, elsewhere: str, file: Path) -> None:
    tokens = await rig.tokens()
    await back_up(database, file)
    report = await restored(elsewhere, file, Order(fate=Fate.END))
    assert {kind: some.count for kind, some in report.revival.ended.items()} == {
        "tokens": 1, "connections": 1, "sessions": 1,
    }  # fmt: skip
    assert set(report.revival.living) == {"users", "clients", "grants"}
    other = await Store.open(elsewhere, Keyring(KEY), size=2, name="gateway-test")
    try:
        moved = replace(rig, store=other)
        assert not await moved.lives(tokens)
        assert await outcome(moved.refresh(tokens.refresh_token)) == "invalid_grant"
        assert await other.sessions.find(rig.session_token) is None
        assert isinstance(await other.clients.authenticate(rig.client.client_id, rig.secret), Client)
    finally:
        await other.close()


async def test_what_lives_by_the_backup_alone_is_named(rig: Rig, database: str, elsewhere: str, file: Path) -> None:
    await rig.tokens()
    await back_up(database, file)
    living = (await restored(elsewhere, file, Order(fate=Fate.TRUST))).revival.living
    assert {kind: some.count for kind, some in living.items()} == dict.fromkeys(
        ("users", "clients", "grants", "connections", "tokens", "sessions"), 1
    )


async def test_another_databases_people_are_not_overwritten_unasked(
    rig: Rig, database: str, elsewhere: str, file: Path
) -> None:
    await back_up(database, file)
    await restored(elsewhere, file, Order(fate=Fate.TRUST))
    with pytest.raises(OperatorError, match=r"holds 2 people and clients.*--keep .*--discard"):
        await restored(elsewhere, file, Order(fate=Fate.TRUST))


# -- what may not pass twice -------------------------------------------------------------------------------------


async def test_no_request_that_was_signed_before_passes_after(rig: Rig, database: str, file: Path) -> None:
    """Not one whose client's clock is ahead by as much as is allowed, and no worker goes on by what it knew."""
    issued = await rig.store.tokens.issue(rig.client.client_id, "ada", frozenset({"read"}), 600, "mac")
    token = await rig.store.access_tokens.find(issued.access_token)
    assert token is not None
    now = rig.store.seconds()
    nonces = Nonces(rig.store.nonces, SKEW, rig.store.seconds)
    signed = [_signed(str(ahead), int(now + ahead)) for ahead in (-5, 0, SKEW)]
    await back_up(database, file)
    try:
        for one in signed:
            assert await _spent(nonces.spend(token, one)) is Spending.FIRST
        report = await restored(database, file)
        assert report.floor.timestamp() > now + SKEW
        for one in signed:
            assert await _spent(nonces.spend(token, one)) is not Spending.FIRST
        fresh = _signed("x", int(report.floor.timestamp()))
        assert await _spent(nonces.spend(token, fresh)) is Spending.FIRST
    finally:
        await nonces.close()


async def _spent(pending: Any) -> Spending:
    answer: Spending = await pending
    return answer


def _signed(nonce: str, created: int) -> Signed:
    return Signed(scheme="mac", token="", nonce=nonce, proofs=(), draft="01", created=created)


@pytest.mark.parametrize("drafts", [("00",), ("01",)])
async def test_tokens_whose_nonces_nobody_knows_any_more_end(
    drafts: Any, rig: Rig, database: str, elsewhere: str, file: Path
) -> None:
    client, _ = await rig.store.clients.create(structs.replace(NEW_CLIENT, mac_drafts=drafts, token_type="mac"))
    issued = await rig.store.tokens.issue(client.client_id, None, frozenset({"read"}), 600, "mac")
    await back_up(database, file)
    await restored(database, file)
    assert await rig.lives(issued)  # the nonces were carried over
    report = await restored(elsewhere, file, Order(fate=Fate.TRUST))
    assert set(report.revival.ended) == ({"tokens"} if drafts == ("00",) else set())


async def test_how_nonces_are_spread_stays_as_it_is_there(rig: Rig, database: str, file: Path) -> None:
    """Workers spend by the layouts that they have read, whatever is restored beneath them."""
    await back_up(database, file)
    layout = await rig.store.nonce_layouts.change(["another"])
    name = await rig.store.nonces.name()
    await restored(database, file)
    assert (await rig.store.nonce_layouts.read()).layouts[-1] == layout
    assert await rig.store.nonces.name() == name


async def test_nonces_that_count_as_long_as_their_token_are_carried_over(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    ends = rig.store.now()
    assert await rig.store.nonces.spend_untimed([(b"n" * 16, ends)])
    await restored(database, file, structs.replace(DISCARD, fate=Fate.TRUST))
    assert not await rig.store.nonces.spend_untimed([(b"n" * 16, ends)])


async def test_workers_learn_at_once_that_nothing_they_hold_counts(rig: Rig, database: str, file: Path) -> None:
    hints: list[object] = []
    async with rig.store.changes.feed(lambda: hints.append(1)) as feed:
        await feed.read()
        assert (await feed.read()).gapless
        await back_up(database, file)
        await restored(database, file)
        reading = await feed.read()
        assert not reading.gapless
        assert hints
        await rig.store.users.disable("ada")
        reading = await feed.read()
        assert reading.gapless
        assert ("user", rig.user.subject) in reading.changes


# -- the schema --------------------------------------------------------------------------------------------------


async def test_what_other_roles_may_do_stays(rig: Rig, database: str, file: Path) -> None:
    role = f"reader_{random.randrange(10**9)}"
    granted = (
        "select relname, relacl::text from pg_class where relacl is not null and relkind in ('r', 'p', 'v') "
        "and relnamespace = 'public'::regnamespace order by relname"
    )
    await fetch(database, f"create role {role}")
    try:
        await fetch(database, f"grant select, insert on users, nonces to {role}")
        await fetch(database, f"grant truncate on nonces_3 to {role}")
        await fetch(database, f"grant select on living_sessions to {role}")
        before = await fetch(database, granted)
        await back_up(database, file)
        await restored(database, file)
        assert await fetch(database, granted) == before
    finally:
        await fetch(database, f"drop owned by {role}")
        await fetch(database, f"drop role {role}")


async def test_the_owner_of_the_tables_stays_and_need_not_own_the_database(rig: Rig, database: str, file: Path) -> None:
    role = f"owner_{random.randrange(10**9)}"
    owners = "select distinct tableowner from pg_tables where schemaname = 'public'"
    await fetch(database, f"create role {role} login")
    await fetch(database, f"grant create on schema public to {role}")
    for name, kind in await fetch(
        database,
        "select relname, case relkind when 'v' then 'view' else 'table' end from pg_class "
        "where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')",
    ):
        await fetch(database, f"alter {kind} {name} owner to {role}")
    for (name,) in await fetch(
        database, "select oid::regprocedure::text from pg_proc where pronamespace = 'public'::regnamespace"
    ):
        await fetch(database, f"alter function {name} owner to {role}")
    try:
        await back_up(database, file)
        with pytest.raises(OperatorError, match=f"{role}, may not make a schema") as refused:
            await restored(database, file)
        [statement] = refused.value.statements
        await fetch(database, statement)
        for dsn in (database, database.replace("//gateway@", f"//{role}@")):
            await restored(dsn, file)
            assert [row[0] for row in await fetch(database, owners)] == [role]
    finally:
        await fetch(database, f"drop owned by {role} cascade")
        await fetch(database, f"drop role {role}")


async def test_what_somebody_built_on_the_tables_is_named_and_not_dropped(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    await fetch(database, "create view ours as select username from users")
    before = await known(database)
    with pytest.raises(OperatorError, match=r"something that is not Gateway's rests on its tables \(view ours"):
        await restored(database, file)
    assert await known(database) == before


async def test_a_restored_schema_is_the_one_that_migrations_make(
    rig: Rig, database: str, elsewhere: str, file: Path
) -> None:
    described = (
        "select table_name, column_name, data_type, is_nullable, column_default, ordinal_position "
        "from information_schema.columns where table_schema = 'public' order by 1, 6"
    )
    triggers = (
        "select tgrelid::regclass::text, tgname, tgenabled::text from pg_trigger where not tgisinternal order by 1, 2"
    )
    await back_up(database, file)
    await restored(database, file)
    for query in (described, triggers, "select indexdef from pg_indexes where schemaname = 'public' order by 1"):
        assert await fetch(database, query) == await fetch(elsewhere, query)
    assert await fetch(database, "select nspname from pg_namespace where nspname like 'gateway%'") == []


# -- bad files ---------------------------------------------------------------------------------------------------


async def test_a_backup_that_is_cut_short_or_altered_by_one_byte_is_refused(
    rig: Rig, database: str, file: Path
) -> None:
    await back_up(database, file)
    whole, bad, chance = file.read_bytes(), file.with_name("bad.backup"), random.Random(8642)
    for _ in range(scaled(2000)):
        at = chance.randrange(len(whole))
        bad.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << chance.randrange(8)]) + whole[at + 1 :])
        with pytest.raises(OperatorError, match=r"bad\.backup: (was cut short or altered|is not a backup)"):
            Backup(bad)
        bad.write_bytes(whole[: chance.randrange(len(whole))])
        with pytest.raises(OperatorError, match=r"bad\.backup: (was cut short or altered|is not a backup)"):
            Backup(bad)
    bad.write_bytes(whole + b"\n")
    with pytest.raises(OperatorError, match="was cut short or altered"):
        Backup(bad)


def _forged(file: Path, manifest: dict[str, object], **members: bytes) -> Path:
    """A backup whose digest is right, as one can make with an editor."""
    forged = file.with_name("forged.backup")
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(forged, "w") as new:
        for name in old.namelist():
            if name != "manifest.json":
                new.writestr(name, members.get(name.removesuffix(".copy"), old.read(name)))
        new.writestr("manifest.json", json.dumps({**json.loads(old.read("manifest.json")), **manifest}))
        new.comment = b"0" * 64
    text = forged.read_bytes()[:-64]
    forged.write_bytes(text + hashlib.sha256(text).hexdigest().encode())
    return forged


async def test_a_backup_of_a_newer_form_is_told_by_whom_it_was_made(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    with pytest.raises(OperatorError, match=r"made by Gateway 7\.1, in a form that this version .* cannot read"):
        Backup(_forged(file, {"format": 2, "gateway": "7.1", "more": []}))


async def test_a_backup_of_an_unreleased_version_is_told(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    with pytest.raises(OperatorError, match=r"forged\.backup: was made by an unreleased version, .* a new database"):
        Backup(_forged(file, {"migrations": {"0001_users": "", "0029_ended_codes": ""}}))


async def test_a_backup_from_a_newer_postgres_is_taken(rig: Rig, database: str, elsewhere: str, file: Path) -> None:
    await back_up(database, file)
    await restored(elsewhere, _forged(file, {"postgres": "31.2"}), Order(fate=Fate.TRUST))
    assert await count(elsewhere, "users") == 1


@pytest.mark.parametrize(
    ("name", "columns", "told"),
    [
        ("pg_authid", ["rolname"], "the table pg_authid in it is not Gateway's"),
        ("nonces", ["slot", "key"], "the table nonces in it is not Gateway's"),
        ("scopes", ["name) from program 'true'; --"], "the table scopes in it is not Gateway's"),
        ("scopes", ["name", "description"], "the table scopes in it is not Gateway's"),
        ("scopes", ["name", "description", "created_at"], "the rows of scopes are not complete"),
    ],
)
async def test_a_forged_backup_changes_nothing(
    name: str, columns: list[str], told: str, rig: Rig, database: str, file: Path
) -> None:
    manifest = await back_up(database, file)
    tables = [table.model_dump() for table in manifest.tables if table.name != name]
    forged = _forged(file, {"tables": [*tables, {"name": name, "columns": columns, "rows": 7}]})
    if f"{name}.copy" not in zipfile.ZipFile(forged).namelist():
        with zipfile.ZipFile(file, "a") as more:
            more.writestr(f"{name}.copy", b"")
        forged = _forged(file, {"tables": [*tables, {"name": name, "columns": columns, "rows": 7}]})
    before = await known(database)
    with pytest.raises(OperatorError, match=f"forged.backup: {told}.*; nothing was changed"):
        await restored(database, forged)
    assert await known(database) == before


@pytest.mark.parametrize("rows", [b"garbage\n", b"x\t\\N\t2026-01-01\n", b"x\ty\tno time\n", b"\xff\ty\t2026-01-01\n"])
async def test_rows_that_do_not_fit_change_nothing(rows: bytes, rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    before = await known(database)
    with pytest.raises(OperatorError, match=r"forged\.backup: the rows of scopes do not fit .*nothing was changed"):
        await restored(database, _forged(file, {}, scopes=rows))
    assert await known(database) == before


async def test_a_backup_under_another_master_key_is_refused(rig: Rig, database: str, file: Path) -> None:
    await back_up(database, file)
    ours = Keyring(KEY)
    other = Keyring(b"another-obviously-fake-key......")
    with Backup(file) as opened:
        require_key(opened, ours)
        require_key(opened, Keyring(b"another-obviously-fake-key......", (b"obviously-a-fake-key-for-tests!!",)))
        for keyring, told in ((other, f"it is {other.key_id.hex()}"), (None, "there is none")):
            with pytest.raises(FaultyConfiguration, match=f"master key {ours.key_id.hex()}, and {told}"):
                require_key(opened, keyring)


async def test_a_database_that_is_newer_or_has_no_schema_is_not_backed_up(
    database: str, empty_database: str, file: Path
) -> None:
    await fetch(database, "insert into schema_migrations (name, checksum) values ('9999_future', '')")
    for dsn, told in ((database, "newer than this version"), (empty_database, "has no schema of Gateway's")):
        with pytest.raises(OperatorError, match=told):
            await back_up(dsn, file)
    assert list(file.parent.iterdir()) == []


async def test_a_backup_during_a_restore_waits_for_it_and_is_whole(
    rig: Rig, database: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back_up(database, file)
    loaded, go_on, recorded = asyncio.Event(), asyncio.Event(), restoring._record

    async def record(*arguments: Any) -> None:
        loaded.set()
        await go_on.wait()
        await recorded(*arguments)

    monkeypatch.setattr(restoring, "_record", record)
    running = asyncio.create_task(restored(database, file))
    await loaded.wait()
    second = asyncio.create_task(back_up(database, file.with_name("second")))
    waiting = (
        "select count(*) from pg_stat_activity where application_name = 'gateway-backup' and wait_event_type = 'Lock'"
    )

    async def waits() -> bool:
        return bool((await fetch(database, waiting))[0][0])

    await until(waits)
    go_on.set()
    await running
    assert (await second).rows("users") == 1


async def test_a_lock_that_is_not_given_up_is_told(
    rig: Rig, database: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await back_up(database, file)
    monkeypatch.setattr("gateway.store.restore._LOCK_TIMEOUT", "50ms")
    monkeypatch.setattr("gateway.store.restore._PAUSE", 0.01)
    holder = await asyncpg.connect(database)
    try:
        async with holder.transaction():
            await holder.execute("select from users for share")
            with pytest.raises(OperatorError, match="something holds a lock on the tables; nothing was changed"):
                await restored(database, file)
        await restored(database, file)
    finally:
        await holder.close()
