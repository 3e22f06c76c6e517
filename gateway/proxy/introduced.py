"""Connections from a proxy that says by the PROXY protocol whose each is: read as far as that goes, and passed on.

Where a connection comes from a trusted proxy, it must begin with that header; anybody else's must not, and is a
connection like any other. The header is read off the socket byte for byte before a transport is made for it, so that a
TLS handshake can follow. Who it names is the other end from then on, in fields, logs and limits: it is believed as a
proxy only if it is among the trusted itself, and nothing of what it sends is believed where the proxy did not say who
it is.
"""

import asyncio
import socket
from contextlib import suppress
from typing import Final

from gateway.observe import get_logger
from gateway.proxy.answers import refusal
from gateway.proxy.certificates import Certificates
from gateway.proxy.dispatch import SOCKET, Peer
from gateway.proxy.proxy import Proxy
from gateway.routing.proxy_protocol import IntroductionReader, NoIntroduction

_AT_ONCE: Final = 4096
_PAUSE: Final = 0.1  # seconds, where there is no descriptor left
_MEND: Final = "have the proxy send the PROXY header on every connection, or take it out of server.trusted_proxies"

_log = get_logger("gateway.proxy")


class Introductions:
    """Takes connections from a listener; the interface of a server, as far as a plane needs it."""

    def __init__(self, proxy: Proxy, listener: socket.socket, shown: Certificates | None) -> None:
        listener.setblocking(False)
        self._proxy, self._listener, self._shown = proxy, listener, shown
        self._loop = asyncio.get_running_loop()
        self._taking: asyncio.Task[None] | None = None
        self._arriving = set[asyncio.Task[None]]()

    async def start_serving(self) -> None:
        """Take connections from now on."""
        self._taking = self._loop.create_task(self._take())

    def close(self) -> None:
        """Take no more; those that were taken go on."""
        if self._taking is not None:
            self._taking.cancel()
        self._listener.close()

    async def _take(self) -> None:
        while True:
            try:
                sock, name = await self._loop.sock_accept(self._listener)
            except OSError as exc:
                _log.warning("no connection can be taken", cause=str(exc))
                await asyncio.sleep(_PAUSE)
                continue
            arriving = self._loop.create_task(self._arrive(sock, name))
            self._arriving.add(arriving)
            arriving.add_done_callback(self._arriving.discard)

    async def _arrive(self, sock: socket.socket, name: object) -> None:
        address = str(name[0]) if isinstance(name, tuple) else SOCKET
        peer = self._proxy.dispatcher.peer(address)
        if peer.trusted:
            told = await self._introduced(sock, peer)
            if told is None:
                sock.close()
                return
            peer = told
        front = self._proxy.front(peer)
        with suppress(OSError):  # it ended on its way, or within the handshake
            if self._shown is None:
                await self._loop.connect_accepted_socket(lambda: front, sock)
            else:
                limits = self._proxy.limits
                await self._loop.connect_accepted_socket(
                    lambda: front,
                    sock,
                    ssl=self._shown.context,
                    ssl_handshake_timeout=limits.handshake,
                    ssl_shutdown_timeout=limits.linger,
                )

    async def _introduced(self, sock: socket.socket, proxy: Peer) -> Peer | None:
        """Who is behind a trusted proxy; None where it does not say so in time, as it must."""
        reader = IntroductionReader()
        try:
            async with asyncio.timeout(self._proxy.limits.introduction):
                while reader.done is None:
                    await self._readable(sock)
                    with suppress(BlockingIOError):
                        data = sock.recv(_AT_ONCE, socket.MSG_PEEK)
                        if not data:
                            return None
                        sock.recv(reader.take(data))
        except NoIntroduction as fault:
            self._refuse(proxy, str(fault))
            return None
        except TimeoutError:
            self._refuse(proxy, "the connection brought no whole PROXY header in time")
            return None
        except OSError:
            return None
        address = reader.done.address
        return self._proxy.dispatcher.peer(address) if address else Peer(proxy.address, False)

    async def _readable(self, sock: socket.socket) -> None:
        came: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_reader(sock.fileno(), _tell, came)
        try:
            await came
        finally:
            self._loop.remove_reader(sock.fileno())

    def _refuse(self, proxy: Peer, cause: str) -> None:
        """Nothing can be answered: who is there may not speak HTTP yet, or at all."""
        refused = refusal(400, "A PROXY header was expected.", cause=cause, mend=_MEND)
        self._proxy.log_refusal(refused, proxy, self._proxy.new_request_id(), None, None)


def _tell(came: "asyncio.Future[None]") -> None:
    if not came.done():
        came.set_result(None)
