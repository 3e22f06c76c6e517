"""A route with several upstreams: who is asked, what is sent again and what never, and who is left out."""

import asyncio
import os
import random
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.figures import UPSTREAM_EJECTIONS, UPSTREAM_OUT, UPSTREAM_RETRIES, cells, memory_for_one, share
from gateway.proxy import Limits
from gateway.proxy.finished import Finished
from gateway.routing.retrying import FLOOR, SHARE
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.bulk import both_loops
from tests.proxy.rig import DEADLINE, Connection, Reply, Rig, eventually, rig
from tests.proxy.several import OK, Server, several, well

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
QUICK = Limits(tick=0.05)


async def met(running: Rig, server: Server, method: str) -> tuple[str, Reply]:
    """The first of some calls that comes to a server: its target, by which it is told from others, and its answer."""
    body = "" if method in ("GET", "HEAD", "DELETE") else "hi"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    for number in range(1000):
        target = f"/{method}/{number}"
        request = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}".encode()
        reply = await running.talk(request, method=method)
        if target in server.asked(method):
            return target, reply
    raise AssertionError("no call came there")


# -- who is asked ----------------------------------------------------------------------------------------------------


async def test_calls_are_spread_by_weight(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    async with several(tmp_path, no_database, a, b, weights=(1, 3)) as running:
        connection = await running.connect()
        for _ in range(400):
            await connection.send(GET)
            assert (await connection.reply()).status == 200
        connection.close()
    assert len(a.requests) == pytest.approx(100, abs=45)
    assert a.connections == b.connections == 1


async def test_upstream_with_much_to_do_is_left_alone(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    release = asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        await release.wait()
        writer.write(OK + b"a")

    a.behaviour = slow
    async with several(tmp_path, no_database, a, b) as running:
        asking = [asyncio.create_task(running.talk(GET)) for _ in range(4)]
        await eventually(lambda: len(a.requests) + len(b.requests) == 4)
        held = len(a.requests)
        assert [(await running.talk(GET)).body for _ in range(20)] == [b"b"] * 20 if held else [b"b"]
        release.set()
        await asyncio.gather(*asking)


async def test_connections_are_as_many_as_the_route_says_and_further_calls_wait(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    release = asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await release.wait()
            writer.write(OK + server.name.encode())

    a.behaviour = b.behaviour = slow
    limits = Limits(upstream_waiting=3)
    async with several(tmp_path, no_database, a, b, limits=limits, connections=2) as running:
        asking = [asyncio.create_task(running.talk(GET)) for _ in range(11)]
        await eventually(lambda: any(task.done() for task in asking))
        [refused] = [task.result() for task in asking if task.done()]
        assert (refused.status, refused.one("retry-after")) == (503, "2")
        assert (a.connections, b.connections) == (2, 2)
        release.set()
        assert Counter([(await task).status for task in asking]) == {200: 10, 503: 1}
        assert (a.connections, b.connections) == (2, 2)


@both_loops
async def test_calls_that_wait_for_an_upstream_that_dies_go_to_another(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    release = asyncio.Event()

    async def slow(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            await release.wait()
            writer.write(OK + server.name.encode())

    a.behaviour = b.behaviour = slow
    async with several(tmp_path, no_database, a, b, connections=1) as running:
        asking = [asyncio.create_task(running.talk(GET)) for _ in range(12)]
        pools = running.proxy.upstreams._pools.values()
        await eventually(lambda: [pool.used for pool in pools] == [1, 1] and sum(pool.waiting for pool in pools) == 10)
        await a.kill()
        release.set()
        replies = [await task for task in asking]
        assert {(reply.status, reply.body) for reply in replies} == {(200, b"b")}
        assert len(b.requests) == 12


# -- faults ----------------------------------------------------------------------------------------------------------


Fault = Callable[[Server, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def saying(data: bytes, *, then: bytes = b"", stays: bool = False) -> Fault:
    """Read a request and answer it with these bytes."""

    async def behaviour(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(data)
        await writer.drain()
        if then:
            writer.write(then)
        while stays:
            await reader.read(65536)
            await asyncio.sleep(0)

    return behaviour


async def silent(server: Server, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await reader.read()


async def late(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    await asyncio.sleep(1.5)
    writer.write(OK + b"!")


async def endless(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await server.read(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(1000):
        writer.write(b"x" * 1000)
        await writer.drain()


@dataclass(frozen=True)
class Row:
    """A fault, what a GET and a POST get that meet it, and whether the GET was sent once more."""

    name: str
    fault: Fault
    get: int
    post: int
    again: bool
    complete: bool = True


ROWS = [
    Row("accepts and stays silent", silent, 200, 504, again=True),
    Row("answers after the timeout", late, 200, 504, again=True),
    Row("closes without a word", saying(b""), 200, 502, again=True),
    Row("sends half a head", saying(b"HTTP/1.1 200 OK\r\nContent-Le"), 502, 502, again=False),
    Row("sends half a body", saying(OK[:-5] + b"10\r\n\r\nhalf"), 200, 200, again=False, complete=False),
    Row("says two lengths", saying(OK[:-2] + b"Content-Length: 2\r\n\r\nab"), 502, 502, again=False),
    Row("sends garbage", saying(b"\0garbage\r\n\r\n"), 502, 502, again=False),
    Row("sends a thousand fields", saying(OK[:-2] + b"X: y\r\n" * 1000 + b"\r\na"), 502, 502, again=False),
    Row("sends an endless field", endless, 502, 502, again=False),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
async def test_fault_of_one_upstream_is_met_by_another_where_that_may_be(
    row: Row, tmp_path: Path, no_database: Store
) -> None:
    # RFC 9110, section 9.2.2: never a POST, and never once something of an answer has come
    a, b = Server("a"), Server("b")
    a.behaviour = row.fault
    async with several(tmp_path, no_database, a, b, limits=QUICK, timeout="1s") as running:
        for method, status, again in (("GET", row.get, row.again), ("POST", row.post, False)):
            target, reply = await met(running, a, method)
            assert (reply.status, reply.complete) == (status, row.complete)
            assert a.asked(method).count(target) == 1
            assert b.asked(method).count(target) == again
            if again:
                assert reply.body == b"b"


async def test_answer_that_comes_twice_reaches_one_client_once(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")

    async def twice(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read(reader)
            writer.write((OK + b"a") * 2)

    a.behaviour = twice
    async with several(tmp_path, no_database, a, b) as running:
        connection = await running.connect()
        for _ in range(40):
            await connection.send(GET)
            reply = await connection.reply()
            assert reply.status == 200
        connection.close()
        assert len(a.requests) + len(b.requests) == 40
        assert a.connections == len(a.requests)  # none was used again
        assert b.connections == 1


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_kept_connection_that_ends_unread_costs_no_call_that_may_be_repeated(
    method: str, tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")

    async def dying(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read(reader)
        writer.write(OK + b"a")
        await server.read(reader)

    a.behaviour = dying
    async with several(tmp_path, no_database, a, b) as running:
        await met(running, a, "DELETE")
        target, reply = await met(running, a, method)
        assert a.connections == 1
        assert (reply.status, reply.body) == ((200, b"b") if method != "POST" else (502, reply.body))
        assert b.asked(method).count(target) == (method != "POST")


@both_loops
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
async def test_upstream_that_refuses_costs_no_call_and_repeats_none(
    method: str, tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    async with several(tmp_path, no_database, a, b, retries=0) as running:
        await a.kill()
        before = cells()[UPSTREAM_RETRIES.at("all", "sent")]
        for number in range(20):
            request = f"{method} /{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi".encode()
            assert (await running.talk(request)).body == b"b"
        assert [received.body for received in b.requests] == [b"hi"] * 20
        assert cells()[UPSTREAM_RETRIES.at("all", "sent")] == before


@pytest.mark.parametrize(
    ("framing", "body", "sent"),
    [
        (b"Content-Length: 6", b"abcdef", b"abcdef"),
        (b"Transfer-Encoding: chunked", b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
    ],
)
async def test_body_that_came_in_parts_is_sent_again_whole(
    framing: bytes, body: bytes, sent: bytes, tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    met_a = asyncio.Event()

    async def leaving(server: Server, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        try:
            await server.read(reader)
        finally:
            met_a.set()

    a.behaviour = leaving
    async with several(tmp_path, no_database, a, b) as running:
        for number in range(100):
            connection = await running.connect()
            await connection.send(b"PUT /%d HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (number, framing))
            half = len(body) // 2
            await connection.send(body[:half])
            await eventually(lambda number=number: f"/{number}" in a.asked("PUT") + b.asked("PUT"))  # type: ignore[misc]
            await connection.send(body[half:])
            reply = await connection.reply()
            connection.close()
            assert (reply.status, reply.body) == (200, b"b")
            assert b.requests[-1].body == sent
            if a.requests:
                break
        assert a.requests[-1].body == sent
        assert b.requests[-1].complete


async def test_body_too_long_to_keep_is_not_sent_again(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = saying(b"")
    async with several(tmp_path, no_database, a, b, max_body="10MiB") as running:
        body = b"x" * 100_000
        for number in range(100):
            request = b"PUT /%d HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (number, len(body), body)
            reply = await running.talk(request, method="PUT")
            if a.requests:
                break
        assert reply.status == 502
        assert a.asked("PUT")[0] not in b.asked("PUT")


async def test_body_that_may_get_too_long_to_keep_goes_up_on_no_connection_that_has_rested(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    async with several(tmp_path, no_database, a, b, limits=Limits(fresh=0.0)) as running:
        for server in (a, b):
            await met(running, server, "PUT")
        before = a.connections + b.connections
        connection = await running.connect()
        await connection.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
        await eventually(lambda: a.connections + b.connections == before + 1)
        await connection.send(b"%x\r\n%b\r\n0\r\n\r\n" % (100_000, b"x" * 100_000))
        assert (await connection.reply()).status == 200
        connection.close()


async def test_repeats_end_where_their_budget_does(tmp_path: Path, no_database: Store) -> None:
    a = Server("a")
    a.behaviour = saying(b"")
    async with several(tmp_path, no_database, a) as running:
        for _ in range(100):
            assert (await running.talk(GET)).status == 502
        repeats = len(a.requests) - 100
        assert 5 <= repeats <= FLOOR + SHARE * 100 + 2 + DEADLINE  # and one more each second
        over = cells()[UPSTREAM_RETRIES.at("all", "over budget")]
        assert over > 0


async def test_explanation_tells_of_the_upstreams_that_were_asked_in_vain(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = saying(b"")
    async with several(tmp_path, no_database, a, b) as running:
        heard = list[Finished]()
        running.proxy.listeners.append(heard.append)
        while not a.requests:
            running.proxy.decisions.tick()  # of calls that pass, a few are remembered between two
            reply = await running.talk(GET)
        told: Any = running.proxy.recall(reply.one("x-request-id"))
        [call] = told["calls"]
        assert call["upstream"] == heard[-1].upstream == b.place
        assert call["asked_in_vain"] == [f"{a.place}: The connection ended before the response did."]
        [step] = [step for step in call["steps"] if step["step"] == "upstream"]
        assert step["outcome"] == "passed"
        assert step["text"].startswith(f"{b.place} ")
        assert f"answered 200 (before that, {a.place}: " in step["text"]
        await a.kill()
        await b.kill()
        reply = await running.talk(GET)
        assert reply.status == 502
        told = running.proxy.recall(reply.one("x-request-id"))
        [call] = told["calls"]
        assert len(call["asked_in_vain"]) == 1
        [step] = [step for step in call["steps"] if step["step"] == "upstream"]
        assert call["cause"] in step["text"]
        assert a.place in step["text"]
        assert b.place in step["text"]


# -- who is left out -------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def counted_apart() -> None:
    """Figures of a memory of their own: a process that tests a thousand upstreams has no place left for another."""
    memory = memory_for_one()
    share(memory)
    os.close(memory)


def out(running: Rig, server: Server) -> bool:
    running.proxy.report()
    return bool(cells()[UPSTREAM_OUT.at(server.place)])


async def test_upstream_that_fails_is_left_out_and_comes_back_when_it_answers(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = saying(b"\0garbage\r\n\r\n")
    async with several(tmp_path, no_database, a, b, limits=QUICK) as running:
        failed = 0
        while failed < 3:
            failed += (await running.talk(GET)).status == 502
        assert out(running, a)
        assert not out(running, b)
        assert cells()[UPSTREAM_EJECTIONS.at(a.place, "calls")] == 1
        assert [(await running.talk(GET)).body for _ in range(30)] == [b"b"] * 30
        a.behaviour = well
        asked = len(a.requests)

        async def is_back() -> bool:
            return (await running.talk(GET)).body == b"a"

        async with asyncio.timeout(DEADLINE):
            while not await is_back():
                await asyncio.sleep(0.01)
        assert len(a.requests) == asked + 1
        assert not out(running, a)


async def test_upstreams_that_are_all_out_are_asked_all_the_same(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = b.behaviour = saying(b"\0garbage\r\n\r\n")
    async with several(tmp_path, no_database, a, b) as running:
        for _ in range(50):
            assert (await running.talk(GET)).status == 502
        assert out(running, a)
        assert out(running, b)
        assert len(a.requests) + len(b.requests) == 50
        a.behaviour = b.behaviour = well
        assert {(await running.talk(POST, method="POST")).status for _ in range(10)} == {200}


async def test_all_upstreams_gone_is_a_502_and_the_first_that_returns_serves_at_once(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    async with several(tmp_path, no_database, a, b, running=False) as running:
        assert {(await running.talk(POST, method="POST")).status for _ in range(20)} == {502}
        await b.start()
        assert {(await running.talk(POST, method="POST")).body for _ in range(20)} == {b"b"}
        await a.start()


async def test_upstreams_that_calls_and_checks_have_left_out_are_asked_where_there_is_no_other(
    tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")

    async def ill(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await server.read(reader)
            status = b"500 Ill" if asked.target == "/healthz" else b"200 OK"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 1\r\n\r\n%b" % (status, server.name.encode()))

    a.behaviour = b.behaviour = ill
    health = {"path": "/healthz", "interval": "1s", "unhealthy": 1}
    async with several(tmp_path, no_database, a, b, health=health) as running:
        await eventually(lambda: out(running, a) and out(running, b))
        assert {(await running.talk(GET)).body for _ in range(40)} == {b"a", b"b"}
        a.behaviour = saying(b"\0garbage\r\n\r\n")
        while len([one for one in a.requests if one.target == "/x"]) < 30:
            assert (await running.talk(GET)).status in (200, 502)
        assert [(await running.talk(GET)).body for _ in range(20)].count(b"b") >= 5


async def test_call_goes_on_where_an_upstream_does_not_take_its_connection_in_time(
    tmp_path: Path, no_database: Store
) -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    filling = [socket.socket() for _ in range(8)]
    for sock in filling:
        sock.setblocking(False)
        sock.connect_ex(full.getsockname())
    b = Server("b")
    try:
        await b.start()
        upstreams = [f"http://127.0.0.1:{full.getsockname()[1]}", b.url]
        routes = [{"name": "all", "path": "/", "auth": "none", "connect_timeout": "1s", "upstreams": upstreams}]
        async with rig(tmp_path, no_database, routes=routes) as running:
            assert {(await running.talk(POST, method="POST")).body for _ in range(6)} == {b"b"}
        assert [request.body for request in b.requests] == [b"hi"] * 6
    finally:
        await b.kill()
        for sock in [full, *filling]:
            sock.close()


async def test_call_that_finds_no_upstream_willing_ends_soon(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")

    async def rude(_server: Server, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    a.behaviour = rude
    async with several(tmp_path, no_database, a, b, retries=0) as running:
        await b.kill()
        for count in range(1, 21):
            assert (await running.talk(POST, method="POST")).status == 502
            assert a.connections <= 2 * count


async def test_health_checks_take_an_upstream_out_and_bring_it_back(tmp_path: Path, no_database: Store) -> None:
    a, b = Server("a"), Server("b")
    ill = True

    async def checked(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await server.read(reader)
            if asked.target == "/healthz?deep=1" and ill:
                writer.write(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
            else:
                writer.write(OK + server.name.encode())

    a.behaviour = checked
    health = {"path": "/healthz?deep=1", "interval": "1s", "healthy": 1, "unhealthy": 1}
    async with several(tmp_path, no_database, a, b, health=health, upstream_host="app.test") as running:
        await eventually(lambda: out(running, a))
        assert {(await running.talk(GET)).body for _ in range(20)} == {b"b"}
        [first, *_] = [request for request in a.requests if request.target == "/healthz?deep=1"]
        assert first.one("host") == "app.test"
        assert cells()[UPSTREAM_EJECTIONS.at(a.place, "checks")] == 1
        ill = False
        await eventually(lambda: not out(running, a))
        assert {(await running.talk(GET)).body for _ in range(40)} == {b"a", b"b"}
    await eventually(lambda: not b._serving)


@pytest.mark.parametrize("how", ["silent", "gone", "garbage"])
async def test_health_check_that_gets_no_answer_finds_the_upstream_ill(
    how: str, tmp_path: Path, no_database: Store
) -> None:
    a, b = Server("a"), Server("b")
    a.behaviour = silent if how == "silent" else saying(b"\0")
    health = {"path": "/", "interval": "1s", "timeout": "1s", "unhealthy": 1}
    async with several(tmp_path, no_database, a, b, health=health, running=how != "gone") as running:
        if how == "gone":
            await b.start()
        await eventually(lambda: out(running, a))
        assert {(await running.talk(GET)).body for _ in range(10)} == {b"b"}


async def test_only_upstream_is_asked_whatever_its_checks_say(tmp_path: Path, no_database: Store) -> None:
    a = Server("a")

    async def ill(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            asked = await server.read(reader)
            status = b"500 Ill" if asked.target == "/healthz" else b"200 OK"
            writer.write(b"HTTP/1.1 %b\r\nContent-Length: 1\r\n\r\na" % status)

    a.behaviour = ill
    health = {"path": "/healthz", "interval": "1s", "unhealthy": 1}
    async with several(tmp_path, no_database, a, health=health) as running:
        await eventually(lambda: out(running, a))
        assert (await running.talk(GET)).body == b"a"


# -- killed and started at random ------------------------------------------------------------------------------------


class Crew:
    """Clients that call without a pause, each on one that `connect` makes; each call has a target of its own."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], calls: int) -> None:
        self._connect, self._dice = connect, random.Random(7)
        self.left = calls
        self.statuses: dict[str, Counter[int]] = {"GET": Counter(), "PUT": Counter(), "POST": Counter()}

    async def call(self, client: int) -> None:
        connection = await self._connect()
        while self.left > 0:
            self.left -= 1
            method = self._dice.choice(("GET", "GET", "PUT", "POST"))
            body = "" if method == "GET" else "hi"
            request = f"{method} /{client}/{self.left} HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            await connection.send(request.encode())
            reply = await connection.reply(method)
            self.statuses[method][reply.status if reply.complete else 0] += 1
            if not reply.complete or "close" in reply.all("connection"):
                connection.close()
                connection = await self._connect()
        connection.close()

    async def survive(self, servers: list[Server]) -> None:
        """Call while they are killed and started again at random, one at a time: no call fails that may be repeated,
        and none is sent twice that may not."""
        dice = random.Random(11)

        async def busy(server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await server.read(reader)
                await asyncio.sleep(dice.random() / 200)
                writer.write(OK + server.name.encode())

        for server in servers:
            server.behaviour = busy
        calling = [asyncio.create_task(self.call(client)) for client in range(20)]
        kills = 0
        while self.left > 0:
            server = dice.choice(servers)
            await server.kill()
            kills += 1
            await asyncio.sleep(dice.random() / 20)
            await server.start()
            # However fast the machine is: a kill costs some seven calls a repeat each, which are a tenth at most.
            next_at = max(0, self.left - dice.randrange(70, 150))
            await eventually(lambda: self.left <= next_at)  # noqa: B023  # it is awaited here
        await asyncio.gather(*calling)
        posted = Counter(target for server in servers for target in server.asked("POST"))
        assert kills > 3
        assert self.statuses["GET"].keys() == {200}
        assert self.statuses["PUT"].keys() == {200}
        assert self.statuses["POST"].keys() <= {200, 502}
        assert set(posted.values()) == {1}


@both_loops
async def test_upstreams_killed_at_random_fail_no_call_that_may_be_repeated_and_double_none_that_may_not(
    tmp_path: Path, no_database: Store
) -> None:
    servers = [Server(name) for name in "abc"]
    async with several(tmp_path, no_database, *servers, retries=2) as running:
        await Crew(running.connect, scaled(15_000)).survive(servers)
