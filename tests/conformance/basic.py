"""Basic OP and Form Post OP (OpenID Connect Core 1.0): one list, the latter with response_mode=form_post."""

import base64
import hashlib
import json
import secrets
from urllib.parse import urlsplit

from gateway.oauth import openid
from tests.conformance.rig import BACK, CALLBACK, NOBODY, Play, Skipped, module, random_enough

PLANS = ("Basic", "Form Post")


@module("oidcc-server", *PLANS)
async def server(op: Play) -> None:
    login = await op.signed_in()
    assert random_enough(login.callback.members["code"])
    assert "name" not in login.claims
    op.warn("expires_in" in login.response, "the token response has no expires_in")


@module("oidcc-response-type-missing", *PLANS)
async def response_type_missing(op: Play) -> None:
    op.refused(await op.asked(response_type=None), "unsupported_response_type", "invalid_request")


@module("oidcc-idtoken-signature", *PLANS)
async def id_token_signature(op: Play) -> None:
    """`verified` holds it: RS256 by default, and a kid of the key set."""
    await op.signed_in()


@module("oidcc-idtoken-unsigned", *PLANS)
async def id_token_unsigned(op: Play) -> None:
    if "none" not in (await op.discovery())["id_token_signing_alg_values_supported"]:
        raise Skipped("no ID token is unsigned")
    raise AssertionError("ID tokens may be unsigned")


@module("oidcc-userinfo-get", *PLANS)
async def userinfo_get(op: Play) -> None:
    await op.signed_in()


@module("oidcc-userinfo-post-header", *PLANS)
async def userinfo_post_header(op: Play) -> None:
    login = await op.signed_in()
    answer = await op.userinfo_answer(login.access_token, "POST")
    assert (answer.status, answer.json["sub"]) == (200, login.claims["sub"])


@module("oidcc-userinfo-post-body", *PLANS)
async def userinfo_post_body(op: Play) -> None:
    login = await op.signed_in()
    answer = await op.userinfo_answer(login.access_token, "POST", body=True)
    op.warn(answer.status == 200, "UserInfo takes no token in a form")
    assert answer.status >= 400 or answer.json["sub"] == login.claims["sub"]


@module("oidcc-ensure-request-without-nonce-succeeds-for-code-flow", *PLANS)
async def without_nonce(op: Play) -> None:
    await op.signed_in(nonce=None)


async def _scopes(op: Play, *scopes: str) -> None:
    """The claims of these scopes come from UserInfo."""
    for scope in scopes:
        if not await op.supports(scope):
            raise Skipped(f"there is no scope {scope}")
    login = await op.signed_in(scope=" ".join(("openid", *scopes)))
    missing = {name for scope in scopes for name in openid.OF_SCOPE[scope]} - login.userinfo.keys()
    op.warn(not missing, f"UserInfo lacks {sorted(missing)}")


@module("oidcc-scope-profile", *PLANS)
async def scope_profile(op: Play) -> None:
    await _scopes(op, "profile")


@module("oidcc-scope-email", *PLANS)
async def scope_email(op: Play) -> None:
    await _scopes(op, "email")


@module("oidcc-scope-address", *PLANS)
async def scope_address(op: Play) -> None:
    await _scopes(op, "address")


@module("oidcc-scope-phone", *PLANS)
async def scope_phone(op: Play) -> None:
    await _scopes(op, "phone")


@module("oidcc-scope-all", *PLANS)
async def scope_all(op: Play) -> None:
    await _scopes(op, "profile", "email", "address", "phone")


@module("oidcc-alternate-happy-flow", *PLANS)
async def alternate_happy_flow(op: Play) -> None:
    asked = op.request(scope="email openid")
    await op.logged_in(await op.sent(dict(reversed(asked.items()))))


@module("oidcc-display-page", *PLANS)
async def display_page(op: Play) -> None:
    await op.signed_in(display="page")


@module("oidcc-display-popup", *PLANS)
async def display_popup(op: Play) -> None:
    await op.signed_in(display="popup")


@module("oidcc-prompt-login", *PLANS)
async def prompt_login(op: Play) -> None:
    first = await op.signed_in()
    await op.second_after(first.claims["auth_time"])
    again = await op.signed_in(prompt="login")
    assert "sign-in" in op.pages
    assert again.claims["auth_time"] > first.claims["auth_time"]


@module("oidcc-prompt-none-not-logged-in", *PLANS)
async def prompt_none_not_logged_in(op: Play) -> None:
    callback = await op.asked(prompt="none")
    assert callback is not None, "the client is told, not the person"
    op.refused(callback, *NOBODY)


@module("oidcc-prompt-none-logged-in", *PLANS)
async def prompt_none_logged_in(op: Play) -> None:
    first = await op.signed_in()
    again = await op.signed_in(prompt="none")
    assert op.pages == []
    assert again.claims["sub"] == first.claims["sub"]
    assert again.claims.get("auth_time") == first.claims.get("auth_time")


@module("oidcc-max-age-1", *PLANS)
async def max_age_1(op: Play) -> None:
    first = await op.signed_in()
    await op.second_after(first.claims["auth_time"] + 1)
    again = await op.signed_in(max_age="1")
    assert "sign-in" in op.pages
    assert again.claims["auth_time"] > first.claims["auth_time"]
    assert again.claims["iat"] - again.claims["auth_time"] <= 2


@module("oidcc-max-age-10000", *PLANS)
async def max_age_10000(op: Play) -> None:
    first = await op.signed_in(max_age="15000")
    again = await op.signed_in(max_age="10000")
    assert op.pages == []
    assert again.claims["sub"] == first.claims["sub"]
    assert again.claims["auth_time"] == first.claims["auth_time"]


