"""What a client may say of itself when it registers, and what it is answered (RFC 7591, RFC 7592)."""

import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OAuthError, Refused
from gateway.oauth import registration
from gateway.oauth.registration import Registration
from tests.oauth.clients import client as a_client
from tests.oauth.signing import signer

KNOWN = frozenset({"read", "write"})
URIS = ["https://app.example/cb"]
PUBLIC = {"redirect_uris": URIS, "token_endpoint_auth_method": "none"}


def read(**members: Any) -> Registration:
    return registration.read({"redirect_uris": URIS, **members}, KNOWN)


def refused(**members: Any) -> Refused:
    with pytest.raises(OAuthError) as caught:
        read(**members)
    assert caught.value.refused.status == 400, "RFC 7591, section 3.2.2"
    return caught.value.refused


# -- RFC 7591 ------------------------------------------------------------------------------------------------------


def test_what_is_not_said_has_the_defaults_of_section_2() -> None:
    found = read()
    assert found.authentication_method == "client_secret_basic"
    assert found.grant_types == {"authorization_code"}
    assert found.confidential


def test_what_is_not_known_is_ignored_by_section_2() -> None:
    unknown = {
        "x": {"y": [1]},
        "client_name#ja": "ノート",
        "software_statement": "e30.e30.",
        "jwks_uri": "https://a.b/",
    }
    assert read(**unknown) == read()


@pytest.mark.parametrize("empty", [None, "", []])
def test_what_is_empty_is_not_said_by_section_2_2_of_rfc_7592(empty: object) -> None:
    names = ("client_name", "client_uri", "scope", "contacts", "grant_types", "logo_uri", "token_endpoint_auth_method")
    assert read(**dict.fromkeys(names, empty)) == read()


@pytest.mark.parametrize(
    "uris", [[], None, "https://app.example/cb", [1], [None], {}, ["https://a.example/"] * 21, "", [[]]]
)
def test_a_client_of_people_registers_where_to_return_by_section_2(uris: object) -> None:
    if uris == ["https://a.example/"] * 21:
        uris = [f"https://a.example/{n}" for n in range(21)]
    assert refused(redirect_uris=uris).error == "invalid_redirect_uri"


@pytest.mark.parametrize(
    "uri",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "vbscript:x",
        "about:blank",
        "http://app.example/cb",
        "http://127.0.0.1.evil.example/cb",
        "https://user:pass@app.example/cb",
        "https://app.example/cb#fragment",
        "https://*.example/cb",
        "//app.example/cb",
        "/cb",
        "cb",
        "https://app.example/c\u202eb",
        "https://app.example/c\nb",
        "https://app.example/c\0b",
        "https://\u0430pp.example/cb",
        "https://app.example/" + "a" * 10_000,
        "https://app.example:99999/cb",
        " https://app.example/cb",
    ],
)
def test_a_redirect_uri_is_https_this_computer_or_an_app_by_section_5(uri: str) -> None:
    error = refused(redirect_uris=["https://app.example/ok", uri])
    assert error.error == "invalid_redirect_uri"
    assert len(error.description) < 400


@pytest.mark.parametrize(
    "uri",
    [
        "https://app.example/cb?x=1",
        "http://127.0.0.1/cb",
        "http://127.0.0.1:49152/cb",
        "http://[::1]:49152/cb",
        "http://localhost:33418/callback",
        "com.example.app:/cb",
        "cursor://anysphere.cursor-retrieval/oauth/callback",
    ],
)
def test_those_redirect_uris_are_registered_as_they_came(uri: str) -> None:
    assert read(redirect_uris=[uri]).redirect_uris == (uri,)


