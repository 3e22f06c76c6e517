"""The metadata documents (RFC 8414, RFC 9728)."""

import pytest

from gateway.model import DEVICE_CODE
from gateway.oauth import metadata


@pytest.mark.parametrize("issuer", ["https://id.example", "https://id.example/", "HTTPS://ID.example"])
def test_the_issuer_is_given_back_byte_for_byte(issuer: str) -> None:
    document = metadata.authorization_server(issuer, "https://id.example/oauth2", ["b", "a"], ["https://api.example/x"])
    assert document["issuer"] == issuer
    assert document["scopes_supported"] == ["a", "b"]
    assert document["jwks_uri"] == issuer.rstrip("/") + "/.well-known/jwks.json"


def test_only_what_is_built_is_announced() -> None:
    document = metadata.authorization_server("https://id.example", "https://id.example/oauth2", [], [])
    endpoints = {name for name in document if name.endswith("_endpoint")}
    assert endpoints == {
        "authorization_endpoint",
        "token_endpoint",
        "revocation_endpoint",
        "introspection_endpoint",
        "pushed_authorization_request_endpoint",
        "device_authorization_endpoint",
        "userinfo_endpoint",
        "end_session_endpoint",
    }
    assert document["require_pushed_authorization_requests"] is False  # RFC 9126, section 5
    assert document["code_challenge_methods_supported"] == ["S256"]
    assert DEVICE_CODE in document["grant_types_supported"]  # type: ignore[operator]  # a list
    assert document["response_types_supported"] == ["code"]
    assert "none" not in str(document["introspection_endpoint_auth_methods_supported"])


def test_a_list_without_values_is_left_out() -> None:
    """RFC 8414, section 3.2."""
    none = metadata.authorization_server("https://id.example", "https://id.example/oauth2", [], [])
    some = metadata.authorization_server(
        "https://id.example", "https://id.example/oauth2", ["a"], ["https://x.example"]
    )
    assert some.keys() - none.keys() == {"scopes_supported", "protected_resources"}
    assert [] not in none.values()


@pytest.mark.parametrize(("schemes", "methods"), [(["bearer"], ["header"]), ([], [])])
def test_a_resource_says_whether_bearer_tokens_open_it(schemes: list[str], methods: list[str]) -> None:
    document = metadata.protected_resource("https://api.example/x", "X", ["https://id.example"], {"b", "a"}, schemes)
    assert document == {
        "resource": "https://api.example/x",
        "resource_name": "X",
        "authorization_servers": ["https://id.example"],
        "scopes_supported": ["a", "b"],
        "bearer_methods_supported": methods,
    }


def test_a_resource_that_needs_no_scope_names_none() -> None:
    """RFC 9728, section 3.2: parameters with zero values are omitted."""
    document = metadata.protected_resource("https://api.example/x", "X", ["https://id.example"], (), ["bearer"])
    assert "scopes_supported" not in document
