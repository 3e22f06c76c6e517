"""Plays a row in each of its four ways and judges both sides: by this gateway's rules, or by the RFCs alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.wire.conversation import Conversation, Reply, converse, dripped
from tests.wire.recorder import Arrived, Reading, Recorder, seen
from tests.wire.rows import Pass, Refuse, Row

GOOD = b"GET /good HTTP/1.1\r\nHost: a\r\n\r\n"
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: a\r\n\r\n"
WAYS = ("whole", "byte by byte", "pipelined", "second")

HOP_ONLY = frozenset((b"te", b"upgrade", b"connection"))
# What a proxy writes anew on the way up; everything else is end to end.
FRAMING = frozenset((b"content-length", b"transfer-encoding", b"expect"))
ADDED = frozenset(
    (
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-request-id",
        b"via",
        b"te",
        b"upgrade",
        b"connection",
    )
)


@dataclass
class Played:
    """Both sides of a row, without the good requests around it."""

    replies: list[Reply]  # to the row, then to the request behind it
    rest: bytes
    ended: bool
    arrived: list[Arrived]
    faults: list[str]  # of the good requests, and of the plain reader upstream


async def play(
    row: Row, way: str, port: int, recorder: Recorder, *, patience: float = 30.0, eager: bool = False
) -> Played:
    """Send a row one of the four ways, and a good request on a fresh connection afterwards.

    With `eager`, for proxies that may read it otherwise or close without waiting for the client: a second answer ends
    it even where the connection should, and what is behind the row comes with its last byte, because a closed
    connection answers later bytes with a reset, which may overtake the row's answer.
    """
    recorder.reset()
    hidden = b"" if row.ends else HIDDEN
    # A row that passes and closes, or is refused, is waited for to the connection's end.
    stays = (row.verdict.sound if isinstance(row.verdict, Refuse) else not row.verdict.closes) and not row.ends
    wanted = 2 if stays or eager else 9
    data = row.data + hidden
    methods = [row.method, "GET"]
    steps: list[tuple[Sequence[bytes], int]]
    if way == "second":
        steps, methods = [([GOOD], 1), ([data], wanted + 1)], ["GET", *methods]
    elif way == "pipelined":
        steps, methods = [([GOOD + data], wanted + 1)], ["GET", *methods]
    elif way == "whole":
        steps = [([data], wanted)]
    elif eager:
        *pieces, last = dripped(row.data)
        steps = [([*pieces, last + hidden], wanted)]
    else:
        steps = [(dripped(data), wanted)]
    said = await converse(port, steps, methods, ends=row.ends, patience=patience)
    after = await converse(port, [([GOOD], 1)], ["GET"], patience=patience)
    # Its last bytes may still be on their way to an upstream that has been told to forget it.
    await asyncio.sleep(0)
    return _played(said, after, recorder, good=len(methods) - 2)


def _played(said: Conversation, after: Conversation, recorder: Recorder, *, good: int) -> Played:
    faults = list(recorder.faults)
    if [own_answer(reply, b"GET", b"/good") for reply in (*said.replies[:good], *after.replies)] != [True] * (good + 1):
        faults.append("a good request was not served right")
    arrived = []
    goods = 0
    for each in recorder.arrived:
        if each.reading is not None and each.reading.target == b"/good":
            goods += 1
        else:
            arrived.append(each)
    if goods != good + 1:
        faults.append(f"{goods} good requests arrived instead of {good + 1}")
    return Played(said.replies[good:], said.rest, said.ended, arrived, faults)


def own_answer(reply: Reply, method: bytes, target: bytes) -> bool:
    """Whether an answer is the upstream's own to this very request."""
    body = b"" if method == b"HEAD" else seen(method, target)
    return reply.complete and reply.status == 200 and reply.body == body


# -- by this gateway's rules ------------------------------------------------------------------------------------------


