"""Clients by the document at their identifier (draft-ietf-oauth-client-id-metadata-document-01)."""

from typing import Any

import pytest

from gateway.errors import OAuthError
from gateway.oauth import client_documents
from gateway.oauth.registration import Registration
from tests.oauth.signing import signer

KNOWN = frozenset({"read", "write"})
URL = "https://client.example/app"
SAID = {"client_id": URL, "redirect_uris": ["https://client.example/cb"]}


def read(**members: Any) -> Registration:
    return client_documents.read(URL, {**SAID, **members}, KNOWN)


@pytest.mark.parametrize(
    ("client_id", "host"),
    [
        (URL, "client.example"),
        ("https://Client.Example:8443/", "client.example"),
        ("https://a.b.client.example/a/b.json?v=1", "a.b.client.example"),
        ("https://xn--e1afmkfd.example/%41", "xn--e1afmkfd.example"),
        ("https://client.example/..a/.b/c..", "client.example"),
    ],
)
def test_a_client_may_be_called_by_an_https_url_by_section_3(client_id: str, host: str) -> None:
    assert client_documents.host_of(client_id) == host


@pytest.mark.parametrize(
    "client_id",
    [
        "http://client.example/app",  # MUST be https
        "HTTPS://client.example/app",
        "https://client.example",  # MUST have a path
        "https://client.example/./app",  # MUST NOT have dot segments, however they are written
        "https://client.example/../app",
        "https://client.example/a/..",
        "https://client.example/a/%2e%2E/b",
        "https://client.example/a/.%2e",
        "https://client.example/app#f",  # MUST NOT have a fragment
        "https://user@client.example/app",  # MUST NOT have a user or password
        "https://user:pass@client.example/app",
        # What is no name of the public internet is none of a client.
        "https://127.0.0.1/app",
        "https://2130706433/app",
        "https://0x7f000001/app",
        "https://0x7f.1/app",
        "https://0177.0.0.1/app",
        "https://127.1/app",
        "https://[::1]/app",
        "https://[::ffff:127.0.0.1]/app",
        "https://localhost/app",
        "https://localhost./app",
        "https://client.example./app",
        "https://intranet/app",
        "https://-a.example/app",
        "https://a_b.example/app",
        "https://client.example:0/app",
        "https://client.example:999999/app",
        "https://cli\u00e9nt.example/app",
        "https://client.example\\@127.0.0.1/app",
        "https://client.example/a b",
        "https://client.example/%zz",
        "https:///app",
        "c_ordinary",
        "",
    ],
)
def test_no_other_text_is_such_a_url_by_section_3(client_id: str) -> None:
    assert client_documents.host_of(client_id) is None


def test_the_identifiers_that_we_make_are_no_urls_by_section_6_9() -> None:
    assert client_documents.host_of("c4jzq2mkd7xw5a3b") is None


@pytest.mark.parametrize(
    "client_id",
    ["https://client.example/app/", "https://CLIENT.example/app", "https://client.example/%61pp", None, 1, ""],
)
def test_the_document_names_its_own_url_character_by_character_by_section_4_1(client_id: object) -> None:
    with pytest.raises(OAuthError, match="own URL"):
        read(client_id=client_id)


@pytest.mark.parametrize(
    "members",
    [
        {"client_secret": "s"},
        {"client_secret": None},
        {"client_secret_expires_at": 0},
        {"token_endpoint_auth_method": "client_secret_basic"},
        {"token_endpoint_auth_method": "client_secret_post"},
        {"token_endpoint_auth_method": "client_secret_jwt"},
        {"token_endpoint_auth_method": "private_key_jwt"},  # without a key
        {"token_endpoint_auth_method": 1},
    ],
)
def test_a_document_has_no_secret_by_section_4_1(members: dict[str, object]) -> None:
    with pytest.raises(OAuthError, match="invalid_client_metadata"):
        read(**members)


def test_a_client_of_a_document_is_public_or_signs_by_section_6_2() -> None:
    assert not read().confidential
    assert not read(token_endpoint_auth_method="none").confidential
    signs = read(token_endpoint_auth_method="private_key_jwt", jwks={"keys": [signer("ES256").jwk]})
    assert signs.confidential
    assert signs.jwks is not None


@pytest.mark.parametrize(
    "members",
    [
        {"redirect_uris": []},
        {"redirect_uris": ["javascript:x"]},
        {"redirect_uris": ["http://client.example/cb"]},
        {"client_name": "evil\u202etxt"},
        {"client_name": "x" * 10_000},
        {"client_uri": "javascript:x"},
        {"logo_uri": "data:x"},
        {"grant_types": ["client_credentials"]},
    ],
)
def test_what_no_registration_may_say_no_document_may(members: dict[str, object]) -> None:
    with pytest.raises(OAuthError, match="invalid_"):
        read(**members)


def test_a_client_without_a_name_is_called_by_its_host() -> None:
    assert read().name == "client.example"


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        (None, None),
        ("", None),
        ("read", {"read"}),
        ("read openid offline_access", {"read"}),
        ("openid", None),
        ("read  write", None),
        (["read"], None),
    ],
)
def test_scopes_that_are_not_ours_are_left_out(scope: object, scopes: frozenset[str] | None) -> None:
    found = read(scope=scope)
    assert found.default_scopes == scopes
    assert found.scopes == KNOWN


@pytest.mark.parametrize(
    ("cache_control", "age", "seconds"),
    [
        ("", "", 300),
        ("max-age=600", "", 600),
        ("MAX-AGE=600", "100", 500),
        ('public, max-age="600"', "", 600),
        ("max-age=600", "601", 60),
        ("max-age=600", "x", 600),
        ("max-age=1", "", 60),
        ("max-age=0", "", 60),
        ("no-store", "", 60),
        ("max-age=600, no-cache", "", 60),
        ("max-age=9999999999", "", 86400),
        ("max-age=99999999999999999999", "", 300),
        ("max-age=-1, s-maxage=9", "", 300),
        ("max-age", "", 300),
        (",,;=", "", 300),
    ],
)
def test_a_document_is_kept_as_it_says_within_bounds_by_section_4_3(
    cache_control: str, age: str, seconds: float
) -> None:
    assert client_documents.lifetime(cache_control, age) == seconds
