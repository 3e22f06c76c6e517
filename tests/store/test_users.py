"""People: unique whatever the case of their letters, gone for good, and ended at once."""

import pytest

from gateway.crypto import random_text
from gateway.faults import OperatorError
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import Conflict, Store
from tests.store.rig import PASSWORD_HASH, Rig, count, everything

OTHER_HASH = PASSWORD_HASH[:-1] + ("E" if PASSWORD_HASH[-1] == "A" else "A")


async def test_user_is_found_by_name_and_email_whatever_the_case(store: Store) -> None:
    ada = await store.users.create("Ada", "Ada@Example.com", "Ada L.", PASSWORD_HASH)
    assert await store.users.find("ADA") == ada
    for login in ("ada", "ADA", "ada@example.COM"):
        candidate = await store.users.sign_in_candidate(login)
        assert candidate is not None
        assert (candidate.user, candidate.password_hash) == (ada, PASSWORD_HASH)
    assert await store.users.all() == [ada]


@pytest.mark.parametrize("login", ["", "nobody", "ada\0", "\ud800", "x" * 10_000, "ada ", "%", "' or 1=1 --"])
async def test_login_of_any_characters_finds_nobody_quietly(store: Store, login: str) -> None:
    await store.users.create("ada", "ada@example.com", None, PASSWORD_HASH)
    assert await store.users.sign_in_candidate(login) is None
    assert await store.users.find(login) is None


@pytest.mark.parametrize(
    ("username", "email", "field"),
    [("ADA", None, "username"), ("bob", "ADA@example.com", "email"), ("ada", "ada@example.com", "username")],
)
async def test_name_or_email_that_is_taken_is_told_and_nothing_written(
    store: Store, database: str, username: str, email: str | None, field: str
) -> None:
    await store.users.create("ada", "ada@example.com", None, PASSWORD_HASH)
    before = await everything(database)
    with pytest.raises(Conflict) as conflict:
        await store.users.create(username, email, None, PASSWORD_HASH)
    assert conflict.value.field == field
    assert await everything(database) == before


@pytest.mark.parametrize("username", ["", "a b", "ada@example.com", "-ada", ".ada", "ä", "a" * 65, "a\n", "--help"])
async def test_malformed_user_name_is_refused(store: Store, database: str, username: str) -> None:
    with pytest.raises(OperatorError, match=r"^username: "):
        await store.users.create(username, None, None, PASSWORD_HASH)
    assert await count(database, "users") == 0
    assert await count(database, "events") == 0


@pytest.mark.parametrize("username", ["a", "A", "0", "a" * 64, "ada.b-c_d"])
async def test_well_formed_user_name_is_taken(store: Store, username: str) -> None:
    assert (await store.users.create(username, None, None, PASSWORD_HASH)).username == username


@pytest.mark.parametrize("email", ["", "ada", "@", "ada@", "@example.com", "a da@example.com", "a@b@c"])
async def test_malformed_email_is_refused(store: Store, email: str) -> None:
    with pytest.raises(OperatorError, match=r"^email: "):
        await store.users.create("ada", email, None, PASSWORD_HASH)


async def test_plain_password_is_never_stored_by_mistake(store: Store) -> None:
    with pytest.raises(OperatorError, match="argon2id"):
        await store.users.create("ada", None, None, "a plain password")
    await store.users.create("ada", None, None, PASSWORD_HASH)
    with pytest.raises(OperatorError, match="argon2id"):
        await store.users.set_password("ada", "a plain password")


async def test_new_password_ends_every_session_and_no_token(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    assert await store.users.set_password("ADA", OTHER_HASH)
    assert await store.sessions.find(rig.session_token) is None
    candidate = await store.users.sign_in_candidate("ada")
    assert candidate is not None
    assert candidate.password_hash == OTHER_HASH
    assert await rig.lives(tokens)
    assert not await store.users.set_password("nobody", OTHER_HASH)


async def test_sign_in_that_checked_the_old_password_opens_nothing_after_a_new_one(rig: Rig, store: Store) -> None:
    await store.users.set_password("ada", OTHER_HASH)
    late = await store.sessions.start(rig.user.subject, random_text(), 60, password_hash=PASSWORD_HASH)
    assert late is None


async def test_disabled_user_is_nobody_and_stays_ended_when_enabled(rig: Rig, store: Store) -> None:
    tokens, code = await rig.tokens(), await rig.code()
    assert await store.users.disable("Ada")
    user = await store.users.find("ada")
    assert user is not None
    assert user.disabled_at is not None
    for _ in ("disabled", "enabled again"):
        assert await store.sessions.find(rig.session_token) is None
        assert not await rig.lives(tokens)
        assert await store.tokens.introspect(tokens.refresh_token or "", rig.client) == {"active": False}
        asked = store.flows.start(rig.user.subject, rig.request())
        assert await store.flows.allow(asked, rig.session_id, asked.request.scopes, 60) is None
        await store.users.enable("ada")
    with pytest.raises(Exception, match="revoked code"):
        await rig.redeem(code)
    assert await store.users.sign_in_candidate("ada") is not None
    assert not await store.users.disable("nobody")


async def test_disabled_user_cannot_begin_a_session(rig: Rig, store: Store) -> None:
    await store.users.disable("ada")
    candidate = await store.users.sign_in_candidate("ada")
    assert candidate is not None
    assert candidate.user.disabled_at is not None
    assert await store.sessions.start(rig.user.subject, random_text(), 60) is None


async def test_deleted_user_is_gone_with_everything_and_the_name_is_another_person(
    rig: Rig, store: Store, database: str
) -> None:
    tokens = await rig.tokens()
    await rig.code()
    assert await store.users.delete("ADA")
    assert not await store.users.delete("ada")
    assert not await rig.lives(tokens)
    assert await store.tokens.introspect(tokens.access_token, rig.client) == {"active": False}
    for table in ("users", "sessions", "flows", "grants", "families", "codes"):
        assert await count(database, table) == 0, table
    again = await store.users.create("ada", "ada@example.com", None, PASSWORD_HASH)
    assert again.subject != rig.user.subject
    assert not await rig.lives(tokens)


async def test_revoking_a_user_ends_all_that_was_issued_and_says_how_much(rig: Rig, store: Store) -> None:
    first, second, code = await rig.tokens(), await rig.tokens(), await rig.code()
    operators = await store.tokens.issue(rig.client.client_id, "ada", frozenset({"read"}), 60, None)
    machine = await store.tokens.client_credentials(
        rig.client, ClientCredentialsGrant(frozenset({"read"})), store.now()
    )
    assert await store.users.revoke_tokens("ADA") == 5  # two pairs and the operator's
    for tokens in (first, second, operators):
        assert not await rig.lives(tokens)
    with pytest.raises(Exception, match="revoked code"):
        await rig.redeem(code)
    with pytest.raises(Exception, match="revoked refresh"):
        await rig.refresh(first.refresh_token)
    assert await rig.lives(machine)
    assert await rig.lives(await rig.tokens())
    assert await store.users.revoke_tokens("nobody") is None
