"""A wire between stores and Postgres that a test can cut, by the use that a connection names (application_name)."""

import asyncio
import contextlib
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.folders import SHORT
from tests.serving import until
from tests.streams import accepting

_NOTIFICATION = b"A"
_LISTEN, _NO_LISTEN = b"LISTEN ", b"LISTEM "


class Relay:
    """Passes everything on until it is told otherwise. `dsn` leads through it."""

    def __init__(self, server_dsn: str, folder: str) -> None:
        found = re.search(r"host=([^&]*)&port=(\d+)", server_dsn)
        assert found is not None
        self._server = f"{found[1]}/.s.PGSQL.{found[2]}"
        self.path = f"{folder}/.s.PGSQL.{found[2]}"
        self.dsn = server_dsn.replace(f"host={found[1]}", f"host={folder}")
        self.deaf = False  # notifications are lost on the way
        self.closed = False  # new connections are ended at once
        self.listenless = False  # the server is asked for something else than to listen, which it refuses
        self.answers: Counter[str] = Counter()  # chunks that came from the server, by use
        self.notifications = 0  # that came from the server, lost or not
        self.refused_listens = 0
        self._held: set[str] = set()
        self._flowing: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._writers: defaultdict[str, set[asyncio.StreamWriter]] = defaultdict(set)

    def hold(self, use: str, *, later: bool = True) -> None:
        """Keep what the server answers on the connections of that use; on those that come `later` too, or not."""
        for flowing in self._flowing[use]:
            flowing.clear()
        if later:
            self._held.add(use)

    def release(self, use: str) -> None:
        self._held.discard(use)
        for flowing in self._flowing[use]:
            flowing.set()

    async def more_answers(self, use: str, than: int) -> None:
        """Wait until the server has said more on the connections of that use, held back or not."""
        await until(lambda: self.answers[use] > than)

    def cut(self, use: str) -> None:
        """End the connections of that use."""
        for writer in list(self._writers[use]):
            writer.close()

    def connections(self, use: str) -> int:
        return len(self._writers[use])

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass on one connection."""
        use, upstream = "", None
        try:
            size = await reader.readexactly(4)
            start = await reader.readexactly(int.from_bytes(size, "big") - 4)
            if self.closed:
                return
            parameters = start[4:].split(b"\0")
            if b"application_name" in parameters:
                use = parameters[parameters.index(b"application_name") + 1].decode()
            self._writers[use].add(writer)
            from_server, upstream = await asyncio.open_unix_connection(self._server)
            upstream.write(size + start)
            up = asyncio.create_task(self._up(reader, upstream))
            try:
                await self._down(from_server, writer, use)
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            self._writers[use].discard(writer)
            if upstream is not None:
                upstream.close()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.listenless:
                    self.refused_listens += data.count(_LISTEN)
                    data = data.replace(_LISTEN, _NO_LISTEN)
                writer.write(data)
                await writer.drain()
            writer.close()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, use: str) -> None:
        flowing = asyncio.Event()
        if use not in self._held:
            flowing.set()
        self._flowing[use].add(flowing)
        try:
            while True:
                head = await reader.readexactly(5)
                body = await reader.readexactly(int.from_bytes(head[1:], "big") - 4)
                self.answers[use] += 1
                self.notifications += head[:1] == _NOTIFICATION
                if head[:1] == _NOTIFICATION and self.deaf:
                    continue
                await flowing.wait()
                writer.write(head + body)
                await writer.drain()
        finally:
            self._flowing[use].discard(flowing)


@asynccontextmanager
async def relaying(server_dsn: str) -> AsyncIterator[Relay]:
    """A relay to the server that a DSN names by its socket."""
    folder = tempfile.mkdtemp(prefix="gwr-", dir=SHORT)
    relay = Relay(server_dsn, folder)
    try:
        async with accepting(relay.accept, path=relay.path):
            yield relay
    finally:
        shutil.rmtree(folder)
