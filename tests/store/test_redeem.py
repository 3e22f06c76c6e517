"""Codes become tokens once: whoever else tries changes nothing, whoever replays ends what came from it."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring
from gateway.errors import OAuthError
from gateway.faults import OperatorError
from gateway.model import GrantType
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import Store
from tests.counts import scaled
from tests.serving import until
from tests.store.rig import API, NEW_CLIENT, VERIFIER, MovableClock, Rig, count, everything, fetch, outcome

MAC_CLIENT = replace(NEW_CLIENT, token_type="mac", mac_algorithm="hmac-sha-1", mac_drafts=("00",))


async def test_code_becomes_a_pair_of_tokens_once(rig: Rig, store: Store) -> None:
    code = await rig.code()
    tokens = await rig.redeem(code)
    assert tokens.access_token.startswith("gwa_")
    assert tokens.refresh_token is not None
    assert tokens.refresh_token.startswith("gwr_")
    assert tokens.body() == {
        "access_token": tokens.access_token,
        "token_type": "bearer",
        "expires_in": 3600,
        "scope": "read write",
        "refresh_token": tokens.refresh_token,
    }
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert found.identity.subject == rig.user.subject
    assert found.identity.username == "ada"
    assert found.identity.email == "ada@example.com"
    assert found.identity.client_id == rig.client.client_id
    assert found.scopes == {"read", "write"}
    assert (found.expires_at - found.issued_at).total_seconds() == 3600


async def test_mac_client_gets_a_key_that_comes_back_with_the_token(store: Store) -> None:
    rig = await Rig.build(store, client=MAC_CLIENT)
    tokens = await rig.tokens()
    assert tokens.token_type == "mac"
    assert tokens.mac_algorithm == "hmac-sha-1"
    assert tokens.mac_key is not None
    assert len(tokens.mac_key) >= 32
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert found.mac_key == tokens.mac_key.encode()
    assert (found.token_type, found.mac_algorithm, found.mac_drafts) == ("mac", "hmac-sha-1", ("00",))
    assert tokens.mac_key not in repr(found) + repr(tokens)
    again = await rig.refresh(tokens.refresh_token)
    assert again.mac_key not in (None, tokens.mac_key)


async def test_client_without_the_refresh_grant_type_gets_no_refresh_token(store: Store, database: str) -> None:
    grant_types: frozenset[GrantType] = frozenset({"authorization_code"})
    rig = await Rig.build(store, client=replace(NEW_CLIENT, grant_types=grant_types))
    assert (await rig.tokens()).refresh_token is None
    assert await count(database, "refresh_tokens") == 0


async def test_replay_ends_what_came_from_the_code_and_nothing_else(rig: Rig) -> None:
    code = await rig.code()
    tokens = await rig.redeem(code)
    refreshed = await rig.refresh(tokens.refresh_token)
    others = await rig.tokens()
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert not await rig.lives(tokens)
    assert not await rig.lives(refreshed)
    assert await outcome(rig.refresh(refreshed.refresh_token)) == "invalid_grant"
    assert await rig.lives(others)
    assert await rig.lives(await rig.refresh(others.refresh_token))


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "x" * 43},
        {"code_verifier": None},
        {"redirect_uri": "https://client.example/cb/"},
        {"redirect_uri": None},
        {"client": "another"},
        {"resource": ("https://elsewhere.example",)},
    ],
    ids=str,
)
async def test_wrong_redemption_neither_spends_nor_revokes(
    rig: Rig, store: Store, database: str, wrong: dict[str, Any]
) -> None:
    if "client" in wrong:
        wrong = {"client": (await store.clients.create(NEW_CLIENT))[0]}
    code = await rig.code(resource=(API,))
    before = await everything(database)
    expected = "invalid_target" if "resource" in wrong else "invalid_grant"
    assert await outcome(rig.redeem(code, **wrong)) == expected
    assert await everything(database) == before
    tokens = await rig.redeem(code)
    if "resource" not in wrong:
        before = await everything(database)
        assert await outcome(rig.redeem(code, **wrong)) == "invalid_grant"
        assert await everything(database) == before
        assert await rig.lives(tokens)


async def test_code_expires(rig: Rig, store: Store, clock: MovableClock) -> None:
    code = await rig.code(ttl=60)
    clock.advance(60)
    assert await outcome(rig.redeem(code)) == "invalid_grant"


@pytest.mark.parametrize(
    "end", ["grants set scopes = '{write}'", "grants set revoked_at = now()", "codes set expires_at = now()"]
)
async def test_code_that_ends_while_it_is_redeemed_issues_nothing(rig: Rig, database: str, end: str) -> None:
    """It was good when it was looked at, and whoever ends it has its row already."""
    code = await rig.code()
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute(f"update {end}")
            redeemed = asyncio.create_task(outcome(rig.redeem(code)))
            await until(lambda: _waits_for_a_lock(database))
        assert await redeemed == "invalid_grant"
    finally:
        await other.close()
    assert await count(database, "access_tokens") == await count(database, "families") == 0


async def test_code_at_its_natural_end_ends_with_its_session_while_it_is_redeemed(
    store: Store, clock: MovableClock, database: str
) -> None:
    """By the clock of whoever redeems it it was good, and by the database's it is over when the person signs out."""
    clock.advance(-120)
    openid = frozenset({"openid", "read"})
    rig = await Rig.build(store, client=replace(NEW_CLIENT, scopes=openid))
    flow = store.flows.start(rig.user.subject, rig.request(scopes=openid))
    code = await store.flows.allow(flow, rig.session_id, openid, 60)
    assert code is not None
    other = await asyncpg.connect(database)
    try:
        async with other.transaction():
            await other.execute("update grants set updated_at = now()")  # as who allows the client once more
            redeemed = asyncio.create_task(outcome(rig.redeem(code)))
            await until(lambda: _waits_for_a_lock(database))
            assert await store.sessions.end_of(rig.user.subject)
        assert await redeemed == "invalid_grant"
    finally:
        await other.close()
    assert await count(database, "access_tokens") == await count(database, "families") == 0


