"""The scopes and resources of a request, and the token endpoint's grants (RFC 6749, sections 4.1.3, 4.4, 6)."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import (
    invalid_grant,
    invalid_request,
    invalid_scope,
    invalid_target,
    unauthorized_client,
    unsupported_grant_type,
)
from gateway.model import DEVICE_CODE, GRANT_TYPES, OFFLINE_ACCESS, Client, parse_scope
from gateway.oauth import forms, openid, pkce
from gateway.oauth.forms import Form

_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[\x21\x22\x24-\x7e]+")  # no fragment (RFC 8707, section 2)
REPEATABLE: Final = frozenset({"resource"})  # RFC 8707, section 2
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, repr=False)
class CodeGrant:
    """RFC 6749, section 4.1.3, with RFC 7636's verifier."""

    code: str
    redirect_uri: str | None
    code_verifier: str | None
    resource: tuple[str, ...] = ()
    jkt: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class RefreshGrant:
    """RFC 6749, section 6; `scopes` is None where the request leaves them as they are."""

    refresh_token: str
    scopes: frozenset[str] | None = None
    resource: tuple[str, ...] = ()
    jkt: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class DeviceGrant:
    """RFC 8628, section 3.4."""

    device_code: str
    resource: tuple[str, ...] = ()
    jkt: str | None = None


@dataclass(frozen=True, slots=True)
class ClientCredentialsGrant:
    """RFC 6749, section 4.4."""

    scopes: frozenset[str]
    resource: tuple[str, ...] = ()
    jkt: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class PasswordGrant:
    """RFC 6749, section 4.3, for clients that OAuth 2.1 has no place for."""

    username: str
    password: str
    scopes: frozenset[str]
    resource: tuple[str, ...] = ()
    jkt: str | None = None


Grant = CodeGrant | RefreshGrant | DeviceGrant | ClientCredentialsGrant | PasswordGrant
NAMES_SCOPES: Final = frozenset({"client_credentials", "password"})  # grants whose requests name scopes afresh


def parse(form: Form, client: Client, known_scopes: frozenset[str], known_resources: frozenset[str]) -> Grant:
    """The grant that an authenticated client presents. Raises OAuthError where it may not, or where parts are bad."""
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise invalid_request("grant_type is missing.")
    if grant_type not in GRANT_TYPES and not (grant_type == "password" and "password" in client.grant_types):
        raise unsupported_grant_type(f"grant_type must be one of {', '.join(GRANT_TYPES)}.")
    if grant_type not in client.grant_types:
        raise unauthorized_client("This client may not use this grant type.")
    resource = requested_resources(form.all("resource"), known_resources)
    if grant_type == "authorization_code":
        return CodeGrant(_needed(form, "code"), form.get("redirect_uri"), _verifier(form), resource)
    if grant_type == "refresh_token":
        scope = form.get("scope")
        return RefreshGrant(_needed(form, "refresh_token"), None if scope is None else named_scopes(scope), resource)
    if grant_type == DEVICE_CODE:
        return DeviceGrant(_needed(form, "device_code"), resource)
    if grant_type == "password":
        username, password = _needed(form, "username"), _needed(form, "password")
        return PasswordGrant(username, password, requested_scopes(form.get("scope"), client, known_scopes), resource)
    if not client.confidential:
        raise unauthorized_client("client_credentials is for clients that have a secret.")
    return ClientCredentialsGrant(requested_scopes(form.get("scope"), client, known_scopes), resource)


def requested_scopes(scope: str | None, client: Client, known_scopes: frozenset[str]) -> frozenset[str]:
    """The scopes that a `scope` asks for, if any, as `named_scopes` reads and `allowed_scopes` judges it."""
    return allowed_scopes(named_scopes(scope), client, known_scopes)


def named_scopes(scope: str | None) -> frozenset[str]:
    """The names in a `scope`, none where it is absent. Raises OAuthError (invalid_scope) for a malformed one."""
    try:
        return frozenset[str]() if scope is None else parse_scope(scope)
    except ValueError as exc:
        raise invalid_scope("scope must be a list of names separated by single spaces.") from exc


