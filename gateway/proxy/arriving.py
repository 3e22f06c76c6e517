"""Connections until a request can be read on them: what a proxy says by the PROXY protocol of whose each is, and the
TLS handshake. Those that get no further are counted, and said where somebody can do something about them.

With `introduced`, a connection that comes from a trusted proxy must begin with that header; anybody else's must not,
and is a connection like any other. The header is read off the socket byte for byte before a transport is made for it,
so that a TLS handshake can follow. Who it names is the other end from then on, in fields, logs and limits: it is
believed as a proxy only if it is among the trusted itself, and nothing of what it sends is believed where the proxy did
not say who it is.
"""

import asyncio
import socket
import ssl
from contextlib import suppress
from typing import Final

from gateway.errors import Refused
from gateway.figures import CONNECTIONS_FAILED
from gateway.observe import get_logger
from gateway.proxy.certificates import Certificates
from gateway.proxy.dispatch import SOCKET, Peer
from gateway.proxy.proxy import Proxy
from gateway.routing.proxy_protocol import IntroductionReader, NoIntroduction

_AT_ONCE: Final = 4096
_PAUSE: Final = 0.1  # seconds, where there is no descriptor left
_MEND: Final = "have the proxy send the PROXY header on every connection, or take it out of server.trusted_proxies"
_LATE: Final = "late"

# Why a handshake failed, by what OpenSSL calls it: few words, whatever clients do.
_LEFT: Final = "left"  # without a word, as scanners and checks of balancers do
_FAULTS: Final = {
    "HTTP_REQUEST": "plain HTTP",
    "HTTPS_PROXY_REQUEST": "plain HTTP",
    "WRONG_VERSION_NUMBER": "not TLS",
    "PACKET_LENGTH_TOO_LONG": "not TLS",
    "RECORD_LAYER_FAILURE": "not TLS",
    "UNKNOWN_PROTOCOL": "not TLS",
    "UNSUPPORTED_PROTOCOL": "version",
    "NO_PROTOCOLS_AVAILABLE": "version",
    "VERSION_TOO_LOW": "version",
    "TLSV1_ALERT_PROTOCOL_VERSION": "version",
    "NO_SHARED_CIPHER": "cipher",
    "NO_SUITABLE_KEY_SHARE": "cipher",
    "NO_SHARED_GROUP": "cipher",
    "NO_SUITABLE_SIGNATURE_ALGORITHM": "cipher",
    "NO_SHARED_SIGNATURE_ALGORITHMS": "cipher",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "cipher",
    "TLSV1_ALERT_UNKNOWN_CA": "distrusted",
    "SSLV3_ALERT_BAD_CERTIFICATE": "distrusted",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "distrusted",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "distrusted",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "distrusted",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "distrusted",
    "UNEXPECTED_EOF_WHILE_READING": _LEFT,
}
_MENDS: Final = {
    "plain HTTP": "have it call https://; what answers http:// with a redirect is a proxy in front, not this listener",
    "version": "have the client speak TLS 1.2 or 1.3",
    "cipher": "have the client speak TLS 1.2 or 1.3 with ciphers of today",
    "distrusted": (
        "the client does not take the certificate that it was shown: see whether that is for the name it asked for, "
        "has not expired, and comes with its whole chain (gateway doctor), or have the client trust its authority"
    ),
}

_log = get_logger("gateway.proxy")


class Arrivals:
    """Takes connections from a listener, by TLS where there are certificates to show; the interface of a server, as far
    as a plane needs it."""

    def __init__(
        self, proxy: Proxy, listener: socket.socket, shown: Certificates | None, *, introduced: bool = False
    ) -> None:
        listener.setblocking(False)
        self._proxy, self._listener, self._shown, self._introduces = proxy, listener, shown, introduced
        self._loop = asyncio.get_running_loop()
        self._closed = False

    async def start_serving(self) -> None:
        """Take connections from now on."""
        self._listen()

    def close(self) -> None:
        """Take no more; those that were taken go on."""
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self._listener.fileno())
            self._listener.close()

    def _listen(self) -> None:
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._take)

    def _take(self) -> None:
        """Take one connection: whoever else listens here may be less busy."""
        try:
            sock, name = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as exc:
            _log.warning("no connection can be taken", cause=str(exc))
            self._loop.remove_reader(self._listener.fileno())
            self._loop.call_later(_PAUSE, self._listen)
            return
        sock.setblocking(False)
        self._proxy.let_arrive(self._arrive(sock, name))

    async def _arrive(self, sock: socket.socket, name: object) -> None:
        peer = self._proxy.dispatcher.peer(str(name[0]) if isinstance(name, tuple) else SOCKET)
        introduced: Peer | None = None
        if self._introduces:
            introduced = await self._introduced(sock, peer) if peer.trusted else peer
            if introduced is None:
                sock.close()
                return
        front = self._proxy.front(introduced)
        if self._shown is None:
            with suppress(OSError):  # it ended on its way
                await self._loop.connect_accepted_socket(lambda: front, sock)
            return
        limits = self._proxy.limits
        begun = self._loop.time()
        try:
            await self._loop.connect_accepted_socket(
                lambda: front,
                sock,
                ssl=self._shown.tls,
                ssl_handshake_timeout=limits.handshake,
                ssl_shutdown_timeout=limits.linger,
            )
        except OSError as fault:  # an SSLError is one
            late = not isinstance(fault, ssl.SSLError) and self._loop.time() >= begun + limits.handshake
            self._no_handshake(fault, _LATE if late else _cause(fault), introduced or peer)

    def _no_handshake(self, fault: OSError, cause: str, peer: Peer) -> None:
        CONNECTIONS_FAILED.add(1.0, "tls", cause)
        said = f"TLS handshake: {cause}"
        if cause == _LEFT or not self._proxy.refusals.admits(0, said):
            return
        reason = fault.reason if isinstance(fault, ssl.SSLError) else None
        fields = {"cause": cause, "said": reason, "mend": _MENDS.get(cause), "address": peer.address}
        _log.info("TLS handshake failed", **{name: value for name, value in fields.items() if value})

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
        except NoIntroduction as wrong:
            self._refuse(proxy, wrong.kind, str(wrong))
            return None
        except TimeoutError:
            self._refuse(proxy, _LATE, "the connection brought no whole PROXY header in time")
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

    def _refuse(self, proxy: Peer, kind: str, cause: str) -> None:
        """Nothing can be answered: who is there may not speak HTTP yet, or at all."""
        CONNECTIONS_FAILED.add(1.0, "proxy_protocol", kind)
        refused = Refused("invalid_request", "A PROXY header was expected.", cause, mend=_MEND)
        self._proxy.log_refusal(refused, proxy, self._proxy.new_request_id(), None, None)


def _cause(fault: OSError) -> str:
    """Why a handshake failed, as one of a few words."""
    if not isinstance(fault, ssl.SSLError) or isinstance(fault, ssl.SSLEOFError):
        return _LEFT
    return _FAULTS.get(fault.reason or "", "another fault")


def _tell(came: "asyncio.Future[None]") -> None:
    if not came.done():
        came.set_result(None)
