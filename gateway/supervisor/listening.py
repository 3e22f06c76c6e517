"""The listening sockets: opened once, by the supervisor, so that a fault shows at the start and in one line."""

import errno
import os
import socket
from pathlib import Path
from typing import Any, Final

from gateway.errors import OperatorError
from gateway.supervisor.users import SystemUser

BACKLOG: Final = 1024

_MENDS: Final = {
    errno.EADDRINUSE: "port is in use; stop what listens there or choose another",
    errno.EADDRNOTAVAIL: "is not an address of this machine; choose one of its own, or 0.0.0.0 for all",
    errno.EACCES: "ports below 1024 are for root; choose another, or grant CAP_NET_BIND_SERVICE",
    errno.EAFNOSUPPORT: "this machine has no such kind of address; choose another",
}


def listen(addresses: dict[str, tuple[str, int]]) -> list[socket.socket]:
    """A listening socket for each address, which is named by its key in the configuration.

    Raises OperatorError with a line for each that cannot be had, and then leaves none open.
    """
    opened, faults = list[socket.socket](), list[str]()
    for key, (host, port) in addresses.items():
        try:
            opened.append(_listen(host, port))
        except OSError as exc:
            reason = "cannot be resolved; correct it" if isinstance(exc, socket.gaierror) else exc.strerror
            shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            faults.append(f"{key}: {shown}: {_MENDS.get(exc.errno or 0, reason)}")
    if faults:
        for sock in opened:
            sock.close()
        raise OperatorError("\n".join(faults))
    return opened


def listen_privately(path: Path, workers: SystemUser | None = None) -> socket.socket:
    """A listening unix socket that only this user can open, or the one that root's workers run as; its folder is
    private, so nobody comes in before that, nor puts anything else in its place.

    Raises OperatorError, as when something that tidies up has removed the folder.
    """
    try:
        sock = _listening(socket.socket(socket.AF_UNIX), str(path))
        path.chmod(0o600)
        if workers is not None:
            os.chown(path, workers.uid, workers.gid)
    except OSError as exc:
        raise OperatorError(
            f"the socket {path} cannot be made ({exc.strerror}); fix that, or restart, which makes a new folder"
        ) from exc
    return sock


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
    return _listening(sock, address)


def _listening(sock: socket.socket, address: Any) -> socket.socket:
    """The socket, bound and listening; closed where that fails."""
    try:
        sock.bind(address)
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock
