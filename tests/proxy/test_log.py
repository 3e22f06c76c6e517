"""What the access plane's log says of a refusal, and that none is lost in a flood."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from gateway import refusals
from gateway.proxy import Limits
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Rig, eventually, rig
from tests.web.rig import new_client

API = {"name": "notes", "path": "/api", "auth": ["bearer", "mac"], "scopes": ["notes:write"]}
PUBLIC = {"name": "shop", "path": "/shop", "auth": "none", "timeout": "1s"}


def _lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def _get(path: str, *fields: str, host: str = "gateway.test") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


async def _flood(running: Rig, requests: list[bytes]) -> None:
    connection = await running.connect()
    for request in requests:
        await connection.send(request)
        await connection.reply()
    connection.close()


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> Any:
    async with rig(tmp_path, store, routes=[API, PUBLIC], limits=Limits(tick=0.02)) as started:
        yield started


async def test_of_three_hundred_refusals_every_one_is_a_line_or_counted_though_nothing_follows(
    running: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    await _flood(running, [_get("/nowhere")] * 300)
    written, counted = list[Any](), list[Any]()

    def all_are_told() -> bool:
        lines = _lines(capsys.readouterr().err)
        written.extend(line for line in lines if line["event"] == "refused")
        counted.extend(line for line in lines if "count" in line)
        return bool(len(written) + sum(line["count"] for line in counted) >= 300)

    await eventually(all_are_told)
    assert 0 < len(written) < 300
    assert len(written) + sum(line["count"] for line in counted) == 300
    assert {(line["status"], line["cause"]) for line in counted} == {(404, "Nothing is served at this path.")}


async def test_a_flood_of_one_cause_hides_no_other(running: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    await _flood(running, [*[_get("/nowhere")] * 120, _get("/api")])
    seen = [line for line in _lines(capsys.readouterr().err) if line.get("cause") == "no credential"]
    assert [line["status"] for line in seen] == [401]


async def test_a_fault_of_the_upstream_is_always_a_line(
    tmp_path: Path, no_database: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    dead = PUBLIC | {"upstreams": ["http://127.0.0.1:1"]}
    async with rig(tmp_path, no_database, routes=[dead]) as running:
        await _flood(running, [_get("/shop")] * 120)
    lines = [line for line in _lines(capsys.readouterr().err) if line["event"] == "refused"]
    assert len(lines) == 120
    for line in lines:
        assert (line["level"], line["status"], line["route"]) == ("warning", 502, "shop")
        assert line["upstream"] == "127.0.0.1:1"
        assert "check that the upstream is running" in line["mend"]


async def test_what_was_counted_is_written_when_the_worker_ends(
    tmp_path: Path, no_database: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rig(tmp_path, no_database, routes=[PUBLIC]) as running:
        await _flood(running, [_get("/nowhere")] * 60)
    lines = _lines(capsys.readouterr().err)
    written = [line for line in lines if line["event"] == "refused"]
    assert len(written) + sum(line.get("count", 0) for line in lines) == 60


async def test_a_refused_token_names_its_client_its_subject_and_what_to_do(
    running: Rig, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    client, _ = await new_client(store)
    tokens = await store.tokens.issue(client.client_id, None, frozenset({"notes:read"}), 60, "bearer")
    answer = await running.talk(_get("/api/x?y=z", f"Authorization: Bearer {tokens.access_token}"))
    assert answer.status == 403
    (line,) = [line for line in _lines(capsys.readouterr().err) if line["event"] == "refused"]
    assert {name: line.get(name) for name in ("status", "route", "method", "host", "path", "client_id", "address")} == {
        "status": 403,
        "route": "notes",
        "method": "GET",
        "host": "gateway.test",
        "path": "/api/x",
        "client_id": client.client_id,
        "address": "127.0.0.1",
    }
    assert line["subject"] == client.client_id  # no person stands behind it
    assert line["cause"] == "lacks notes:write"
    assert line["mend"]


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        (_get("/oauth2/login", host="elsewhere.test"), 421, "call gateway.test; a proxy in front of the gateway must"),
        (_get("/nowhere"), 404, "add a route"),
        (_get("/api"), 401, "have the client get a token"),
        (_get("/api", "Authorization: Bearer gwa_invented1234567890"), 401, "this gateway never issued it"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "ask the client's developer to correct"),
    ],
)
async def test_every_refusal_says_what_to_do(
    running: Rig, capsys: pytest.CaptureFixture[str], request_: bytes, status: int, said: str
) -> None:
    assert (await running.talk(request_)).status == status
    (line,) = [line for line in _lines(capsys.readouterr().err) if line["event"] == "refused"]
    assert line["status"] == status
    assert said in line["mend"]
    if status in (404, 421):
        assert line["host"] in request_.decode()


async def test_an_upstream_that_is_too_slow_is_named_with_the_time_that_it_had(
    tmp_path: Path, no_database: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    upstream = RawUpstream(handler=silent)
    async with rig(tmp_path, no_database, routes=[PUBLIC], upstream=upstream, limits=Limits(tick=0.02)) as running:
        assert (await running.talk(_get("/shop"))).status == 504
    (line,) = [line for line in _lines(capsys.readouterr().err) if line["event"] == "refused"]
    place = f"127.0.0.1:{upstream.port}"
    assert line["cause"] == f"{place} gave no answer in 1s (timeout of route shop)"
    assert (line["upstream"], line["route"]) == (place, "shop")
    assert "the route's timeout" in line["mend"]


HOSTILE = (
    b"GE%bT /shop HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /shop/%b%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /shop?a=1&%b%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"GET /shop HTTP/1.1\r\nHost: a%b\r\nConnection: close\r\n\r\n",
    b"GET /shop HTTP/1.1\r\nHost: a\r\nN%b: v\r\nConnection: close\r\n\r\n",
    b"GET /shop HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.0.0.1%b\r\nCookie: x%b\r\nConnection: close\r\n\r\n",
    b"POST /shop HTTP/1.1\r\nHost: a\r\nContent-Length: 1%b\r\nConnection: close\r\n\r\n1",
    b"GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer gwa_%b\r\nConnection: close\r\n\r\n",
    b'GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: MAC id="%b", x%b=1\r\nConnection: close\r\n\r\n',
)


@pytest.mark.plain
async def test_no_byte_of_a_stranger_ends_a_line_or_reaches_a_terminal(
    tmp_path: Path, store: Store, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the method, the path, the query, a field's name and value: each refusal is a line, so that all are seen."""
    monkeypatch.setattr(refusals, "LINES", 256 * len(HOSTILE))
    dead = PUBLIC | {"upstreams": ["http://127.0.0.1:1"]}  # what may pass is refused too
    async with rig(tmp_path, store, routes=[API, dead]) as running:

        async def send(raw: bytes) -> bytes:
            connection = await running.connect()
            await connection.send(raw)
            connection.writer.write_eof()
            said = await asyncio.wait_for(connection.reader.read(), 30)
            connection.close()
            return said

        answers = list[bytes]()
        for number in range(256):
            byte = bytes([number])
            answers += await asyncio.gather(*(send(template.replace(b"%b", byte)) for template in HOSTILE))
    refused = sum(answer.startswith(b"HTTP/1.1 ") for answer in answers)
    assert refused > 256 * (len(HOSTILE) - 1)  # all whose head has an end
    text = capsysbinary.readouterr().err
    assert set(text) <= {*b"\n", *range(0x20, 0x7F)}
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(line["event"] == "refused" for line in lines)
    assert len(lines) == refused
    assert {line["path"] for line in lines if line.get("path", "").startswith("/shop/")} >= {"/shop/!!", "/shop/zz"}
