"""The way by which commands such as `gateway reload` reach a gateway that serves, and hear its answer.

By an abstract unix socket whose name comes from the configuration file's: both sides know it whatever else they see of
the machine, be it a /tmp of their own, a data_dir of another user, or a file that cannot be read any more. Such a
socket has no permissions, so each side asks the kernel who the other one is. A gateway obeys root and the user that it
runs as. A command asks a gateway of its own user or of root, and root's also that of the user whose the configuration
is (`_owners`): any other process has merely taken the name, and is asked nothing.

A question is a line, its verb and what it is about; the answer is a line of JSON, behind others where something is told
meanwhile, which ends sooner when who asked says more.
"""

import asyncio
import contextlib
import grp
import hashlib
import json
import os
import pwd
import socket
import stat
import struct
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, cast

import tomli
from msgspec import Struct, field

from gateway.config.tables import Database
from gateway.faults import OperatorError
from gateway.observe import get_logger

_PATIENCE: Final = 5.0  # seconds, for the question
_LONGEST_RELOAD: Final = 300.0  # seconds, for the answer: old workers have half a minute to let go of the listener
_LONGEST: Final = 4 * 1024**2  # bytes of an answer
_CREDENTIALS: Final = struct.Struct("iii")  # SO_PEERCRED, unix(7): process, user and group

log = get_logger("gateway.supervisor")

Answerers = Mapping[str, Callable[[str], Awaitable[object]]]
"""What a gateway can be asked, by its verb; each makes of what the question is about something that JSON has."""
Teller = Callable[[str, Callable[[object], None], asyncio.Event], Awaitable[object]]
"""An answerer that tells something meanwhile, and is broken off when nobody hears it any more; the event says that who
asked has heard enough."""


class NoGateway(OperatorError):
    """No gateway serves a configuration."""


class Peer(NamedTuple):
    """The process at the other end, with the user and the group that it runs as."""

    pid: int
    user: int
    group: int


class Outcome(Struct, frozen=True):
    """The outcome of a reload: what it changed, or every fault for which nothing has changed; and the names of the
    master keys that the gateway has now, the current one first."""

    changed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@asynccontextmanager
async def controlled(
    config: Path, answerers: Answerers, tellers: Mapping[str, Teller] | None = None
) -> AsyncIterator[None]:
    """Let commands ask the gateway that serves this configuration, while the context lasts."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(_name(config))
    except OSError as exc:  # a gateway serves without it all the same
        sock.close()
        log.warning("commands cannot reach this gateway, only SIGHUP can reload it", reason=exc.strerror)
        yield
        return

    answering = set[asyncio.Task[None]]()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        answering.add(task)
        task.add_done_callback(answering.discard)
        with contextlib.suppress(OSError, TimeoutError, ValueError):
            peer = _peer(writer.get_extra_info("socket"))
            if peer.user in (0, os.geteuid()):
                line = (await asyncio.wait_for(reader.readline(), _PATIENCE)).decode("ascii")
                verb, _, about = line.removesuffix("\n").partition(" ")
                if line.endswith("\n") and verb in answerers:
                    _say(writer, await answerers[verb](about))
                elif line.endswith("\n") and verb in (tellers or {}):
                    await _tell(reader, writer, (tellers or {})[verb], about)
                await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(answer, sock=sock)
    try:
        yield
    finally:
        server.close()
        if answering:  # what they wait for ends with the gateway
            await asyncio.wait(answering, timeout=_PATIENCE)


def _say(writer: asyncio.StreamWriter, what: object) -> None:
    writer.write(json.dumps(what).encode() + b"\n")


async def _tell(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, teller: Teller, about: str) -> None:
    """Have a teller answer, for as long as who asked is there."""
    enough = asyncio.Event()
    telling = asyncio.ensure_future(teller(about, partial(_say, writer), enough))
    gone = asyncio.ensure_future(_gone(reader, enough))
    try:
        await asyncio.wait((telling, gone), return_when=asyncio.FIRST_COMPLETED)
        if telling.done():
            _say(writer, telling.result())
    finally:
        for task in (telling, gone):
            task.cancel()
        await asyncio.gather(telling, gone, return_exceptions=True)


async def _gone(reader: asyncio.StreamReader, enough: asyncio.Event) -> None:
    """Return when who asked is gone; whatever it says before means that it has heard enough."""
    while await reader.read(_LONGEST):
        enough.set()


async def ask(config: Path, question: str, patience: float) -> tuple[object, int]:
    """What the gateway that serves this configuration answers within `patience` seconds, None where it ended or is too
    old for the question, and its process id.

    Raises NoGateway when there is none, OperatorError when it is another user's or not known to be one.
    """
    async with contextlib.aclosing(asked(config, question, patience)) as answers:
        async for answer, pid in answers:
            return answer, pid
    raise AssertionError("there is always an answer")


async def asked(
    config: Path, question: str, patience: float, *, enough: asyncio.Event | None = None
) -> AsyncGenerator[tuple[object, int], None]:
    """The answers of which one follows the other within `patience` seconds, as `ask` gives one; once `enough` is set,
    the last one is asked for."""
    try:
        reader, writer = await asyncio.open_unix_connection(_name(config), limit=_LONGEST)
    except OSError as exc:
        raise NoGateway(
            f"no gateway is running with {config}; name the same file as for `gateway serve`, or start it"
        ) from exc
    stopping = None
    try:
        peer = _peer(writer.get_extra_info("socket"))
        _require_gateway(config, peer)
        writer.write(question.encode("ascii") + b"\n")
        stopping = None if enough is None else asyncio.create_task(_stop(writer, enough))
        while answer := await asyncio.wait_for(reader.readline(), patience):
            yield json.loads(answer), peer.pid
        yield None, peer.pid
    except (ConnectionError, TimeoutError):
        yield None, peer.pid
    except (ValueError, RecursionError) as exc:
        raise not_a_gateway(peer.pid) from exc
    finally:
        if stopping is not None:
            stopping.cancel()
        writer.close()


async def _stop(writer: asyncio.StreamWriter, enough: asyncio.Event) -> None:
    await enough.wait()
    writer.write(b"enough\n")


def not_a_gateway(pid: int) -> OperatorError:
    """The fault of a process that answers nothing that a gateway would; it may have taken the name."""
    return OperatorError(f"process {pid} answered nothing that a gateway says; see which program that is")


async def ask_to_reload(config: Path) -> tuple[Outcome, int]:
    """Have the gateway that serves this configuration reload it; gives what became of that, and its process id.

    Raises NoGateway and OperatorError as `ask` does.
    """
    answer, pid = await ask(config, "reload", _LONGEST_RELOAD)
    if answer is None:
        raise OperatorError(
            "the gateway ended before it had reloaded, as its log says; or it is a demo, which does not reload"
        )
    return _outcome(answer, pid), pid


def find_gateway(config: Path) -> int | None:
    """The process of the gateway that serves this configuration on this machine, if one does.

    Raises OperatorError where it is another user's, or a process that is not known to be one.
    """
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as sock:
        sock.connect(_name(config))
        peer = _peer(sock)
        _require_gateway(config, peer)
        return peer.pid
    return None


def _outcome(said: Any, pid: int) -> Outcome:
    """The outcome that a gateway answered; whoever else took its name may say anything. Raises OperatorError."""
    try:
        lines = [[str(line) for line in lines] for lines in (said["changed"], said["faults"], said.get("keys", ()))]
    except (AttributeError, TypeError, KeyError) as exc:
        raise not_a_gateway(pid) from exc
    shown = [[line if line.isprintable() else ascii(line) for line in part] for part in lines]
    return Outcome(*shown)


def _name(config: Path) -> str:
    """The socket's name: links above the file are followed, and one that is the file itself leads elsewhere later."""
    path = Path(os.path.realpath(config.parent)) / config.name
    return f"\0oauth2-gateway/{hashlib.sha256(os.fsencode(path)).hexdigest()}"