@pytest.mark.parametrize(
    ("members", "grants"),
    [
        ({}, {"authorization_code"}),
        ({"grant_types": ["authorization_code", "refresh_token"]}, {"authorization_code", "refresh_token"}),
        ({"grant_types": ["authorization_code", "implicit", "urn:x"]}, {"authorization_code"}),
        ({"response_types": ["code", "code id_token"]}, {"authorization_code"}),
    ],
)
def test_grants_that_are_not_to_be_had_are_left_out_by_section_3_2_1(members: Any, grants: set[str]) -> None:
    assert read(**members).grant_types == grants


@pytest.mark.parametrize(
    "members",
    [
        {"grant_types": ["client_credentials"]},
        {"grant_types": ["refresh_token"]},
        {"grant_types": ["implicit"]},
        {"grant_types": "authorization_code"},
        {"grant_types": [1]},
        {"response_types": ["token"]},
        {"response_types": ["none"]},
        {"response_types": {}},
    ],
)
def test_grants_and_responses_fit_each_other_by_section_2_1(members: Any) -> None:
    assert refused(**members).error == "invalid_client_metadata"


def test_nobody_registers_a_client_that_acts_for_itself() -> None:
    asked = ["authorization_code", "client_credentials", "password"]
    assert read(grant_types=asked).grant_types == {"authorization_code"}


@pytest.mark.parametrize("method", ["client_secret_jwt", "tls_client_auth", "NONE", 1, ["none"], {}])
def test_another_way_to_authenticate_is_refused_by_section_3_2_2(method: object) -> None:
    assert refused(token_endpoint_auth_method=method).error == "invalid_client_metadata"


def test_a_client_without_a_secret_says_so() -> None:
    assert not registration.read(PUBLIC, KNOWN).confidential


def test_jwks_and_jwks_uri_are_not_both_there_by_section_2() -> None:
    assert refused(jwks={"keys": []}, jwks_uri="https://a.example/").error == "invalid_client_metadata"


SIGNER = signer("ES256")
KEYS = {"keys": [SIGNER.jwk]}


def test_a_client_that_signs_has_its_keys_or_their_address_by_section_2() -> None:
    one = read(token_endpoint_auth_method="private_key_jwt", jwks=KEYS | {"other": 1})
    assert one.confidential
    assert json.loads(one.jwks or "") == {"keys": [SIGNER.jwk]}
    at = read(token_endpoint_auth_method="private_key_jwt", jwks_uri="https://app.example/keys?a=1")
    assert json.loads(at.jwks or "") == {"jwks_uri": "https://app.example/keys?a=1"}
    for method in ("none", "client_secret_basic"):
        assert read(token_endpoint_auth_method=method, jwks=KEYS).jwks is None, "keys are for signing alone"


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"jwks": None, "jwks_uri": ""},
        {"jwks": "https://app.example/keys"},
        {"jwks": []},
        {"jwks": {}},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [1]}},
        {"jwks": {"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}},
        {"jwks": {"keys": [SIGNER.jwk | {"d": "AQAB"}]}},
        {"jwks": {"keys": [SIGNER.jwk | {"use": "enc"}]}},
        {"jwks": {"keys": [SIGNER.jwk | {"alg": "HS256"}]}},
        {"jwks": {"keys": [SIGNER.jwk] * 51}},
        {"jwks": {"keys": [SIGNER.jwk | {"kid": "a"}, SIGNER.jwk | {"kid": "a"}]}},
        {"jwks": {"keys": [SIGNER.jwk], "x": "x" * 70_000}},
        {"jwks_uri": 1},
        {"jwks_uri": "http://app.example/keys"},
        {"jwks_uri": "http://127.0.0.1/keys"},
        {"jwks_uri": "https://app.example/keys#a"},
        {"jwks_uri": "https://user@app.example/keys"},
        {"jwks_uri": "file:///etc/keys"},
        {"jwks_uri": "com.example.app:/keys"},
        {"jwks_uri": "https://app.example/" + "x" * 2000},
    ],
    ids=lambda keys: str(keys)[:40],
)
def test_keys_that_verify_nothing_are_refused(keys: dict[str, object]) -> None:
    assert refused(token_endpoint_auth_method="private_key_jwt", **keys).error == "invalid_client_metadata"


