"""What a transport does not say of its socket, and does not do with it."""

import asyncio
import os
import select
import socket
import ssl
import struct
from contextlib import suppress
from typing import Final, Literal

_DROP_ALL: Final = struct.pack("ii", 1, 0)  # SO_LINGER: on, for no time
_NO_LINGER: Final = struct.pack("ii", 0, 0)


def duplicate(transport: asyncio.Transport) -> int:
    """Another descriptor of a connection, which outlives its transport. Raises OSError where there is none left."""
    return os.dup(transport.get_extra_info("socket").fileno())


def reset(transport: asyncio.Transport) -> None:
    """End a connection at once with RST, so that nobody takes what has come for a whole message.

    An abort alone ends it with FIN where nothing is unread, which is how a body without a length ends well. The
    transport's `connection_lost` has not been called yet: behind it, another may have its descriptor.
    """
    _set_linger(transport, _DROP_ALL)
    transport.abort()


def end_by_reset(transport: asyncio.Transport, wanted: bool) -> None:
    """Have the kernel end the connection with RST if this process dies, until that is not wanted any more."""
    _set_linger(transport, _DROP_ALL if wanted else _NO_LINGER)


def _set_linger(transport: asyncio.Transport, linger: bytes) -> None:
    sock = transport.get_extra_info("socket")
    if sock is not None:  # by TLS, it may be gone while the transport still says good-bye
        with suppress(OSError):  # whose other side went first
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def other_side(transport: asyncio.Transport) -> Literal["open", "ended", "gone"]:
    """How the other side of a connection stands, also where what it sent has not been read; "gone" after a reset."""
    events = _poll(transport, select.POLLRDHUP)
    if events & (select.POLLHUP | select.POLLERR):
        return "gone"
    return "ended" if events & select.POLLRDHUP else "open"


def holds_more(transport: asyncio.Transport) -> bool:
    """Whether the kernel has something of a connection, its end included, that nobody has read."""
    return bool(_poll(transport, select.POLLIN))


def ended_well(transport: asyncio.Transport) -> bool:
    """Whether the end that was just received is one that the other side meant: with TLS anybody on the way can make
    an end of TCP's, and only a close_notify counts (RFC 9112, section 9.8)."""
    tls = transport.get_extra_info("ssl_object")
    if tls is None:
        return True
    try:
        return not tls.read(1)
    except ssl.SSLZeroReturnError:
        return True
    except ssl.SSLError:  # more is wanted, and none will come
        return False


def _poll(transport: asyncio.Transport, events: int) -> int:
    polled, sock = select.poll(), transport.get_extra_info("socket")
    if sock is None:
        return 0
    polled.register(sock.fileno(), events)
    return next((found for _, found in polled.poll(0)), 0)