def allowed_scopes(names: frozenset[str], client: Client, known_scopes: frozenset[str]) -> frozenset[str]:
    """The scopes that a client asks for by these names: its default where there are none (RFC 6749, section 3.3), but
    for those of OpenID Connect, which are asked for by name (Core, section 3.1.2.1).

    Raises OAuthError (invalid_scope) for an unknown one, or one that is not the client's.
    """
    if not names:
        named = client.default_scopes
        default = client.scopes.difference(openid.SCOPES) if named is None else named
        return default & client.may_have & known_scopes
    refused = sorted(names - (client.may_have & known_scopes))
    if refused:
        raise invalid_scope("A scope is unknown or not allowed for this client.", f"refused scopes {refused!r}")
    return names


def requested_resources(values: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    """The resource identifiers asked for, each one of ours as its metadata spells it.

    Raises OAuthError (invalid_target; RFC 8707, section 2).
    """
    return tuple(dict.fromkeys(_known(value, known) for value in values))


Needs = Mapping[str, frozenset[str]]
"""The scopes that calls of each protected resource ask for, by its identifier."""


def fitting(scopes: frozenset[str], resources: Collection[str], needs: Needs) -> frozenset[str]:
    """The scopes of a token that is for these resources alone: without those that only others ask for (RFC 8707,
    section 2.2).

    What no resource asks for stays, for an API may look at it itself; and so does what is for this server.
    """
    here = frozenset[str]().union(*(needs.get(name, frozenset()) for name in resources))
    elsewhere = frozenset[str]().union(*needs.values()).difference(here, openid.SCOPES, {OFFLINE_ACCESS})
    return scopes - elsewhere if resources else scopes


def _known(value: str, known: frozenset[str]) -> str:
    if value in known:
        return value
    if _ABSOLUTE_URI.fullmatch(value) is None:
        raise invalid_target("resource must be an absolute URI without a fragment.")
    wanted = _normalized(value)
    found = next((one for one in known if _normalized(one) == wanted), None)
    if found is None:
        raise invalid_target("resource does not name a protected resource of this server.")
    return found


def _normalized(uri: str) -> str:
    """The URI as libraries rewrite it before they send it, which names the same (RFC 3986, sections 6.2.2.1 and 6.2.3):
    scheme and host in lower case, no port that the scheme has anyway, and one form for an empty path.
    """
    try:
        parts = urlsplit(uri)
        scheme, port = parts.scheme.lower(), parts.port
    except ValueError:  # no address, or no port
        return uri
    if scheme not in _PORTS or parts.hostname is None or "@" in parts.netloc:
        return uri
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    shown = "" if port in (None, _PORTS[scheme]) else f":{port}"
    rest = uri[len(parts.scheme) + len("://") + len(parts.netloc) :]
    return f"{scheme}://{host}{shown}" + ("" if rest == "/" else rest)


def token_of(form: Form) -> str:
    """The token to revoke or to introspect (RFC 7009, section 2.1; RFC 7662, section 2.1)."""
    return _needed(form, "token")


def body(content_type: str, raw: bytes) -> Form:
    """The parameters of a request's body. Raises OAuthError (invalid_request) unless it is form-encoded and names
    each parameter once (RFC 6749, section 3.2).
    """
    if not forms.is_form(content_type):
        raise invalid_request("The body must be application/x-www-form-urlencoded.")
    form = forms.parse(raw)
    repeated = form.repeated(but=REPEATABLE)
    if repeated is not None:
        raise invalid_request("A parameter is repeated.", f"repeated parameter {repeated!r}")
    return form


def _needed(form: Form, name: str) -> str:
    value = form.get(name)
    if value is None:
        raise invalid_request(f"{name} is missing.")
    return value


def _verifier(form: Form) -> str | None:
    verifier = form.get("code_verifier")
    if verifier is not None and not pkce.is_verifier(verifier):
        raise invalid_grant("code_verifier does not match.", "malformed code_verifier")
    return verifier
