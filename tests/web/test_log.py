"""What the authorization plane's log says of a refusal: what happened, whom it concerns, and what to do."""

import asyncio
import json
from typing import Any

import pytest

from gateway.model import Client
from tests.web.conftest import Registered
from tests.web.rig import PASSWORD, Answer, Browser, Plane, authorize_path, basic, code_fields, code_for

FROM = {"X-Forwarded-For": "192.0.2.7, 10.0.0.2"}  # as our own front says it: the client first, then trusted proxies


def _lines(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


async def test_a_wrong_secret_names_the_client_and_the_address(
    browser: Browser, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = basic(client.client_id, "obviously-wrong") | FROM
    await browser.send("POST", "/oauth2/token", [("grant_type", "client_credentials")], sent)
    (line,) = _lines(capsys, "request refused")
    assert line["client_id"] == client.client_id
    assert (line["method"], line["path"], line["address"]) == ("POST", "/oauth2/token", "192.0.2.7")
    assert (line["error"], line["cause"]) == ("invalid_client", "wrong secret")
    assert "obviously-wrong" not in str(line)


async def test_the_log_tells_a_disabled_client_and_person_from_unknown_ones_and_the_answer_does_not(
    plane: Plane, browser: Browser, register: Registered, ada: str, capsys: pytest.CaptureFixture[str]
) -> None:
    client, secret = await register()
    form = (await browser.get("/oauth2/login")).form
    await plane.store.clients.disable(client.client_id)
    await plane.store.users.disable("ada")

    async def asks(client_id: str) -> Answer:
        return await browser.send("POST", "/oauth2/token", [("grant_type", "x")], basic(client_id, secret))

    async def signs_in(username: str) -> Answer:
        return await browser.send("POST", "/oauth2/login", form.filled(username=username, password=PASSWORD))

    disabled, unknown = await asks(client.client_id), await asks("c-unknown")
    assert [line["cause"] for line in _lines(capsys, "request refused")] == ["disabled client", "unknown client"]
    ids = [answer.json.pop("request_id") for answer in (disabled, unknown)]
    assert without(disabled.text, ids[0]) == without(unknown.text, ids[1])
    disabled, unknown = await signs_in("ada"), await signs_in("eve")
    failed = _lines(capsys, "sign-in failed")
    assert [(line["cause"], line["subject"]) for line in failed] == [
        ("disabled account", ada),
        ("no such account", "unknown"),
    ]
    assert "gateway user enable" in failed[0]["mend"]
    assert disabled.status == unknown.status == 400
    assert disabled.text.replace("ada", "eve") == unknown.text


def without(text: str, part: str) -> str:
    return text.replace(part, "")


async def test_a_secret_sent_as_the_client_id_is_not_logged(
    browser: Browser, register: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    client, secret = await register()
    await browser.send("POST", "/oauth2/token", [("grant_type", "x")], basic(secret, client.client_id))
    (line,) = _lines(capsys, "request refused")
    assert secret not in str(line)


@pytest.mark.parametrize(
    ("changes", "event"),
    [
        ({"redirect_uri": "https://evil.example/"}, "authorization request refused"),
        ({"response_type": "token"}, "authorization refused"),
    ],
)
async def test_a_refused_request_names_its_client(
    browser: Browser, client: Client, capsys: pytest.CaptureFixture[str], changes: dict[str, str], event: str
) -> None:
    await browser.get(authorize_path(client, **changes), FROM)
    (line,) = _lines(capsys, event)
    assert (line["client_id"], line["address"], line["method"]) == (client.client_id, "192.0.2.7", "GET")
    assert line["cause"]


async def test_what_is_no_identifier_is_not_logged_as_one(browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    await browser.get("/oauth2/authorize?client_id=a%0d%0aforged")
    (line,) = _lines(capsys, "authorization request refused")
    assert "client_id" not in line


async def test_guessing_at_a_password_names_the_account_and_the_address_and_when_it_is_held_back(
    plane: Plane, browser: Browser, ada: str, capsys: pytest.CaptureFixture[str]
) -> None:
    form = (await browser.get("/oauth2/login")).form
    answers: list[Answer] = []
    while not answers or answers[-1].status == 400:
        fields = form.filled(username="ada", password="obviously-wrong")
        answers.append(await browser.send("POST", "/oauth2/login", fields, FROM))
    assert answers[-1].status == 429
    told = capsys.readouterr().err
    lines = [json.loads(line) for line in told.splitlines() if '"sign-in' in line]
    failed, held = lines[:-1], lines[-1]
    assert {(line["event"], line["subject"], line["address"]) for line in failed} == {
        ("sign-in failed", ada, "192.0.2.7")
    }
    assert (held["event"], held["level"]) == ("sign-in held back: too many attempts", "warning")
    assert (held["subject"], held["address"], held["status"]) == (ada, "192.0.2.7", 429)
    assert "gateway user unlock" in held["mend"]
    assert {(line["status"], line["cause"]) for line in failed} == {(400, "wrong password")}
    assert all("gateway user set-password" in line["mend"] for line in failed)
    assert held["retry_after"] == int(answers[-1].headers["Retry-After"])
    assert "obviously-wrong" not in told


async def test_an_outage_says_what_to_do(
    plane: Plane, browser: Browser, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    await plane.store.close()
    assert (await browser.get(authorize_path(client), FROM)).status == 503
    (line,) = _lines(capsys, "database unavailable")
    assert (line["client_id"], line["address"]) == (client.client_id, "192.0.2.7")
    assert "the database of database.url" in line["mend"]


NAMES = {"method", "host", "path", "route", "address", "status", "cause", "mend"}


@pytest.mark.parametrize(
    ("method", "path", "fields", "status", "mend"),
    [
        ("GET", "/oauth2/authorize", {"Host": "other.example"}, 421, "must pass Host on unchanged"),
        ("GET", "/oauth2/nothing", {}, 404, "correct the address"),
        ("PUT", "/oauth2/token", {}, 405, "a method that Allow lists"),
    ],
)
async def test_every_refusal_is_logged_with_its_host_and_what_to_do(
    browser: Browser,
    capsys: pytest.CaptureFixture[str],
    method: str,
    path: str,
    fields: dict[str, str],
    status: int,
    mend: str,
) -> None:
    answer = await browser.send(method, path, None, FROM | fields)
    assert answer.status == status
    (line,) = _lines(capsys, "request refused")
    assert line.keys() >= NAMES
    assert (line["status"], line["route"], line["address"]) == (status, "authorization", "192.0.2.7")
    assert mend in line["mend"]
    assert line["host"] == fields.get("Host", line["host"])


async def test_an_unregistered_redirect_uri_is_logged_with_what_to_do(
    browser: Browser, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    await browser.get(authorize_path(client, redirect_uri="https://app.example/callback?code=obviously-fake"), FROM)
    (line,) = _lines(capsys, "authorization request refused")
    assert line["redirect_uri"].startswith("https://app.example/callback?")
    assert "obviously-fake" not in str(line)
    assert "gateway client update ID --redirect-uri" in line["mend"]


async def test_a_reused_refresh_token_is_a_warning(
    signed_in: Browser, register: Registered, capsys: pytest.CaptureFixture[str]
) -> None:
    client, secret = await register()
    proof = basic(client.client_id, secret) | FROM
    fields = code_fields(await code_for(signed_in, client, ["notes:read"]), client)
    token = (await signed_in.send("POST", "/oauth2/token", fields, proof)).json["refresh_token"]
    for _ in range(2):
        form = [("grant_type", "refresh_token"), ("refresh_token", token)]
        answer = await signed_in.send("POST", "/oauth2/token", form, proof)
    assert answer.status == 400
    (line,) = _lines(capsys, "request refused")
    assert (line["level"], line["client_id"], line["error"]) == ("warning", client.client_id, "invalid_grant")
    assert line["cause"] == "reused refresh token; its family is revoked"
    assert line["mend"]


async def test_a_flood_of_one_cause_hides_no_other_and_all_are_counted(
    browser: Browser, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(60):
        headers = basic(client.client_id, "wrong") | {"X-Forwarded-For": f"192.0.2.{n}, 10.0.0.2"}
        await browser.send("POST", "/oauth2/token", [("grant_type", "x")], headers)
    await browser.get("/oauth2/nothing")
    told = capsys.readouterr().err
    async with asyncio.timeout(30):
        while "no line of their own" not in told:  # with nothing coming after the flood
            await asyncio.sleep(0.05)
            told += capsys.readouterr().err
    lines = [json.loads(line) for line in told.splitlines()]
    refused = [line for line in lines if line["event"] == "request refused"]
    counts = [line for line in lines if "count" in line]
    assert [line["status"] for line in refused if line["status"] == 404] == [404]
    assert len(refused) - 1 + sum(line["count"] for line in counts) == 60
    assert {(line["status"], line["cause"]) for line in counts} == {(401, "wrong secret")}
