"""All workers that serve one configuration, and how one set takes over from another.

    starting ──serve──→ serving ──drain──→ access drains ──→ authorization drains ──→ ended
        └── stumbled: the generation before goes on

A new configuration gets new workers, as a new release would: nothing of the old one is left in a process, be it a
route, a memo or a cached grant. Both generations share the public listener, so no connection is refused; each has a
private socket of its own, so that calls of the old one end with the old one. Connections that clients keep go over
from the old one to the new one between two calls (`proxy.handover`), so that none is cut.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from gateway.config import Settings
from gateway.config.tls import Certified
from gateway.observe import Level
from gateway.supervisor.channel import PlaneName, Start
from gateway.supervisor.connections import authorization_workers, needed
from gateway.supervisor.listening import listen_privately
from gateway.supervisor.metrics import Counts
from gateway.supervisor.programs import reaches_this_program
from gateway.supervisor.users import SystemUser
from gateway.supervisor.workers import Workers

_LAST_ANSWERS: Final = 2.0  # seconds; whoever asked has gone by then


class Generation:
    """The workers of both planes for `settings`. `path` is where it may listen; it makes and removes that socket.

    Where root starts them, they become `user`. By `handover`, connections go from one generation to the next.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        workers: int,
        listener: socket.socket,
        path: Path,
        dsn: str,
        level: Level,
        counts: Counts,
        user: SystemUser | None = None,
        handover: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        self.settings = settings
        self._path, self._dsn, self._level, self._user = path, dsn, level, user
        self._handover = None if handover is None else (handover[0].fileno(), handover[1].fileno())
        self._load_all = user is not None and not reaches_this_program(user)
        self._counts = counts
        self._private = listen_privately(path, user)
        self.connections = needed(settings, workers)  # to the database, at most
        self.access = self._workers("access", workers, listener)
        self.authorization = self._workers("authorization", authorization_workers(settings, workers), self._private)

    def _workers(self, plane: PlaneName, count: int, listener: socket.socket) -> Workers:
        def start(number: int) -> Start:
            return Start(
                settings=self.settings,
                dsn=self._dsn,
                name=f"{plane}-{number}",
                authorization_socket=str(self._path),
                supervisor=os.getpid(),
                level=self._level,
                user=self._user,
                load_all=self._load_all,
                handover=self._handover if plane == "access" else None,
                out=self._counts.left_out() if plane == "access" else frozenset(),
            )

        return Workers(plane, count, listener, start, self._counts)

    async def run(self) -> None:
        """Keep every place filled until `drain`; returns when the last worker has ended."""
        try:
            async with asyncio.TaskGroup() as planes:
                planes.create_task(self._access_then_authorization())
                planes.create_task(self.authorization.run())
        finally:
            self._private.close()
            self._path.unlink(missing_ok=True)

    async def _access_then_authorization(self) -> None:
        await self.access.run()
        self.authorization.drain(_LAST_ANSWERS)

    async def recall(self, request_id: str) -> list[tuple[str, object]]:
        """What each worker remembers of a call, by its name."""
        planes = await asyncio.gather(self.access.recall(request_id), self.authorization.recall(request_id))
        return [each for plane in planes for each in plane]

    async def wait_ready(self) -> None:
        """Wait until all workers of both planes have been ready."""
        await asyncio.gather(self.access.wait_ready(), self.authorization.wait_ready())

    async def wait_stumbled(self) -> None:
        """Wait until a worker ends before it was ever ready."""
        await first_of(self.access.wait_stumbled(), self.authorization.wait_stumbled())

    @property
    def late(self) -> str:
        """What is to be said where a worker was not ready in time; empty where none was late."""
        return self.access.late or self.authorization.late

    @property
    def was_ready(self) -> bool:
        """Whether all workers of both planes have been ready."""
        return self.access.were_ready and self.authorization.were_ready

    def serve(self) -> None:
        """Let all workers accept connections, each as soon as it is ready."""
        self.authorization.serve()
        self.access.serve()

    def mirror(self, path: str) -> None:
        """Have the workers of the access plane tell the shadow at `path` of calls that end; or nobody any longer."""
        self.access.mirror(path)

    def certify(self, certificates: tuple[Certified, ...]) -> None:
        """Show these certificates from now on, whichever worker."""
        self.settings = replace(self.settings, certificates=certificates)
        self.access.certify(certificates)

    def reopen(self) -> None:
        """Have all workers open the access log's file again."""
        self.access.reopen()

    def drain(self, seconds: float, *, successors: bool = False) -> None:
        """Let the workers finish what is in flight, for so many seconds; those that still run then are killed. With
        `successors`, connections that are kept go to the workers of the next generation."""
        self.access.drain(seconds, successors=successors)

    async def wait_drained(self) -> None:
        """Wait until this generation is told to end."""
        await self.access.wait_drained()

    async def wait_closed(self) -> None:
        """Wait, once drained, until this generation takes no more connections."""
        await self.access.wait_closed()

    def kill(self) -> None:
        """End all workers at once."""
        self.access.kill()
        self.authorization.kill()


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait until one of `waits` ends; the others are cancelled."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
