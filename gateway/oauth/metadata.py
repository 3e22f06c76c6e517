"""The documents by which clients find their way: RFC 8414 for the server, RFC 9728 for each protected resource.

They announce what is built, nothing else.
"""

from collections.abc import Collection, Iterable, Sequence

from gateway.model import ACR, BEARER, DPOP, GRANT_TYPES, SIGNING_ALGORITHMS, GrantType
from gateway.oauth import openid
from gateway.oauth.jws import ALGORITHMS
from gateway.oauth.registration import AUTHENTICATION_METHODS

Document = dict[str, object]

_SIGN_IN_CLAIMS = ("sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "sid", "at_hash")
# Introspection is for clients that prove who they are.
_PROVING = [method for method in AUTHENTICATION_METHODS if method != "none"]


def authorization_server(
    issuer: str,
    base: str,
    scopes: Iterable[str],
    resources: Iterable[str],
    *,
    registration: bool = False,
    documents: bool = False,
    legacy: Collection[GrantType] = (),
    claims: Iterable[str] = (),
) -> Document:
    """RFC 8414, section 2. `issuer` is given back byte for byte; `base` is the URL that endpoints are under. A list
    without values is left out (section 3.2).

    `registration` says whether clients may register themselves, `documents` whether a URL can be a client's identifier,
    `legacy` which grant types of OAuth 2.0 some client may still use, and `claims` which claims the operator adds.
    """
    document: Document = {
        "issuer": issuer,
        "authorization_endpoint": f"{base}/authorize",
        "token_endpoint": f"{base}/token",
        "revocation_endpoint": f"{base}/revoke",
        "introspection_endpoint": f"{base}/introspect",
        "pushed_authorization_request_endpoint": f"{base}/par",
        "device_authorization_endpoint": f"{base}/device_authorization",
        "require_pushed_authorization_requests": False,  # of all clients; some must
        **({"registration_endpoint": f"{base}/register"} if registration else {}),
        "client_id_metadata_document_supported": documents,
        "jwks_uri": f"{issuer.rstrip('/')}/.well-known/jwks.json",
        "scopes_supported": sorted(scopes),
        "response_types_supported": ["code", *(("token", "code token") if "implicit" in legacy else ())],
        "response_modes_supported": ["query", *(("fragment",) if "implicit" in legacy else ()), "form_post"],
        "grant_types_supported": [*GRANT_TYPES, *sorted(legacy)],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "revocation_endpoint_auth_methods_supported": list(AUTHENTICATION_METHODS),
        "revocation_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "introspection_endpoint_auth_methods_supported": _PROVING,
        "introspection_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "authorization_response_iss_parameter_supported": True,
        "prompt_values_supported": ["none", "login", "consent", "select_account"],
        "protected_resources": sorted(resources),
        **_openid(base, claims),
    }
    return {name: value for name, value in document.items() if value != []}


def _openid(base: str, claims: Iterable[str]) -> Document:
    """OpenID Connect Discovery 1.0, section 3: what RFC 8414 leaves to it."""
    return {
        "userinfo_endpoint": f"{base}/userinfo",
        "end_session_endpoint": f"{base}/logout",
        "backchannel_logout_supported": True,
        "backchannel_logout_session_supported": True,
        "frontchannel_logout_supported": True,
        "frontchannel_logout_session_supported": True,
        "subject_types_supported": ["public", "pairwise"],
        "id_token_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "userinfo_signing_alg_values_supported": list(SIGNING_ALGORITHMS),
        "acr_values_supported": [ACR],
        "claim_types_supported": ["normal"],
        "claims_supported": list(dict.fromkeys((*_SIGN_IN_CLAIMS, *openid.CLAIMS, *claims))),
        "claims_parameter_supported": True,
        "request_parameter_supported": False,
        "request_uri_parameter_supported": False,  # but for those of pushed requests; true where it is absent
        "display_values_supported": ["page", "popup"],
        "ui_locales_supported": ["en"],
    }


def protected_resource(
    resource: str, name: str, issuers: Sequence[str], scopes: Iterable[str], by_bearer_token: Collection[str]
) -> Document:
    """RFC 9728, section 2. `by_bearer_token` are its schemes for bearer tokens, bound to a key or not. An empty
    `bearer_methods_supported` says that no bearer token opens it; any other list that is empty is left out (section
    3.2).
    """
    needed = sorted(scopes)
    bound = {
        "dpop_signing_alg_values_supported": list(ALGORITHMS),
        "dpop_bound_access_tokens_required": BEARER not in by_bearer_token,
    }
    return {
        "resource": resource,
        "resource_name": name,
        "authorization_servers": list(issuers),
        **({"scopes_supported": needed} if needed else {}),
        "bearer_methods_supported": ["header"] if by_bearer_token else [],
        **(bound if DPOP in by_bearer_token else {}),
    }
