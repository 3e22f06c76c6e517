"""The listening sockets: opened once, by the supervisor, so that a fault shows at the start and in one line."""

import errno
import os
import socket
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from gateway.faults import OperatorError
from gateway.supervisor.users import SystemUser

BACKLOG: Final = 1024

_MENDS: Final = {
    errno.EADDRINUSE: "port is in use; stop what listens there or choose another",
    errno.EADDRNOTAVAIL: "is not an address of this machine; choose one of its own, or 0.0.0.0 for all",
    errno.EACCES: "ports below 1024 are for root; choose another, or grant CAP_NET_BIND_SERVICE",
    errno.EAFNOSUPPORT: "this machine has no such kind of address; choose another",
}
_MENDS_AT_PATH: Final = {
    errno.EADDRINUSE: "another program listens there; stop it or choose another path",
    errno.EEXIST: "is there already and is no socket; remove it or choose another path",
    errno.ENOENT: "its folder is not there; make it, or choose another path",
    errno.EACCES: "its folder may not be written to; let the gateway's user do so, or choose another path",
    errno.EROFS: "its folder may not be written to; name it in ReadWritePaths= of the unit, or choose another path",
}


def listen(
    addresses: Mapping[str, tuple[str, int] | str], mode: int = 0o660, owner: SystemUser | None = None
) -> list[socket.socket]:
    """A listening socket for each address, which is named by its key in the configuration. One at a path is a unix
    socket, with this mode and of this owner.

    Raises OperatorError with a line for each that cannot be had, and then leaves none open.
    """
    opened, faults = list[socket.socket](), list[str]()
    for key, address in addresses.items():
        try:
            if isinstance(address, str):
                opened.append(_listen_at_path(Path(address), mode, owner))
            else:
                opened.append(_listen(*address))
        except OSError as exc:
            faults.append(f"{key}: {_fault(address, exc)}")
    if faults:
        for sock in opened:
            sock.close()
        raise OperatorError("\n".join(faults))
    return opened


def _fault(address: tuple[str, int] | str, exc: OSError) -> str:
    if isinstance(address, str):
        return f"unix:{address}: {_MENDS_AT_PATH.get(exc.errno or 0, exc.strerror)}"
    host, port = address
    reason = "cannot be resolved; correct it" if isinstance(exc, socket.gaierror) else exc.strerror
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{shown}: {_MENDS.get(exc.errno or 0, reason)}"


def _listen_at_path(path: Path, mode: int, owner: SystemUser | None) -> socket.socket:
    """A unix socket to which nobody can connect before it has its mode and its owner. It takes the place of one at
    which nobody listens any more, and of nothing else."""
    if os.path.lexists(path):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if _is_listened_at(path):
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        path.unlink()
    before = os.umask(0o777)
    try:
        sock = _listening(socket.socket(socket.AF_UNIX), str(path))
    finally:
        os.umask(before)
    try:
        if owner is not None:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
        path.chmod(mode)
    except OSError:
        sock.close()
        path.unlink(missing_ok=True)
        raise
    return sock


def _is_listened_at(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as asking:
        asking.setblocking(False)  # where its queue is full, somebody is there
        try:
            asking.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True
        return True


def leave(address: tuple[str, int] | str) -> None:
    """Take away the file of a unix socket at which nobody listens any more."""
    if not isinstance(address, str):
        return
    path = Path(address)
    with suppress(OSError):
        if stat.S_ISSOCK(path.lstat().st_mode) and not _is_listened_at(path):
            path.unlink()


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
