"""Clients and scopes: what they are, their secrets, and their end."""

from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.faults import OperatorError
from gateway.model import CLIENT_PROPERTIES, About, Client, OpenID, Owner
from gateway.oauth import openid
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import Conflict, NewClient, Store, Unauthenticated
from gateway.store.records import Logo
from tests.store.rig import NEW_CLIENT, MovableClock, Rig, count, counted, fetch

PUBLIC = replace(NEW_CLIENT, confidential=False)


async def test_client_comes_back_as_it_was_made(store: Store) -> None:
    wanted = replace(
        NEW_CLIENT, token_type="mac", mac_drafts=("00", "01"), mac_algorithm="hmac-sha-1", first_party=True
    )
    client, secret = await store.clients.create(wanted)
    for name in ("name", "confidential", "redirect_uris", "grant_types", "scopes", "token_type", "mac_drafts"):
        assert getattr(client, name) == getattr(wanted, name)
    assert client.mac_algorithm == "hmac-sha-1"
    assert client.first_party
    assert client.client_id.startswith("c")
    assert secret is not None
    assert secret.startswith("gws_")
    assert await store.clients.find(client.client_id) == client
    assert await store.clients.all() == [client]


async def test_every_property_of_a_client_is_kept(store: Store) -> None:
    wanted = replace(
        NEW_CLIENT,
        name="Other",
        redirect_uris=("https://b.example/cb", "https://a.example/cb"),
        grant_types=frozenset({"implicit", "refresh_token"}),
        scopes=frozenset({"files"}),
        token_type="mac",
        mac_drafts=("01", "00"),
        mac_algorithm="hmac-sha-1",
        token_format="jwt",
        pkce_required=False,
        par_required=True,
        dpop_required=True,
        jwks='{"jwks_uri": "https://a.example/keys"}',
        default_scopes=frozenset({"files"}),
        openid=OpenID(sector="a.example", post_logout_redirect_uris=("https://a.example/out",)),
        allow_groups=frozenset({"staff", "admins"}),
        decided=frozenset({"scopes", "jwks"}),
        first_party=True,
        verified=False,
        about=About(
            description="Notes",
            homepage="https://a.example",
            privacy="https://a.example/p",
            terms="https://a.example/t",
        ),
    )
    same = [name for name in CLIENT_PROPERTIES if getattr(wanted, name) == getattr(NEW_CLIENT, name)]
    assert same == ["confidential"], "a property is neither told nor found again here"
    made, _ = await store.clients.create(wanted)
    assert NewClient.like(made) == wanted
    changed, _ = await store.clients.create(NEW_CLIENT)
    assert await store.clients.update(changed.client_id, replace(wanted, verified=True, decided=frozenset()))
    found = await store.clients.find(changed.client_id)
    assert found is not None
    assert NewClient.like(found) == replace(wanted, verified=True, decided=frozenset())