async def _waits_for_a_lock(database: str) -> bool:
    (row,) = await fetch(database, "select count(*) as n from pg_locks where not granted")
    return bool(row["n"])


async def test_spent_code_stays_spent_when_the_clock_is_set_back(rig: Rig, store: Store) -> None:
    code = await rig.code()
    await rig.redeem(code)
    assert await outcome(rig.redeem(code, now=store.now() - timedelta(hours=1))) == "invalid_grant"


@pytest.mark.parametrize("code", ["", "gwc_invented", "x" * 44, "\0", "\ud800"])
async def test_invented_code_is_refused_without_the_database(rig: Rig, store: Store, code: str) -> None:
    await store.close()
    assert await outcome(rig.redeem(code)) == "invalid_grant"


async def test_access_token_is_no_code(rig: Rig, keyring: Keyring) -> None:
    tokens = await rig.tokens()
    for other in (tokens.access_token, tokens.refresh_token, keyring.new_token("gwc_")):
        assert await outcome(rig.redeem(other or "")) == "invalid_grant"
    assert await rig.lives(tokens)


async def test_tokens_are_limited_to_the_resources_that_were_granted(rig: Rig, store: Store) -> None:
    other = "https://api.example.com/mail"
    tokens = await rig.redeem(await rig.code(resource=(API, other)), resource=(API,))
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert found.audience == (API,)
    wider = await rig.refresh(tokens.refresh_token)
    found = await store.access_tokens.find(wider.access_token)
    assert found is not None
    assert found.audience == (API, other), "the refresh token keeps what was granted (RFC 8707, 2.2)"
    beyond = rig.refresh(wider.refresh_token, resource=("https://elsewhere.example",))
    assert await outcome(beyond) == "invalid_target"
    assert await rig.lives(await rig.refresh(wider.refresh_token, resource=(other,)))