def judge(row: Row, played: Played) -> list[str]:
    """What is wrong with a row by the table; empty when all is right."""
    faults = list(played.faults)
    if played.rest:
        faults.append(f"the client got what is no answer: {played.rest[:80]!r}")
    if isinstance(row.verdict, Refuse):
        faults += _judge_refusal(row, row.verdict, played)
    else:
        faults += _judge_passage(row, row.verdict, played)
    return faults


def _judge_refusal(row: Row, verdict: Refuse, played: Played) -> list[str]:
    faults = []
    first = played.replies[0] if played.replies else Reply(0, [], complete=True)
    if first.status not in verdict.statuses or not first.complete:
        faults.append(f"the client got {first.status}, not one of {sorted(verdict.statuses)}")
    if first.status >= 400 and b"request_id" not in first.body and row.method != "HEAD":
        faults.append("the refusal names no request id")
    rest = played.replies[1:]
    if verdict.sound:
        if [own_answer(reply, b"GET", b"/hidden") for reply in rest] != [True]:
            faults.append("the next request on the connection was not served right")
        if [each.reading and each.reading.target for each in played.arrived] != [b"/hidden"]:
            faults.append("something else than the next request reached the upstream")
        return faults
    if rest:
        faults.append("there was a second answer")
    if not played.ended:
        faults.append("the connection stayed open")
    allowed = 1 if verdict.begun else 0
    if len(played.arrived) > allowed or any(each.reading is not None for each in played.arrived):
        faults.append(f"it reached the upstream: {[each.raw[:200] for each in played.arrived]!r}")
    return faults


def _judge_passage(row: Row, verdict: Pass, played: Played) -> list[str]:
    if not played.replies or not own_answer(played.replies[0], verdict.method, verdict.target):
        return [f"the client did not get the upstream's answer: {played.replies[:1]!r}"]
    if not played.arrived:
        return ["nothing reached the upstream"]
    faults = _judge_arrival(verdict, played.arrived[0])
    if (reading := played.arrived[0].reading) is not None:
        faults += _judge_fields(row, verdict, reading)
        if reading.values(b"x-request-id") != [each.encode() for each in played.replies[0].all("x-request-id")]:
            faults.append("the upstream and the client have other request ids")
    rest, others = played.replies[1:], [each.reading and each.reading.target for each in played.arrived[1:]]
    if verdict.closes or row.ends:
        if rest or others or not played.ended:
            faults.append("the connection did not end behind the answer")
    elif [own_answer(reply, b"GET", b"/hidden") for reply in rest] != [True] or others != [b"/hidden"]:
        faults.append("the next request on the connection was not served right")
    return faults


def _judge_arrival(verdict: Pass, arrived: Arrived) -> list[str]:
    faults = arrived.judge(verdict.unreadable)
    reading = arrived.reading
    if reading is not None and (reading.method, reading.target, reading.body) != (
        verdict.method,
        verdict.target,
        verdict.body,
    ):
        faults.append(f"it arrived as {reading.method!r} {reading.target!r} with {reading.body[:80]!r}")
    return faults


