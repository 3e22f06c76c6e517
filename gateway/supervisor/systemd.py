"""The supervisor's side of systemd's protocols: what it tells the service manager, and the socket it is handed.

    sd_notify(3)             READY, RELOADING and STOPPING, with a line of status for `systemctl status`
    sd_watchdog_enabled(3)   a sign of life while the supervisor's loop turns; workers that hang it replaces by itself
    sd_listen_fds(3)         the public listener, of TCP or a unix socket, opened before us, which stays open while we
                             restart

Without a service manager all of this does nothing. Its variables are taken out of the environment, so that no child
takes what was said for its own.
"""

import asyncio
import contextlib
import os
import socket
import time
from typing import Final, Self

from gateway.faults import OperatorError

_FIRST: Final = 3  # SD_LISTEN_FDS_START
_FAMILIES: Final = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
_SIGNS: Final = 3  # of life within the watchdog's time, so that a late one is not the end


class Manager:
    """The service manager that started this process, or none. What is told to it is lost rather than waited for."""

    def __init__(self, address: str, watchdog: float) -> None:
        self._address, self._watchdog = address, watchdog

    @classmethod
    def found(cls) -> Self:
        """The one that the environment names."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        watched = os.environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = os.environ.pop("WATCHDOG_USEC", "")
        return cls(address, int(microseconds) / 1e6 if watched and microseconds.isdecimal() else 0.0)

    def ready(self, status: str) -> None:
        """It serves, or does so again after a reload."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A reload has begun; `ready` ends it, however it went."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """It is about to end."""
        self._tell("STOPPING=1", "STATUS=Finishing what is in flight")

    async def show_life(self) -> None:
        """Tell that this loop turns, time and again, where a watchdog wants to know; ends only when cancelled."""
        while self._address and self._watchdog:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._watchdog / _SIGNS)

    def _tell(self, *lines: str) -> None:
        if not self._address.startswith(("/", "@")):
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as to,
        ):
            to.sendto("\n".join(line.replace("\n", " ") for line in lines).encode(), address)


def handed_over() -> socket.socket | None:
    """The listening socket that a service manager opened for us, if it did.

    Raises OperatorError where it handed over anything but one stream socket that listens.
    """
    count, for_us = os.environ.pop("LISTEN_FDS", ""), os.environ.pop("LISTEN_PID", "") == str(os.getpid())
    os.environ.pop("LISTEN_FDNAMES", None)
    if not for_us or not count.isdecimal() or count == "0":
        return None
    if count != "1":
        raise OperatorError(
            f"server.listen: {count} sockets were handed over by the service manager, and the gateway takes one, its "
            'public listener; leave one ListenStream= in the socket unit ("[::]:443" takes IPv4 as well)'
        )
    try:
        sock = socket.socket(fileno=_FIRST)
        listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as exc:
        raise OperatorError(f"server.listen: the socket that was handed over is none ({exc.strerror})") from exc
    if not listens or sock.type != socket.SOCK_STREAM or sock.family not in _FAMILIES:
        sock.detach()
        raise OperatorError(
            "server.listen: the socket that was handed over is no stream socket that listens; write ListenStream= with "
            "a port or a path in the socket unit, and Accept=no"
        )
    os.set_inheritable(_FIRST, False)
    sock.setblocking(False)
    return sock


def place_of(sock: socket.socket) -> str:
    """Where a socket listens, written as in the configuration."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