@pytest.mark.parametrize(
    "name",
    [
        "x" * 101,
        "x" * 10_000,
        "two\nlines",
        "nul\0",
        "esc\x1b[31m",
        "evil\u202etxt.exe",
        "\u2066isolate",
        "zero\u200bwidth",
        "soft\u00adhyphen",
        "\ufeffmark",
        "tag\U000e0041",
        "private\ue000",
        "\ud800",
        "Z" + "\u0351" * 3 + "algo",
        "   ",
        1,
        True,
        ["x"],
        {"a": "b"},
    ],
)
def test_a_name_that_is_more_than_a_name_is_refused(name: object) -> None:
    error = refused(client_name=name)
    assert error.error == "invalid_client_metadata"
    assert "client_name" in error.description
    assert not isinstance(name, str) or name.strip() == "" or name not in error.description


@pytest.mark.parametrize("name", ["Notes", "Nötes für Zoë", "ノート", "دفتر", "नोट्स", "<b>Notes</b>", "x" * 100])
def test_a_name_in_any_script_stays_as_it_is(name: str) -> None:
    assert read(client_name=name).name == name


def test_a_client_without_a_name_is_called_by_where_it_returns_to() -> None:
    assert read(redirect_uris=["http://localhost:33418/callback"]).name == "localhost:33418"


@pytest.mark.parametrize("field", ["client_uri", "policy_uri", "tos_uri", "logo_uri"])
@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "http://app.example/",
        "https://a@app.example/",
        "https://app.example/\u202e",
        "https://app.example/" + "a" * 10_000,
        "//app.example/",
        "https:app.example",
        "com.example.app:/about",
        1,
        ["https://app.example/"],
    ],
)
def test_a_link_that_people_cannot_be_led_to_is_refused(field: str, url: object) -> None:
    assert refused(**{field: url}).error == "invalid_client_metadata"


def test_links_are_what_people_are_shown_of_it() -> None:
    links = {
        "client_uri": "https://app.example/",
        "policy_uri": "https://app.example/p",
        "tos_uri": "https://a.example/t",
    }
    about = read(**links, logo_uri="https://app.example/l.png").about
    assert (about.homepage, about.privacy, about.terms) == tuple(links.values())
    assert about.logo is None, "a logo would have to be fetched from its host, which would learn who looks"


@pytest.mark.parametrize("scope", [None, "", "read write", "write read", "read"])
def test_scope_is_never_narrowed(scope: str | None) -> None:
    """It is what the client asks for where a request names none; it may ask for others (MCP, Step-Up Authorization)."""
    found = read(scope=scope)
    assert found.default_scopes == (frozenset(scope.split()) if scope else None)
    assert found.scopes == KNOWN


@pytest.mark.parametrize("scope", ["read admin", "read  write", " read", 'a"b', "read\n", 1, ["read"], "ré"])
def test_scope_that_cannot_be_had_whole_is_refused_aloud(scope: object) -> None:
    error = refused(scope=scope)
    assert error.error == "invalid_client_metadata"
    assert "scope" in error.description


@pytest.mark.parametrize("kind", ["web", "native"])
def test_the_type_of_application_is_kept(kind: str) -> None:
    """OpenID Connect Dynamic Client Registration, section 2."""
    assert read(application_type=kind).extras["application_type"] == kind
    assert refused(application_type="other").error == "invalid_client_metadata"


@pytest.mark.parametrize(
    "members",
    [
        {"contacts": "ada@example.org"},
        {"contacts": [1]},
        {"contacts": ["a\nb"]},
        {"contacts": [str(n) for n in range(11)]},
        {"software_id": 4},
        {"software_version": "x" * 321},
    ],
)
def test_members_of_the_wrong_kind_are_refused(members: Any) -> None:
    assert refused(**members).error == "invalid_client_metadata"


