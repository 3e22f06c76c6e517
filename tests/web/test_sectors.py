"""Sectors that clients name by a document's address (OpenID Connect Core, section 8.1; Registration 1.0, section 5)."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import Keyring
from gateway.oauth.authorize import PageError
from gateway.store import Store
from gateway.web.plane import PLANE
from tests.test_fetching import HOST, OK, Site, a_site, document
from tests.web.rig import Answer, Browser, Plane, row_counts, serving

URIS = ["https://one.example/cb", "https://two.example/cb"]
OPEN: dict[str, Any] = {"registration": {"policy": "open"}}


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as served:
        yield served


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path, site: Site) -> AsyncIterator[Plane]:
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher, **OPEN) as served:
        yield served


async def sent(
    browser: Browser, members: Mapping[str, object], path: str = "/oauth2/register", method: str = "POST", **more: str
) -> Answer:
    fields = {"Content-Type": "application/json", **more}
    return await browser.send(method, path, json.dumps(members).encode(), fields)


def asking(site: Site, **changes: object) -> dict[str, object]:
    return {
        "redirect_uris": URIS,
        "subject_type": "pairwise",
        "sector_identifier_uri": site.url("/sector"),
        **changes,
    }


async def test_a_client_on_several_hosts_has_the_sector_of_the_document_that_lists_them(
    plane: Plane, browser: Browser, site: Site
) -> None:
    site.answers["/sector"] = document(json.dumps([*URIS, "https://three.example/cb"]).encode())
    made = await sent(browser, asking(site))
    assert (made.status, made.json["sector_identifier_uri"]) == (201, site.url("/sector")), made.text
    client = await plane.store.clients.find(made.json["client_id"])
    assert client is not None
    assert client.openid.sector == HOST

    # What it changes is confirmed anew (RFC 7592, section 2.2).
    path = f"/oauth2/register/{client.client_id}"
    token = {"Authorization": f"Bearer {made.json['registration_access_token']}"}
    said = asking(site, client_id=client.client_id)
    assert (await sent(browser, said, path, "PUT", **token)).status == 200
    unlisted = await sent(browser, said | {"redirect_uris": [*URIS, "https://four.example/cb"]}, path, "PUT", **token)
    assert (unlisted.status, unlisted.json["error"]) == (400, "invalid_client_metadata")
    assert "a redirect URI is missing" in unlisted.json["error_description"]
    kept = await plane.store.clients.find(client.client_id)
    assert kept is not None
    assert kept.redirect_uris == tuple(URIS)


@pytest.mark.parametrize("subject_type", ["pairwise", "public"])
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (document(b'["https://one.example/cb"]'), "a redirect URI is missing"),
        (document(b'["https://one.example/cb", "https://two.example/CB"]'), "a redirect URI is missing"),
        (document(b'{"redirect_uris": ["https://one.example/cb"]}'), "a JSON array"),
        (document(b'["https://one.example/cb", null]'), "a JSON array"),
        (document(b"[" * 60_000), "a JSON array"),
        (document(b"\xff"), "a JSON array"),
        (document(b'["' + b"x" * 65_536 + b'"]'), "longer than 65,536 bytes"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "status is 404"),
        (b"HTTP/1.1 302 No\r\nLocation: https://one.example/\r\nContent-Length: 0\r\n\r\n", "status is 302"),
        (OK.replace(b"application/json", b"text/html") + b"Content-Length: 2\r\n\r\n[]", "not application/json"),
    ],
)
async def test_a_document_that_does_not_list_what_is_registered_is_no_sector(
    plane: Plane, browser: Browser, site: Site, database: str, answer: bytes, told: str, subject_type: str
) -> None:
    site.answers["/sector"] = answer
    before = await row_counts(database)
    refused = await sent(browser, asking(site, subject_type=subject_type))
    assert (refused.status, refused.json["error"]) == (400, "invalid_client_metadata")
    assert told in refused.json["error_description"]
    assert await row_counts(database) == before


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("http://127.0.0.1/sector", "no plain https URL"),
        ("https://inner.example/sector", "not one of the public internet"),
        ("https://[::1]/sector", "no plain https URL"),
        ("urn:example", "cannot be followed"),
        (7, "must be a URL"),
    ],
)
async def test_the_address_of_a_sector_leads_into_no_inner_network(
    plane: Plane, browser: Browser, site: Site, uri: object, told: str
) -> None:
    site.names["inner.example"] = ["10.0.0.1"]
    refused = await sent(browser, asking(site, sector_identifier_uri=uri))
    assert (refused.status, refused.json["error"]) == (400, "invalid_client_metadata")
    assert told in refused.json["error_description"]
    assert site.heads == []


async def test_nobody_floods_a_host_through_us_by_naming_it_as_a_sector(
    plane: Plane, browser: Browser, site: Site
) -> None:
    answers = [await sent(browser, asking(site)) for _ in range(31)]
    assert [answer.status for answer in answers] == [400] * 30 + [429]
    assert len(site.heads) == 30


async def test_whoever_has_no_good_token_has_nothing_fetched(
    store: Store, keyring: Keyring, tmp_path: Path, site: Site
) -> None:
    site.answers["/sector"] = document(json.dumps(URIS).encode())
    policy: dict[str, Any] = {"registration": {"policy": "token"}}
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher, **policy) as plane:
        browser = Browser(plane.url)
        good = await store.registrations.create_token(60, 1)
        statuses = [
            (await sent(browser, asking(site), **headers)).status
            for headers in ({}, *({"Authorization": f"Bearer {token}"} for token in ("gwi_invented", good, good)))
        ]
        await browser.close()
    assert statuses == [401, 401, 201, 401]
    assert len(site.heads) == 1


async def test_a_client_that_a_document_describes_may_name_a_sector_too(
    store: Store, keyring: Keyring, tmp_path: Path, site: Site
) -> None:
    client_id = site.url("/client")
    said = asking(site, client_id=client_id, client_name="Notes")
    site.answers["/client"] = document(json.dumps(said).encode())
    tables: dict[str, Any] = {"client_metadata_documents": {"enabled": True}}
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher, **tables) as plane:
        documents = plane.app[PLANE].documents
        with pytest.raises(PageError, match="sector_identifier_uri cannot be read"):
            await documents.read(client_id, frozenset(), "here")
        site.answers["/sector"] = document(json.dumps(URIS).encode())
        read = await documents.read(client_id, frozenset(), "here")
    assert read.openid.sector == HOST
