"""WWW-Authenticate values (RFC 6750, section 3; RFC 9728, section 5.1)."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schemes.challenges import challenges, metadata_url
from tests.schemes.made import schemes, served

RESOURCE = "https://api.example.com/api/notes"
ROUTE = served(RESOURCE)

# RFC 9110, section 11.2: a scheme and auth-params whose values are quoted strings.
_CHALLENGE = re.compile(r'(Bearer|MAC|Signature) ([a-z_]+="(?:[\x20!#-\[\]-~]|\\["\\])*"(?:, |\Z))+')


def test_challenge_stands_for_each_scheme_in_order() -> None:
    attributes = (
        'realm="api.example.com", '
        'resource_metadata="https://api.example.com/.well-known/oauth-protected-resource/api/notes"'
    )
    values = challenges(schemes("mac", "bearer"), ROUTE, realm="api.example.com")
    assert values == ("MAC " + attributes, "Bearer " + attributes)


def test_challenge_names_error_and_scope() -> None:
    (value,) = challenges(
        schemes("bearer"),
        ROUTE,
        realm="x",
        error="insufficient_scope",
        description="No.",
        scope="a ",
        used=("bearer",),
    )
    assert value.startswith('Bearer realm="x", error="insufficient_scope", error_description="No.", scope="a ", ')


def test_only_the_challenge_of_a_scheme_that_was_used_has_the_error() -> None:
    """RFC 6750, section 3.1: what was not used was not used wrongly."""
    told: dict[str, Any] = {
        "realm": "x",
        "error": "invalid_token",
        "description": "No.",
        "scope": "a",
    }
    first, second = challenges(schemes("bearer", "mac"), ROUTE, **told, used=("mac",))
    assert ("error" in first, "error" in second) == (False, True)
    assert 'scope="a"' in first
    assert not any("error" in value for value in challenges(schemes("bearer", "mac"), ROUTE, **told))


def test_only_the_scheme_that_was_used_says_what_sign_in_is_needed() -> None:
    """RFC 9470, section 3: max_age and acr_values go with insufficient_user_authentication."""
    dpop, bearer = challenges(
        schemes("dpop", "bearer"),
        ROUTE,
        realm="x",
        error="insufficient_user_authentication",
        used=("bearer",),
        sign_in={"max_age": "300", "acr_values": "password"},
    )
    assert 'error="insufficient_user_authentication", max_age="300", acr_values="password", ' in bearer
    assert "max_age" not in dpop


def test_description_without_error_is_left_out() -> None:
    for used in ((), ("bearer",)):
        (value,) = challenges(schemes("bearer"), ROUTE, realm="x", description="No.", used=used)
        assert "error" not in value


@pytest.mark.parametrize(
    ("resource", "url"),
    [
        (RESOURCE, "https://api.example.com/.well-known/oauth-protected-resource/api/notes"),
        ("https://api.example.com", "https://api.example.com/.well-known/oauth-protected-resource"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/.well-known/oauth-protected-resource"),
        ("http://[::1]:8080/a", "http://[::1]:8080/.well-known/oauth-protected-resource/a"),
    ],
)
def test_metadata_stands_at_the_inserted_path(resource: str, url: str) -> None:
    assert metadata_url(resource) == url


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_no_value_breaks_out_of_its_quotes(realm: str, description: str, scope: str) -> None:
    for value in challenges(
        schemes("bearer", "mac"),
        ROUTE,
        realm=realm,
        error="invalid_token",
        description=description,
        scope=scope,
        used=("bearer", "mac"),
    ):
        assert _CHALLENGE.fullmatch(value)
        names = re.findall(r'([a-z_]+)="(?:[^"\\]|\\.)*"', value)
        assert names == ["realm", "error", "error_description", "scope", "resource_metadata"]