def _peer(sock: socket.socket) -> Peer:
    """Who is at the other end, as the kernel says."""
    return Peer._make(_CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)))


def _require_gateway(config: Path, peer: Peer) -> None:
    """Raises OperatorError unless the process that has the name can be no other than the gateway of `config`."""
    ours, name = os.geteuid(), _user_name(peer.user)
    if ours not in (0, peer.user):
        names = " or as ".join(dict.fromkeys((name, "root")))
        raise OperatorError(f"the gateway runs as {name}; run this as {names}")
    users, groups = _owners(config)
    if peer.user not in {0, ours, *users} and peer.group not in groups:
        raise OperatorError(
            f"process {peer.pid} of {name} has taken the gateway's name, and neither {config} nor the data_dir or the "
            f"master key that it names is that user's; see what it is, and if it is the gateway run this as {name}, or "
            f"once: chgrp {_group_name(peer.group)} {config}"
        )


def _owners(config: Path) -> tuple[frozenset[int], frozenset[int]]:
    """The users whose a configuration, its data or its master key is, and the groups that may read the file or the key
    beside root, and nobody else. What cannot be read says nothing."""
    data_dir, master = _places(config)
    users, groups = set[int](), set[int]()
    for path in filter(None, (config, data_dir, master)):
        with contextlib.suppress(OSError, ValueError):
            known = path.stat()
            users.add(known.st_uid)
            if path is not data_dir and known.st_mode & (stat.S_IRGRP | stat.S_IROTH) == stat.S_IRGRP:
                groups.add(known.st_gid)
    return frozenset(users), frozenset(groups - {0})


def _places(config: Path) -> tuple[Path | None, Path | None]:
    """The data_dir and the master key's file of a configuration, as far as it can be read."""
    try:
        tables = tomli.loads(config.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None, None
    match tables:
        case {"database": {"data_dir": str(name)}}:
            data_dir = config.parent / name
        case _:
            data_dir = config.parent / Database.model_fields["data_dir"].default
    match tables:
        case {"keys": {"master": {"file": str(name)}}}:
            return data_dir, config.parent / name
        case {"keys": {"master": _}}:
            return data_dir, None
    return data_dir, data_dir / "master.key"


def _group_name(group: int) -> str:
    with contextlib.suppress(KeyError):
        return grp.getgrgid(group).gr_name
    return str(group)


def _user_name(user: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(user).pw_name
    return f"user {user}"
