"""Tokens for some of the resources that a person allowed (RFC 8707, section 2.2), by every grant."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
import pytest_asyncio

from gateway.crypto import Keyring
from gateway.model import DEVICE_CODE, GRANT_TYPES, Client
from tests.conftest import cloned_store
from tests.web.rig import PASSWORD, Answer, Browser, Plane, authorize_path, basic, code_fields, serving

SCOPES = {"mail": "Read your mail", "files": "Read your files", "both": "Both", "free": "What no route asks for"}
WHOLE = "both files free mail"
ROUTES = [
    {"name": name, "path": f"/{name}", "upstreams": ["http://127.0.0.1:1"], "auth": ["bearer"], "scopes": scopes}
    for name, scopes in (("mail", ["mail", "both"]), ("files", {"GET": ["files"], "*": ["both"]}), ("open", []))
]
FITTING = {"mail": "both free mail", "files": "both files free", "open": "free"}

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Site:
    """A plane with three resources, ada's browser, and a client that may do everything."""

    plane: Plane
    browser: Browser
    client: Client
    secret: str

    def at(self, name: str) -> str:
        return f"{self.plane.url}/{name}"

    async def ask(self, path: str, *fields: tuple[str, str]) -> Answer:
        headers = basic(self.client.client_id, self.secret)
        return await self.browser.send("POST", f"/oauth2/{path}", fields, headers)

    async def code(self, *resources: str, **changes: str) -> list[tuple[str, str]]:
        """A token request's fields for a code that covers these resources."""
        query = "".join(f"&resource={quote(self.at(name), safe='')}" for name in resources)
        page = await self.browser.get(authorize_path(self.client, scope=WHOLE, **changes) + query)
        answer = page if page.status == 303 else await self.browser.submit(page.form, decision="allow")
        return code_fields(answer.members["code"], self.client)

    async def told(self, token: str) -> tuple[str, object]:
        """What introspection says of a token's scope and audience."""
        found = (await self.ask("introspect", ("token", token))).json
        return found["scope"], found.get("aud")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    server: str, template: str, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder, tables = tmp_path_factory.mktemp("resources"), {"scopes": SCOPES, "routes": ROUTES}
    async with (
        cloned_store(server, template, keyring) as (_, store),
        serving(store, keyring, folder, **tables) as plane,  # type: ignore[arg-type]  # tables of a configuration
    ):
        await plane.user()
        types = frozenset({*GRANT_TYPES, "implicit", "password"})
        client, secret = await plane.client(scopes=frozenset(SCOPES), first_party=True, grant_types=types)
        browser = Browser(plane.url)
        try:
            await browser.sign_in()
            yield Site(plane, browser, client, secret)
        finally:
            await browser.close()


@pytest.mark.parametrize("granted", [(), ("mail", "files", "open")])
@pytest.mark.parametrize("name", FITTING)
async def test_a_code_brings_a_token_for_one_resource_and_a_refresh_token_for_all(
    site: Site, granted: tuple[str, ...], name: str
) -> None:
    fields = await site.code(*granted)
    answer = await site.ask("token", *fields, ("resource", site.at(name)))
    assert (answer.status, answer.json["scope"]) == (200, FITTING[name]), answer.text
    assert await site.told(answer.json["access_token"]) == (FITTING[name], site.at(name))
    refresh = answer.json["refresh_token"]
    for other in (*FITTING, None):
        asked = [] if other is None else [("resource", site.at(other))]
        answer = await site.ask("token", ("grant_type", "refresh_token"), ("refresh_token", refresh), *asked)
        refresh = answer.json["refresh_token"]
        assert answer.json["scope"] == (WHOLE if other is None else FITTING[other])
    whole = [site.at(name) for name in granted] or None
    assert await site.told(answer.json["access_token"]) == (WHOLE, whole)
    assert await site.told(refresh) == (WHOLE, whole), "a refresh token keeps what was allowed"


async def test_what_was_not_allowed_is_no_narrower_token(site: Site) -> None:
    fields = await site.code("mail")
    before = await site.ask("token", *fields, ("resource", site.at("files")))
    assert (before.status, before.json["error"]) == (400, "invalid_target")
    both = await site.ask("token", *fields, ("resource", site.at("files")), ("resource", site.at("mail")))
    assert both.json["error"] == "invalid_target", "not even beside one that was"
    answer = await site.ask("token", *fields)
    assert answer.json["scope"] == FITTING["mail"], "what is for one resource has its scopes"


async def test_two_resources_have_the_scopes_of_both(site: Site) -> None:
    fields = await site.code("mail", "files", "open")
    answer = await site.ask("token", *fields, ("resource", site.at("mail")), ("resource", site.at("open")))
    assert answer.json["scope"] == FITTING["mail"]


@pytest.mark.parametrize("grant", ["client_credentials", "password", "device", "implicit", "par"])
async def test_every_grant_narrows_alike(site: Site, grant: str) -> None:
    asked: list[tuple[str, str]] = [("resource", site.at("mail"))]
    scope = ("scope", WHOLE)
    if grant == "client_credentials":
        answer = await site.ask("token", ("grant_type", grant), scope, *asked)
    elif grant == "password":
        person = [("username", "ada"), ("password", PASSWORD)]
        answer = await site.ask("token", ("grant_type", grant), scope, *person, *asked)
    elif grant == "device":
        begun = (await site.ask("device_authorization", scope)).json
        page = await site.browser.get("/oauth2/device")
        consent = await site.browser.follow(await site.browser.submit(page.form, user_code=begun["user_code"]))
        assert (await site.browser.submit(consent.form, decision="allow")).status == 303
        answer = await site.ask("token", ("grant_type", DEVICE_CODE), ("device_code", begun["device_code"]), *asked)
    elif grant == "implicit":
        path = authorize_path(site.client, scope=WHOLE, response_type="token", resource=site.at("mail"))
        members: dict[str, Any] = dict(parse_qsl(urlsplit((await site.browser.get(path)).location).fragment))
        assert members["scope"] == FITTING["mail"]
        assert await site.told(members["access_token"]) == (FITTING["mail"], site.at("mail"))
        return
    else:
        query = parse_qsl(urlsplit(authorize_path(site.client, scope=WHOLE)).query)
        pushed = (await site.ask("par", *query, *asked)).json["request_uri"]
        path = f"/oauth2/authorize?client_id={site.client.client_id}&request_uri={quote(pushed)}"
        code = (await site.browser.get(path)).members["code"]
        answer = await site.ask("token", *code_fields(code, site.client))
    assert (answer.status, answer.json["scope"]) == (200, FITTING["mail"]), answer.text
    assert await site.told(answer.json["access_token"]) == (FITTING["mail"], site.at("mail"))


async def test_a_scope_that_is_asked_for_and_not_the_resources_is_left_out(site: Site) -> None:
    tokens = (await site.ask("token", *await site.code())).json
    refresh = [("grant_type", "refresh_token"), ("refresh_token", tokens["refresh_token"])]
    answer = await site.ask("token", *refresh, ("scope", "files free"), ("resource", site.at("mail")))
    assert (answer.status, answer.json["scope"]) == (200, "free")
