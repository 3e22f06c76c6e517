"""Keys of clients at an address of their own (`jwks_uri`): fetched, kept, and asked for again within a limit."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.crypto import Keyring
from gateway.errors import OAuthError
from gateway.model import Client
from gateway.store import Store
from gateway.web.client_keys import ClientKeys
from gateway.web.plane import PLANE
from tests.oauth.signing import Signer, signer
from tests.store.rig import fetch
from tests.streams import accepting
from tests.test_fetching import Site, a_site, document
from tests.web.rig import Browser, Plane, code_fields, code_for, row_counts, serving
from tests.web.test_private_key_jwt import claims, signed, token

ENCRYPTION = {"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}


class Clock:
    """Seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with a_site(tmp_path) as served:
        yield served


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(site: Site, clock: Clock) -> ClientKeys:
    return ClientKeys(lambda: site.fetcher, clock)


@pytest.fixture
async def plane(store: Store, keyring: Keyring, tmp_path: Path, site: Site) -> AsyncIterator[Plane]:
    async with serving(store, keyring, tmp_path, fetcher=site.fetcher) as served:
        yield served


def publish(site: Site, *signers: Signer, fields: bytes = b"", path: str = "/jwks") -> str:
    """The address of a set with these keys, beside one that is for another end."""
    members = {"keys": [ENCRYPTION, *(one.jwk for one in signers)]}
    site.answers[path] = document(json.dumps(members).encode(), fields)
    return site.url(path)


def named(kid: str, algorithm: str = "ES256") -> Signer:
    one = signer(algorithm)
    return replace(one, jwk=one.jwk | {"kid": kid})


async def refused(keys: ClientKeys, uri: str, kid: str | None = None) -> str:
    with pytest.raises(OAuthError) as error:
        await keys.at(uri, kid, "here")
    assert (error.value.refused.error, error.value.refused.status) == ("invalid_client", 401)
    return error.value.refused.cause


async def test_a_client_signs_with_keys_at_its_address_and_changes_them_alone(
    plane: Plane, browser: Browser, site: Site
) -> None:
    """RFC 7591, section 2; RFC 7523, section 3."""
    old, new = named("old"), named("new", "EdDSA")
    uri = publish(site, old)
    client, secret = await plane.client(jwks=json.dumps({"jwks_uri": uri}))
    assert (secret, client.has_secret, client.jwks_uri) == ("", False, uri)

    async def status(one: Signer, kid: str, client: Client = client) -> int:
        assertion = one.assertion(claims(plane, client), kid=kid)
        return (await token(browser, [signed(plane, client, one)[0], ("client_assertion", assertion)])).status

    assert [await status(old, "old"), await status(old, "old"), len(site.heads)] == [200, 200, 1]
    assert await status(new, "old") == 401, "another key under its name"
    publish(site, new)
    assert [await status(new, "new"), len(site.heads)] == [401, 1], "asked a moment ago"
    plane.app[PLANE].client_keys._kept.clear()
    assert [await status(new, "new"), await status(old, "old"), len(site.heads)] == [200, 401, 2]


async def test_a_set_is_asked_for_again_when_its_time_is_over(site: Site, keys: ClientKeys, clock: Clock) -> None:
    uri = publish(site, named("a"), fields=b"Cache-Control: max-age=600\r\n")
    for later, asked in ((0, 1), (599, 1), (2, 2), (599, 2)):
        clock.now += later
        found = json.loads(await keys.at(uri, "a", "here"))
        assert [key["kid"] for key in found["keys"]] == ["a"], "what is for another end is passed over"
        assert len(site.heads) == asked


async def test_an_unknown_key_is_looked_for_at_once_but_not_time_and_again(
    site: Site, keys: ClientKeys, clock: Clock
) -> None:
    uri = publish(site, named("a"))
    await keys.at(uri, "a", "here")
    publish(site, named("a"), named("b"))
    await keys.at(uri, "b", "here")
    assert len(site.heads) == 1, "half a minute has not gone by"
    clock.now += 30
    assert '"b"' in await keys.at(uri, "b", "here")
    assert len(site.heads) == 2
    await asyncio.gather(*(keys.at(uri, f"invented-{number}", "there") for number in range(50)))
    clock.now += 29
    await keys.at(uri, "invented", "there")
    assert len(site.heads) == 2
    clock.now += 1
    await asyncio.gather(*(keys.at(uri, f"invented-{number}", "there") for number in range(50)))
    assert len(site.heads) == 3


async def test_what_was_had_counts_for_a_day_while_the_address_gives_none(
    site: Site, keys: ClientKeys, clock: Clock
) -> None:
    uri = publish(site, named("a"))
    await keys.at(uri, "a", "here")
    site.answers["/jwks"] = document(b'{"keys": []}')
    for _ in range(3):
        clock.now += 20_000
        assert '"a"' in await keys.at(uri, "a", "here")
    clock.now += 30_000
    assert "client keys: it holds no key" in await refused(keys, uri, "a")
    publish(site, named("c"))
    assert "client keys" in await refused(keys, uri, "c"), "asked a moment ago"
    clock.now += 30
    assert '"c"' in await keys.at(uri, "c", "here")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"{}", 'a JWK Set holds "keys"'),
        (b"[]", "it is not a JWK Set"),
        (b"\xff", "it is not a JWK Set"),
        (json.dumps({"keys": [ENCRYPTION]}).encode(), "none of its keys is a public one for signatures"),
        (json.dumps({"keys": [{"kty": "oct", "k": "AA"}]}).encode(), "none of its keys"),
        (json.dumps({"keys": [ENCRYPTION] * 51}).encode(), "an array of 1 to 50 keys"),
        (b'{"keys": [' + b" " * 65536 + b"]}", "longer than 65,536 bytes"),
    ],
)
async def test_what_is_no_set_of_keys_is_refused_with_the_reason_in_the_log(
    site: Site, keys: ClientKeys, content: bytes, why: str
) -> None:
    site.answers["/jwks"] = document(content)
    assert why in await refused(keys, site.url("/jwks"))
    assert why in await refused(keys, site.url("/jwks")), "and not asked for at once again"
    assert len(site.heads) == 1


