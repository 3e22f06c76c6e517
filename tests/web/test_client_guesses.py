"""Guessing at a client's secret (RFC 6749, section 2.3.1): from one network it is told when it is too much, and it
takes the client nothing."""

import asyncio
import json

import pytest

from gateway.model import Client
from gateway.store.guesses import WAIT, WRONG_SECRETS
from tests.store.rig import count, counted
from tests.web.conftest import Registered
from tests.web.rig import Answer, Browser, Plane, basic

ENDPOINTS = ["token", "introspect", "revoke", "par", "device_authorization"]
FIELDS = [("grant_type", "client_credentials")]


def at(address: str) -> dict[str, str]:
    """As our own front says where a call comes from."""
    return {"X-Forwarded-For": f"{address}, 10.0.0.2"}


async def guess(
    browser: Browser, client_id: str, address: str = "192.0.2.7", secret: str = "gws_wrong", endpoint: str = "token"
) -> Answer:
    return await browser.send("POST", f"/oauth2/{endpoint}", FIELDS, basic(client_id, secret) | at(address))


@pytest.mark.parametrize("which", ["a client", "nobody", "a disabled one"])
async def test_guesses_from_one_network_are_told_when_they_are_too_many_whoever_has_the_name(
    which: str, plane: Plane, browser: Browser, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client_id = "c-nobody" if which == "nobody" else client.client_id
    if which == "a disabled one":
        await plane.store.clients.disable(client_id)
    for n in range(WRONG_SECRETS):  # at whichever endpoint
        answer = await guess(browser, client_id, endpoint=ENDPOINTS[n % len(ENDPOINTS)])
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
    for endpoint in ENDPOINTS:
        held = await guess(browser, client_id, endpoint=endpoint)
        assert (held.status, held.json["error"]) == (429, "invalid_client")
        assert "Check the client's secret" in held.json["error_description"]
        assert 0 < int(held.headers["Retry-After"]) <= WAIT
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["event"] == "request refused" and line["status"] == 429]
    assert told[0]["cause"].startswith("too many wrong secrets: ")
    assert "rotate-secret" in told[0]["mend"]
    assert told[0]["address"] == "192.0.2.7"


async def test_right_secret_is_heard_whatever_strangers_behind_the_same_address_have_guessed(
    plane: Plane, browser: Browser, register: Registered, database: str
) -> None:
    client, secret = await register()
    await asyncio.gather(*(guess(browser, client.client_id) for _ in range(2 * WRONG_SECRETS)))
    assert (await guess(browser, client.client_id)).status == 429
    assert (await guess(browser, client.client_id, secret=secret)).status == 200
    assert (await guess(browser, client.client_id)).status == 429  # which takes nothing back
    await counted(plane.store)
    assert await count(database, "failed_attempts") == 1  # however many there were


async def test_guesses_elsewhere_and_at_other_clients_count_by_themselves(
    plane: Plane, browser: Browser, register: Registered
) -> None:
    one, two = (await register())[0], (await register())[0]
    for n in range(WRONG_SECRETS):
        await guess(browser, one.client_id, f"2001:db8::{n:x}")
    assert (await guess(browser, one.client_id, "2001:db8::ffff")).status == 429  # one network of IPv6
    assert (await guess(browser, one.client_id, "2001:db8:0:1::1")).status == 401
    assert (await guess(browser, two.client_id, "2001:db8::ffff")).status == 401


async def test_invented_clients_write_no_rows(plane: Plane, browser: Browser, database: str) -> None:
    for n in range(30):
        assert (await guess(browser, f"c-invented-{n}")).status == 401
    await counted(plane.store)
    assert await count(database, "failed_attempts") == 0
