"""The token endpoint's grants (RFC 6749, sections 4.1.3, 4.4 and 6; RFC 8707)."""

import pytest

from gateway.errors import OAuthError
from gateway.model import DEVICE_CODE, OFFLINE_ACCESS, Client
from gateway.oauth import forms, grants
from gateway.oauth.grants import (
    ClientCredentialsGrant,
    CodeGrant,
    DeviceGrant,
    Grant,
    PasswordGrant,
    RefreshGrant,
    requested_resources,
    requested_scopes,
)
from tests.oauth.clients import CONFIDENTIAL, PUBLIC, REDIRECT, RESOURCE, SCOPES, client

VERIFIER = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
BY_PASSWORD = client(grant_types=frozenset({"password"}))
FORM = "application/x-www-form-urlencoded"


def parse(body: str, by: Client = CONFIDENTIAL) -> Grant:
    return grants.parse(grants.body(FORM, body.encode()), by, SCOPES, frozenset({RESOURCE}))


@pytest.mark.parametrize(
    ("body", "grant"),
    [
        (
            f"grant_type=authorization_code&code=gwc_x&redirect_uri={REDIRECT}&code_verifier={VERIFIER}",
            CodeGrant("gwc_x", REDIRECT, VERIFIER, ()),
        ),
        ("grant_type=authorization_code&code=gwc_x", CodeGrant("gwc_x", None, None, ())),
        ("grant_type=refresh_token&refresh_token=gwr_x", RefreshGrant("gwr_x", None, ())),
        (f"grant_type={DEVICE_CODE}&device_code=gwd_x", DeviceGrant("gwd_x", ())),
        (
            f"grant_type=refresh_token&refresh_token=gwr_x&scope=any&resource={RESOURCE}",
            RefreshGrant("gwr_x", frozenset({"any"}), (RESOURCE,)),
        ),
        ("grant_type=client_credentials", ClientCredentialsGrant(SCOPES, ())),
        ("grant_type=client_credentials&scope=notes:read", ClientCredentialsGrant(frozenset({"notes:read"}), ())),
        (
            f"grant_type=client_credentials&resource={RESOURCE}&resource={RESOURCE}",
            ClientCredentialsGrant(SCOPES, (RESOURCE,)),
        ),
    ],
)
def test_a_grant_is_read_whole(body: str, grant: Grant) -> None:
    assert parse(body) == grant


@pytest.mark.parametrize(
    ("body", "error", "by"),
    [
        ("", "invalid_request", CONFIDENTIAL),
        ("grant_type=", "invalid_request", CONFIDENTIAL),
        ("grant_type=password&username=a&password=b", "unsupported_grant_type", CONFIDENTIAL),
        ("grant_type=password&username=a", "invalid_request", BY_PASSWORD),
        ("grant_type=password&password=b&username=", "invalid_request", BY_PASSWORD),
        ("grant_type=password&username=a&password=b&scope=nope", "invalid_scope", BY_PASSWORD),
        ("grant_type=implicit", "unsupported_grant_type", client(grant_types=frozenset({"implicit"}))),
        ("grant_type=Refresh_Token&refresh_token=x", "unsupported_grant_type", CONFIDENTIAL),
        ("grant_type=refresh_token&refresh_token=x", "unauthorized_client", client(grant_types=frozenset())),
        (f"grant_type={DEVICE_CODE}", "invalid_request", CONFIDENTIAL),
        (f"grant_type={DEVICE_CODE}&device_code=x", "unauthorized_client", client(grant_types=frozenset())),
        ("grant_type=client_credentials", "unauthorized_client", PUBLIC),
        ("grant_type=authorization_code", "invalid_request", CONFIDENTIAL),
        ("grant_type=authorization_code&code=x&code_verifier=short", "invalid_grant", CONFIDENTIAL),
        (f"grant_type=authorization_code&code=x&code_verifier={VERIFIER}%ff", "invalid_grant", CONFIDENTIAL),
        ("grant_type=refresh_token", "invalid_request", CONFIDENTIAL),
        ("grant_type=refresh_token&refresh_token=x&scope=a%22", "invalid_scope", CONFIDENTIAL),
        ("grant_type=client_credentials&scope=nope", "invalid_scope", CONFIDENTIAL),
        ("grant_type=client_credentials&resource=https://evil.example", "invalid_target", CONFIDENTIAL),
        (f"grant_type=client_credentials&resource={RESOURCE}%23", "invalid_target", CONFIDENTIAL),
        ("grant_type=client_credentials&grant_type=client_credentials", "invalid_request", CONFIDENTIAL),
        ("grant_type=client_credentials&x=1&x=2", "invalid_request", CONFIDENTIAL),
    ],
)
def test_a_bad_grant_is_refused_with_its_registered_error(body: str, error: str, by: Client) -> None:
    with pytest.raises(OAuthError) as refused:
        parse(body, by)
    assert (refused.value.refused.error, refused.value.refused.status) == (error, 400)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain", ""])
def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    with pytest.raises(OAuthError) as refused:
        grants.body(content_type, b"grant_type=client_credentials")
    assert refused.value.refused.error == "invalid_request"


