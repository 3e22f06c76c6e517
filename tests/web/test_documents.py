"""Clients by the document at their identifier, from the metadata to the token
(draft-ietf-oauth-client-id-metadata-document-01)."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser as Chromium

from gateway.crypto import Keyring
from gateway.store import Store
from gateway.web.plane import PLANE
from tests.store.rig import fetch
from tests.test_fetching import HOST, Answer, Site, a_site, document
from tests.web.pages import found_by_axe, sign_in
from tests.web.rig import CHALLENGE, SCOPES, VERIFIER, Browser, Plane, row_counts, serving
from tests.web.rig import Answer as Page

METADATA = "/.well-known/oauth-authorization-server"
ENABLED: dict[str, Any] = {"client_metadata_documents": {"enabled": True}}
REDIRECT = "https://client.example/cb"


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as served:
        yield served


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path, site: Site) -> AsyncIterator[Plane]:
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher, **ENABLED) as served:
        yield served


def publish(site: Site, path: str = "/app", fields: bytes = b"", **changes: Any) -> str:
    """A client's document, and the client's identifier."""
    client_id = site.url(path)
    members = {
        "client_id": client_id,
        "client_name": "Notes for the Road",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none",
    }
    said = {name: value for name, value in (members | changes).items() if value is not ...}
    site.answers[path] = document(json.dumps(said).encode(), fields)
    return client_id


def path_of(client_id: str, **changes: str) -> str:
    query = {"response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT, "state": "xyz"}
    query |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"} | changes
    return "/oauth2/authorize?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items())


async def redeemed(browser: Browser, client_id: str, page: Page, redirect_uri: str = REDIRECT) -> Page:
    """The token endpoint's answer after Allow on the page."""
    code = (await browser.submit(page.form, decision="allow")).members["code"]
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": redirect_uri}
    fields |= {"code_verifier": VERIFIER, "client_id": client_id}
    return await browser.send("POST", "/oauth2/token", list(fields.items()))


async def test_a_client_that_nobody_registered_works_to_the_end(
    plane: Plane, signed_in: Browser, site: Site, ada: str
) -> None:
    client_id = publish(site, client_uri="https://client.example/", policy_uri="https://client.example/p")
    page = await signed_in.get(path_of(client_id))
    for words in (
        "Notes for the Road",
        "Not verified",
        f"Continue only if you know who runs <strong>{HOST}</strong>",
        "https://client.example/p",
    ):
        assert words in page.text
    answer = await redeemed(signed_in, client_id, page)
    assert (answer.status, set(answer.json["scope"].split())) == (200, set(SCOPES))
    refreshed = [("grant_type", "refresh_token"), ("refresh_token", answer.json["refresh_token"])]
    again = await signed_in.send("POST", "/oauth2/token", [*refreshed, ("client_id", client_id)])
    assert again.status == 200
    assert len(site.heads) == 1, "what is at hand is not fetched again"
    account = await signed_in.get("/oauth2/account")
    assert f"From {HOST}" in account.text
    assert "Not verified" in account.text
    assert (await signed_in.submit(account.form)).status == 303
    assert await plane.store.grants.of(ada) == []