async def test_keys_in_an_inner_network_are_never_fetched(store: Store, keyring: Keyring, tmp_path: Path) -> None:
    """RFC 9700, section 4.16: by our own fetcher, whatever the address says, though somebody listens there."""
    came = list[object]()

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)

    async with serving(store, keyring, tmp_path) as plane, accepting(answer) as port:
        browser = Browser(plane.url)
        one = named("a")
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            client, _ = await plane.client(jwks=json.dumps({"jwks_uri": f"https://{host}:{port}/jwks"}))
            assert (await token(browser, signed(plane, client, one))).status == 401
        await browser.close()
        assert not came
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.read()
        writer.close()
        assert len(came) == 1  # who comes there is seen


async def test_a_key_at_hand_waits_for_nobody_who_asks_for_another(site: Site, keys: ClientKeys, clock: Clock) -> None:
    uri = publish(site, named("a"), fields=b"Cache-Control: max-age=86400\r\n")
    await keys.at(uri, "a", "client")
    clock.now += 31
    begun, released = asyncio.Event(), asyncio.Event()

    async def slowly(_writer: asyncio.StreamWriter) -> None:
        begun.set()
        await released.wait()

    site.answers["/jwks"] = slowly
    invented = asyncio.create_task(keys.at(uri, "invented", "stranger"))
    try:
        async with asyncio.timeout(10):
            await begun.wait()
            assert '"a"' in await keys.at(uri, "a", "client")
        assert not invented.done()
    finally:
        released.set()
        await invented


async def use_up(keys: ClientKeys, site: Site, *places: str) -> None:
    """Have strangers ask for what there is not, until they are given no more."""
    for place in places:
        for number in range(30):
            with pytest.raises(OAuthError):
                await keys.at(site.url(f"/{place}/{number}"), None, place, limited=True)


async def test_one_stranger_takes_no_keys_from_others_at_a_host(site: Site, keys: ClientKeys) -> None:
    await use_up(keys, site, "stranger")
    asked = len(site.heads)
    uri = publish(site, named("a"))
    with pytest.raises(OAuthError, match="too many fetches"):
        await keys.at(uri, "a", "stranger", limited=True)
    assert len(site.heads) == asked == 30
    assert '"a"' in await keys.at(uri, "a", "client", limited=True)


async def test_an_address_that_gave_keys_is_asked_whatever_strangers_use_up(
    site: Site, keys: ClientKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys._fetches._strangers, "_by_name", 60)
    uri = publish(site, named("a"))
    await keys.at(uri, "a", "client", limited=True)
    clock.now += 61
    await use_up(keys, site, "one", "two")
    publish(site, named("b"), path="/other")
    with pytest.raises(OAuthError) as refused_one:
        await keys.at(site.url("/other"), "b", "somebody", limited=True)
    assert refused_one.value.refused.cause == "client keys: too many fetches"
    assert await keys.at(site.url("/other"), "b", "somebody", limited=True, known="https://client.example/app")
    publish(site, named("b"))
    assert '"a"' not in await keys.at(uri, "b", "client", limited=True)


async def test_old_keys_do_not_count_where_it_is_we_who_do_not_ask(
    site: Site, keys: ClientKeys, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = publish(site, named("a"), fields=b"Cache-Control: max-age=60\r\n")
    await keys.at(uri, "a", "client", limited=True)
    clock.now += 61
    monkeypatch.setattr(keys._fetches._known, "_by_name", 0)
    with pytest.raises(OAuthError) as stale:
        await keys.at(uri, "a", "client", limited=True)
    assert stale.value.refused.cause == "client keys: too many fetches"


@pytest.mark.parametrize(
    "change",
    [
        "delete from sessions",
        "update users set generation = generation + 1",
        "update users set groups = '{}'",
        "update grants set revoked_at = now()",
        "update clients set generation = generation + 1",
    ],
)
async def test_what_ends_while_a_clients_keys_are_fetched_brings_no_tokens(
    plane: Plane, browser: Browser, site: Site, database: str, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """A client has a say in how long its address takes: what was known of its code before counts no more then."""
    one = named("a")
    asked: dict[str, Any] = {"scopes": frozenset({"openid"}), "token_format": "jwt", "allow_groups": ("staff",)}
    client, _ = await plane.client(jwks=json.dumps({"jwks_uri": publish(site, one)}), **asked)
    await plane.user()
    await fetch(database, "update users set groups = '{staff}'")
    await browser.sign_in()
    code = await code_for(browser, client, scope="openid")
    keys = plane.app[PLANE].client_keys
    fetched = keys._fetched

    async def slowly(uri: str) -> Any:
        await fetch(database, change)
        return await fetched(uri)

    monkeypatch.setattr(keys, "_fetched", slowly)
    assertion = one.assertion(claims(plane, client), kid="a")
    proven = [signed(plane, client, one)[0], ("client_assertion", assertion)]
    answer = await browser.send("POST", "/oauth2/token", [*code_fields(code, client), *proven])
    assert (answer.status, answer.json.get("error")) == (400, "invalid_grant")
    assert (await row_counts(database))["access_tokens"] == 0
