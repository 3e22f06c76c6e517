"""Plays an upstream's answer in each of its four ways and judges what the client and the next client get."""

from dataclasses import dataclass

from tests.wire.answers import Answer, Broken, Relay
from tests.wire.conversation import Reply, converse, dripped
from tests.wire.judge import GOOD, HIDDEN, WAYS, own_answer
from tests.wire.recorder import Recorder, Script

__all__ = ["WAYS", "Heard", "fair_answer", "hear", "judge_answer"]

# What the gateway writes anew on the way down.
OURS = frozenset(("date", "x-request-id", "content-length", "transfer-encoding", "connection", "upgrade"))


@dataclass
class Heard:
    """The answer as it came down, and the next one on the same connection."""

    reply: Reply
    next: Reply | None
    rest: bytes
    ended: bool
    faults: list[str]


async def hear(answer: Answer, way: str, port: int, recorder: Recorder, *, patience: float = 30.0) -> Heard:
    """Let the upstream give an answer one of the four ways, then ask for the next on this and a fresh connection."""
    recorder.reset()
    pieces = dripped(answer.data) if way == "byte by byte" else [answer.data]
    recorder.scripts[b"/row"] = Script(pieces, answer.closes)
    methods = [answer.method, "GET"]
    first = 1 if way == "second" else 0
    steps: list[tuple[list[bytes], int]] = [([GOOD], 1)] if first else []
    tunnel = isinstance(answer.verdict, Relay) and answer.verdict.tunnel is not None
    if way == "pipelined":
        steps.append(([answer.request + HIDDEN], 2 + first))
    else:
        steps += [([answer.request], 1 + first), *([] if tunnel else [([HIDDEN], 2 + first)])]
    if tunnel:
        steps[-1] = (steps[-1][0], 9)
    said = await converse(port, steps, [*["GET"] * first, *methods], patience=patience)
    after = await converse(port, [([GOOD], 1)], ["GET"], patience=patience)
    goods = [*said.replies[:first], *after.replies]
    faults = [] if [own_answer(reply, b"GET", b"/good") for reply in goods] == [True] * (first + 1) else ["crossed"]
    replies = said.replies[first:]
    return Heard(
        replies[0] if replies else Reply(0, []),
        replies[1] if len(replies) > 1 else None,
        said.rest,
        said.ended,
        faults,
    )


def judge_answer(answer: Answer, heard: Heard) -> list[str]:
    """What is wrong by the table; empty when all is right."""
    reply, faults = heard.reply, list(heard.faults)
    verdict = answer.verdict
    if isinstance(verdict, Broken):
        if verdict.begun:
            if reply.complete or heard.next or not heard.ended:
                faults.append(f"it looks complete: {reply}")
            return faults
        if reply.status != 502 or not reply.complete or (answer.method != "HEAD" and b"request_id" not in reply.body):
            faults.append(f"the client got {reply}")
    else:
        faults += _judge_relay(answer, verdict, reply)
        if verdict.tunnel is not None:
            # Where a request was sent behind, it is no frame, and some say so (1002; RFC 6455, section 7.1.7).
            if heard.rest.removesuffix(b"\x88\x02\x03\xea") != verdict.tunnel:
                faults.append(f"the tunnel brought {heard.rest!r}")
            return faults
    closes = isinstance(verdict, Relay) and verdict.closes
    if heard.rest:
        faults.append(f"the client got what is no answer: {heard.rest[:80]!r}")
    if closes and (heard.next is not None or not heard.ended):
        faults.append("the connection did not end behind the answer")
    if not closes and (heard.next is None or not own_answer(heard.next, b"GET", b"/hidden")):
        faults.append(f"the next request was not served right: {heard.next}")
    return faults


def _judge_relay(answer: Answer, verdict: Relay, reply: Reply) -> list[str]:
    faults = []
    if (reply.status, reply.body, reply.complete) != (verdict.status, verdict.body, True):
        faults.append(f"the client got {reply}")
    if verdict.length is not None and reply.all("content-length") != [str(verdict.length)]:
        faults.append(f"Content-Length came as {reply.all('content-length')}")
    if verdict.length is None and reply.all("content-length"):
        faults.append(f"Content-Length came as {reply.all('content-length')}")
    if tuple(reply.trailers) != verdict.trailers or tuple(reply.interim) != verdict.interim:
        faults.append(f"there were trailers {reply.trailers} and interim answers {reply.interim}")
    expected = [(name, value) for name, value in _sent(answer) if name not in OURS and not _stays(name, value, verdict)]
    got = [(name, value) for name, value in reply.fields if name not in OURS]
    if got != expected:
        faults.append(f"the fields came as {got!r}, not {expected!r}")
    if "evil" in str(reply.fields):
        faults.append("evil passed")
    if verdict.tunnel is None and (len(reply.all("x-request-id")), len(reply.all("date"))) != (1, 1):
        faults.append("the answer does not have one request id and one date")
    return faults


def _stays(name: str, value: str, verdict: Relay) -> bool:
    return name in verdict.gone or (name == "set-cookie" and any(own in value for own in verdict.gone))


def _sent(answer: Answer) -> list[tuple[str, str]]:
    """The fields of the final head of a well-formed answer."""
    data = answer.data
    while data.startswith(b"HTTP/1.1 1") and not data.startswith(b"HTTP/1.1 101"):
        data = data.partition(b"\r\n\r\n")[2]
    lines = data.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]
    return [(name.lower(), value.strip(" \t")) for name, _, value in (line.partition(":") for line in lines)]


def fair_answer(answer: Answer, heard: Heard) -> list[str]:
    """What is wrong by the RFCs, for any proxy: refused or broken off, or relayed as they allow."""
    reply, faults = heard.reply, list(heard.faults)
    if (
        heard.next is not None
        and heard.next.complete
        and heard.next.status < 500
        and not own_answer(heard.next, b"GET", b"/hidden")
    ):
        faults.append(f"the next request got another's answer: {heard.next}")
    verdicts = [verdict for verdict in (answer.verdict, answer.lenient) if isinstance(verdict, Relay)]
    if isinstance(answer.verdict, Broken) and (not reply.complete or reply.status >= 400):
        return faults
    for verdict in verdicts:
        if (reply.status, reply.body, reply.complete) == (verdict.status, verdict.body, True) and not (
            verdict.gone & {name for name, _ in reply.fields}
        ):
            return faults
    return [*faults, f"the client got {reply}"]
