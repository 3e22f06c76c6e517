"""Pushed authorization requests (RFC 9126): what a client may push, and what it is known by afterwards.

What was pushed is read and judged at once, and kept as it was read. At the authorization endpoint it takes the query's
place, and is judged once more, since an operator may have taken from the client what it asks for (section 4).
"""

from typing import Final

from msgspec.structs import replace

from gateway.errors import OAuthError, Refused, invalid_request
from gateway.model import Client
from gateway.oauth import authorize, dpop
from gateway.oauth.authorize import AuthorizationRequest, PageError, RedirectError
from gateway.oauth.forms import Form

LIFETIME: Final = 90  # seconds in which a browser must have brought it (section 2.2)
LARGEST: Final = 8 * 1024  # bytes, form-encoded: as much as a query could hold, and a redirect that repeats its state
_URN: Final = "urn:ietf:params:oauth:request_uri:"
_AUTHENTICATION: Final = frozenset({"client_assertion", "client_assertion_type", "client_secret"})


def request_uri(reference: str) -> str:
    """The URI by which a client refers to what it pushed (section 2.2)."""
    return _URN + reference


def reference_of(query: Form) -> str | None:
    """The reference in the `request_uri` of an authorization request; None where that is no pushed one."""
    uri = query.get("request_uri") or ""
    return uri.removeprefix(_URN) if uri.startswith(_URN) else None


def read(
    form: Form,
    client: Client,
    known_scopes: frozenset[str],
    known_resources: frozenset[str],
    jkt: str | None = None,
) -> AuthorizationRequest:
    """The authorization request that an authenticated client pushes, to be judged once more when a browser brings it;
    `jkt` names the key of the DPoP proof that came with it, which its code is bound to then (RFC 9449, section 10.1).

    Raises OAuthError for one that the authorization endpoint would refuse too (section 2.1), for a `request_uri`, and
    with status 413 for one that is too long (section 2.3).
    """
    if "request_uri" in form.names:
        raise invalid_request("A pushed request must not hold a request_uri.")
    if jkt is not None and form.get("dpop_jkt") not in (None, jkt):
        raise dpop.refused("The DPoP proof is of another key than dpop_jkt.")
    asked = Form(tuple(pair for pair in form.fields if pair[0] not in _AUTHENTICATION))
    if len(asked.encoded()) > LARGEST:
        text = f"The request is longer than {LARGEST} bytes."
        raise OAuthError(Refused("invalid_request", text, status=413))
    try:
        request = authorize.read(form, client)
        if jkt is not None:
            request = replace(request, dpop_jkt=jkt)
        authorize.judge(request, client, known_scopes, known_resources, pushed=True)
    except PageError as error:  # whose text is for a person
        text = f"The request has a fault: {error}."
        raise OAuthError(Refused(error.error, text, str(error), status=400)) from error
    except RedirectError as error:
        raise OAuthError(error.refused) from error
    return request


def unusable() -> PageError:
    """A reference that opens nothing: unknown, used, over, another client's, or opened in another browser."""
    return PageError(
        "This sign-in link has been used or has expired. Go back to the application and start again.",
        "unknown, used or expired request_uri",
        error="invalid_request_uri",
    )
