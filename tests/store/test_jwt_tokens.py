"""Access tokens that are JWTs (RFC 9068): what they say, and that they live and end as the opaque ones do."""

import json
from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from gateway.crypto import Keyring, digest
from gateway.errors import OAuthError
from gateway.faults import OperatorError
from gateway.model import SIGNING_ALGORITHMS, OpenID, SigningAlgorithm
from gateway.oauth import jwk, jws
from gateway.oauth.grants import ClientCredentialsGrant
from gateway.store import IssuedTokens, Store
from gateway.store.access_tokens import may_be
from tests.store.rig import API, NEW_CLIENT, Rig, everything, outcome
from tests.store.test_signing_keys import Another

ISSUER = "https://api.example.com"
JWT_CLIENT = replace(NEW_CLIENT, token_format="jwt")


@pytest.fixture
async def rig(another: Another) -> Rig:
    return await Rig.build(await another(issuer=ISSUER), client=JWT_CLIENT)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    header, claims, _ = token.split(".")
    return json.loads(jws.decoded(header)), json.loads(jws.decoded(claims))


async def is_verified(store: Store, token: str) -> bool:
    """Whether a resource server that has nothing but jwks.json takes the signature (RFC 9068, section 4)."""
    header, _ = parts(token)
    published = [key for key in await store.signing_keys.published() if key["kid"] == header["kid"]]
    [key] = jwk.keys_of(json.dumps({"keys": published}))
    signed, _, signature = token.rpartition(".")
    return key.verifies(header["alg"], signed.encode(), jws.decoded(signature))


async def session_began(rig: Rig) -> int:
    session = await rig.store.sessions.find(rig.session_token)
    assert session is not None
    return int(session.signed_in_at.timestamp())


async def test_jwt_has_the_header_and_the_claims_of_rfc_9068(rig: Rig) -> None:
    before = int(rig.store.now().timestamp())
    tokens = await rig.tokens()
    header, claims = parts(tokens.access_token)
    assert (header["typ"], header["alg"]) == ("at+jwt", "RS256")  # section 2.1
    assert set(claims) == {
        "iss",
        "exp",
        "aud",
        "sub",
        "client_id",
        "iat",
        "jti",
        "scope",
        "auth_time",
        "acr",
    }  # section 2.2
    assert (claims["iss"], claims["aud"], claims["sub"]) == (ISSUER, ISSUER, rig.user.subject)
    assert (claims["client_id"], claims["scope"]) == (rig.client.client_id, "read write")
    assert before <= claims["iat"] <= before + 60
    assert claims["exp"] - claims["iat"] == tokens.expires_in == 3600
    assert claims["auth_time"] == await session_began(rig)  # section 2.2.1
    assert claims["acr"] == "password"  # RFC 9470, section 6.1
    assert await is_verified(rig.store, tokens.access_token)
    assert (tokens.token_type, tokens.mac_key) == ("bearer", None)


async def test_jwt_is_for_the_resources_that_were_asked_for(rig: Rig) -> None:
    one = await rig.tokens(resource=(API,))
    assert parts(one.access_token)[1]["aud"] == API  # section 3
    two = await rig.tokens(resource=(API, f"{API}/2"))
    assert parts(two.access_token)[1]["aud"] == [API, f"{API}/2"]


async def test_jwt_names_a_person_as_its_client_knows_them_and_routes_know_who_it_is(another: Another) -> None:
    """RFC 9068, section 6; OpenID Connect Core, section 8.1: a client reads its own tokens."""
    pairwise = replace(JWT_CLIENT, openid=OpenID(sector="app.example"))
    rig = await Rig.build(await another(issuer=ISSUER), client=pairwise)
    tokens = await rig.tokens()
    known_as = await rig.store.users.known_as(rig.user.subject, rig.client)
    for issued in (tokens, await rig.refresh(tokens.refresh_token)):
        assert parts(issued.access_token)[1]["sub"] == known_as != rig.user.subject
        found = await rig.store.access_tokens.find(issued.access_token)
        assert found is not None
        assert found.identity.subject == rig.user.subject
        looked_up = await rig.store.access_tokens.find_many([digest(issued.access_token)])
        assert [token.identity.subject for token in looked_up.tokens.values()] == [rig.user.subject]


async def test_jwt_for_a_client_itself_names_it_as_the_subject(rig: Rig) -> None:
    grant = ClientCredentialsGrant(frozenset({"read"}))
    tokens = await rig.store.tokens.client_credentials(rig.client, grant, rig.store.now())
    claims = parts(tokens.access_token)[1]
    assert claims["sub"] == claims["client_id"] == rig.client.client_id  # section 2.2
    assert not {"auth_time", "acr"} & set(claims)
    assert await is_verified(rig.store, tokens.access_token)


async def test_refreshed_jwt_says_when_the_person_signed_in_to_begin_with(rig: Rig) -> None:
    first = await rig.tokens()
    second = await rig.refresh(first.refresh_token, scopes=frozenset({"read"}))
    old, new = (parts(tokens.access_token)[1] for tokens in (first, second))
    assert new["auth_time"] == old["auth_time"]
    assert (new["scope"], old["jti"] != new["jti"]) == ("read", True)


@pytest.mark.parametrize("algorithm", SIGNING_ALGORITHMS)
async def test_jwt_is_signed_as_the_configuration_says(another: Another, algorithm: SigningAlgorithm) -> None:
    rig = await Rig.build(await another(issuer=ISSUER, jwt_algorithm=algorithm), client=JWT_CLIENT)
    tokens = await rig.tokens()
    assert parts(tokens.access_token)[0]["alg"] == algorithm
    assert await is_verified(rig.store, tokens.access_token)


