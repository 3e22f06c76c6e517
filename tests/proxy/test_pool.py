"""The pool of upstream connections: used again when both sides are clean, never otherwise."""

import asyncio
import random
from pathlib import Path

import pytest

from gateway.proxy import Limits
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.bulk import both_loops
from tests.proxy.rig import DEADLINE, RawUpstream, Rig, eventually, rig

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"


def persistent(upstream: RawUpstream, answer: bytes | None = None, per_connection: int = 1_000_000) -> None:
    """Let an upstream answer on each connection until it has answered so often, then end it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(per_connection):
            await upstream.read_request(reader)
            writer.write(answer or upstream.answer)
            await writer.drain()

    upstream.handler = serve


async def test_a_clean_connection_is_used_again_by_whoever_comes_next(public: Rig) -> None:
    persistent(public.upstream)
    for _ in range(5):
        assert (await public.talk(GET)).body == b"ok"
        assert (await public.talk(POST)).body == b"ok"
    assert public.upstream.connections == 1
    assert len(public.upstream.requests) == 10


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokEXTRA",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nEXTRA",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_is_not_clean_is_never_used_again(answer: bytes, public: Rig) -> None:
    persistent(public.upstream, answer)
    for _ in range(3):
        reply = await public.talk(GET)
        assert reply.complete
        assert reply.body in (b"ok", b"")
    assert public.upstream.connections == 3


async def test_a_connection_that_the_upstream_ended_is_taken_out(public: Rig) -> None:
    persistent(public.upstream, per_connection=1)
    for _ in range(3):
        assert (await public.talk(POST)).body == b"ok"
        await eventually(lambda: public.upstream.ended == public.upstream.connections)
    assert public.upstream.connections == 3


async def dying(upstream: RawUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the first request of a connection; read the second and die without a word."""
    await upstream.read_request(reader)
    writer.write(upstream.answer)
    await writer.drain()
    await upstream.read_request(reader)


@pytest.mark.parametrize(
    ("request_bytes", "status", "sent"),
    [(GET, 200, 2), (GET.replace(b"GET", b"DELETE"), 200, 2), (POST, 502, 1), (POST.replace(b"POST", b"PUT"), 502, 1)],
)
async def test_only_what_is_safe_is_sent_again_when_a_connection_dies_unread(
    request_bytes: bytes, status: int, sent: int, public: Rig
) -> None:
    # RFC 9110, section 9.2.2; a body is not kept, so even a PUT is not sent twice
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await dying(public.upstream, reader, writer)

    public.upstream.handler = serve
    assert (await public.talk(GET)).status == 200
    assert (await public.talk(request_bytes)).status == status
    assert len(public.upstream.requests) == 1 + sent


@both_loops
@pytest.mark.parametrize("request_bytes", [GET, POST])
async def test_connection_that_ends_in_the_hands_of_who_waited_for_it_costs_no_answer(
    request_bytes: bytes, tmp_path: Path, no_database: Store
) -> None:
    async with rig(tmp_path, no_database, limits=Limits(upstream_connections=1)) as running:
        persistent(running.upstream, per_connection=1)  # it ends each right after the answer, without saying so
        replies = await asyncio.gather(*(running.talk(request_bytes) for _ in range(20)))
        assert {reply.status for reply in replies} == {200}
        assert len(running.upstream.requests) == 20


@both_loops
@pytest.mark.parametrize("turns", range(8))
async def test_bytes_that_nobody_asked_for_cost_who_waited_no_answer(
    turns: int, tmp_path: Path, no_database: Store
) -> None:
    async with rig(tmp_path, no_database, limits=Limits(upstream_connections=1)) as running:
        asked_for = list[int]()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            number = len(asked_for)
            asked_for.append(0)
            while True:
                await running.upstream.read_request(reader)
                asked_for[number] += 1
                writer.write(running.upstream.answer)
                if number == 0:  # and in some later turn of the loop, about when the next request gets the connection
                    for _ in range(turns):
                        await asyncio.sleep(0)
                    writer.write(b"more")

        running.upstream.handler = serve
        replies = await asyncio.gather(*(running.talk(POST) for _ in range(2)))
        if asked_for[0] == 1:  # else they are the beginning of the second answer
            assert [reply.status for reply in replies] == [200, 200]


async def test_what_died_after_its_first_byte_is_not_sent_again(public: Rig) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await public.upstream.read_request(reader)
        writer.write(public.upstream.answer)
        await public.upstream.read_request(reader)
        writer.write(b"H")

    public.upstream.handler = serve
    assert (await public.talk(GET)).status == 200
    assert (await public.talk(GET)).status == 502
    assert len(public.upstream.requests) == 2