@pytest.mark.parametrize(
    ("content_type", "raw"),
    [
        ("", b"{}"),
        ("text/plain", b"{}"),
        ("application/x-www-form-urlencoded", b"redirect_uris=x"),
        ("application/json", b""),
        ("application/json", b"[]"),
        ("application/json", b'"x"'),
        ("application/json", b"null"),
        ("application/json", b'{"a": 1, "a": 2}'),
        ("application/json", b'{"a": {"b": 1, "b": 1}}'),
        ("application/json", b'{"a": NaN}'),
        ("application/json", b'{"a": "\xff"}'),
        ("application/json", '{"a": 1}'.encode("utf-16")),
        ("application/json", b"[" * 60_000),
        ("application/json", b'{"a": ' + b"9" * 60_000 + b"}"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused_by_section_3_1(content_type: str, raw: bytes) -> None:
    with pytest.raises(OAuthError, match="invalid_request"):
        registration.members_of(content_type, raw)


def test_a_body_may_name_its_charset() -> None:
    assert registration.members_of("Application/JSON; charset=utf-8", b'{"a": 1}') == {"a": 1}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_MEMBERS = st.sampled_from(
    (
        *("redirect_uris", "token_endpoint_auth_method", "grant_types", "response_types", "client_name", "client_uri"),
        *("logo_uri", "scope", "contacts", "tos_uri", "policy_uri", "software_id", "application_type", "jwks"),
    )
)


@given(st.dictionaries(_MEMBERS, _JSON))
def test_whatever_is_said_is_registered_or_refused(members: dict[str, Any]) -> None:
    with suppress(OAuthError):
        found = registration.read(members | {"redirect_uris": members.get("redirect_uris", URIS)}, KNOWN)
        assert json.loads(json.dumps(found.extras)) == found.extras
        assert found.name.isprintable()
        assert found.name


# -- what is answered ----------------------------------------------------------------------------------------------


def test_the_answer_has_all_that_section_3_2_1_wants() -> None:
    created = datetime(2026, 1, 2, tzinfo=UTC)
    client = a_client(confidential=True, created_at=created)
    answer = registration.information(
        client, {"token_endpoint_auth_method": "client_secret_post"}, "https://as.example/r/c", secret="s", token="t"
    )
    assert answer["client_secret_expires_at"] == 0
    assert type(answer["client_secret_expires_at"]) is int
    assert answer["client_id_issued_at"] == int(created.timestamp())
    assert answer["registration_client_uri"] == "https://as.example/r/c", "RFC 7592, section 3"
    assert answer["registration_access_token"] == "t"
    assert answer["token_endpoint_auth_method"] == "client_secret_post"
    assert {"client_id", "client_secret", "redirect_uris", "grant_types", "response_types", "scope"} <= answer.keys()


def test_a_public_client_is_told_of_no_secret() -> None:
    answer = registration.information(a_client(confidential=False), {}, "https://as.example/", secret=None, token=None)
    assert not {"client_secret", "client_secret_expires_at", "registration_access_token"} & answer.keys()


# -- RFC 7592, section 2.2 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"client_id": "other"},
        {"client_id": None},
        {"client_id": "c1", "registration_access_token": "t"},
        {"client_id": "c1", "registration_client_uri": "https://as.example/"},
        {"client_id": "c1", "client_secret_expires_at": 0},
        {"client_id": "c1", "client_id_issued_at": 0},
        {"client_id": "c1", "client_secret": 1},
    ],
)
def test_a_change_names_its_client_and_nothing_that_the_server_sets(members: Any) -> None:
    with pytest.raises(OAuthError, match="invalid_client_metadata"):
        registration.secret_of(members, "c1")


def test_a_change_may_name_the_secret() -> None:
    assert registration.secret_of({"client_id": "c1", "client_secret": "s"}, "c1") == "s"
    assert registration.secret_of({"client_id": "c1"}, "c1") is None