@module("oidcc-ensure-request-with-unknown-parameter-succeeds", *PLANS)
async def unknown_parameter(op: Play) -> None:
    await op.signed_in(extra="foobar")


@module("oidcc-id-token-hint", *PLANS)
async def id_token_hint(op: Play) -> None:
    first = await op.signed_in()
    again = await op.signed_in(prompt="none", id_token_hint=first.id_token)
    assert op.pages == []
    assert again.claims["sub"] == first.claims["sub"]


@module("oidcc-login-hint", *PLANS)
async def login_hint(op: Play) -> None:
    await op.signed_in(login_hint=f"buffy@{urlsplit(op.provider.url).hostname}")


@module("oidcc-ui-locales", *PLANS)
async def ui_locales(op: Play) -> None:
    await op.signed_in(ui_locales="se")


@module("oidcc-claims-locales", *PLANS)
async def claims_locales(op: Play) -> None:
    await op.signed_in(claims_locales="se")


@module("oidcc-ensure-request-with-acr-values-succeeds", *PLANS)
async def acr_values(op: Play) -> None:
    values = (await op.discovery()).get("acr_values_supported", ["1", "2"])
    login = await op.signed_in(acr_values=" ".join(values))
    op.warn(login.claims.get("acr") in values, "the acr is none of those that were asked for")


@module("oidcc-codereuse", *PLANS)
async def code_reuse(op: Play) -> None:
    login = await op.signed_in()
    again = await op.redeemed(login.callback)
    op.warn(again.status != 200, "a code was taken twice")
    assert again.status == 200 or (again.status, again.json["error"]) == (400, "invalid_grant")


@module("oidcc-codereuse-30seconds", *PLANS)
async def code_reuse_30_seconds(op: Play) -> None:
    login = await op.signed_in()
    await op.waited(30)
    again = await op.redeemed(login.callback)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    op.warn(
        400 <= (await op.userinfo_answer(login.access_token)).status < 500,
        "the token of a code that came twice is still taken",
    )


@module("oidcc-ensure-registered-redirect-uri", *PLANS)
async def registered_redirect_uri(op: Play) -> None:
    assert await op.asked(redirect_uri=f"{CALLBACK}/other") is None
    op.refused(None)


@module("oidcc-ensure-post-request-succeeds", *PLANS)
async def post_request(op: Play) -> None:
    await op.signed_in(method="POST")


@module("oidcc-server-client-secret-post", *PLANS)
async def client_secret_post(op: Play) -> None:
    await op.signed_in(post=True)


def _request_object(**claims: object) -> str:
    """An unsigned one (section 6.1)."""
    parts = (json.dumps({"alg": "none"}), json.dumps(claims))
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts) + "."


@module("oidcc-request-uri-unsigned-supported-correctly-or-rejected-as-unsupported", *PLANS)
async def request_uri_unsigned(op: Play) -> None:
    callback = await op.asked(request_uri="https://rp.example/test/a/gateway/requests/1")
    op.refused(callback, "request_uri_not_supported")


@module("oidcc-unsigned-request-object-supported-correctly-or-rejected-as-unsupported", *PLANS)
async def unsigned_request_object(op: Play) -> None:
    asked = op.request()
    op.refused(await op.sent({**asked, "request": _request_object(**asked)}), "request_not_supported")


@module("oidcc-claims-essential", *PLANS)
async def claims_essential(op: Play) -> None:
    login = await op.signed_in(claims=json.dumps({"userinfo": {"name": {"essential": True}}}))
    op.warn("name" in login.userinfo, "UserInfo lacks name, which was essential")


@module("oidcc-ensure-request-object-with-redirect-uri", *PLANS)
async def request_object_with_redirect_uri(op: Play) -> None:
    """What the object says counts, or nothing of it does: nobody is led to the address beside it."""
    asked = op.request()
    callback = await op.sent({**asked, "redirect_uri": BACK, "request": _request_object(**asked)})
    op.refused(callback, "request_not_supported")


@module("oidcc-refresh-token", *PLANS)
async def refresh_token(op: Play) -> None:
    lasting = await op.supports("offline_access")
    scope, prompt = ("openid offline_access", "consent") if lasting else ("openid", None)
    first = await op.signed_in(scope=scope, prompt=prompt)
    if "refresh_token" not in first.response:
        raise Skipped("there are no refresh tokens")
    fields = {"grant_type": "refresh_token", "refresh_token": first.response["refresh_token"]}
    foreign = await op.token(fields, by=op.provider.clients[1])
    assert (foreign.status, foreign.json["error"]) == (400, "invalid_grant")
    await op.second_after(first.claims["iat"])
    answer = await op.token(fields)
    assert answer.status == 200
    assert "no-store" in answer.headers["Cache-Control"]
    claims = await op.verified(answer.json["id_token"])
    same = ("iss", "sub", "aud", "azp", "auth_time")
    assert [claims.get(name) for name in same] == [first.claims.get(name) for name in same]
    assert claims["iat"] > first.claims["iat"]
    assert random_enough(answer.json["access_token"])
    assert random_enough(answer.json["refresh_token"])
    listed = (await op.discovery()).get("grant_types_supported", [])
    op.warn("refresh_token" in listed, "grant_types_supported lacks refresh_token")


@module("oidcc-ensure-request-with-valid-pkce-succeeds", *PLANS)
async def valid_pkce(op: Play) -> None:
    verifier = secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    callback = await op.asked(code_challenge=challenge, code_challenge_method="S256")
    await op.logged_in(callback, code_verifier=verifier)