async def test_a_connection_that_was_paused_for_a_slow_client_serves_the_next(public: Rig) -> None:
    body = b"x" * 16_000_000
    persistent(public.upstream, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    for _ in range(3):
        connection = await public.connect()
        await connection.send(GET)
        await eventually(lambda: any(not front.writable for front in public.proxy.fronts))
        assert (await connection.reply()).body == body
        connection.close()
    assert public.upstream.connections == 1


async def test_more_exchanges_than_connections_wait_their_turn_and_no_longer_than_said(
    tmp_path: Path, no_database: Store
) -> None:
    limits = Limits(upstream_connections=2, upstream_waiting=3, upstream_wait=2.0)
    async with rig(tmp_path, no_database, limits=limits) as running:
        release = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await running.upstream.read_request(reader)
                await release.wait()
                writer.write(running.upstream.answer)

        running.upstream.handler = serve
        asking = [asyncio.create_task(running.talk(GET)) for _ in range(6)]
        await eventually(lambda: running.upstream.connections == 2 and any(task.done() for task in asking))
        assert [task.result().status for task in asking if task.done()] == [503]
        release.set()
        assert sorted([(await task).status for task in asking]) == [200] * 5 + [503]
        assert running.upstream.connections == 2

        release.clear()
        asking = [asyncio.create_task(running.talk(GET)) for _ in range(3)]
        done, _ = await asyncio.wait(asking, timeout=DEADLINE, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result().status for task in done] == [504]
        release.set()
        await asyncio.wait(asking)


async def test_idle_connections_that_are_not_fresh_make_room_for_what_is_sent_once(
    tmp_path: Path, no_database: Store
) -> None:
    limits = Limits(upstream_connections=2, upstream_wait=5.0, fresh=0.0)
    async with rig(tmp_path, no_database, limits=limits) as running:
        persistent(running.upstream)
        for _ in range(3):
            replies = await asyncio.gather(running.talk(POST), running.talk(POST))
            assert [reply.body for reply in replies] == [b"ok", b"ok"]
        assert running.upstream.connections == 6
        await eventually(lambda: running.upstream.ended == 4)


async def test_an_idle_connection_is_closed_after_a_while(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, limits=Limits(upstream_idle=0.2, recheck=0.1, tick=0.05)) as running:
        persistent(running.upstream)
        await running.talk(GET)
        await eventually(lambda: running.upstream.ended == 1)


class Whimsical:
    """An upstream that closes, truncates, delays and answers early at random; its answer is the request's path."""

    def __init__(self) -> None:
        self._dice = random.Random(20)
        self.posted: list[bytes] = []  # paths, of every head of a POST that came
        self.bodies: list[tuple[bytes, bytes]] = []  # paths, and the bodies behind them

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            mark = head.split(b" ")[1]
            whim = self._dice.random()
            if head.startswith(b"POST"):
                self.posted.append(mark)
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(mark), mark)
            if whim < 0.04:
                writer.write(answer if whim < 0.02 else b"")  # early, or without a word; the body is never read
                return
            if head.startswith(b"POST"):
                self.bodies.append((mark, await reader.readexactly(len(mark))))
            if whim < 0.08:
                writer.write(answer[: self._dice.randrange(1, len(answer))])
                return
            await self._answer_whole(writer, mark, answer, whim)

    async def _answer_whole(self, writer: asyncio.StreamWriter, mark: bytes, answer: bytes, whim: float) -> None:
        if whim < 0.10:
            await asyncio.sleep(self._dice.random() / 100)
        if whim < 0.12:
            answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n" % (len(mark), mark)
            writer.write(answer)
            await writer.drain()
            answer = b"0\r\n\r\n"
        writer.write(answer)


async def ask(running: Rig, client: int, count: int) -> list[int]:
    """Requests with unique bodies, GET and POST in turn; every complete answer must be its request's own."""
    statuses, connection = list[int](), await running.connect()
    for step in range(count):
        mark = b"/%d/%d" % (client, step)
        data = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % mark
        if (client + step) % 2:
            data = b"POST %b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (mark, len(mark), mark)
        await connection.send(data)
        reply = await connection.reply()
        statuses.append(reply.status)
        assert reply.status != 200 or not reply.complete or reply.body == mark
        if not reply.complete or "close" in reply.all("connection"):
            connection.close()
            connection = await running.connect()
    connection.close()
    return statuses


async def test_no_answer_is_crossed_torn_or_doubled_over_upstreams_that_misbehave(
    tmp_path: Path, no_database: Store
) -> None:
    upstream, clients = Whimsical(), 20
    async with rig(tmp_path, no_database) as running:
        running.upstream.handler = upstream.serve
        asked = await asyncio.gather(
            *(ask(running, client, scaled(200_000, 20) // clients) for client in range(clients))
        )
    statuses = [status for each in asked for status in each]
    assert len(upstream.posted) == len(set(upstream.posted))
    assert len(upstream.bodies) > len(statuses) * 0.4
    assert all(mark == body for mark, body in upstream.bodies)
    assert statuses.count(200) > len(statuses) * 0.9
    assert set(statuses) <= {0, 200, 502}