async def test_the_metadata_says_whether_there_are_such_clients_by_section_5(
    plane: Plane, browser: Browser, store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    document = (await browser.get(METADATA)).json
    assert document["client_id_metadata_document_supported"] is True
    assert "none" in document["token_endpoint_auth_methods_supported"]
    async with serving(store, keyring, tmp_path) as closed:
        other = Browser(closed.url)
        assert (await other.get(METADATA)).json["client_id_metadata_document_supported"] is False
        await other.close()


async def test_nothing_is_fetched_where_it_is_not_enabled(
    store: Store, keyring: Keyring, tmp_path: Path, site: Site
) -> None:
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher) as closed:
        browser = Browser(closed.url)
        assert (await browser.get(path_of(publish(site)))).status == 400
        assert site.lookups == []
        await browser.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 301 Moved\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\n{}",
        document(b"[]"),
        document(b"{"),
        document(b'{"client_id": "https://other.example/app", "redirect_uris": ["https://client.example/cb"]}'),
        document(b'{"a": "' + b"x" * 20_000 + b'"}'),
    ],
)
async def test_nothing_is_stored_or_kept_of_a_document_that_cannot_be_used(
    plane: Plane, signed_in: Browser, site: Site, database: str, answer: Answer
) -> None:
    """Sections 4.2 and 4.3: the request is abandoned, nobody is sent anywhere, and the next one looks again."""
    client_id = site.url("/app")
    site.answers["/app"] = answer
    before = await row_counts(database)
    for _ in range(2):
        page = await signed_in.get(path_of(client_id))
        assert page.status == 400
        assert "We couldn’t read what this application says about itself." in page.text
    assert await row_counts(database) == before
    assert len(site.heads) == 2, "errors are not cached"
    publish(site)
    assert (await signed_in.get(path_of(client_id))).status == 200


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"redirect_uris": ["https://client.example/other"]}, "return address isn’t registered"),
        ({"client_id": "https://client.example/other"}, "couldn’t read"),
        ({"client_secret": "s"}, "couldn’t read"),
        ({"token_endpoint_auth_method": "private_key_jwt"}, "couldn’t read"),  # without a key
        ({"client_name": "evil\u202etxt"}, "couldn’t read"),
    ],
)
async def test_a_request_that_does_not_fit_its_document_goes_nowhere(
    plane: Plane, signed_in: Browser, site: Site, changes: dict[str, Any], told: str
) -> None:
    page = await signed_in.get(path_of(publish(site, **changes)))
    assert page.status == 400
    assert told in page.text
    assert await plane.store.clients.all() == []


@pytest.mark.parametrize(
    "addresses", [["127.0.0.2"], ["10.0.0.1"], ["::1"], ["169.254.169.254"], ["8.8.8.8", "10.0.0.1"]]
)
async def test_a_name_that_leads_to_an_inner_network_is_not_followed(
    plane: Plane, signed_in: Browser, site: Site, addresses: list[str]
) -> None:
    """Section 6.5: addresses of special use are not asked."""
    client_id = publish(site)
    site.names[HOST] = addresses
    assert (await signed_in.get(path_of(client_id))).status == 400
    assert site.heads == []


@pytest.mark.parametrize(
    "client_id",
    [
        "https://127.0.0.1/app", "https://2130706433/app", "https://0x7f.1/app", "https://localhost/app",
        "https://[::1]/app", "https://[::ffff:127.0.0.1]/app", "http://client.example/app", "https://client.example",
        "https://client.example/../app", "https://u:p@client.example/app", "https://client.example/app#f",
        "https://client.example/" + "a" * 300,
    ],
)  # fmt: skip
async def test_what_is_no_url_of_a_document_is_not_looked_up(
    plane: Plane, signed_in: Browser, site: Site, client_id: str
) -> None:
    page = await signed_in.get(path_of(client_id))
    assert page.status == 400
    assert "We don’t recognise this application." in page.text
    assert site.lookups == []


async def test_the_gateway_never_asks_itself(store: Store, keyring: Keyring, tmp_path: Path, site: Site) -> None:
    async with serving(
        store, keyring, tmp_path, fetcher=site.fetcher, public_url=f"https://{HOST}", **ENABLED
    ) as plane:
        browser = Browser(plane.url)
        page = await browser.get(path_of(f"https://{HOST}/oauth2/authorize?x=1"), {"Host": HOST})
        assert page.status == 400
        assert site.lookups == []
        await browser.close()


async def test_a_document_is_fetched_again_when_it_is_old_and_what_changed_counts(
    plane: Plane, signed_in: Browser, site: Site
) -> None:
    """Section 4.3, and section 6.3: whoever allowed it before is asked anew, since the client has no secret."""
    client_id = publish(site, fields=b"Cache-Control: max-age=100\r\n")
    answer = await redeemed(signed_in, client_id, await signed_in.get(path_of(client_id)))
    assert answer.status == 200
    publish(site, client_name="Another Name", redirect_uris=["https://client.example/new"])
    assert "Notes for the Road" in (await signed_in.get(path_of(client_id))).text
    moment = asyncio.get_running_loop().time()
    plane.app[PLANE].documents._clock = lambda: moment + 101  # no test waits for minutes
    assert (await signed_in.get(path_of(client_id))).status == 400, "the address is not registered any more"
    page = await signed_in.get(path_of(client_id, redirect_uri="https://client.example/new"))
    assert "Another Name" in page.text
    client = await plane.store.clients.find(client_id)
    assert client is not None
    assert client.redirect_uris == ("https://client.example/new",)


