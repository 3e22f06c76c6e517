"""What an access token says that is a JWT (RFC 9068): its type and its claims. `oauth.signing` signs them."""

from collections.abc import Mapping
from typing import Final

from gateway.errors import OAuthError, invalid_scope
from gateway.model import format_scope

TYPE: Final = "at+jwt"  # section 2.1


def claims(
    *,
    jti: str,
    issuer: str,
    subject: str,
    client_id: str,
    scopes: frozenset[str],
    audience: tuple[str, ...],
    issued_at: int,
    ttl: int,
    auth_time: int | None,
    acr: str | None,
    jkt: str | None = None,
) -> Mapping[str, object]:
    """The claims of section 2.2, `jti` first, by whose beginning our own are known (`crypto`).

    A token that was asked for without a `resource` opens every route here, so its audience is the whole of them: the
    issuer (section 3, the default resource indicator). Moments are in seconds since 1970.
    """
    said: dict[str, object] = {
        "jti": jti,
        "iss": issuer,
        "sub": subject,
        "aud": (audience[0] if len(audience) == 1 else list(audience)) if audience else issuer,
        "client_id": client_id,
        "iat": issued_at,
        "exp": issued_at + ttl,
    }
    if scopes:
        said["scope"] = format_scope(scopes)
    if auth_time is not None:
        said["auth_time"] = auth_time  # RFC 9470, section 6.1
    if acr is not None:
        said["acr"] = acr
    if jkt is not None:
        said["cnf"] = {"jkt": jkt}  # RFC 9449, section 6.1
    return said


def too_long(longest: int) -> OAuthError:
    """The refusal of a token that no route would take."""
    return invalid_scope(f"The token would be longer than {longest} characters; ask for fewer scopes or resources.")
