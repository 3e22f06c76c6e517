"""What a row of the wire table is: bytes, the section that judges them, and the verdict on both sides.

A verdict is ours. `lenient` is what else the RFCs leave to a proxy, for grading others by the same table: a reading
that it may forward instead of refusing. Rows marked `own` are rules of this gateway that no RFC makes, and are not
held against others.
"""

from collections.abc import Iterable
from dataclasses import dataclass

HOST = b"Host: a"
ROW = b"/row"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refuse:
    """The client gets one of `statuses` (0: no answer), and the upstream no complete request.

    Then the connection closes and what follows never runs; `sound`: its framing is known, so the next request is
    served. `begun`: the fault shows late, so that an upstream may have seen the beginning, but never the end.
    """

    statuses: frozenset[int]
    sound: bool = False
    begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """The upstream gets exactly this request, read alike by every reader, and the client its answer.

    All end-to-end fields of the row arrive as they were sent, in their order, but for those named in `gone`;
    `added` stand there exactly so. With `closes` the connection ends after the answer. A reader in `unreadable`
    knows less than HTTP allows, and is not asked.
    """

    method: bytes = b"GET"
    target: bytes = ROW
    body: bytes = b""
    gone: frozenset[bytes] = frozenset()
    added: tuple[tuple[bytes, bytes], ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    closes: bool = False
    unreadable: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Bytes that a client sends. With `ends`, it ends its side behind them."""

    name: str
    section: str
    data: bytes
    verdict: Refuse | Pass
    lenient: tuple[Pass, ...] = ()
    refusable: bool = False  # a proxy may also refuse what passes here
    own: bool = False
    ends: bool = False
    waits: bool = False  # a proxy may also wait for the rest of what it takes for a very long message

    @property
    def method(self) -> str:
        """The method that the row's answer is read for."""
        return "HEAD" if self.data.startswith(b"HEAD ") else "GET"


def refuse(
    name: str,
    section: str,
    data: bytes,
    *statuses: int,
    lenient: Pass | tuple[Pass, ...] | None = None,
    own: bool = False,
    waits: bool = False,
    sound: bool = False,
    begun: bool = False,
    ends: bool = False,
) -> Row:
    """A row that is refused, with 400 unless other statuses are given."""
    verdict = Refuse(statuses=frozenset(statuses or (400,)), sound=sound, begun=begun)
    readings = (lenient,) if isinstance(lenient, Pass) else lenient or ()
    return Row(
        name=name, section=section, data=data, verdict=verdict, lenient=readings, own=own, ends=ends, waits=waits
    )


def passes(
    name: str,
    section: str,
    data: bytes,
    verdict: Pass,
    *,
    lenient: tuple[Pass, ...] = (),
    refusable: bool = False,
    own: bool = False,
    ends: bool = False,
) -> Row:
    """A row that reaches the upstream."""
    return Row(
        name=name,
        section=section,
        data=data,
        verdict=verdict,
        lenient=lenient,
        refusable=refusable,
        own=own,
        ends=ends,
    )


def request(
    *lines: bytes,
    method: bytes = b"GET",
    target: bytes = ROW,
    version: bytes = b"HTTP/1.1",
    host: bytes | None = HOST,
    body: bytes = b"",
) -> bytes:
    """A request with these field lines behind its Host."""
    head = [b" ".join((method, target, version)), *([host] if host is not None else []), *lines]
    return b"\r\n".join((*head, b"", b"")) + body


def post(*lines: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A POST whose framing is in its lines."""
    return request(*lines, method=b"POST", version=version, body=body)


def chunked(payload: bytes, *lines: bytes) -> bytes:
    """A chunked POST with this payload, framing included."""
    return post(*lines, b"Transfer-Encoding: chunked", body=payload)


def posted(body: bytes = b"", *, closes: bool = False, gone: Iterable[bytes] = ()) -> Pass:
    """A POST that arrives."""
    return Pass(method=b"POST", body=body, closes=closes, gone=frozenset(gone))


def shown(data: bytes) -> str:
    """A byte or a few as a test's name can hold them."""
    return repr(data)[2:-1]
