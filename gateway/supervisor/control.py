"""The way by which `gateway reload` reaches a gateway that serves, and hears the outcome.

By an abstract unix socket whose name comes from the configuration file's: both sides know it whatever else they see of
the machine, be it a /tmp of their own, a data_dir of another user, or a file that cannot be read any more. Such a
socket has no permissions, so each side asks the kernel who the other one is. A gateway obeys root and the user that it
runs as; a command believes its own user's, and root's tells the process that answered.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import pwd
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from gateway.errors import OperatorError
from gateway.observe import get_logger

_ASKED: Final = b"reload\n"
_PATIENCE: Final = 5.0  # seconds, for the question
_LONGEST_RELOAD: Final = 300.0  # seconds, for the answer: old workers have half a minute to let go of the listener
_LONGEST: Final = 4 * 1024**2  # bytes of an answer
_CREDENTIALS: Final = struct.Struct("iii")  # SO_PEERCRED, unix(7): process, user and group

log = get_logger("gateway.supervisor")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a reload: what it changed, or every fault for which nothing has changed."""

    changed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@asynccontextmanager
async def controlled(config: Path, reload: Callable[[], Awaitable[Outcome]]) -> AsyncIterator[None]:
    """Let commands reload the gateway that serves this configuration, while the context lasts."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(_name(config))
    except OSError as exc:  # a gateway serves without it all the same
        sock.close()
        log.warning("`gateway reload` cannot reach this gateway, only SIGHUP can", reason=exc.strerror)
        yield
        return

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            _, user = _peer(writer.get_extra_info("socket"))
            if user in (0, os.geteuid()) and await asyncio.wait_for(reader.readline(), _PATIENCE) == _ASKED:
                writer.write(json.dumps(asdict(await reload())).encode() + b"\n")
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=sock)
    try:
        yield
    finally:
        server.close()


async def ask_to_reload(config: Path) -> tuple[Outcome, int]:
    """Have the gateway that serves this configuration reload it; gives what became of that, and its process id.

    Raises OperatorError when there is none, or one of another user.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(_name(config), limit=_LONGEST)
    except OSError as exc:
        raise OperatorError(
            f"no gateway is running with {config}; name the same file as for `gateway serve`, or start it"
        ) from exc
    try:
        pid, user = _peer(writer.get_extra_info("socket"))
        if os.geteuid() not in (0, user):
            names = " or as ".join(dict.fromkeys((_user_name(user), "root")))
            raise OperatorError(f"the gateway runs as {_user_name(user)}; run this as {names}")
        writer.write(_ASKED)
        answer = await asyncio.wait_for(reader.readline(), _LONGEST_RELOAD)
    except (ConnectionError, TimeoutError, ValueError):
        answer = b""
    finally:
        writer.close()
    if not answer:
        raise OperatorError("the gateway ended before it had reloaded; its log says why")
    return _outcome(answer, pid), pid


def _outcome(answer: bytes, pid: int) -> Outcome:
    """The outcome that a gateway answered; whoever else took its name may say anything. Raises OperatorError."""
    try:
        said = json.loads(answer)
        changed, faults = (said[name] for name in ("changed", "faults"))
        lines = [[str(line) for line in lines] for lines in (changed, faults)]
    except (ValueError, TypeError, KeyError) as exc:
        raise OperatorError(f"process {pid} answered nothing that a gateway says; see which program that is") from exc
    shown = [[line if line.isprintable() else ascii(line) for line in part] for part in lines]
    return Outcome(*shown)


def _name(config: Path) -> str:
    """The socket's name: links above the file are followed, and one that is the file itself leads elsewhere later."""
    path = Path(os.path.realpath(config.parent)) / config.name
    return f"\0oauth2-gateway/{hashlib.sha256(os.fsencode(path)).hexdigest()}"


def _peer(sock: socket.socket) -> tuple[int, int]:
    """The process and the user at the other end."""
    pid, user, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return pid, user


def _user_name(user: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"
