"""The access log: one line for each call, whatever became of it, and none that a stranger could forge or read from."""

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.errors import Refused
from gateway.guard import Allowed
from gateway.http1 import Fields, RequestHead
from gateway.model import Identity
from gateway.observe import scrub
from gateway.proxy import access_log
from gateway.proxy.access_log import _TOGETHER, AccessLog, Format
from gateway.proxy.dispatch import Peer
from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.counts import scaled
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
    reply = await gateway.talk(request_)
    [line] = kept.lines
    assert (line["status"], line["route"]) == (status, route)
    assert line["sent"] == len(reply.body) > 0
    assert (line["cause"] or "").startswith(cause or "")
    assert (line["cause"] is None) == (cause is None)
    assert len(kept.combined) == 1


async def test_a_page_that_refuses_is_counted_and_what_head_leaves_out_is_not(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    page = await gateway.talk(GET % (b"/nowhere", b"Accept: text/html\r\n"))
    await gateway.talk((GET % (b"/nowhere", b"")).replace(b"GET", b"HEAD"), method="HEAD")
    assert [line["sent"] for line in kept.lines] == [len(page.body), 0]


async def test_client_that_leaves_is_told(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    await gateway.left(GET % (b"/open", b""))
    await eventually(lambda: bool(kept.json))
    [line] = kept.lines
    assert (line["status"], line["cause"], line["route"]) == (None, "the client left", "open")


async def test_call_that_still_goes_on_at_the_end_is_told_before_that(running: tuple[Rig, Kept]) -> None:
    gateway, kept = running
    connection = await gateway.waiting(GET % (b"/open", b""))
    await gateway.proxy.end()
    [line] = kept.lines
    assert (line["status"], line["route"]) == (None, "open")
    assert line["cause"].startswith("the gateway ended")
    assert await connection.closed()


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


async def test_of_a_thousand_calls_that_passed_about_a_tenth_is_written_and_of_the_others_each(
    running: tuple[Rig, Kept], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway's chance is seeded here; what it is by itself has a mean of 100 and a deviation of 9.5."""
    gateway, kept = running
    monkeypatch.setattr(access_log, "random", random.Random(1).random)
    sampled = list[bytes]()
    gateway.proxy.listeners.append(AccessLog(sampled.append, "json", 0.1).hear)
    connection = await gateway.connect()
    for _ in range(1000):
        await connection.send(GET % (b"/open", b""))
        assert (await connection.reply()).status == 200
    connection.close()
    for _ in range(20):
        await gateway.talk(GET % (b"/shut", b""))
    for number in range(4):
        await eventually(lambda: not gateway.proxy.fronts)
        await gateway.left(GET % (b"/open/%d" % number, b""))
    await eventually(lambda: len(kept.json) == 1024)
    found = Counter((line["status"], line["cause"] == "the client left") for line in map(json.loads, sampled))
    assert 60 <= found.pop((200, False)) <= 140
    assert found == {(401, False): 20, (None, True): 4}


def ended(
    target: bytes = b"/open",
    method: bytes = b"GET",
    agent: bytes = b"x",
    client: str = "127.0.0.1",
    allowed: Allowed | None = None,
    upstream: str = "127.0.0.1:9",
    status: int = 200,
    refused: Refused | None = None,
    seconds: float = 0.25,
    sent: int = 2,
    moment: float = 1795934567.5,
) -> Finished:
    """A call that has ended so; what stands in it need not be what the gateway lets in."""
    fields = Fields.of(b"User-Agent: %b\r\nReferer: %b\r\n" % (agent, agent))
    head = RequestHead(method, target, 1, fields, 0, b"a", True, frozenset(), None, False)
    return Finished(
        b"0123456789abcdef000000", head, Peer(client, False), client, None, allowed, upstream, status, refused,
        status > 0, 0, sent, 0.0, seconds / 4, seconds / 2, seconds, moment,
    )  # fmt: skip


@pytest.mark.parametrize("form", ["json", "combined"])
def test_lines_that_are_put_together_are_those_of_each_call_by_its_own_time(form: Format) -> None:
    alone, together, acts = list[bytes](), list[bytes](), list[Callable[[], None]]()
    each = AccessLog(alone.append, form, 1.0, lambda: 0.0)
    some = AccessLog(together.append, form, 1.0, lambda: 0.0, acts.append)
    for number in range(2 * _TOGETHER + 9):
        for log in (each, some):
            log.hear(ended(b"/open/%d" % number, moment=1795934567.5 + number / 8))
    assert [text.count(b"\n") for text in together] == [_TOGETHER] * 2
    for act in acts:
        act()
    assert [text.count(b"\n") for text in together] == [_TOGETHER, _TOGETHER, 9]
    assert b"".join(together) == b"".join(alone)


def test_large_heads_are_not_kept_for_their_lines() -> None:
    lines, acts = list[bytes](), list[Callable[[], None]]()
    log = AccessLog(lines.append, "json", soon=acts.append)
    for target, agent in ((b"/small", b"x"), (b"/" + b"x" * 5000, b"x"), (b"/open", b"x" * 60_000)):
        log.hear(ended(target, agent=agent))
    assert [text.count(b"\n") for text in lines] == [2, 1]


def test_call_that_no_line_can_be_made_of_takes_none_from_others(capsys: pytest.CaptureFixture[str]) -> None:
    lines, acts = list[bytes](), list[Callable[[], None]]()
    log = AccessLog(lines.append, "json", soon=acts.append)
    for moment in (1.0, float("nan"), 2.0):
        log.hear(ended(moment=moment))
    acts[0]()
    assert lines[0].count(b"\n") == 2
    assert "a call has no line" in capsys.readouterr().err


def test_time_is_that_of_the_systems_clock_when_the_call_had_ended() -> None:
    lines, acts = list[bytes](), list[Callable[[], None]]()
    log = AccessLog(lines.append, "json", soon=acts.append)
    ago = time.monotonic() - 3600
    log.hear(ended(moment=ago))
    earliest = time.time() - (time.monotonic() - ago)
    for act in acts:
        act()
    told = datetime.fromisoformat(json.loads(lines[0])["time"]).timestamp()
    assert earliest - 0.1 < told < time.time() - 3600 + 0.1


@pytest.mark.parametrize("scheme", ["mac", "signature"])
def test_caller_is_told_by_the_scheme_of_this_call(scheme: str) -> None:
    lines = list[bytes]()
    log = AccessLog(lines.append, "json")
    for each in ("bearer", scheme, "bearer"):
        log.hear(ended(allowed=Allowed(subject="ada", client_id="c1", scheme=each, digest=b"d" * 32)))
    told = [json.loads(line) for line in lines]
    assert [line["scheme"] for line in told] == ["bearer", scheme, "bearer"]
    assert {(line["client"], line["subject"]) for line in told} == {("c1", "ada")}


@pytest.mark.parametrize("name", ["a", "\u00e9", "\U0001f600"])
@pytest.mark.parametrize("filling", [b"a", b"\xe9", b"aaaa\xe9", b"a=1&"])
def test_line_is_that_short_too_for_the_longest_names_of_another_issuer(name: str, filling: bytes) -> None:
    """Of 255 characters each, which may take twelve bytes (`oauth.foreign`)."""
    allowed = Allowed(subject=name * 255, client_id=name * 255, scheme="bearer", digest=b"d" * 32)
    long = (filling * 1500)[:1500]
    lines = list[bytes]()
    forms: tuple[Format, ...] = ("json", "combined")
    for form in forms:
        log = AccessLog(lines.append, form)
        log.hear(ended(b"/open/" + long, agent=long, allowed=allowed))
        log.hear(ended(b"/open?" + long, agent=long, allowed=allowed))
    assert all(len(line) <= 4096 for line in lines)
    for told in map(json.loads, lines[:2]):
        assert list(told)[: len(FIELDS)] == FIELDS
        assert told["target"].startswith("/open")
        assert told["subject"].startswith(name)


# -- put together of fragments, a line says what `json.dumps` would ----------------------------------------------------

# What may be read as a secret, as an end, or as an escape, among what is harmless.
WORDS = [
    "a", "/", "%41", "?", "&", "=", ";", ",", ":", "@", " ", "gw", "gwa_", "GWB_", "abcdefghijkl", "eyJ",
    "authorization", "cookie", "bearer", "password", "code", "https://", "__Host-", "'", '"', "\\",
    "\n", "\r", "\x00", "\x1b", "\x7f", "\x85", "\xa0", "\xff", "[", "]", "_", "-", ".", "*", "mac id",
]  # fmt: skip
HOSTILE = st.lists(st.sampled_from(WORDS) | st.characters(max_codepoint=255), max_size=12).map("".join)
TEXTS = HOSTILE | st.text(max_size=30).map(lambda text: text.encode(errors="replace").decode())


def shown(target: str) -> str:
    """A target as a line shows it, by splitting it."""
    path, asked, query = target.partition("?")
    names = list[str]()
    for part in query[:400].split("&"):
        name, _, value = part.partition("=")
        plain = re.fullmatch(r"[A-Za-z0-9_.\[\]-]{1,40}", name, re.ASCII)
        if plain and value and value[0] != "=" and not re.search("gw[a-z]_", name, re.IGNORECASE):
            names.append(name + "=")
    return scrub(path) + asked + "&".join(names)


def careful(finished: Finished) -> dict[str, Any]:
    """What a line has to say, without its time."""
    allowed, refused, head = finished.allowed, finished.refused, finished.head
    identity = None if refused is None else refused.identity
    named = allowed is not None and allowed.digest
    at_upstream = round(finished.answered - finished.connected, 6) if finished.upstream else None
    assert head is not None
    line = {
        "event": "call",
        "request_id": finished.request_id.decode(),
        "address": scrub(finished.client) or None,
        "method": head.method.decode(),
        "target": shown(head.target.decode("latin-1")),
        "route": None,
        "status": finished.status or None,
        "cause": (scrub(refused.why) or None) if refused else None if finished.complete else "the client left",
        "received": finished.received,
        "sent": finished.sent,
        "seconds": round(finished.seconds, 6),
        "upstream_seconds": at_upstream,
        "upstream": scrub(finished.upstream) or None,
        "client": allowed.client_id if named and allowed else identity and (identity.client_id or None),
        "subject": allowed.subject if named and allowed else identity and identity.subject,
        "scheme": allowed.scheme if named and allowed else None,
    }
    return dict(json.loads(json.dumps(line)))


LOG_LINES = list[bytes]()
ONE_LOG = AccessLog(LOG_LINES.append, "json")  # what it remembers of one line it must not put into another


@given(
    target=st.binary(max_size=80) | HOSTILE.map(lambda text: b"/" + text.encode("latin-1")),
    method=st.from_regex(rb"[A-Za-z!#$%&'*+.^_`|~0-9-]{1,40}", fullmatch=True),
    client=TEXTS,
    upstream=TEXTS,
    allowed=st.none()
    | st.builds(
        Allowed,
        subject=st.none() | TEXTS,
        client_id=st.none() | TEXTS,
        scheme=st.sampled_from(["bearer", "mac"]),
        digest=st.sampled_from([b"", b"1" * 32]),
    ),
    refused=st.none()
    | st.builds(
        Refused,
        status=st.just(401),
        error=st.just("invalid_token"),
        description=TEXTS,
        identity=st.none() | st.builds(Identity, subject=TEXTS, client_id=TEXTS),
    ),
    status=st.sampled_from([0, 101, 200, 404, 999]),
    seconds=st.integers(0, 10**12).map(lambda micros: micros * 4 / 1e6),
    sent=st.integers(0, (1 << 63) - 1),
)
@settings(max_examples=scaled(3000, 20))
@example(target=b"/eyJhbGciOiJub25lIn0.e30.", method=b"GET", client="", upstream="", allowed=None, refused=None,
         status=200, seconds=0.0, sent=0)  # fmt: skip
def test_line_of_fragments_says_of_hostile_values_what_a_careful_one_says(
    target: bytes, method: bytes, client: str, upstream: str, allowed: Allowed | None, refused: Refused | None,
    status: int, seconds: float, sent: int,
) -> None:  # fmt: skip
    finished = ended(target, method, b"x", client, allowed, upstream, status, refused, seconds, sent)
    ONE_LOG.hear(finished)
    line = LOG_LINES.pop()
    assert line.count(b"\n") == 1
    assert line[:-1].isascii()
    assert line[:-1].decode().isprintable()
    told = json.loads(line)
    assert list(told) == FIELDS
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told.pop("time"))
    assert told == careful(finished)


@given(st.binary(max_size=60) | HOSTILE.map(lambda text: text.encode("latin-1")))
@settings(max_examples=scaled(3000))
@example(b"/authorization,Basic")
@example(b"/" + b"a" * 1000 + b"?a=1")
def test_target_that_is_shown_at_once_is_shown_as_with_care(target: bytes) -> None:
    at_once = access_log._shown_at_once(target)
    assert at_once in (None, access_log._with_care(target))
    assert access_log._target(target) == access_log._with_care(target)


@given(agent=HOSTILE.filter(lambda text: not set(text) & set("\r\n\0")), subject=TEXTS, target=HOSTILE)
@settings(max_examples=scaled(1000))
def test_combined_line_has_its_parts_whatever_stands_in_them(agent: str, subject: str, target: str) -> None:
    lines = list[bytes]()
    who = Allowed(subject=subject, client_id="c1", scheme="bearer", digest=b"d" * 32)
    call = ended(b"/" + target.encode("latin-1"), agent=agent.encode("latin-1"), allowed=who)
    AccessLog(lines.append, "combined").hear(call)
    [line] = lines
    assert COMBINED.fullmatch(line), line
    assert line[:-1].isascii()
    assert line[:-1].decode().isprintable()


@pytest.mark.parametrize(
    ("moment", "json_time", "common_time"),
    [
        (0.0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
        (1795934567.9999, "2026-11-29T06:42:47.999Z", "29/Nov/2026:06:42:47 +0000"),
        (1795934568.0, "2026-11-29T06:42:48.000Z", "29/Nov/2026:06:42:48 +0000"),
        (1795934567.0011, "2026-11-29T06:42:47.001Z", "29/Nov/2026:06:42:47 +0000"),  # clocks are put back
    ],
)
def test_time_is_that_of_the_call_whenever_the_one_before_was(moment: float, json_time: str, common_time: str) -> None:
    lines = list[bytes]()
    logs = [AccessLog(lines.append, form, 1.0, lambda: 0.0) for form in ("json", "combined")]
    for log in logs:
        log.hear(ended(moment=1795934567.5))
        log.hear(ended(moment=moment))
    assert json.loads(lines[1])["time"] == json_time
    assert b"[%b]" % common_time.encode() in lines[3]