async def test_a_client_that_an_operator_disabled_stays_so_and_is_not_asked_about(
    plane: Plane, signed_in: Browser, site: Site
) -> None:
    client_id = publish(site)
    await signed_in.get(path_of(client_id))
    assert await plane.store.clients.disable(client_id)
    page = await signed_in.get(path_of(client_id))
    assert page.status == 400
    assert "This application has been disabled." in page.text
    assert len(site.heads) == 1


async def test_such_clients_are_unknown_again_once_they_are_not_enabled(
    plane: Plane, signed_in: Browser, site: Site, store: Store, keyring: Keyring, tmp_path: Path
) -> None:
    client_id = publish(site)
    assert (await signed_in.get(path_of(client_id))).status == 200
    async with serving(store, keyring, tmp_path) as closed:
        browser = Browser(closed.url)
        assert "We don’t recognise this application." in (await browser.get(path_of(client_id))).text
        await browser.close()


async def test_strangers_make_us_fetch_so_often_and_write_nothing(
    plane: Plane, browser: Browser, site: Site, database: str
) -> None:
    before = await row_counts(database)
    statuses = [(await browser.get(path_of(publish(site, f"/{number}")))).status for number in range(40)]
    assert statuses == [200] * 30 + [400] * 10
    assert len(site.heads) == 30
    assert (await browser.get(path_of(site.url("/3")))).status == 200, "what is at hand is answered"
    assert await row_counts(database) == before


async def test_many_at_once_fetch_a_document_once(plane: Plane, browser: Browser, site: Site) -> None:
    path = path_of(publish(site))
    pages = await asyncio.gather(*(browser.get(path) for _ in range(4)))
    assert [page.status for page in pages] == [200] * 4
    assert len(site.heads) == 1
    assert all("Notes for the Road" in page.text for page in pages)


async def test_two_people_who_meet_a_client_at_once_both_are_asked(
    plane: Plane, signed_in: Browser, stranger: Browser, site: Site
) -> None:
    await plane.user("eve")
    await stranger.sign_in("eve")
    path = path_of(publish(site))
    pages = await asyncio.gather(*(who.get(path) for who in (signed_in, stranger) for _ in range(3)))
    assert [page.status for page in pages] == [200] * 6
    assert len(await plane.store.clients.all()) == 1


async def test_a_client_of_a_document_pushes_its_request(plane: Plane, signed_in: Browser, site: Site) -> None:
    """RFC 9126: nobody has met it before."""
    client_id = publish(site)
    fields = {"response_type": "code", "client_id": client_id, "redirect_uri": REDIRECT}
    fields |= {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}
    pushed = await signed_in.send("POST", "/oauth2/par", list(fields.items()))
    assert pushed.status == 201
    query = f"client_id={quote(client_id, safe='')}&request_uri={quote(pushed.json['request_uri'], safe='')}"
    page = await signed_in.get(f"/oauth2/authorize?{query}")
    assert (await redeemed(signed_in, client_id, page)).status == 200
    bad = await signed_in.send("POST", "/oauth2/par", [("client_id", site.url("/nothing")), ("response_type", "code")])
    assert (bad.status, bad.json["error"]) == (400, "invalid_client")


async def test_such_a_client_goes_when_it_is_not_used(
    plane: Plane, signed_in: Browser, site: Site, database: str
) -> None:
    client_id = publish(site)
    await signed_in.get(path_of(client_id))
    await fetch(database, "update registrations set expires_at = now() - interval '1 second'")
    while await plane.store.upkeep.sweep():
        pass
    assert await plane.store.clients.find(client_id) is None
    assert (await signed_in.get(path_of(client_id))).status == 200, "and comes back when it is needed"


