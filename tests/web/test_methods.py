"""Methods: HEAD is answered as GET is (RFC 9110, section 9.3.2), OPTIONS and 405 by what there is."""

import asyncio
import re

import pytest

from gateway.model import Client
from tests.web.rig import Browser, Plane, authorize_path, row_counts

SHOWN = [
    "/oauth2/device?user_code=WDJB-MJHT",
    "/oauth2/device/consent?user_code=WDJB-MJHT",
    "/oauth2/login",
    "/oauth2/login?next=/elsewhere",
    "/oauth2/logout",
    "/oauth2/account",
    "/oauth2/account/sessions",
    "/oauth2/account/password",
    "/.well-known/change-password",
    "/oauth2/authorize",
    "/oauth2/authorize?flow=x",
    "/oauth2/authorize/consent",
    "/oauth2/authorize/nowhere",
    "/.well-known/oauth-authorization-server",
    "/.well-known/openid-configuration",
    "/.well-known/jwks.json",
    "/.well-known/oauth-protected-resource/api/notes",
    "/.well-known/oauth-protected-resource/nowhere",
    "/oauth2/static/absent.css",
    "/oauth2/nowhere",
]
OF_PAGES = "GET, HEAD, OPTIONS, POST"
OF_DOCUMENTS = "GET, HEAD, OPTIONS"
OF_ENDPOINTS = "OPTIONS, POST"
ALLOWED = [
    *[(f"/oauth2/{name}", OF_PAGES) for name in ("authorize", "login", "logout", "account")],
    *[(f"/oauth2/account/{name}", OF_PAGES) for name in ("sessions", "password")],
    *[(f"/oauth2/{name}", OF_PAGES) for name in ("device", "device/consent")],
    *[(f"/oauth2/authorize/{name}", OF_PAGES) for name in ("continue", "consent", "account")],
    *[(f"/oauth2/{name}", OF_ENDPOINTS) for name in ("token", "revoke", "introspect", "par", "device_authorization")],
    *[
        (f"/.well-known/{name}", OF_DOCUMENTS)
        for name in (
            "oauth-authorization-server",
            "openid-configuration",
            "jwks.json",
            "oauth-protected-resource",
            "oauth-protected-resource/api/notes",
        )
    ],
    ("/.well-known/change-password", OF_DOCUMENTS),
    ("/oauth2/static/gateway.css", OF_DOCUMENTS),
]


def _fields(headers: object) -> dict[str, str]:
    """What two answers of one resource share: not the clock's, nor what is made anew, nor that there is no body."""
    fields = {name.lower(): value for name, value in dict(headers).items()}  # type: ignore[call-overload]  # a mapping
    return {
        name: value
        for name, value in fields.items()
        if name not in ("date", "set-cookie") and (name, value) != ("content-length", "0")
    }


@pytest.mark.parametrize("path", SHOWN)
async def test_head_is_answered_as_get_is_without_a_body(plane: Plane, path: str) -> None:
    one, other = Browser(plane.url), Browser(plane.url)
    headers = {"X-Request-Id": "the-same"}
    head, get = await one.send("HEAD", path, None, headers), await other.get(path, headers)
    assert (head.status, head.body) == (get.status, b"")
    assert _fields(head.headers) == _fields(get.headers)
    names = [[cookie.partition("=")[0] for cookie in answer.set_cookies] for answer in (head, get)]
    assert names[0] == names[1]
    await asyncio.gather(one.close(), other.close())


async def test_head_of_a_style_sheet_has_its_length(browser: Browser) -> None:
    page = await browser.get("/oauth2/login")
    found = re.search(r'href="([^"]+\.css)"', page.text)
    assert found is not None
    head, get = await browser.send("HEAD", found[1]), await browser.get(found[1])
    assert (head.status, head.body, int(head.headers["Content-Length"])) == (200, b"", len(get.body))
    assert _fields(head.headers) == _fields(get.headers)


async def test_head_decides_nothing(signed_in: Browser, client: Client, database: str) -> None:
    consent = await signed_in.get(authorize_path(client))
    account = await signed_in.get("/oauth2/account")
    counts, cookies = await row_counts(database), signed_in.cookies
    for path in ("/oauth2/login", "/oauth2/logout", "/oauth2/account", "/oauth2/account?removed=x"):
        assert (await signed_in.send("HEAD", path)).status == 200
    assert (await row_counts(database), signed_in.cookies) == (counts, cookies)
    assert (await signed_in.get("/oauth2/account")).status == account.status == 200
    allowed = await signed_in.submit(consent.form, decision="allow")
    assert "code" in allowed.members


async def test_a_stranger_s_head_of_a_request_writes_nothing(browser: Browser, client: Client, database: str) -> None:
    counts = await row_counts(database)
    head = await browser.send("HEAD", authorize_path(client))
    assert (head.status, head.body, await row_counts(database)) == (200, b"", counts)


@pytest.mark.parametrize(("path", "allow"), ALLOWED)
async def test_options_name_the_methods_there_are(browser: Browser, path: str, allow: str) -> None:
    answer = await browser.send("OPTIONS", path)
    assert (answer.status, answer.body, answer.headers["Allow"]) == (204, b"", allow)
    methods = answer.headers.get("Access-Control-Allow-Methods")
    assert methods == (None if allow is OF_PAGES or "static" in path or path.endswith("/change-password") else allow)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(("path", "allow"), ALLOWED)
async def test_another_method_is_refused_with_those_there_are(
    browser: Browser, path: str, allow: str, method: str
) -> None:
    answer = await browser.send(method, path)
    assert answer.status == 405
    assert answer.headers["Allow"].split(",") == allow.split(", ")


async def test_a_page_cannot_be_asked_for_by_a_script_s_head(browser: Browser) -> None:
    for method in ("HEAD", "OPTIONS"):
        assert (await browser.send(method, "/oauth2/login", None, {"Sec-Fetch-Dest": "empty"})).status == 403
