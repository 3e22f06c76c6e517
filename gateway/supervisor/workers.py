"""The workers of a plane: processes of this program that are replaced when they die, however often.

    Starting ──Ready──→ Ready ──serve──→ Serving ──drain──→ Draining ──Closed──→ Closed ──→ ended
        └──── death ────┴──────────────────┴─→ Starting again: at once if it had been ready, else after a growing pause

A worker that dies before it was ever ready would most likely die again, so only then is there a pause. One whose loop
stands still is not ready, and is killed if that lasts.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf
from pathlib import Path
from typing import Final

import gateway
from gateway.config.tls import Certified
from gateway.figures import WORKER_ENDS
from gateway.observe import get_logger
from gateway.supervisor.channel import (
    HEARTBEAT,
    Alive,
    Certify,
    Channel,
    Closed,
    Drain,
    Message,
    Mirror,
    PlaneName,
    Ready,
    Recall,
    Recalled,
    Reopen,
    Serve,
    Start,
)
from gateway.supervisor.metrics import Counts

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_LONGEST_START: Final = 60.0
_LONGEST_CLOSE: Final = 10.0
_LONGEST_RECALL: Final = 2.0
_SILENCE: Final = 3 * HEARTBEAT
_SILENCES: Final = 4  # in a row: it hangs
_GRACE: Final = 2.0  # beyond the drain, before a worker that should have ended is killed

log = get_logger("gateway.supervisor")


def _interpreter() -> list[str]:
    """The command that runs this very program; no module is taken from the working directory by its name."""
    from_here = Path(gateway.__file__).resolve().parent.parent == Path.cwd()
    return [sys.executable, *([] if from_here else ["-P"]), "-m", "gateway"]


async def spawn(plane: PlaneName, listener: socket.socket, start: Start) -> tuple[Process, Channel]:
    """A process of that plane on a listener, which has been told its part, and the channel to it. Raises OSError."""
    ours, theirs = socket.socketpair()
    place = -1 if start.place is None else start.place.memory
    inherited = (listener.fileno(), theirs.fileno(), start.figures, place, *(start.handover or ()))
    try:
        process = await asyncio.create_subprocess_exec(
            *(*_interpreter(), "worker", plane, str(listener.fileno()), str(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            stdout=2,  # what is printed on stdout is the command's own answer
            pass_fds=[descriptor for descriptor in inherited if descriptor >= 0],
            process_group=0,  # a Ctrl-C at the terminal is for the supervisor, which then drains
        )
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    channel = await Channel.over(ours)
    channel.send(start)
    return process, channel


class _Worker:
    """One process and the channel to it."""

    def __init__(self, name: str, process: Process, channel: Channel) -> None:
        self._name, self._process, self._channel = name, process, channel
        self.was_ready = False
        self.late = ""  # what is to be said where it was not ready in time
        self.closed = asyncio.Event()
        self._heard = False  # since it was looked at last
        self._silences = 0
        self._questions: dict[int, asyncio.Future[object]] = {}
        self._numbers = itertools.count()

    @classmethod
    async def spawn(cls, plane: PlaneName, listener: socket.socket, start: Start) -> "_Worker":
        """Raises OSError."""
        process, channel = await spawn(plane, listener, start)
        return cls(start.name, process, channel)

    @property
    def pid(self) -> int:
        return self._process.pid

    async def live(self, on_ready: Callable[[], None]) -> int:
        """Follow it to its end; gives its exit code, negative for a signal."""
        try:
            message = await self._first_words()
            if message == Ready():
                self.was_ready = True
                on_ready()
                await self._listen()
            async with asyncio.timeout(_GRACE):
                return await self._process.wait()
        except TimeoutError:  # it hung up and lives on, or does not start: it cannot be steered any more
            self.kill()
            return await self._process.wait()
        finally:
            self.closed.set()
            self._channel.close()

    async def _first_words(self) -> Message | None:
        """What it says once it has started; None where it has ended. Raises TimeoutError, and tells of that."""
        try:
            async with asyncio.timeout(_LONGEST_START):
                while (message := await self._channel.receive()) == Alive():
                    pass
                return message
        except TimeoutError:
            self.late = f"worker {self._name} was not ready within {_LONGEST_START:g} s and was killed; {_load()}"
            log.error(
                "worker is not ready in time and is killed", worker=self._name, late_pid=self.pid, cause=self.late
            )
            raise

    @property
    def ready(self) -> bool:
        """Whether the worker can accept connections now, or could if it were let."""
        return self.was_ready and not self._silences and not self.closed.is_set()

    async def _listen(self) -> None:
        """Take the worker's reports until the channel ends."""
        watching = asyncio.create_task(self._watch())
        try:
            while (message := await self._channel.receive()) is not None:
                self._heard = True
                if message == Closed():
                    self.closed.set()
                elif isinstance(message, Recalled):
                    asker = self._questions.get(message.number)
                    if asker is not None and not asker.done():
                        asker.set_result(message.answer)
        finally:
            watching.cancel()
            self.closed.set()

    async def _watch(self) -> None:
        """Count how often in a row nothing is heard of it, and kill it if that goes on."""
        loop = asyncio.get_running_loop()
        while self._silences < _SILENCES:
            looked_at = loop.time()
            await asyncio.sleep(_SILENCE)
            if loop.time() - looked_at > _SILENCE + HEARTBEAT:
                continue  # it is we who stood still, and what it said meanwhile is yet to be read
            self._silences = 0 if self._heard else self._silences + 1
            self._heard = False
        self.kill_hung()

    async def recall(self, request_id: str) -> tuple[str, object]:
        """Its name, and what it remembers of a call; None where it does not say so in time."""
        if not self.was_ready:
            return self._name, None
        number = next(self._numbers)
        asker = self._questions[number] = asyncio.get_running_loop().create_future()
        self._channel.send(Recall(number, request_id))
        try:
            async with asyncio.timeout(_LONGEST_RECALL):
                return self._name, await asker
        except TimeoutError:
            return self._name, None
        finally:
            del self._questions[number]

    def serve(self) -> None:
        self._channel.send(Serve())

    def reopen(self) -> None:
        self._channel.send(Reopen())

    def certify(self, certificates: tuple[Certified, ...]) -> None:
        self._channel.send(Certify(certificates))

    def mirror(self, path: str) -> None:
        self._channel.send(Mirror(path))

    def drain(self, seconds: float, *, successors: bool) -> None:
        self._channel.send(Drain(seconds, successors))

    def kill_hung(self) -> None:
        """End one that said nothing in time, and with it what it had in flight, which nothing else tells of."""
        log.error("worker hangs and is killed", worker=self._name, hung_pid=self.pid)
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class Workers:
    """All workers of one plane. `make_start` gives what the worker of a number is to be, and `counts` keeps what each
    has counted."""

    def __init__(
        self,
        plane: PlaneName,
        count: int,
        listener: socket.socket,
        make_start: Callable[[int], Start],
        counts: Counts,
    ) -> None:
        self._plane: PlaneName = plane
        self._counts = counts
        self._count, self._listener, self._make_start = count, listener, make_start
        self._workers: dict[int, _Worker] = {}
        self._serving = False
        self._mirror = ""
        self._ending = asyncio.Event()
        self._ends_by = inf  # by the loop's clock
        self._all_ready = asyncio.Event()
        self._stumbled = asyncio.Event()
        self.late = ""  # what is to be said where a worker was not ready in time

    @property
    def count(self) -> int:
        return self._count

    @property
    def ready(self) -> int:
        """The number of workers that can accept connections now; the others start, end or hang."""
        return sum(worker.ready for worker in self._workers.values())

    @property
    def were_ready(self) -> bool:
        """Whether all workers were ready at one time."""
        return self._all_ready.is_set()

    async def run(self) -> None:
        """Keep every place filled until `drain`; returns when the last worker has ended."""
        async with asyncio.TaskGroup() as places:
            for number in range(1, self._count + 1):
                places.create_task(self._keep(number))

    async def recall(self, request_id: str) -> list[tuple[str, object]]:
        """What each of the workers remembers of a call, by its name."""
        return await asyncio.gather(*(worker.recall(request_id) for worker in self._workers.values()))

    async def wait_ready(self) -> None:
        """Wait until all workers are ready at one time."""
        await self._all_ready.wait()

    async def wait_stumbled(self) -> None:
        """Wait until a worker ends before it was ever ready."""
        await self._stumbled.wait()

    def serve(self) -> None:
        """Let all workers accept connections, each as soon as it is ready."""
        self._serving = True
        for worker in self._workers.values():
            if worker.was_ready:
                worker.serve()

    def reopen(self) -> None:
        """Have all workers open the access log's file again."""
        for worker in self._workers.values():
            worker.reopen()

    def certify(self, certificates: tuple[Certified, ...]) -> None:
        """Have all workers show these certificates from now on."""
        for worker in self._workers.values():
            worker.certify(certificates)

    def drain(self, seconds: float, *, successors: bool = False) -> None:
        """Let the workers finish what is in flight, for so many seconds; those that still run then are killed. With
        `successors`, connections that are kept go to those."""
        loop = asyncio.get_running_loop()
        if loop.time() + seconds >= self._ends_by:  # as after another, unless that gave more time
            return
        self._ends_by = loop.time() + seconds
        self._ending.set()
        for worker in self._workers.values():
            if worker.was_ready:
                worker.drain(seconds, successors=successors)
            else:
                worker.kill()
        loop.call_later(seconds + _GRACE, self.kill)

    async def wait_drained(self) -> None:
        """Wait until the workers are told to end."""
        await self._ending.wait()

    async def wait_closed(self) -> None:
        """Wait until the workers that drain accept no more; one that takes too long hangs, and is killed."""
        workers = list(self._workers.values())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_CLOSE):
                await asyncio.gather(*(worker.closed.wait() for worker in workers))
        for worker in workers:
            if not worker.closed.is_set():
                worker.kill_hung()
                await worker.closed.wait()

    def kill(self) -> None:
        """End all workers at once."""
        self._ends_by = -inf
        self._ending.set()
        for worker in self._workers.values():
            worker.kill()

    async def _keep(self, number: int) -> None:
        pause = 0.0
        while not self._ending.is_set():
            was_ready = await self._one_life(number)
            pause = 0.0 if was_ready else min(max(_FIRST_PAUSE, 2 * pause), _LONGEST_PAUSE)
            await self._pause(pause)

    async def _one_life(self, number: int) -> bool:
        """From the spawning of a worker to its end; tells whether it was ready in between."""
        start = self._make_start(number)
        config = start.settings.config
        bounded = [route.name for route in config.routes if route.concurrency and self._plane == "access"]
        with self._counts.of_one() as memory, self._counts.under_way.of_one(bounded) as place:
            return await self._live(number, replace(start, figures=memory, place=place))

    async def _live(self, number: int, start: Start) -> bool:
        try:
            worker = await _Worker.spawn(self._plane, self._listener, start)
        except OSError as exc:
            log.error("worker cannot be started", worker=start.name, exc_info=exc)
            self._stumbled.set()
            return False
        self._workers[number] = worker
        if self._ending.is_set():  # while it was spawned
            worker.kill()
        code = await worker.live(partial(self._on_ready, worker))
        del self._workers[number]
        if not self._ending.is_set():
            WORKER_ENDS.add(1.0, self._plane)
            log.error("worker ended and is replaced", worker=start.name, ended_pid=worker.pid, how=_how(code))
        if not worker.was_ready:
            self.late = self.late or worker.late
            self._stumbled.set()
        return worker.was_ready

    def mirror(self, path: str) -> None:
        """Have all workers tell the shadow at `path` of the calls that end, also those that come; or nobody."""
        self._mirror = path
        for worker in self._workers.values():
            if worker.was_ready:
                worker.mirror(path)

    def _on_ready(self, worker: _Worker) -> None:
        if self._mirror:
            worker.mirror(self._mirror)
        if self._serving:
            worker.serve()
        if sum(worker.was_ready for worker in self._workers.values()) == self._count:
            self._all_ready.set()

    async def _pause(self, seconds: float) -> None:
        if seconds:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._ending.wait()


def _load() -> str:
    """What the operator is asked where a start takes too long."""
    cores = len(os.sched_getaffinity(0))
    shared = "one core" if cores == 1 else f"{cores} cores"
    return f"is the machine overloaded (load {os.getloadavg()[0]:.0f} on {shared})?"


def _how(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
