"""Config OP (OpenID Connect Discovery 1.0), and what the logout plans read of discovery first."""

from typing import Any
from urllib.parse import urlsplit

from tests.conformance.rig import Play, module

# RFC 8414 with its registry, and what the suite's own schema of such a document knows beside it.
_KNOWN = {
    *("issuer", "authorization_endpoint", "token_endpoint", "jwks_uri", "registration_endpoint", "scopes_supported"),
    *("response_types_supported", "response_modes_supported", "grant_types_supported", "acr_values_supported"),
    *("subject_types_supported", "claims_supported", "claim_types_supported", "claims_parameter_supported"),
    *("userinfo_endpoint", "end_session_endpoint", "check_session_iframe", "display_values_supported"),
    *("request_parameter_supported", "request_uri_parameter_supported", "require_request_uri_registration"),
    *("service_documentation", "ui_locales_supported", "claims_locales_supported", "op_policy_uri", "op_tos_uri"),
    *("frontchannel_logout_supported", "frontchannel_logout_session_supported", "protected_resources"),
    *("backchannel_logout_supported", "backchannel_logout_session_supported", "prompt_values_supported"),
    *("code_challenge_methods_supported", "authorization_response_iss_parameter_supported"),
    *("pushed_authorization_request_endpoint", "require_pushed_authorization_requests"),
    *("device_authorization_endpoint", "dpop_signing_alg_values_supported", "client_id_metadata_document_supported"),
    *(f"{place}_endpoint" for place in ("revocation", "introspection")),
    *(
        f"{place}_endpoint_auth_{what}_supported"
        for place in ("token", "revocation", "introspection")
        for what in ("methods", "signing_alg_values")
    ),
    *(
        f"{what}_{how}_values_supported"
        for what in ("id_token", "userinfo", "request_object")
        for how in ("signing_alg", "encryption_alg", "encryption_enc")
    ),
}
_BY_OPENID = {"code", "id_token", "code id_token", "id_token token", "code token", "code id_token token"}


def _require_https(document: dict[str, Any]) -> None:
    addresses = {name: value for name, value in document.items() if name.endswith(("_endpoint", "jwks_uri"))}
    assert addresses
    assert all(urlsplit(value).scheme == "https" for value in addresses.values()), addresses


@module("oidcc-discovery-endpoint-verification", "Config")
async def discovery(op: Play) -> None:
    document = await op.discovery()
    assert document["issuer"] == op.provider.url
    unknown = document.keys() - _KNOWN
    op.warn(not unknown, f"the document has members that no registry knows: {sorted(unknown)}")
    assert _BY_OPENID & set(document["response_types_supported"])
    assert document["subject_types_supported"]
    assert "RS256" in document["id_token_signing_alg_values_supported"]
    assert document.get("userinfo_signing_alg_values_supported", ["RS256"])
    _require_https(document)
    op.warn("userinfo_endpoint" in document, "there is no userinfo_endpoint")
    op.warn(document.get("claims_supported"), "there are no claims_supported")
    assert document.get("grant_types_supported", ["authorization_code"])
    op.warn("openid" in document.get("scopes_supported", []), "scopes_supported lacks openid")
    assert all(" " not in scope for scope in document["scopes_supported"])
    assert all(locale.replace("-", "").isalnum() for locale in document.get("ui_locales_supported", []))
    assert isinstance(document.get("code_challenge_methods_supported", []), list)
    assert await op.keys()


@module("oidcc-rp-initiated-logout-discovery-endpoint-verification", "RP-Initiated")
async def logout_discovery(op: Play) -> None:
    document = await op.discovery()
    assert document["end_session_endpoint"]
    _require_https(document)


@module("oidcc-backchannel-logout-discovery-endpoint-verification", "Back-Channel")
async def back_channel_discovery(op: Play) -> None:
    await logout_discovery(op)
    document = await op.discovery()
    assert document["backchannel_logout_supported"] is True
    assert document["backchannel_logout_session_supported"] is True


@module("oidcc-frontchannel-logout-discovery-endpoint-verification", "Front-Channel")
async def front_channel_discovery(op: Play) -> None:
    await logout_discovery(op)
    document = await op.discovery()
    assert document["frontchannel_logout_supported"] is True
    assert document["frontchannel_logout_session_supported"] is True
