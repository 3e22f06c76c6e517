"""The documents by which clients find their way (RFC 8414, RFC 9728), and who may read them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from gateway.crypto import Keyring
from gateway.oauth import openid
from gateway.store import Store
from gateway.web import announced
from gateway.web.plane import PLANE
from tests.guard.relay import Relay, relaying
from tests.serving import until
from tests.web.rig import ROUTES, Browser, Plane, serving

_NAME: Final = "gateway-test"
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


async def test_documents_are_answered_as_they_were_last_while_the_database_is_away(
    database: str, keyring: Keyring, tmp_path: Path
) -> None:
    """A client ends its flow at a 5xx of them. What is remembered may not be kept any further (no-cache)."""
    async with away_and_back(database, keyring, tmp_path) as (plane, browser, relay):
        await plane.store.scopes.create("made", "Made by command")
        before = {name: (await browser.get(f"/.well-known/{name}")).json for name in DOCUMENTS}
        take_away(relay)
        for name in DOCUMENTS:
            answer = await browser.get(f"/.well-known/{name}")
            assert (answer.status, answer.json) == (200, before[name])
            # Of the resource's, the configuration knows all.
            kept = "public, max-age=300" if "resource" in name else "no-cache"
            assert answer.headers["Cache-Control"] == kept
        relay.closed = False

        async def is_asked_again() -> bool:
            return (await browser.get("/.well-known/jwks.json")).headers["Cache-Control"] == "public, max-age=300"

        await until(is_asked_again)


async def test_who_never_reached_the_database_announces_its_configuration_and_no_keys(
    database: str, keyring: Keyring, tmp_path: Path
) -> None:
    async with away_and_back(database, keyring, tmp_path) as (_, browser, relay):
        take_away(relay)
        document = (await browser.get("/.well-known/oauth-authorization-server")).json
        assert document["scopes_supported"] == sorted({"notes:read", "notes:write", *openid.SCOPES})
        answer = await browser.get("/.well-known/jwks.json")
        assert (answer.status, answer.json["error"]) == (503, "temporarily_unavailable")


async def test_keys_that_are_known_for_too_long_are_not_published(
    database: str, keyring: Keyring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another one may sign by then, or one of them may have been given up."""
    async with away_and_back(database, keyring, tmp_path) as (_, browser, relay):
        assert (await browser.get("/.well-known/jwks.json")).status == 200
        take_away(relay)
        assert (await browser.get("/.well-known/jwks.json")).status == 200
        monkeypatch.setattr(announced, "LEAD", timedelta(0))
        assert (await browser.get("/.well-known/jwks.json")).status == 503


async def test_a_process_reads_what_it_may_have_to_remember_without_being_asked(
    database: str, keyring: Keyring, tmp_path: Path
) -> None:
    async with away_and_back(database, keyring, tmp_path) as (plane, browser, relay):
        await plane.store.scopes.create("made", "Made by command")
        keys = await plane.store.signing_keys.published()
        following = asyncio.create_task(plane.app[PLANE].announced.follow())
        try:
            await until(lambda: plane.app[PLANE].announced.knows_keys)
        finally:
            following.cancel()
        take_away(relay)
        document = (await browser.get("/.well-known/oauth-authorization-server")).json
        assert "made" in document["scopes_supported"]
        assert (await browser.get("/.well-known/jwks.json")).json["keys"] == keys


@asynccontextmanager
async def away_and_back(database: str, keyring: Keyring, folder: Path) -> AsyncIterator[tuple[Plane, Browser, Relay]]:
    """A plane whose database can be taken away."""
    async with relaying(database) as relay:
        store = await Store.open(relay.dsn, keyring, size=4, name=_NAME)
        try:
            async with serving(store, keyring, folder) as plane:
                browser = Browser(plane.url)
                try:
                    yield plane, browser, relay
                finally:
                    await browser.close()
        finally:
            await store.close()


def take_away(relay: Relay) -> None:
    relay.closed = True
    relay.cut(_NAME)
