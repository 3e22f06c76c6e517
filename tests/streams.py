"""Servers of a test's own, with which all of their connections end."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

_TURNS = 5  # of the loop, in which a connection that was just taken comes to its handler

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def accepting(
    handler: Handler,
    *,
    host: str = "127.0.0.1",
    path: str | None = None,
    sock: socket.socket | None = None,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """A server on a port of `host`, which it gives; or else at the `path` of a unix socket, or on such a socket.

    A connection ends with its handler, and that the other side left is no fault of a handler's. At the end those that
    still run are cancelled, and nothing stays open.
    """
    tasks, secured = set[asyncio.Task[None]](), list[asyncio.WriteTransport]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await handler(reader, writer)
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if tls is not None:
            secured.append(writer.transport)
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if path is None and sock is None:
        server = await asyncio.start_server(accept, host, 0, ssl=tls)
    else:
        server = await asyncio.start_unix_server(accept, path, sock=sock, ssl=tls)
    name = server.sockets[0].getsockname()
    try:
        yield name[1] if isinstance(name, tuple) else 0
    finally:
        server.close()
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in secured:
            transport.abort()  # the other side may never say good-bye, and is waited for