async def test_public_client_has_no_secret(store: Store, database: str) -> None:
    client, secret = await store.clients.create(PUBLIC)
    assert secret is None
    assert isinstance(await store.clients.authenticate(client.client_id, ""), Unauthenticated)
    assert await store.clients.rotate_secret(client.client_id) is None
    assert await count(database, "client_secrets") == 0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"confidential": False, "first_party": True}, "first_party"),
        ({"confidential": False, "pkce_required": False}, "pkce"),
    ],
)
async def test_client_that_cannot_be_is_refused_and_not_half_written(
    store: Store, database: str, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(OperatorError, match=f"^{field}: "):
        await store.clients.create(replace(NEW_CLIENT, **changes))
    for table in ("clients", "client_secrets", "events"):
        assert await count(database, table) == 0
    client, _ = await store.clients.create(NEW_CLIENT)
    with pytest.raises(OperatorError, match=f"^{field}: "):
        await store.clients.update(client.client_id, replace(NEW_CLIENT, **changes))
    assert await store.clients.find(client.client_id) == client


@pytest.mark.parametrize("client_id", ["", "nobody", "c\0", "\ud800", "x" * 10_000])
async def test_client_id_of_any_characters_finds_nobody_quietly(store: Store, client_id: str) -> None:
    assert await store.clients.find(client_id) is None
    assert isinstance(await store.clients.authenticate(client_id, "secret"), Unauthenticated)


async def test_secret_is_good_for_its_own_client_only(store: Store) -> None:
    one, secret = await store.clients.create(NEW_CLIENT)
    two, other = await store.clients.create(NEW_CLIENT)
    assert secret is not None
    assert other is not None
    assert await store.clients.authenticate(one.client_id, secret) == one
    for wrong in ("", other, secret[:-1], secret + "x", secret.upper(), "\0", "\ud800"):
        assert isinstance(await store.clients.authenticate(one.client_id, wrong), Unauthenticated)
    assert isinstance(await store.clients.authenticate(two.client_id, secret), Unauthenticated)


async def test_wrong_secrets_are_one_event_a_minute_and_lock_nobody_out(
    store: Store, database: str, clock: MovableClock
) -> None:
    clock.stop()
    client, secret = await store.clients.create(NEW_CLIENT)
    for _ in range(150):
        assert isinstance(await store.clients.authenticate(client.client_id, "gws_wrong"), Unauthenticated)
    await store.clients.authenticate("c-unknown", "gws_wrong")
    assert await store.clients.authenticate(client.client_id, secret or "") == client
    store._tally._tell()  # a minute later
    await counted(store)
    events = await fetch(database, "select * from events where kind = 'client.secrets_guessed' order by event_id")
    assert [(event["client_id"], event["detail"]) for event in events] == [
        (client.client_id, '{"failures": 1}'),
        (client.client_id, '{"failures": 149}'),
    ]
    assert await count(database, "failed_attempts") == 0


async def test_a_wrong_secret_waits_for_no_count(store: Store, database: str) -> None:
    client, secret = await store.clients.create(NEW_CLIENT)
    connection = await asyncpg.connect(database)
    try:
        async with connection.transaction():  # as others who count would hold it, for as long as they like
            await connection.execute("lock table events, failed_attempts in exclusive mode")
            for _ in range(20):
                assert isinstance(await store.clients.authenticate(client.client_id, "gws_wrong"), Unauthenticated)
            assert await store.clients.authenticate(client.client_id, secret or "") == client
    finally:
        await connection.close()


async def test_rotated_secret_replaces_the_old_at_once(store: Store) -> None:
    client, old = await store.clients.create(NEW_CLIENT)
    new = await store.clients.rotate_secret(client.client_id)
    assert new is not None
    assert isinstance(await store.clients.authenticate(client.client_id, old or ""), Unauthenticated)
    assert await store.clients.authenticate(client.client_id, new) == client
    assert await store.clients.rotate_secret("nobody") is None


async def test_old_secret_lives_through_the_overlap_and_not_longer(store: Store, clock: MovableClock) -> None:
    client, old = await store.clients.create(NEW_CLIENT)
    new = await store.clients.rotate_secret(client.client_id, overlap=3600)
    assert await store.clients.authenticate(client.client_id, old or "") == client
    clock.advance(1800)
    newest = await store.clients.rotate_secret(client.client_id, overlap=7200)
    clock.advance(1801)
    assert isinstance(await store.clients.authenticate(client.client_id, old or ""), Unauthenticated), (
        "a later rotation lengthens nothing"
    )
    assert await store.clients.authenticate(client.client_id, new or "") == client
    clock.advance(7200)
    assert isinstance(await store.clients.authenticate(client.client_id, new or ""), Unauthenticated)
    assert await store.clients.authenticate(client.client_id, newest or "") == client


async def test_update_changes_what_it_is_and_keeps_its_secret(store: Store) -> None:
    client, secret = await store.clients.create(NEW_CLIENT)
    changed = await store.clients.update(
        client.client_id, replace(NEW_CLIENT, name="Other", scopes=frozenset({"read"}))
    )
    assert changed == replace(client, name="Other", scopes=frozenset({"read"}))
    assert await store.clients.authenticate(client.client_id, secret or "") == changed
    assert await store.clients.update("nobody", NEW_CLIENT) is None


async def test_client_that_becomes_public_loses_its_secret(store: Store) -> None:
    client, secret = await store.clients.create(NEW_CLIENT)
    await store.clients.update(client.client_id, PUBLIC)
    assert isinstance(await store.clients.authenticate(client.client_id, secret or ""), Unauthenticated)
    await store.clients.update(client.client_id, NEW_CLIENT)
    assert isinstance(await store.clients.authenticate(client.client_id, secret or ""), Unauthenticated)
    fresh = await store.clients.rotate_secret(client.client_id)
    assert isinstance(await store.clients.authenticate(client.client_id, fresh or ""), Client)


async def test_disabled_client_is_refused_and_its_tokens_stay_dead_when_enabled(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    machine = await store.tokens.client_credentials(
        rig.client, ClientCredentialsGrant(frozenset({"read"})), store.now()
    )
    assert await store.clients.disable(rig.client.client_id)
    assert isinstance(await store.clients.authenticate(rig.client.client_id, rig.secret), Unauthenticated)
    found = await store.clients.find(rig.client.client_id)
    assert found is not None
    assert found.disabled_at is not None
    asked = store.flows.start(rig.user.subject, rig.request())
    assert await store.flows.allow(asked, rig.session_id, asked.request.scopes, 60) is None
    with pytest.raises(Exception, match="invalid_client"):
        await store.tokens.client_credentials(rig.client, ClientCredentialsGrant(frozenset()), store.now())
    for _ in ("disabled", "enabled again"):
        assert not await rig.lives(tokens)
        assert not await rig.lives(machine)
        await store.clients.enable(rig.client.client_id)
    assert isinstance(await store.clients.authenticate(rig.client.client_id, rig.secret), Client)
    assert not await store.clients.disable("nobody")


async def test_deleted_client_is_gone_with_everything(rig: Rig, store: Store, database: str) -> None:
    tokens = await rig.tokens()
    machine = await store.tokens.client_credentials(
        rig.client, ClientCredentialsGrant(frozenset({"read"})), store.now()
    )
    assert await store.clients.delete(rig.client.client_id)
    assert not await store.clients.delete(rig.client.client_id)
    assert not await rig.lives(tokens)
    assert not await rig.lives(machine)
    for table in ("clients", "client_secrets", "flows", "grants", "families", "codes"):
        assert await count(database, table) == 0, table
    assert await store.sessions.find(rig.session_token) is not None


async def test_revoking_a_client_ends_all_that_was_issued_and_says_how_much(rig: Rig, store: Store) -> None:
    tokens = await rig.tokens()
    machine = await store.tokens.client_credentials(
        rig.client, ClientCredentialsGrant(frozenset({"read"})), store.now()
    )
    other = await Rig.build(store, username="bob")
    others = await other.tokens()
    assert await store.clients.revoke_tokens(rig.client.client_id) == 3
    assert not await rig.lives(tokens)
    assert not await rig.lives(machine)
    assert await rig.lives(others)
    assert await rig.lives(await rig.tokens())
    assert await store.clients.revoke_tokens("nobody") is None


async def test_scopes_are_listed_by_name_and_unique(store: Store) -> None:
    await store.scopes.create("notes:write", "Change your notes")
    read = await store.scopes.create("notes:read", "Read your notes")
    assert [scope.name for scope in await store.scopes.all()] == ["notes:read", "notes:write"]
    with pytest.raises(Conflict) as conflict:
        await store.scopes.create("notes:read", "Again")
    assert conflict.value.field == "scope"
    assert read in await store.scopes.all()
    assert await store.scopes.delete("notes:read")
    assert not await store.scopes.delete("notes:read")


async def test_words_of_the_configuration_win_over_those_made_by_command(store: Store) -> None:
    await store.scopes.create("notes:read", "Read your notes")
    await store.scopes.create("notes:write", "Change your notes")
    assert await store.scopes.defined({"notes:read": "See your notes", "files": "See your files"}) == {
        **openid.SCOPES,
        "notes:read": "See your notes",
        "notes:write": "Change your notes",
        "files": "See your files",
    }
    assert (await store.scopes.defined({"offline_access": "Stay"}))["offline_access"] == "Stay"


@pytest.mark.parametrize(
    ("name", "description", "field"),
    [("", "x", "scope"), ("a b", "x", "scope"), ('a"', "x", "scope"), ("a\\", "x", "scope"), ("ä", "x", "scope"),
     ("a\n", "x", "scope"), ("a", "", "description")],
)  # fmt: skip
async def test_malformed_scope_is_refused(store: Store, name: str, description: str, field: str) -> None:
    with pytest.raises(OperatorError, match=f"^{field}: "):
        await store.scopes.create(name, description)
    assert await store.scopes.all() == []


@pytest.mark.parametrize("name", ["!", "#", "[", "]", "~", "https://example.com/notes.read", "a:b.c-d_e/f"])
async def test_scope_of_every_allowed_character_is_taken(store: Store, name: str) -> None:
    assert (await store.scopes.create(name, "x")).name == name


LOGO = Logo("0" * 32 + ".png", b"\x89PNG one")
OTHER_LOGO = Logo("1" * 32 + ".png", b"\x89PNG two")


async def test_what_people_are_told_comes_back_and_is_seen_wherever_the_client_is(rig: Rig, store: Store) -> None:
    owner = Owner(subject=rig.user.subject, username=rig.user.username, name=rig.user.name)
    about = About(
        description="Notes", owner=owner, homepage="https://a.example", privacy="https://a.example/p", logo=LOGO.name
    )
    made, secret = await store.clients.create(replace(NEW_CLIENT, about=about, logo=LOGO))
    assert made.about == about
    assert await store.clients.authenticate(made.client_id, secret or "") == made
    assert await store.clients.owned_by(rig.user.subject) == [made.client_id]
    request = replace(rig.request(), client_id=made.client_id)
    await store.flows.issue_code(rig.session_id, request, 60, remember=True)
    (grant,) = await store.grants.of(rig.user.subject)
    assert grant.about == about
    await store.users.delete(rig.user.username)
    found = await store.clients.find(made.client_id)
    assert found == replace(made, about=replace(about, owner=None))


async def test_owner_who_does_not_exist_is_refused(store: Store) -> None:
    about = About(owner=Owner(subject="u-nobody", username="nobody", name=None))
    with pytest.raises(OperatorError, match=r"^owner: "):
        await store.clients.create(replace(NEW_CLIENT, about=about))
    assert await store.clients.all() == []


async def test_logo_is_replaced_kept_and_removed_with_its_client(store: Store, database: str) -> None:
    one, _ = await store.clients.create(replace(NEW_CLIENT, about=About(logo=LOGO.name), logo=LOGO))
    two, _ = await store.clients.create(replace(NEW_CLIENT, about=About(logo=LOGO.name), logo=LOGO))
    assert await store.clients.logo(LOGO.name) == LOGO.content
    kept = await store.clients.update(one.client_id, replace(NewClient.like(one), name="Other"))
    assert kept is not None
    assert kept.about == one.about
    changes = replace(NewClient.like(one), about=About(logo=OTHER_LOGO.name), logo=OTHER_LOGO)
    replaced = await store.clients.update(one.client_id, changes)
    assert replaced is not None
    assert replaced.about.logo == OTHER_LOGO.name
    assert await store.clients.logo(LOGO.name) == LOGO.content, "the other client has it still"
    bare = await store.clients.update(one.client_id, replace(changes, about=About(), logo=None))
    assert bare is not None
    assert bare.about.logo is None
    assert await store.clients.logo(OTHER_LOGO.name) is None
    await store.clients.delete(two.client_id)
    assert await store.clients.logo(LOGO.name) is None
    assert await count(database, "client_logos") == 0