async def test_client_that_dies_between_is_refused_and_nothing_is_written(
    rig: Rig, store: Store, database: str
) -> None:
    code = await rig.code()
    await store.clients.disable(rig.client.client_id)
    before = await everything(database)
    assert await outcome(rig.redeem(code)) == "invalid_grant"
    assert await everything(database) == before


@pytest.mark.long
async def test_of_a_hundred_redemptions_over_two_stores_exactly_one_succeeds(
    rig: Rig, another: Callable[..., Awaitable[Store]], database: str
) -> None:
    stores, cut_off = (await another(), await another()), 0
    for _ in range(scaled(200)):
        code = await rig.code()
        tries = [outcome(rig.redeem(code, store=stores[number % 2])) for number in range(100)]
        results = Counter(await asyncio.gather(*tries))
        if results[
            "unavailable"
        ]:  # a stalled machine: some met their deadline, and the one that wins may be among them
            cut_off += 1
            assert results["ok"] <= 1
        else:
            assert results == {"ok": 1, "invalid_grant": 99}
    assert cut_off <= 2
    assert await count(database, "access_tokens") == await count(database, "families") <= scaled(200)


async def test_withdrawal_during_redemptions_leaves_no_live_token(
    rig: Rig, another: Callable[..., Awaitable[Store]]
) -> None:
    stores = (await another(), await another())
    for _ in range(20):
        codes = [await rig.code() for _ in range(4)]
        issued: list[Any] = await asyncio.gather(
            *(rig.redeem(code, store=stores[number % 2]) for number, code in enumerate(codes)),
            stores[0].grants.withdraw(rig.user.subject, rig.client.client_id),
            return_exceptions=True,
        )
        for tokens in issued[:-1]:
            assert isinstance(tokens, OAuthError) or not await rig.lives(tokens)


async def test_client_credentials_stand_for_the_client_itself(rig: Rig, store: Store, database: str) -> None:
    tokens = await store.tokens.client_credentials(
        rig.client, ClientCredentialsGrant(frozenset({"read"}), (API,)), store.now()
    )
    assert tokens.refresh_token is None
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert found.identity.subject == found.identity.client_id == rig.client.client_id
    assert found.identity.username is None
    assert found.audience == (API,)
    assert await count(database, "families") == 0


async def test_operator_issues_without_grant_or_consent(rig: Rig, store: Store, clock: MovableClock) -> None:
    tokens = await store.tokens.issue(rig.client.client_id, "ADA", frozenset({"any"}), 90, "mac")
    assert (tokens.token_type, tokens.expires_in, tokens.scope) == ("mac", 90, "any")
    assert tokens.refresh_token is None
    found = await store.access_tokens.find(tokens.access_token)
    assert found is not None
    assert found.identity.subject == rig.user.subject
    clock.advance(90)
    assert not await rig.lives(tokens)
    own = await store.tokens.issue(rig.client.client_id, None, frozenset(), 90, None)
    assert own.token_type == "bearer"


@pytest.mark.parametrize(
    ("client", "user"), [("nobody", None), (None, "nobody"), ("disabled", None), (None, "disabled")]
)
async def test_operator_is_told_whom_there_is_not(
    rig: Rig, store: Store, database: str, client: str | None, user: str | None
) -> None:
    if client == "disabled":
        client = rig.client.client_id
        await store.clients.disable(client)
    if user == "disabled":
        user = "ada"
        await store.users.disable(user)
    with pytest.raises(OperatorError, match=r"^(no (client|user) '.*'|(client|user) '.*': is disabled); `gateway"):
        await store.tokens.issue(client or rig.client.client_id, user, frozenset(), 60, None)
    assert await count(database, "access_tokens") == 0


def test_verifier_of_these_tests_is_well_formed() -> None:
    from gateway.oauth import pkce

    assert pkce.is_verifier(VERIFIER)