async def test_key_stays_published_while_a_long_token_lives(rig: Rig) -> None:
    issued = await rig.store.tokens.issue(rig.client.client_id, None, frozenset({"read"}), 40 * 86400, None)
    kid = parts(issued.access_token)[0]["kid"]
    await rig.store.signing_keys.rotate()
    [old] = [key for key in await rig.store.signing_keys.all() if key.kid == kid]
    assert old.published_until is not None
    assert old.published_until >= rig.store.now() + timedelta(days=40) - timedelta(minutes=1)
    assert await is_verified(rig.store, issued.access_token)


async def test_jwt_is_known_by_its_digest_and_ends_as_any(rig: Rig, database: str) -> None:
    tokens = await rig.tokens()
    assert await rig.lives(tokens)
    found = await rig.store.tokens.introspect(tokens.access_token, rig.client)
    claims = parts(tokens.access_token)[1]
    assert (found["active"], found["token_type"], found["exp"]) == (True, "bearer", claims["exp"])
    assert {name: found[name] for name in ("sub", "client_id", "scope", "iat")}.items() <= claims.items()
    dump = "\n".join(line for lines in (await everything(database)).values() for line in lines)
    assert tokens.access_token.rpartition(".")[2] not in dump
    assert digest(tokens.access_token).hex() in dump
    assert await rig.store.tokens.revoke(tokens.access_token, rig.client)
    assert not await rig.lives(tokens)
    assert await rig.store.tokens.introspect(tokens.access_token, rig.client) == {"active": False}


def altered(token: str, place: str) -> str:
    """A JWT of ours of which something is another."""
    header, claims, signature = token.split(".")
    match place:
        case "identifier":
            return f"{header}.{claims[:30]}{'A' if claims[30] != 'A' else 'B'}{claims[31:]}.{signature}"
        case "cut in the identifier":
            return f"{header}.{claims[:40]}"
        case "no base64":
            return f"{header}.{claims[:20]}~~~~{claims[24:]}.{signature}"
        case "cut":
            return token[:-1]
        case "header":
            return f"{jws.encoded(b'{}')}.{claims}.{signature}"
        case "claims":
            return f"{header}.{claims[:-4]}AAAA.{signature}"
        case _:
            return f"{token}A"


@pytest.mark.parametrize(
    ("place", "costs_a_query"),
    [
        ("identifier", False),
        ("cut in the identifier", False),
        ("no base64", False),
        ("cut", True),
        ("header", True),
        ("claims", True),
        ("longer", True),
    ],
)
async def test_altered_jwt_is_dead_and_an_invented_one_costs_no_query(
    rig: Rig, keyring: Keyring, place: str, costs_a_query: bool
) -> None:
    tokens = await rig.tokens()
    other = altered(tokens.access_token, place)
    assert may_be(keyring, other, "gwa_") is costs_a_query
    assert await rig.store.access_tokens.find(other) is None
    assert await rig.store.tokens.introspect(other, rig.client) == {"active": False}
    assert await rig.lives(tokens)


async def test_jwt_of_ours_is_no_refresh_token(rig: Rig, keyring: Keyring) -> None:
    tokens = await rig.tokens()
    assert keyring.is_invented(tokens.access_token.encode(), "gwr_")
    assert await outcome(rig.refresh(tokens.access_token)) == "invalid_grant"


async def test_identifier_of_a_jwt_is_no_token(rig: Rig, keyring: Keyring) -> None:
    jti = parts((await rig.tokens()).access_token)[1]["jti"]
    assert keyring.is_ours(jti, "gwj_")
    assert keyring.is_invented(jti.encode(), "gwa_")
    assert await rig.store.access_tokens.find(jti) is None


async def test_jwt_of_somebody_else_is_not_taken_for_ours(keyring: Keyring) -> None:
    foreign = ".".join(jws.encoded(part) for part in (b'{"alg":"RS256"}', b'{"jti":"gwx_1"}', b"fake"))
    assert not keyring.is_invented(foreign.encode(), "gwa_")  # it may have been imported: the database is asked


async def test_jwt_that_no_route_would_take_is_not_issued_and_spends_nothing(another: Another) -> None:
    scopes = frozenset(f"{'s' * 60}{number}" for number in range(60))
    rig = await Rig.build(await another(issuer=ISSUER), client=replace(JWT_CLIENT, scopes=scopes))
    flow = rig.store.flows.start(rig.user.subject, rig.request(scopes=scopes))
    code = await rig.store.flows.allow(flow, rig.session_id, scopes, 60)
    assert code is not None
    with pytest.raises(OAuthError, match="ask for fewer") as caught:
        await rig.redeem(code)
    assert caught.value.refused.error == "invalid_scope"
    with pytest.raises(OperatorError, match=r"--scope: .* ask for fewer"):
        await rig.store.tokens.issue(rig.client.client_id, None, scopes, 60, None)


async def test_mac_token_of_such_a_client_is_opaque(rig: Rig) -> None:
    issued: IssuedTokens = await rig.store.tokens.issue(rig.client.client_id, None, frozenset({"read"}), 60, "mac")
    assert issued.access_token.startswith("gwa_")
    assert issued.mac_key


async def test_jwt_that_is_bound_to_a_key_says_so(rig: Rig) -> None:
    bound = await rig.tokens()
    code = await rig.code()
    tokens = await rig.redeem(code, jkt="the-thumbprint-of-a-key")
    assert parts(tokens.access_token)[1]["cnf"] == {"jkt": "the-thumbprint-of-a-key"}  # RFC 9449, section 6.1
    assert "cnf" not in parts(bound.access_token)[1]
