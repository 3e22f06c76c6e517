"""The event loop of the tests: who leaves a connection, a server or a pipe open at its end fails.

What is left open is collected at some later time, and the warning of it would fail whichever test runs then.
"""

import asyncio
import socket
from typing import Any

import pytest

_TURNS = 4  # of the loop, in which what was closed without waiting for it comes to its end


class WatchedLoop(asyncio.SelectorEventLoop):
    """A loop that fails when it is closed with anything open."""

    _ssock: socket.socket  # its own, by which other threads wake it
    _transports: Any  # by descriptor
    _selector: Any

    def close(self) -> None:
        left = list[str]()
        try:
            if not self.is_closed():
                left = self._end_what_is_left()
        finally:
            super().close()
        if left:
            pytest.fail("left open at the end of its loop:\n" + "\n".join(left), pytrace=False)

    def _end_what_is_left(self) -> list[str]:
        """End what is open, so that no other test hears of it; tells what was, but for what only had yet to go out."""
        self._turn()
        # One that has ended and that somebody remembers has no loop.
        transports = {fd: transport for fd, transport in self._transports.items() if transport._loop is not None}
        left = [_described(transport) for transport in transports.values() if not transport.is_closing()]
        left += [
            f"{key.fileobj!r}, watched by {key.data}"
            for key in list(self._selector.get_map().values())
            if key.fd != self._ssock.fileno() and key.fd not in transports
        ]
        for transport in transports.values():
            transport.abort()
        self._turn()
        return left

    def _turn(self) -> None:
        for _ in range(_TURNS):
            self.run_until_complete(asyncio.sleep(0))


def pytest_asyncio_loop_factories() -> dict[str, type[WatchedLoop]]:
    """For the conftest of those whose loops are watched."""
    return {"asyncio": WatchedLoop}


def _described(transport: asyncio.Transport) -> str:
    protocol = transport.get_protocol()
    accepted_by = getattr(protocol, "_client_connected_cb", None)
    place, other = (transport.get_extra_info(name) for name in ("sockname", "peername"))
    return f"{type(protocol).__name__} at {place}, to {other}" + (f", of {accepted_by}" if accepted_by else "")