def _judge_fields(row: Row, verdict: Pass, reading: Reading) -> list[str]:
    """Every end-to-end field as it was sent, and nothing else."""
    faults = []
    added = {name.lower() for name, _ in verdict.added}
    for name, value in verdict.added:
        found = reading.values(name)
        if len(found) != 1 or not (found[0] == value or (value == b"" and found[0])):
            faults.append(f"{name!r} arrived as {found!r}, not {value!r}")
    ours = FRAMING | ADDED | added | {b"host"}
    faults += [
        f"{name!r} reached the upstream"
        for name in (verdict.gone - ADDED) | HOP_ONLY
        if name not in added and reading.values(name)
    ]
    expected = [(name, value) for name, value in sent_fields(row.data) if name.lower() not in ours | verdict.gone | HOP]
    got = [(name, value) for name, value in reading.fields if name.lower() not in ours]
    if got != expected:
        faults.append(f"the fields arrived as {got!r}, not {expected!r}")
    hosts = [value for name, value in sent_fields(row.data) if name.lower() == b"host"] or [b"gateway.test"]
    if reading.values(b"host") != hosts:
        faults.append(f"Host arrived as {reading.values(b'host')!r}")
    said = {b"x-forwarded-for": [b"127.0.0.1"], b"x-forwarded-proto": [b"http"], b"x-forwarded-host": hosts}
    faults += [f"{name!r} arrived as {reading.values(name)!r}" for name in said if reading.values(name) != said[name]]
    if len(reading.values(b"x-forwarded-port")) != 1 or len(reading.values(b"via")) != 1:
        faults.append("X-Forwarded-Port or Via did not arrive once")
    if reading.trailers != list(verdict.trailers):
        faults.append(f"the trailers arrived as {reading.trailers!r}")
    return faults


HOP = frozenset(
    (
        b"keep-alive",
        b"proxy-connection",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
    )
)


def sent_fields(data: bytes) -> list[tuple[bytes, bytes]]:
    """The field lines of a well-formed row."""
    lines = data.removeprefix(b"\r\n").partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    return [(name, value.strip(b" \t")) for name, _, value in (line.partition(b":") for line in lines)]


# -- by the RFCs alone -----------------------------------------------------------------------------------------------


def fair(row: Row, played: Played) -> list[str]:
    """What is wrong with a row by the RFCs, for any proxy: refused, or forwarded as a reading that they allow."""
    if row.ends:
        # Whoever takes the end of a client's side for its departure owes it no answer.
        played.faults = [fault for fault in played.faults if "good request" not in fault]
    readings = [*([row.verdict] if isinstance(row.verdict, Pass) else []), *row.lenient]
    may_refuse = isinstance(row.verdict, Refuse) or row.refusable
    if may_refuse and (not (faults := _unfair_refusal(row, played)) or not readings):
        return faults
    found = list[str]()
    for reading in readings:
        found = _unfair_passage(row, reading, played)
        if not found:
            break
    return found


def _unfair_refusal(row: Row, played: Played) -> list[str]:
    """Refused is an answer of 4xx or 5xx, or a closed connection, and no whole request upstream."""
    faults = list(played.faults)
    replies, arrived = played.replies, [each.reading for each in played.arrived if each.reading is not None]
    sound = (isinstance(row.verdict, Refuse) and row.verdict.sound) or isinstance(row.verdict, Pass)
    if sound and replies and [reading.target for reading in arrived] == [b"/hidden"]:
        arrived, replies = [], replies[:1]
    if arrived:
        faults.append(f"it reached the upstream: {[each.raw[:200] for each in played.arrived]!r}")
    if not replies and not played.ended and not row.waits:
        faults.append("there was no answer")
    if any(reply.status < 400 for reply in replies):
        faults.append(f"the client got {[reply.status for reply in replies]}")
    return faults


def _unfair_passage(row: Row, reading: Pass, played: Played) -> list[str]:
    faults = list(played.faults)
    if not played.arrived or not played.replies:
        return [*faults, "it was not served"]
    faults += _judge_arrival(reading, played.arrived[0])
    arrived = played.arrived[0].reading
    if arrived is not None:
        sent = {(name.lower(), value) for name, value in sent_fields(row.data)} if not row.lenient else set()
        passed = {(name.lower(), value) for name, value in arrived.fields} & sent
        faults += [f"{name!r} reached the upstream" for name, _ in passed if name in reading.gone - {b"connection"}]
    if not own_answer(played.replies[0], reading.method, reading.target):
        faults.append("the client did not get the upstream's answer")
    others = [each.reading and each.reading.target for each in played.arrived[1:]]
    if others not in ([], [b"/hidden"]) or (reading.closes and others):
        faults.append(f"{others!r} ran behind it")
    return faults
