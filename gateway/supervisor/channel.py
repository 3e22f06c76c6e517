"""Messages between supervisor and worker, over the socket pair that only they hold.

    supervisor → worker    Start   once, first: all that a worker needs, so that it reads no secret that has changed
                                   since, and none stands in its arguments or environment
                           Serve   accept connections
                           Reopen  write the access log on to what has its file's name now
                           Recall  tell what is remembered of a call
                           Drain   finish what is in flight and end
                           Certify show other certificates
                           Mirror  tell a shadow of the calls that end, or no longer
    worker → supervisor    Ready   once: it can serve
                           Alive   every HEARTBEAT seconds
                           Recalled  the answer to Recall
                           Closed  once: it accepts no more, whoever told it to

    supervisor → shadow    Start, then Compare: the configuration in force and the other one; Drain at the end
    shadow → supervisor    Ready, Alive; Joined for each worker that tells it of calls; Differs for each kind of
                           call, when it is first seen; Compared at the end

The end of the channel is news too: the other one is gone. A message is its length and its pickle; both ends are
one program, and nobody else has the socket.
"""

import asyncio
import pickle
import socket
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from msgspec import Struct

from gateway.config import Settings
from gateway.config.tls import Certified
from gateway.observe import Level
from gateway.supervisor.users import SystemUser
from gateway.underway import Place

PlaneName = Literal["access", "authorization", "shadow"]
"""What a process serves: the public listener, the private socket that those of the first kind ask, or the one by which
they tell of calls that are over."""

HEARTBEAT: Final = 2.0
_LENGTH: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What a worker is to be: `name` is what its log lines say, `authorization_socket` where that plane is asked,
    `supervisor` its parent's process id, and `user` whom it becomes where root has started it; with `load_all`, one who
    cannot reach this program's files. `handover` are the two descriptors of the queue of connections that workers leave
    to each other, and `figures` is that of the memory that it counts in. `out` are the upstreams that other workers
    give no calls now, by their names in the figures; and `place` is where calls under way are counted, if any are."""

    settings: Settings = field(repr=False)
    dsn: str = field(repr=False)
    name: str
    authorization_socket: str
    supervisor: int
    level: Level
    user: SystemUser | None = None
    load_all: bool = False
    handover: tuple[int, int] | None = None
    figures: int = -1
    place: Place | None = None
    out: frozenset[str] = frozenset()


class Ready(Struct, frozen=True):
    """The worker can serve."""


class Alive(Struct, frozen=True):
    """The worker's loop turns."""


class Closed(Struct, frozen=True):
    """The worker accepts no connection any more; what it has taken before, it finishes."""


class Reopen(Struct, frozen=True):
    """Go on with the access log at what has its file's name now."""


class Serve(Struct, frozen=True):
    """Accept connections from now on."""


class Recall(Struct, frozen=True):
    """Tell what is remembered of the calls with this identifier. The answer bears the question's number."""

    number: int
    request_id: str


class Recalled(Struct, frozen=True):
    """What a worker remembers of them: something that JSON has."""

    number: int
    answer: object


class Drain(Struct, frozen=True):
    """Accept no more, finish what is in flight within `seconds`, end; with `successors`, leave the connections that
    are kept to them."""

    seconds: float
    successors: bool = False


class Mirror(Struct, frozen=True):
    """Tell the shadow that listens at `path` of each call that ends; with an empty one, nobody any longer."""

    path: str


@dataclass(frozen=True, slots=True)
class Certify:
    """Show these certificates from now on."""

    certificates: tuple[Certified, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Compare:
    """Judge what you are told of by these settings, too, and say what becomes otherwise by them."""

    settings: Settings = field(repr=False)


class Joined(Struct, frozen=True):
    """One more worker tells the shadow of its calls."""


class Differs(Struct, frozen=True, kw_only=True):
    """A kind of call that two configurations decide differently: how often it came, and the first one's path and id."""

    method: str
    before: str
    after: str
    count: int
    path: str
    request_id: str


class Compared(Struct, frozen=True, kw_only=True):
    """What was compared: how many calls, how many were decided otherwise, and those of which the shadow was not told
    or that it could not judge; `others` differ in more kinds than are told apart."""

    calls: int = 0
    different: int = 0
    missed: int = 0
    others: int = 0
    kinds: tuple[Differs, ...] = ()


Message = (
    Start
    | Ready
    | Alive
    | Closed
    | Serve
    | Reopen
    | Drain
    | Recall
    | Recalled
    | Mirror
    | Certify
    | Compare
    | Joined
    | Differs
    | Compared
)


class Channel:
    """One end of the channel. Sending never waits: messages are few and small."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, sock: socket.socket) -> "Channel":
        """The channel over one socket of the pair, which it owns from now on."""
        return cls(*await asyncio.open_unix_connection(sock=sock))

    def send(self, message: Message) -> None:
        """Send, or do nothing when the other end is gone: `receive` tells that."""
        if not self._writer.is_closing():
            body = pickle.dumps(message)
            self._writer.write(len(body).to_bytes(_LENGTH, "big") + body)

    async def receive(self) -> Message | None:
        """The next message; None when the other end is gone."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            body = await self._reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return cast("Message", pickle.loads(body))  # noqa: S301  # from our own other half, see above

    def close(self) -> None:
        self._writer.close()
