"""The access log: one line for each call, whatever became of it, and none that a stranger could forge or read from."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.guard import Allowed
from gateway.proxy.access_log import AccessLog
from gateway.store import Store
from tests.proxy.rig import Rig, eventually, rig

ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none"},
    {"name": "shut", "path": "/shut", "auth": ["bearer"]},
]
GET = b"GET %b HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n"
FIELDS = [
    "time", "event", "request_id", "address", "method", "target", "route", "status", "cause", "received", "sent",
    "seconds", "upstream_seconds", "upstream", "client", "subject", "scheme",
]  # fmt: skip
COMBINED = re.compile(
    rb"(?P<address>\S+) - (?P<subject>\S+) \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    rb'"(?P<request>(?:[^"\\]|\\.)*)" '
    rb'(?P<status>\d{3}|-) (?P<sent>\d+) "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"\n'
)


class Kept:
    """The lines of one log in each format."""

    def __init__(self, running: Rig) -> None:
        self.json, self.combined = list[bytes](), list[bytes]()
        running.proxy.listeners += [
            AccessLog(self.json.append, "json").hear,
            AccessLog(self.combined.append, "combined").hear,
        ]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.json]


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[tuple[Rig, Kept]]:
    async with rig(tmp_path, no_database, routes=ROUTES) as started:
        yield started, Kept(started)


async def test_call_is_told_with_whose_it_was_what_became_of_it_and_how_long_it_took(
    running: tuple[Rig, Kept],
) -> None:
    gateway, kept = running
    reply = await gateway.talk(
        b"POST /open/a%20b?page=2&q=secret&flag HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", method="POST"
    )
    [line] = kept.lines
    assert list(line) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])
    assert line["request_id"] == reply.one("x-request-id")
    assert (line["method"], line["target"], line["route"]) == ("POST", "/open/a%20b?page=&q=", "open")
    assert (line["status"], line["cause"], line["received"], line["sent"]) == (200, None, 5, 2)
    assert line["upstream"] == f"127.0.0.1:{gateway.upstream.port}"
    assert 0 < line["upstream_seconds"] <= line["seconds"] < 30
    assert (line["address"], line["client"], line["subject"], line["scheme"]) == ("127.0.0.1", None, None, None)
    [combined] = kept.combined
    found = COMBINED.fullmatch(combined)
    assert found is not None
    assert found["request"] == b"POST /open/a%20b?page=&q= HTTP/1.1"


@pytest.mark.parametrize(
    ("request_", "status", "route", "cause"),
    [
        (GET % (b"/nowhere", b""), 404, None, "Nothing is served at this path."),
        (GET % (b"/shut", b""), 401, "shut", "no credential"),
        (b"GET  /open HTTP/1.1\r\nHost: a\r\n\r\n", 400, None, "The request line is malformed."),
        (b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n", 413, "open", "The body is larger"),
        (GET % (b"/oauth2/login", b""), 200, "authorization", None),
    ],
)
async def test_refusals_and_our_own_pages_are_told_too(
    running: tuple[Rig, Kept], request_: bytes, status: int, route: str | None, cause: str | None
) -> None:
    gateway, kept = running
    await gateway.talk(request_)
    [line] = kept.lines
    assert (line["status"], line["route"]) == (status, route)
    assert (line["cause"] or "").startswith(cause or "")
    assert (line["cause"] is None) == (cause is None)
    assert len(kept.combined) == 1


async def test_client_that_leaves_is_told(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    await gateway.left(GET % (b"/open", b""))
    await eventually(lambda: bool(kept.json))
    [line] = kept.lines
    assert (line["status"], line["cause"], line["route"]) == (None, "the client left", "open")


async def test_no_byte_ends_a_line_or_leaves_its_quotes(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    templates = (
        b"GE%bT /open HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /open/%b%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /open?a=1&%b%b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: a%b\r\nConnection: close\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: a\r\nN%b: v\r\nConnection: close\r\n\r\n",
        b"GET /open HTTP/1.1\r\nHost: a\r\nReferer: r%b\r\nUser-Agent: x%b\r\nConnection: close\r\n\r\n",
    )

    async def send(raw: bytes) -> None:
        connection = await gateway.connect()
        await connection.send(raw)
        connection.writer.write_eof()
        await asyncio.wait_for(connection.reader.read(), 30)
        connection.close()

    for number in range(256):
        byte = bytes([number])
        await asyncio.gather(*(send(template.replace(b"%b", byte)) for template in templates))
    assert len(kept.json) > 256 * 4  # those whose head has an end are told
    for line, combined in zip(kept.json, kept.combined, strict=True):
        for text in (line, combined):
            assert text.count(b"\n") == 1
            assert text[:-1].isascii()
            assert text[:-1].decode().isprintable()
        assert list(json.loads(line)) == FIELDS
        assert COMBINED.fullmatch(combined), combined


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (b"/open?access_token=SECRET1234567890", b""),
        (b"/open?gwa_SECRET1234567890", b""),
        (b"/open?gwa_SECRET1234567890=1", b""),
        (b"/open?SECRET1234567890==&a=1", b""),
        (b"/open?SECRET1234567890=", b""),
        (b"/open?a=1&SECRET1234567890&b=SECRET", b""),
        (b"/open/gwa_SECRET1234567890/x", b""),
        (b"/open/reset;password=SECRET1234567890", b""),
        (b"/open/http://user:SECRET1234567890@host/", b""),
        (b"/open", b"Referer: https://a.example/x?code=SECRET1234567890\r\n"),
        (b"/open", b"Referer: https://user:SECRET1234567890@a.example/\r\n"),
        (b"/open", b"Referer: https://a.example/gwc_SECRET1234567890\r\n"),
        (b"/open", b"User-Agent: x Authorization: Bearer SECRET1234567890\r\n"),
        (b"/open", b"User-Agent: gwa_SECRET1234567890\r\n"),
        (b"/open", b"Cookie: __Host-session=SECRET1234567890\r\nAuthorization: Bearer gwa_SECRET\r\n"),
    ],
)
async def test_no_secret_is_written(running: tuple[Rig, Kept], target: bytes, fields: bytes) -> None:
    gateway, kept = running
    await gateway.talk(GET % (target, fields))
    assert len(kept.json) == len(kept.combined) == 1
    assert b"SECRET" not in kept.json[0] + kept.combined[0]


async def test_line_is_shorter_than_a_pipe_takes_whole_however_long_the_request_is(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    for filling in (b"a", b"'", b"\xe9", b"a=1&"):
        await gateway.talk(GET % (b"/open/" + filling * 1500, b"User-Agent: " + filling * 1000 + b"\r\n"))
        await gateway.talk(GET % (b"/open?" + filling * 1500, b""))
    assert len(kept.json) == 8
    assert all(len(line) <= 4096 for line in kept.json + kept.combined)
    assert all(line["target"] for line in kept.lines)


async def test_of_what_passed_a_share_is_written_and_of_what_failed_all(running: tuple[Rig, Kept]) -> None:
    gateway, _ = running
    sampled = list[bytes]()
    gateway.proxy.listeners.append(AccessLog(sampled.append, "json", 0.0).hear)
    await gateway.talk(GET % (b"/open", b""))
    await gateway.talk(GET % (b"/shut", b""))
    gateway.upstream.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    await gateway.talk(GET % (b"/open", b""))
    assert [json.loads(line)["status"] for line in sampled] == [401, 503]


async def test_caller_is_told_by_the_scheme_of_this_call(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    heard = list[Any]()
    gateway.proxy.listeners.append(heard.append)
    await gateway.talk(GET % (b"/open", b""))
    lines = list[bytes]()
    log = AccessLog(lines.append, "json")
    for scheme in ("mac", "signature", "mac"):
        caller = Allowed(subject="ada", client_id="c1", token_type=scheme, digest=b"d" * 32)
        log.hear(heard[0]._replace(allowed=caller))
    told = [json.loads(line) for line in lines]
    assert [line["scheme"] for line in told] == ["mac", "signature", "mac"]
    assert {(line["client"], line["subject"]) for line in told} == {("c1", "ada")}
    assert kept.json
