"""The documents by which clients find their way (RFC 8414, RFC 9728), and who may read them."""

from pathlib import Path

import pytest

from gateway.crypto import Keyring
from gateway.oauth import openid
from gateway.store import Store
from tests.web.rig import ROUTES, Browser, Plane, serving

DOCUMENTS = ["oauth-authorization-server", "openid-configuration", "jwks.json", "oauth-protected-resource/api/notes"]


async def test_the_server_document_names_the_endpoints_that_are_there(plane: Plane, browser: Browser) -> None:
    document = (await browser.get("/.well-known/oauth-authorization-server")).json
    assert document["issuer"] == plane.url
    assert document["scopes_supported"] == sorted({"notes:read", "notes:write", *openid.SCOPES})
    for name in (
        "authorization",
        "token",
        "revocation",
        "introspection",
        "pushed_authorization_request",
        "device_authorization",
    ):
        url = document[f"{name}_endpoint"]
        assert url.startswith(plane.url + "/oauth2/")
        assert (await browser.send("PUT", url)).status == 405
    keys = (await browser.get(document["jwks_uri"])).json["keys"]
    assert {(key["alg"], key["use"]) for key in keys} == {("RS256", "sig"), ("ES256", "sig"), ("EdDSA", "sig")}
    assert set(document["protected_resources"]) == {
        f"{plane.url}/api/notes",
        f"http://other.example:{plane.url.rpartition(':')[2]}/other",
    }


async def test_both_discovery_addresses_agree(browser: Browser) -> None:
    one = await browser.get("/.well-known/oauth-authorization-server")
    other = await browser.get("/.well-known/openid-configuration")
    assert one.json == other.json


async def test_a_scope_made_by_command_is_announced_too(plane: Plane, browser: Browser) -> None:
    await plane.store.scopes.create("made", "Made by command")
    document = (await browser.get("/.well-known/oauth-authorization-server")).json
    assert document["scopes_supported"] == sorted({"made", "notes:read", "notes:write", *openid.SCOPES})


async def test_a_route_has_its_document_at_the_inserted_path(plane: Plane, browser: Browser) -> None:
    """RFC 9728, section 3.1; offline_access is no resource's (MCP 2026-07-28, Refresh Tokens)."""
    document = (await browser.get("/.well-known/oauth-protected-resource/api/notes")).json
    assert document == {
        "resource": f"{plane.url}/api/notes",
        "resource_name": "notes",
        "authorization_servers": [plane.url],
        "scopes_supported": ["notes:read", "notes:write"],
        "bearer_methods_supported": ["header"],
    }


@pytest.mark.parametrize(
    "path",
    ["", "/", "/api", "/api/notes/", "/api/notes/1", "/api/notesx", "/API/notes", "/api/%6eotes", "/public", "/other"],
)
async def test_any_other_inserted_path_is_not_there(browser: Browser, path: str) -> None:
    answer = await browser.get(f"/.well-known/oauth-protected-resource{path}")
    assert answer.status == 404
    assert answer.json["error"] == "not_found"


async def test_a_route_of_another_host_has_its_document_there(plane: Plane, browser: Browser) -> None:
    path = "/.well-known/oauth-protected-resource"
    here = await browser.get(f"{path}/other", {"Host": "Other.example:8080"})
    assert here.status == 200
    assert here.json["authorization_servers"] == [plane.url]
    assert here.json["bearer_methods_supported"] == []
    assert (await browser.get(f"{path}/api/notes", {"Host": "other.example"})).status == 404


async def test_a_route_for_everything_has_its_document_at_the_root(
    store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    route = {"name": "all", "path": "/", "upstreams": ["http://127.0.0.1:1"], "auth": ["bearer"]}
    async with serving(store, keyring, tmp_path, routes=[route]) as plane:
        browser = Browser(plane.url)
        found = await browser.get("/.well-known/oauth-protected-resource")
        assert found.json["resource"] == plane.url
        assert (await browser.get("/.well-known/oauth-protected-resource/")).status == 404
        await browser.close()


@pytest.mark.parametrize("issuer", ["https://id.example", "https://id.example/", "https://ID.example:443"])
async def test_the_issuer_is_the_public_url_byte_for_byte(
    store: Store, keyring: Keyring, tmp_path: Path, issuer: str
) -> None:
    async with serving(store, keyring, tmp_path, public_url=issuer, routes=ROUTES[:1]) as plane:
        browser = Browser(plane.url)
        headers = {"Host": "id.example"}
        document = (await browser.get("/.well-known/oauth-authorization-server", headers)).json
        assert document["issuer"] == issuer
        assert document["token_endpoint"] == issuer.rstrip("/") + "/oauth2/token"
        await browser.close()


@pytest.mark.parametrize("document", DOCUMENTS)
async def test_documents_are_open_to_every_site_without_credentials(browser: Browser, document: str) -> None:
    answer = await browser.get(f"/.well-known/{document}", {"Origin": "https://app.example"})
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert answer.set_cookies == []


@pytest.mark.parametrize(
    "path",
    [
        "/oauth2/token",
        "/oauth2/revoke",
        "/oauth2/introspect",
        "/oauth2/userinfo",
        *(f"/.well-known/{name}" for name in DOCUMENTS),
    ],
)
async def test_a_preflight_is_answered(browser: Browser, path: str) -> None:
    headers = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}
    answer = await browser.send("OPTIONS", path, None, headers)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/oauth2/token", "/oauth2/revoke", "/oauth2/introspect"])
async def test_errors_too_can_be_read_by_every_site(browser: Browser, path: str) -> None:
    answer = await browser.send("POST", path, [("x", "y")])
    assert (answer.status, answer.headers["Access-Control-Allow-Origin"]) == (401, "*")


@pytest.mark.parametrize("path", ["/oauth2/authorize", "/oauth2/login", "/oauth2/logout", "/oauth2/account"])
async def test_pages_are_open_to_no_other_site(browser: Browser, path: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = await browser.send(method, path, None, {"Origin": "https://app.example"})
        assert not [name for name in answer.headers if name.startswith("Access-Control")]


@pytest.mark.parametrize("name", ["userinfos", "nothing", ""])
async def test_what_is_not_built_is_not_there(browser: Browser, name: str) -> None:
    answer = await browser.get(f"/oauth2/{name}")
    assert (answer.status, answer.json["error"]) == (404, "not_found")
    page = await browser.get(f"/oauth2/{name}", {"Accept": "text/html,*/*"})
    assert (page.status, page.headers["Content-Type"]) == (404, "text/html; charset=utf-8")
