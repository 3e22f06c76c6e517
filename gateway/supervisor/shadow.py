"""A shadow at its supervisor's end: a process that is told of live calls, and judges them by a configuration that is
not in force (`gateway.app.shadow`). It is no worker: nothing replaces it when it dies, and nothing waits for it.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from msgspec import Struct, field

from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.observe import Level
from gateway.supervisor.channel import (
    HEARTBEAT,
    Alive,
    Channel,
    Compare,
    Compared,
    Differs,
    Drain,
    Joined,
    Message,
    Ready,
    Start,
)
from gateway.supervisor.control import asked, not_a_gateway
from gateway.supervisor.listening import listen_privately
from gateway.supervisor.programs import reaches_this_program
from gateway.supervisor.users import SystemUser
from gateway.supervisor.workers import spawn

_LONGEST_START: Final = 60.0
_SILENCE: Final = 12 * HEARTBEAT  # it loops, or hangs
_LONGEST_SILENCE: Final = 120.0  # seconds beyond its time: to come up, and to end
_LONGEST_JOINING: Final = 5.0
_LAST_CALLS: Final = 2.0  # seconds for those that it is judging at the end
_GRACE: Final = 5.0


Found = Callable[[Differs], None]
"""Hears of a kind of call that would be decided otherwise, when it is first seen."""


class ShadowOutcome(Struct, frozen=True):
    """The outcome of a shadow: what a reload would change, and what that would decide otherwise; or every fault for
    which that is not known. `early` says why it ended before its time."""

    changed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    early: str = ""
    compared: Compared = field(default_factory=Compared)


async def ask_for_shadow(config: Path, seconds: float, found: Found) -> tuple[ShadowOutcome, int]:
    """Have the gateway that serves this configuration compare it with the one in force; `found` hears of each kind of
    call that is decided otherwise. Ctrl-C ends it sooner. Gives the outcome, and the gateway's process id.

    Raises OperatorError, as `control.ask` does.
    """
    loop, enough = asyncio.get_running_loop(), asyncio.Event()

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)  # another Ctrl-C waits for no report
        enough.set()

    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        loop.add_signal_handler(signal.SIGINT, stop)
    answered = asked(config, f"shadow {seconds:.0f}", seconds + _LONGEST_SILENCE, enough=enough)
    async with contextlib.aclosing(answered) as answers:
        async for answer, pid in answers:
            if answer is None:
                break
            try:
                said = _shown(answer)
                if "method" in said:
                    found(Differs(**said))
                    continue
                compared = said.pop("compared")
                kinds = tuple(Differs(**kind) for kind in compared.pop("kinds"))
                return ShadowOutcome(**said, compared=Compared(**compared, kinds=kinds)), pid
            except (TypeError, KeyError, AttributeError) as exc:
                raise not_a_gateway(pid) from exc
    raise OperatorError("the gateway ended before it had compared, as its log says; or it is a demo, or of before 0.1")


def _shown(said: Any) -> Any:
    """The same with text that moves no terminal; whoever else took the gateway's name may say anything."""
    if isinstance(said, dict):
        return {_shown(name): _shown(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_shown(value) for value in said]
    return said if not isinstance(said, str) or said.isprintable() else ascii(said)


class Shadow:
    """A shadow that runs. `path` is where workers reach it."""

    def __init__(self, process: asyncio.subprocess.Process, channel: Channel, path: Path) -> None:
        self._process, self._channel = process, channel
        self.path: Final = path

    @classmethod
    @asynccontextmanager
    async def running(
        cls,
        settings: Settings,
        other: Settings,
        *,
        path: Path,
        dsn: str,
        level: Level,
        user: SystemUser | None,
    ) -> AsyncIterator["Shadow"]:
        """One that is ready; it ends with the context. Raises OperatorError when it does not come up."""
        listener = listen_privately(path, user)
        try:
            start = Start(
                settings=settings,
                dsn=dsn,
                name="shadow",
                authorization_socket="",
                supervisor=os.getpid(),
                level=level,
                user=user,
                load_all=user is not None and not reaches_this_program(user),
            )
            try:
                process, channel = await spawn("shadow", listener, start)
            except OSError as exc:
                raise OperatorError(f"the shadow cannot be started ({exc.strerror}); nothing has changed") from exc
        finally:
            listener.close()
        shadow = cls(process, channel, path)
        try:
            channel.send(Compare(other))
            if await shadow._next(_LONGEST_START) != Ready():
                raise OperatorError("the shadow ended before it was ready; the gateway's log says why")
            yield shadow
        finally:
            await shadow._end()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108  # it waits for no disk

    async def wait_joined(self, workers: int, found: Callable[[Differs], None]) -> None:
        """Wait until so many workers tell it of their calls, but not for long: one may hang. Raises OperatorError."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_JOINING):
                while workers > 0:
                    message = await self._next(_SILENCE)
                    if isinstance(message, Joined):
                        workers -= 1
                    elif isinstance(message, Differs):
                        found(message)

    async def follow(self, found: Callable[[Differs], None]) -> None:
        """Have `found` hear of each kind of call that is decided otherwise. Raises OperatorError when it ends."""
        while True:
            message = await self._next(_SILENCE)
            if isinstance(message, Differs):
                found(message)

    async def report(self, found: Callable[[Differs], None]) -> Compared:
        """What it has found; it is told of no more calls. Raises OperatorError."""
        self._channel.send(Drain(_LAST_CALLS))
        while True:
            message = await self._next(_SILENCE)
            if isinstance(message, Compared):
                return message
            if isinstance(message, Differs):
                found(message)

    async def _next(self, patience: float) -> Message:
        """The next message but that it lives, which it says time and again. Raises OperatorError."""
        while True:
            try:
                async with asyncio.timeout(patience):
                    message = await self._channel.receive()
            except TimeoutError as exc:
                raise OperatorError("the shadow hangs and is ended; no call has noticed, nothing has changed") from exc
            if message is None:
                code = await self._process.wait()
                how = signal.Signals(-code).name if code < 0 else f"exit {code}"
                raise OperatorError(f"the shadow ended ({how}); no call has noticed, and the gateway's log says more")
            if message != Alive():
                return message

    async def _end(self) -> None:
        self._channel.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GRACE):
                await self._process.wait()
                return
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()