@pytest.mark.parametrize("secret", ["gwc_topsecret", "gwr_topsecret"])
def test_grants_show_no_secret(secret: str) -> None:
    for grant in (CodeGrant(secret, None, VERIFIER, ()), RefreshGrant(secret, None, ())):
        assert secret not in repr(grant)


def test_the_token_to_revoke_is_needed() -> None:
    assert grants.token_of(forms.parse(b"token=gwa_x")) == "gwa_x"
    with pytest.raises(OAuthError):
        grants.token_of(forms.parse(b"token="))


def test_a_password_is_taken_of_a_client_that_may_use_it_alone() -> None:
    """RFC 6749, section 4.3.2."""
    found = parse("grant_type=password&username=ada&password=a%26b+c&scope=notes:read", BY_PASSWORD)
    assert found == PasswordGrant("ada", "a&b c", frozenset({"notes:read"}))
    assert "a&b" not in repr(found)


@pytest.mark.parametrize(
    ("asked", "known"),
    [
        ("https://api.example.com/", "https://api.example.com"),
        ("https://api.example.com", "https://api.example.com"),
        ("HTTPS://API.Example.com:443/api/notes", RESOURCE),
        ("https://api.example.com/api/notes", "https://API.example.com:443/api/notes"),
        ("http://[::1]:80/a", "http://[::1]/a"),
        ("https://api.example.com:8443/", "https://api.example.com:8443"),
    ],
)
def test_a_resource_that_a_library_wrote_anew_is_the_same(asked: str, known: str) -> None:
    """RFC 3986, sections 6.2.2.1 and 6.2.3; what `new URL(…).href` and pydantic's AnyHttpUrl make of it."""
    assert requested_resources((asked, asked), frozenset({known, "https://other.example"})) == (known,)


@pytest.mark.parametrize(
    "asked",
    [
        "https://api.example.com/api/notes/", "https://api.example.com/API/notes", "https://api.example.com/api/n%6ftes",
        "http://api.example.com/api/notes", "https://api.example.com:444/api/notes", "https://api.example.com/api/notes?",
        "https://u@api.example.com/api/notes", "https://api.example.com:x/api/notes", "https:api.example.com/api/notes",
        "https://[::1/api/notes", "urn:notes", "https:///api/notes", "https://api.example.com./api/notes", "//x",
    ],
)  # fmt: skip
def test_a_resource_that_is_another_is_refused(asked: str) -> None:
    """RFC 8707, section 2."""
    with pytest.raises(OAuthError) as refused:
        requested_resources((RESOURCE, asked), frozenset({RESOURCE}))
    assert refused.value.refused.error == "invalid_target"


@pytest.mark.parametrize(
    ("scope", "by", "names"),
    [
        ("notes:read offline_access", PUBLIC, {"notes:read", "offline_access"}),
        ("offline_access", PUBLIC, {"offline_access"}),
        (None, PUBLIC, SCOPES),
        (None, client(scopes=SCOPES | {"offline_access"}), SCOPES),
        (None, client(default_scopes=SCOPES | {"offline_access"}), SCOPES | {"offline_access"}),
        ("offline_access", client(scopes=SCOPES | {"offline_access"}, grant_types=frozenset()), None),
        ("offline_access", client(grant_types=frozenset({"authorization_code"})), None),
        (None, client(default_scopes=frozenset({"notes:read"})), {"notes:read"}),
        ("notes:write", client(default_scopes=frozenset({"notes:read"})), {"notes:write"}),
        (None, client(default_scopes=frozenset({"notes:read", "taken:away"})), {"notes:read"}),
    ],
)
def test_scopes_are_those_asked_for_and_offline_access_is_for_clients_that_may_use_refresh_tokens(
    scope: str | None, by: Client, names: set[str] | None
) -> None:
    """OpenID Connect Core, section 11; MCP 2026-07-28, Refresh Tokens."""
    known = SCOPES | {"offline_access"}
    if names is not None:
        assert requested_scopes(scope, by, known) == names
        return
    with pytest.raises(OAuthError) as refused:
        requested_scopes(scope, by, known)
    assert refused.value.refused.error == "invalid_scope"


NEEDS = {
    "https://a.example": frozenset({"a:read", "a:write", "both"}),
    "https://b.example": frozenset({"b", "both"}),
    "https://c.example": frozenset({"email"}),
}
ALWAYS = {"free", "openid", "email", OFFLINE_ACCESS}


@pytest.mark.parametrize(
    ("resources", "left"),
    [
        ((), {"a:read", "b", "both"}),
        (("https://a.example",), {"a:read", "both"}),
        (("https://b.example",), {"b", "both"}),
        (("https://a.example", "https://b.example"), {"a:read", "b", "both"}),
        (("https://no.example",), set[str]()),
    ],
)
def test_a_token_has_the_scopes_that_its_resources_ask_for(resources: tuple[str, ...], left: set[str]) -> None:
    """RFC 8707, section 2.2; what no resource asks for stays, and what is for this server."""
    assert grants.fitting(frozenset({"a:read", "b", "both", *ALWAYS}), resources, NEEDS) == left | ALWAYS
