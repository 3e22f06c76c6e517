"""What must hold for any bytes: only our own errors, bounded memory, no cut that matters, and h11's agreement."""

import random
import re
from collections.abc import Callable, Sequence
from contextlib import suppress

import h11

from fuzz.agreement import agreement
from fuzz.mutation import CREDENTIAL_SEEDS, REQUEST_SEEDS, RESPONSE_SEEDS, TARGET_SEEDS, bytewise, cut, mutated
from fuzz.parsers import PARSERS, slowness
from gateway.credentials import mac
from gateway.credentials.authorization import MalformedCredential
from gateway.http1 import End, Malformed, RequestHead, RequestReader, ResponseHead, ResponseReader
from gateway.http1.grammar import HEAD_LIMIT
from gateway.routing import TargetError, canonical

Events = list[object]
METHODS = (b"GET", b"HEAD", b"POST")
CREDENTIALS = (
    b"Bearer a", b"Basic", b" Bearer", b"Bearer\t", b"B\xe4r", b"", b"\r\nAuthorization: x", b"x\r\nX-A: b",
    b"a\r\nContent-Length: 5", b"\x00", b"a" * 5000, b"a\r\n\r\n", b"\n", b"a\r", b'MAC id="a",',
)  # fmt: skip


def read_requests(pieces: Sequence[bytes], *, shortcut: bool = False) -> Events:
    """The events of a connection's bytes: heads as tuples, the parts of a body joined, a fault as its status.

    With `shortcut` a piece that is a whole request is taken at once, as the front does.
    """
    reader, events = RequestReader(), Events()
    for piece in pieces:
        if shortcut and (whole := reader.whole(piece)) is not None:
            events.append(_request(whole[0]))
            if whole[1]:
                events.append(whole[1])
            events.append(("end", ()))
            reader.next_request()
            continue
        reader.receive(piece)
        try:
            while (event := reader.next_event()) is not None:
                if isinstance(event, RequestHead):
                    events.append(_request(event))
                elif isinstance(event, End):
                    events.append(("end", event.trailers))
                    reader.next_request()
                else:
                    _join(events, event)
        except Malformed as fault:
            return [*events, fault.status]
        assert reader.buffered <= HEAD_LIMIT, "what waits is not bounded"
    return [*events, ("waiting", reader.buffered)]


def _request(head: RequestHead) -> tuple[object, ...]:
    return (
        head.method,
        head.target,
        head.minor_version,
        head.fields,
        head.length,
        head.host,
        head.keep_alive,
        head.connection,
        head.upgrade,
        head.expects_continue,
    )


def _join(events: Events, data: bytes) -> None:
    last = events[-1] if events else None
    if isinstance(last, bytes):
        events[-1] = last + data
    else:
        events.append(data)


def read_responses(pieces: Sequence[bytes], methods: Sequence[bytes], *, shortcut: bool = False) -> Events:
    """The events of an upstream's bytes that answer requests of these methods, and of its connection's end.

    With `shortcut` a piece that is a whole answer is taken at once, as an exchange does.
    """
    reader, events = ResponseReader(methods[0]), Events()
    remaining = list(methods[1:])
    try:
        for piece in pieces:
            if shortcut and (found := reader.whole(piece)) is not None:
                events += [_response(found[0]), *([found[1]] if found[1] else []), ("end", ())]
                if remaining:
                    reader.expect(remaining.pop(0))
                continue
            reader.receive(piece)
            _read_answers(reader, events, remaining)
            assert reader.buffered <= HEAD_LIMIT or not remaining, "what waits is not bounded"
        if not (events and isinstance(events[-1], tuple) and events[-1][0] == "end"):
            events.append(("end", reader.closed().trailers))
    except Malformed:
        events.append("fault")
    return events


def _response(head: ResponseHead) -> tuple[object, ...]:
    return (
        head.status,
        head.reason,
        head.minor_version,
        head.fields,
        head.length,
        head.stated_length,
        head.chunked,
        head.keep_alive,
        head.connection,
    )


def _read_answers(reader: ResponseReader, events: Events, remaining: list[bytes]) -> None:
    while (event := reader.next_event()) is not None:
        if isinstance(event, ResponseHead):
            events.append(_response(event))
        elif isinstance(event, End):
            events.append(("end", event.trailers))
            if not remaining:
                return
            reader.expect(remaining.pop(0))
        else:
            _join(events, event)


