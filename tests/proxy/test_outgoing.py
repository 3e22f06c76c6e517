"""What goes out together with what goes out elsewhere, on real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.outgoing import Outbox, Outgoing
from tests.proxy.bulk import both_loops

pytestmark = pytest.mark.plain  # compiled, nothing inherits from it here

SHORT = 16 * 1024


class Wire(Outgoing):
    """A connection with a real socket at its other end."""

    def __init__(self, outbox: Outbox, queue: list[Outgoing], end: socket.socket) -> None:
        super().__init__(outbox, queue)
        self.end = end

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # the protocol's signature
        self._transport = None

    def get_buffer(self, sizehint: int) -> bytearray:
        return bytearray(16)

    def come(self) -> bytes:
        """What has come at the other end so far."""
        data = b""
        try:
            while more := self.end.recv(1 << 20):
                data += more
        except BlockingIOError:
            pass
        return data


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with ours, theirs:
        yield ours, theirs


@asynccontextmanager
async def wire(outbox: Outbox, queue: list[Outgoing]) -> AsyncIterator[Wire]:
    with pair() as (ours, theirs):
        made = Wire(outbox, queue, theirs)
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: made, sock=ours)
        try:
            yield made
        finally:
            transport.abort()
            await asyncio.sleep(0)


@both_loops
async def test_what_is_short_leaves_when_all_has_been_told_of() -> None:
    outbox = Outbox()
    async with wire(outbox, outbox.answers) as client, wire(outbox, outbox.requests) as upstream:
        upstream.send(b"request")
        client.send(b"answer")
        assert (client.come(), upstream.come()) == (b"", b"")
        assert (client.unsent, upstream.unsent) == (b"answer", b"request")
        await asyncio.sleep(0)
        assert (client.come(), upstream.come()) == (b"answer", b"request")
        assert (client.unsent, upstream.unsent) == (b"", b"")


@both_loops
async def test_clients_get_their_answers_before_upstreams_are_asked() -> None:
    outbox, order = Outbox(), list[str]()

    class Told(Wire):
        def flush(self) -> None:
            order.append("answer" if self._queue is outbox.answers else "request")
            super().flush()

    with pair() as (_, one), pair() as (_, other):
        client, upstream = Told(outbox, outbox.answers, one), Told(outbox, outbox.requests, other)
        for outgoing in (client, upstream):
            outbox.add(outgoing._queue, outgoing)
        await asyncio.sleep(0)
    assert order == ["answer", "request"]


@both_loops
async def test_nobody_waits_for_more_than_a_few_others() -> None:
    outbox = Outbox()
    async with wire(outbox, outbox.answers) as client:
        client.send(b"answer")
        for _ in range(63):
            outbox.add(outbox.requests, client)
        assert client.come() == b"answer"


@both_loops
async def test_what_is_long_goes_at_once_behind_what_was_to_go() -> None:
    outbox = Outbox()
    async with wire(outbox, outbox.answers) as client:
        client.send(b"short")
        client.send(b"." * SHORT)
        assert client.come() == b"short" + b"." * SHORT


@both_loops
async def test_whoever_takes_the_transport_finds_all_written() -> None:
    outbox = Outbox()
    async with wire(outbox, outbox.answers) as client:
        client.send(b"answer")
        assert client.transport is not None
        assert client.come() == b"answer"
        await asyncio.sleep(0)
        assert client.come() == b""


@both_loops
async def test_what_is_dropped_never_goes_out() -> None:
    outbox = Outbox()
    async with wire(outbox, outbox.answers) as client:
        client.send(b"answer")
        client.drop()
        await asyncio.sleep(0)
        assert client.come() == b""


@both_loops
async def test_a_connection_that_fails_costs_the_others_nothing() -> None:
    outbox = Outbox()

    class Broken(Wire):
        def flush(self) -> None:
            raise OSError("it is gone")

    async with wire(outbox, outbox.answers) as client:
        with pair() as (_, end):
            outbox.add(outbox.answers, Broken(outbox, outbox.answers, end))
            client.send(b"answer")
            await asyncio.sleep(0)
        assert client.come() == b"answer"


@given(
    st.lists(
        st.one_of(
            st.integers(0, SHORT + 2).map(lambda size: ("send", size)),
            st.sampled_from([("take", 0), ("turn", 0), ("flush", 0)]),
        ),
        max_size=12,
    )
)
def test_everything_goes_out_once_and_in_its_order(steps: list[tuple[str, int]]) -> None:
    async def played() -> tuple[bytes, bytes]:
        outbox, sent, got = Outbox(), b"", b""
        async with wire(outbox, outbox.answers) as client:
            for number, (what, size) in enumerate(steps):
                if what == "send":
                    data = bytes([number + 65]) * size
                    sent += data
                    client.send(data)
                elif what == "take":
                    assert client.transport is not None
                elif what == "turn":
                    await asyncio.sleep(0)
                else:
                    outbox.flush()
                got += client.come()
            await asyncio.sleep(0)
            return sent, got + client.come()

    sent, got = asyncio.run(played())
    assert got == sent
