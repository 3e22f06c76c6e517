"""What OpenID Connect adds to the decisions: the `claims` parameter, and claims of people (Core, 5.1 and 5.5)."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OAuthError
from gateway.model import Profile, User
from gateway.oauth import openid

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = st.frozensets(st.sampled_from((*openid.CLAIMS, "sub", "iss", "aud", "groups")))


def profile(claims: dict[str, object], email: str | None = "ada@example.org") -> Profile:
    user = User(subject="u1", username="ada", email=email, name=None, created_at=NOW, disabled_at=None)
    return Profile(user=user, email_verified=email is not None, claims=claims, groups=(), updated_at=NOW)


def test_a_request_for_claims_is_read_by_place() -> None:
    """The example of section 5.5."""
    text = """{
        "userinfo": {"given_name": {"essential": true}, "nickname": null, "email": {"essential": true},
            "http://example.info/claims/groups": null},
        "id_token": {"auth_time": {"essential": true}, "acr": {"values": ["urn:mace:incommon:iap:silver"]}}
    }"""
    assert openid.claims_request(text) == openid.ClaimsRequest(userinfo=("email", "given_name", "nickname"))


@pytest.mark.parametrize(
    "text",
    [
        '{"id_token":' + '{"a":' * 1000 + "{}" + "}" * 1001,
        "[" * 5000,
        "nul",
        '{"userinfo": NaN}',
        "\ud800",
        '{"id_token": "sub"}',
        '{"id_token": {"acr": {"essential": true, "values": "x"}}}',
        json.dumps({"userinfo": {"name": {"value": "x" * 9000}}}),
    ],
)
def test_what_is_no_request_for_claims_is_refused(text: str) -> None:
    with pytest.raises(OAuthError) as refused:
        openid.claims_request(text)
    assert refused.value.refused.error == "invalid_request"


@given(
    st.text(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.text(),
        lambda a: st.dictionaries(
            st.sampled_from(("userinfo", "id_token", "sub", "acr", "value", "values", "essential", "name")), a
        ),
    ).map(json.dumps)
)
def test_whatever_is_sent_is_a_request_or_refused(text: str) -> None:
    try:
        found = openid.claims_request(text)
    except OAuthError:
        return
    assert {*found.userinfo, *found.id_token} <= set(openid.CLAIMS)


@given(NAMES, st.dictionaries(st.sampled_from(openid.PROFILE_CLAIMS), st.text(max_size=3)))
def test_a_person_is_told_of_by_claims_that_were_named_and_none_is_empty(
    names: frozenset[str], claims: dict[str, Any]
) -> None:
    """Section 5.3.2."""
    for email in ("ada@example.org", None):
        found = openid.claims_of(profile(claims, email), names)
        assert found.keys() <= names & set(openid.CLAIMS)
        assert not {None, ""} & {value for value in found.values() if isinstance(value, str | None)}
        assert email is not None or not found.keys() & {"email", "email_verified"}


def test_no_claim_of_a_person_says_who_signed_in() -> None:
    authentication = openid.Authentication(subject="u1", session_id="s1", at=NOW)
    claims = openid.id_token(
        "https://auth.example", "c1", "u1", authentication, now=9, lifetime=1, access_token="gwa_x",
        algorithm="EdDSA", claims={"sub": "u2", "iss": "https://evil.example", "aud": "c2", "exp": 99, "name": "Ada"},
    )  # fmt: skip
    assert (claims["sub"], claims["iss"], claims["aud"], claims["exp"]) == ("u1", "https://auth.example", "c1", 10)
    assert claims["name"] == "Ada"


@pytest.mark.parametrize(
    ("algorithm", "hashed"),
    [
        # OpenID Connect Core, appendix A.3: the at_hash of its example
        ("RS256", "77QmUPtjPfzWtF2AnpK9RQ"),
        ("ES256", "77QmUPtjPfzWtF2AnpK9RQ"),
    ],
)
def test_an_access_token_is_named_by_half_its_hash(algorithm: str, hashed: str) -> None:
    assert openid.half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", algorithm) == hashed
