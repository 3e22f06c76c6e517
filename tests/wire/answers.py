"""What an upstream may say, and what is no answer as types."""

from collections.abc import Iterable
from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HELLO = b"Content-Length: 5\r\n\r\nhello"
CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """The client gets this answer whole, all end-to-end fields as they were sent but those in `gone`.

    `length` is the Content-Length it gets, None for none. With `tunnel` it is 101, and the bytes behind it follow.
    """

    status: int = 200
    body: bytes = b"hello"
    gone: frozenset[str] = frozenset()
    trailers: tuple[tuple[str, str], ...] = ()
    interim: tuple[int, ...] = ()
    length: int | None = None
    tunnel: bytes | None = None
    closes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """The client gets 502; with `begun` a part of the answer, and then the connection breaks: never a whole one."""

    begun: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Bytes that an upstream answers with; with `closes` it ends the connection behind them."""

    name: str
    section: str
    data: bytes
    verdict: Relay | Broken
    request: bytes
    closes: bool = False
    lenient: Relay | None = None
    own: bool = False

    @property
    def method(self) -> str:
        return self.request.split(b" ")[0].decode()


GET = b"GET /row HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"HEAD /row HTTP/1.1\r\nHost: a\r\n\r\n"
OLD = b"GET /row HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
ASKED = b"GET /row HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
ASKED += b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %b\r\n\r\n"
WHOLE = Relay(length=5)
LOOSE = Relay()  # however it is framed


def relayed(
    name: str,
    section: str,
    data: bytes,
    verdict: Relay = WHOLE,
    *,
    request: bytes = GET,
    closes: bool = False,
    own: bool = False,
) -> Answer:
    """An answer that passes."""
    return Answer(name=name, section=section, data=data, verdict=verdict, request=request, closes=closes, own=own)


def broken(
    name: str,
    section: str,
    data: bytes,
    *,
    begun: bool = False,
    request: bytes = GET,
    closes: bool = False,
    lenient: Relay | None = None,
    own: bool = False,
) -> Answer:
    """An answer that is none."""
    verdict = Broken(begun=begun)
    return Answer(
        name=name, section=section, data=data, verdict=verdict, request=request, closes=closes, lenient=lenient, own=own
    )


def gone(names: Iterable[str], *, length: int | None = 5) -> Relay:
    return Relay(gone=frozenset(names), length=length)