def requests(chance: random.Random) -> bytes:
    """The request reader: any cut gives the same, a repetition too, and h11 agrees on what both take."""
    data = mutated(chance, REQUEST_SEEDS)
    yielded = read_requests([data])
    assert read_requests(cut(chance, data)) == yielded, data
    if yielded[-2:] == [("end", ()), ("waiting", 0)]:
        assert read_requests([data] * 3, shortcut=True)[:-1] == yielded[:-1] * 3, data
    agrees_with_h11(data, yielded)
    return data


def agrees_with_h11(data: bytes, events: Events) -> None:
    """What h11 also takes for a whole first request is the same request to it."""
    if (
        len(events) < 2
        or not isinstance(events[0], tuple)
        or ("end",) not in [e[:1] for e in events if type(e) is tuple]
    ):
        return
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    body = b""
    try:
        peer.receive_data(data)
        head = peer.next_event()
        while isinstance(event := peer.next_event(), h11.Data):
            body += bytes(event.data)
    except h11.RemoteProtocolError:
        return
    if not isinstance(head, h11.Request) or not isinstance(event, h11.EndOfMessage):
        return
    method, target, _, fields = events[0][:4]
    ours = events[1] if isinstance(events[1], bytes) else b""
    assert (method, target, ours) == (head.method, head.target, body), data
    # h11 writes the coding in lower case and a length only once.
    read = [(lower, value.lower() if lower == b"transfer-encoding" else value) for lower, _, value in fields]
    assert read == list(head.headers), data


def responses(chance: random.Random) -> bytes:
    """The response reader: any cut gives the same, over several answers of one connection."""
    data = mutated(chance, RESPONSE_SEEDS)
    methods = [chance.choice(METHODS) for _ in range(3)]
    assert read_responses(cut(chance, data), methods) == read_responses([data], methods), (data, methods)
    return data


def repetitions(chance: random.Random) -> bytes:
    """Messages of a connection that are nearly alike: what is remembered of one changes nothing in the next."""
    line = b"Authorization: Bearer %d\r\n" % chance.randrange(100)
    head = chance.choice(REQUEST_SEEDS)
    if chance.random() < 0.8:
        head = head.replace(b"\r\nHost: a", b"\r\n%bHost: a" % line, 1)
    parts = [_varied(chance, head) for _ in range(4)]
    data = b"".join(parts)
    assert read_requests(parts, shortcut=True) == read_requests(bytewise(data)), parts
    answers = [_varied(chance, chance.choice(RESPONSE_SEEDS))] * 2
    answers += [_varied(chance, answers[0]) for _ in range(2)]
    methods = [chance.choice((b"GET", b"GET", b"HEAD")) for _ in answers]
    assert read_responses(answers, methods, shortcut=True) == read_responses(bytewise(b"".join(answers)), methods), (
        answers,
        methods,
    )
    return data


def _varied(chance: random.Random, data: bytes) -> bytes:
    """The same bytes, or with another credential, or with one thing changed."""
    kind = chance.random()
    if kind < 0.3:
        return data
    if kind < 0.7:
        credential = chance.choice(CREDENTIALS)
        return data.replace(b"Authorization: Bearer", b"Authorization: " + credential, 1)
    return mutated(chance, [data], most=1)


def targets(chance: random.Random) -> bytes:
    """The canonical target: refused, or every byte kept."""
    raw = mutated(chance, TARGET_SEEDS)
    with suppress(TargetError):
        target = canonical(raw)
        kept = target.path + target.query
        assert raw.endswith(kept) or (target.path == b"/" and raw.endswith(target.query)), raw
        assert canonical(kept).path == target.path, raw
        assert not {b".", b".."} & set(re.split(rb"/|%2[fF]", target.path)), raw
    return raw


def credentials(chance: random.Random) -> bytes:
    """The MAC parser: refused, or written again it reads the same."""
    raw = mutated(chance, CREDENTIAL_SEEDS)
    with suppress(MalformedCredential):
        found = mac.parse(raw)
        assert mac.parse(mac.render(found).removeprefix("MAC ").encode()) == found, raw
    return raw


INVARIANTS: dict[str, Callable[[random.Random], bytes]] = {
    "requests": requests,
    "responses": responses,
    "repetitions": repetitions,
    "agreement": agreement,
    "targets": targets,
    "credentials": credentials,
    **{name: parser.invariant for name, parser in PARSERS.items()},
    "slowness": slowness,
}
