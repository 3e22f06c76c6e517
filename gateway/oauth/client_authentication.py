"""Authentication of clients at the endpoints for programs (RFC 6749, section 2.3; RFC 7521, section 4.2).

    Authorization   in the body               client_id    method
    Basic           nothing                   absent/same  client_secret_basic, both halves form-encoded (section 2.3.1)
    absent          client_secret             present      client_secret_post
    absent          client_assertion, …_type  absent/same  private_key_jwt
    absent          nothing                   present      none: a public client names itself
    two of these                              any          invalid_request: one method a request
    twice                                        invalid_request
    other scheme, malformed                      invalid_client

A secret never stands in the query, where logs and histories keep it.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from gateway.errors import OAuthError, invalid_client, invalid_request
from gateway.oauth import client_assertion, forms
from gateway.oauth.authorize import is_identifier
from gateway.oauth.client_assertion import Assertion
from gateway.oauth.forms import Form

_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+={0,2}) *", re.IGNORECASE | re.ASCII)
_NEVER_IN_QUERY: Final = frozenset(
    {
        "client_id",
        "client_secret",
        "client_assertion",
        "code",
        "code_verifier",
        "device_code",
        "grant_type",
        "password",
        "refresh_token",
        "token",
    }
)

_BY_ASSERTION: Final = frozenset({"client_assertion", "client_assertion_type"})
_IN_BODY: Final = _BY_ASSERTION | {"client_secret"}


class ClientClaim(Struct, frozen=True):
    """The client that a request says it is from, by its secret or by an assertion; a public one names itself."""

    client_id: str
    secret: str | None = None
    assertion: Assertion | None = None

    def __repr__(self) -> str:
        return f"ClientClaim({self.client_id!r})"


def parse(authorization: Sequence[str], body: Form, query: Form) -> ClientClaim:
    """The client's claim. Raises OAuthError (invalid_request or invalid_client) as the table above says."""
    misplaced = sorted(query.names & _NEVER_IN_QUERY)
    if misplaced:
        raise invalid_request("Parameters belong in the body, never in the URL.", f"in the query: {misplaced}")
    if len(authorization) > 1:
        raise invalid_request("There is more than one Authorization field.")
    client_id, secret = body.get("client_id"), body.get("client_secret")
    if authorization:
        basic = _basic(authorization[0])
        if body.names & _IN_BODY or client_id not in (None, basic.client_id):
            raise _twice()
        return basic
    if body.names & _BY_ASSERTION:
        if "client_secret" in body.names:
            raise _twice()
        return _asserted(body, client_id)
    if client_id is None:
        raise invalid_client("no client authentication")
    if not is_identifier(client_id):
        raise invalid_client("malformed client_id")
    return ClientClaim(client_id, secret)


def _asserted(body: Form, client_id: str | None) -> ClientClaim:
    text, kind = body.get("client_assertion"), body.get("client_assertion_type")
    if text is None or kind is None:
        raise invalid_request("client_assertion and client_assertion_type go together.")
    if kind != client_assertion.TYPE:
        raise invalid_client("another client_assertion_type than that of a JWT")
    assertion = client_assertion.parse(text)
    if client_id not in (None, assertion.client_id):
        raise invalid_client("client_id and the assertion's sub differ")
    if not is_identifier(assertion.client_id):
        raise invalid_client("malformed sub")
    return ClientClaim(assertion.client_id, assertion=assertion)


def _twice() -> OAuthError:
    return invalid_request("The client authenticates in two ways at once.")


def _basic(value: str) -> ClientClaim:
    found = _BASIC.fullmatch(value)
    if found is None:
        raise invalid_client("malformed Basic credentials or another scheme")
    try:
        pair = base64.b64decode(found[1], validate=True)
    except binascii.Error:
        raise invalid_client("Basic credentials are not base64") from None
    client_id, colon, secret = pair.partition(b":")
    name = forms.decode(client_id)
    if not colon or not is_identifier(name):
        raise invalid_client("malformed Basic credentials")
    return ClientClaim(name, forms.decode(secret))
