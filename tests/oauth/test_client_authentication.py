"""Client authentication (RFC 6749, section 2.3)."""

import base64

import pytest

from gateway.errors import OAuthError
from gateway.oauth import client_authentication, forms
from gateway.oauth.client_authentication import ClientClaim


def basic(pair: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(pair.encode('latin-1')).decode()}"


def parse(authorization: list[str], body: str = "", query: str = "") -> ClientClaim:
    return client_authentication.parse(authorization, forms.parse(body.encode()), forms.parse(query.encode()))


@pytest.mark.parametrize(
    ("authorization", "body", "client_id", "secret"),
    [
        ([basic("c1:s1")], "", "c1", "s1"),
        ([basic("c1:s1", "basic")], "", "c1", "s1"),
        ([basic("c1:s1", "BASIC")], "client_id=c1", "c1", "s1"),
        ([basic("c%3A1:s%2B1+x")], "", "c:1", "s+1 x"),  # section 2.3.1: both halves are form-encoded
        ([basic("c1:s:1")], "", "c1", "s:1"),
        ([basic("c1:")], "", "c1", ""),
        ([], "client_id=c1&client_secret=s1", "c1", "s1"),
        ([], "client_id=c1", "c1", None),
        ([], "client_id=c1&client_secret=", "c1", None),
    ],
)
def test_a_client_names_itself_in_one_way(
    authorization: list[str], body: str, client_id: str, secret: str | None
) -> None:
    assert parse(authorization, body) == ClientClaim(client_id, secret)


@pytest.mark.parametrize(
    ("authorization", "body", "query", "error"),
    [
        ([basic("c1:s1")], "client_id=c1&client_secret=s1", "", "invalid_request"),
        ([basic("c1:s1")], "client_secret=", "", "invalid_request"),
        ([basic("c1:s1")], "client_id=c2", "", "invalid_request"),
        ([basic("c1:s1"), basic("c1:s1")], "", "", "invalid_request"),
        ([], "client_id=c1", "client_secret=s1", "invalid_request"),
        ([basic("c1:s1")], "", "client_secret=", "invalid_request"),
        ([basic("c1:s1")], "", "refresh_token=gwr_x", "invalid_request"),
        ([], "", "client_id=c1", "invalid_request"),
        ([], "", "", "invalid_client"),
        ([], "client_secret=s1", "", "invalid_client"),
        ([], "client_id=%00", "", "invalid_client"),
        ([], "client_id=%ff", "", "invalid_client"),
        (["Basic"], "client_id=c1", "", "invalid_client"),
        (["Basic !!!"], "", "", "invalid_client"),
        (["Basic YWI"], "", "", "invalid_client"),
        (["Basic YTpi YTpi"], "", "", "invalid_client"),
        ([basic("c1")], "", "", "invalid_client"),
        ([basic(":s1")], "", "", "invalid_client"),
        ([basic("c\0:s1")], "", "", "invalid_client"),
        (["Bearer gwa_x"], "client_id=c1", "", "invalid_client"),
        ([""], "client_id=c1", "", "invalid_client"),
    ],
)
def test_two_ways_at_once_or_a_malformed_one_are_refused(
    authorization: list[str], body: str, query: str, error: str
) -> None:
    with pytest.raises(OAuthError) as refused:
        parse(authorization, body, query)
    assert refused.value.refused.error == error
    assert refused.value.refused.status == (401 if error == "invalid_client" else 400)


def test_a_claim_shows_no_secret() -> None:
    assert "hunter2" not in repr(ClientClaim("c1", "hunter2"))