async def test_nobody_manages_such_a_client_by_registration(plane: Plane, signed_in: Browser, site: Site) -> None:
    client_id = publish(site)
    await signed_in.get(path_of(client_id))
    for token in ("gwm_x", "null", "None"):
        answer = await signed_in.get(
            f"/oauth2/register/{quote(client_id, safe='')}", {"Authorization": f"Bearer {token}"}
        )
        assert answer.status in (401, 404)


WARNING = "It runs on this computer, where any program can use its name"


@pytest.mark.parametrize(
    ("uris", "warned"),
    [
        (["http://127.0.0.1/cb"], True),
        (["http://localhost:1/cb", "http://[::1]/cb"], True),
        (["http://127.0.0.1/cb", "https://client.example/cb"], True),  # this request leads here all the same
        (["https://client.example/cb", "http://127.0.0.1/cb"], False),
    ],
)
async def test_people_are_warned_of_clients_that_return_to_this_computer(
    plane: Plane, signed_in: Browser, site: Site, uris: list[str], warned: bool
) -> None:
    client_id = publish(site, redirect_uris=uris)
    page = await signed_in.get(
        path_of(client_id, redirect_uri=uris[0].replace("0.1/cb", "0.1:5000/cb").replace(":1/", ":5000/"))
    )
    assert page.status == 200
    assert (WARNING in page.text) == warned


@pytest.mark.browser
async def test_the_page_of_such_a_client_is_one_that_axe_likes(
    plane: Plane, ada: str, site: Site, chromium: Chromium
) -> None:
    client_id = publish(site, redirect_uris=["http://127.0.0.1/cb"], client_name="W" * 100)
    page = await chromium.new_page(viewport={"width": 320, "height": 800})
    await page.goto(plane.url + path_of(client_id, redirect_uri="http://127.0.0.1:4000/cb"))
    await sign_in(page)
    for colours in ("light", "dark"):
        await page.emulate_media(color_scheme=colours)
        assert await found_by_axe(page) == []
        assert await page.evaluate("document.documentElement.scrollWidth") == 320


async def test_one_stranger_shuts_no_client_of_a_host_out(
    plane: Plane, signed_in: Browser, stranger: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = plane.app[PLANE].documents
    known, new = publish(site), publish(site, "/new")
    assert (await signed_in.get(path_of(known))).status == 200

    async def flood(*addresses: str) -> None:
        for address in addresses:
            for number in range(30):
                page = await stranger.get(path_of(site.url(f"/{address}/{number}")), {"X-Forwarded-For": address})
                assert page.status == 400

    await flood("198.51.100.9")
    documents._kept.clear()  # as its time is over
    assert (await stranger.get(path_of(new), {"X-Forwarded-For": "198.51.100.9"})).status == 400
    assert (await signed_in.get(path_of(new), {"X-Forwarded-For": "203.0.113.1"})).status == 200
    documents._kept.clear()
    monkeypatch.setattr(documents._fetches._strangers, "_by_name", 0)  # as many strangers use all up
    for address in ("203.0.113.2", "198.51.100.9"):
        assert (await stranger.get(path_of(known), {"X-Forwarded-For": address})).status == 200
    assert (await stranger.get(path_of(publish(site, "/newer")), {"X-Forwarded-For": "203.0.113.2"})).status == 400


async def test_a_document_that_a_known_client_lost_is_asked_for_again_within_a_bound(
    plane: Plane, signed_in: Browser, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents, now = plane.app[PLANE].documents, 1000.0
    client_id = publish(site)
    assert (await signed_in.get(path_of(client_id))).status == 200
    monkeypatch.setattr(documents, "_now", lambda: now)
    documents._kept.clear()
    site.answers["/app"] = document(b"{")
    asked = len(site.heads)
    assert [(await signed_in.get(path_of(client_id))).status for _ in range(3)] == [400] * 3
    assert len(site.heads) == asked + 1
    publish(site)
    now += 5
    assert (await signed_in.get(path_of(client_id))).status == 200
