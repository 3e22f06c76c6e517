"""What passes, and how: every method, framing and kind of answer, both ways."""

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from gateway.store import Store
from tests.proxy.rig import DEADLINE, RawUpstream, Received, Rig, eventually, rig


def get(path: str = "/", *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", *fields, "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"]
)
async def test_every_method_passes(method: str, public: Rig) -> None:
    reply = await public.talk(get("/x?y", method=method))
    assert (reply.status, reply.body) == (200, b"ok")
    assert [(r.method, r.target) for r in public.upstream.requests] == [(method, "/x?y")]


@pytest.mark.parametrize(
    ("method", "answer", "body"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        ("GET", b"HTTP/1.1 404 Nope\r\nContent-Length: 4\r\n\r\nnope", b"nope"),
        ("GET", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        ("GET", b"HTTP/1.1 200 OK\r\n\r\nuntil the end", b"until the end"),
        ("GET", b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ],
)
async def test_every_kind_of_answer_passes_and_the_connection_persists(
    method: str, answer: bytes, body: bytes, public: Rig
) -> None:
    public.upstream.answer = answer
    connection = await public.connect()
    for _ in range(2):
        await connection.send(get(method=method))
        reply = await connection.reply(method)
        assert reply.complete
        assert (reply.status, reply.body) == (int(answer.split()[1]), body)
    if method == "HEAD":
        assert reply.one("content-length") == "1234"
    connection.close()


async def test_interim_answers_pass_to_clients_that_know_them(public: Rig) -> None:
    # RFC 9110, section 15.2
    public.upstream.answer = (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    )
    connection = await public.connect()
    await connection.send(get())
    assert (await connection.reply()).body == b"ok"
    assert connection.interim == [103]
    connection.close()
    old = await public.connect()
    await old.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await old.reply()).body == b"ok"
    assert old.interim == []
    old.close()


async def test_chunks_and_trailers_pass_both_ways(public: Rig) -> None:
    public.upstream.answer = (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nSet-Cookie: a=b\r\nContent-Length: 9\r\nX-Auth-Subject: me\r\n\r\n"
    )
    reply = await public.talk(
        get("/", "Transfer-Encoding: chunked", "Trailer: X-Up", method="POST")
        + b"4;ext=1\r\nwiki\r\n5\r\npedia\r\n0\r\nX-Up: 2\r\nAuthorization: Bearer x\r\nX-Forwarded-For: 6.6.6.6\r\n"
        b"Host: evil\r\nTransfer-Encoding: x\r\n\r\n"
    )
    assert (reply.body, reply.trailers) == (b"hello", [("x-sum", "1")])
    (request,) = public.upstream.requests
    assert (request.body, request.trailers) == (b"wikipedia", [("x-up", "2")])
    assert b"ext=1" not in public.upstream.raw


async def test_repeated_fields_and_their_order_pass_both_ways(public: Rig) -> None:
    public.upstream.answer = (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-A: 1\r\nSet-Cookie: b=2\r\nx-a: 2\r\nContent-Length: 0\r\n\r\n"
    )
    reply = await public.talk(get("/", "X-B: 1", "Accept: a", "x-b: 2", "X-Empty:", "X-Latin: \xe9"))
    assert reply.all("set-cookie") == ["a=1", "b=2"]
    assert reply.all("x-a") == ["1", "2"]
    (request,) = public.upstream.requests
    assert request.all("x-b") == ["1", "2"]
    assert request.one("x-empty") == ""
    assert request.one("accept") == "a"


async def test_gzip_is_left_alone(public: Rig) -> None:
    packed = gzip.compress(b"x" * 1000)
    public.upstream.answer = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (
        len(packed),
        packed,
    )
    reply = await public.talk(get())
    assert reply.body == packed
    assert reply.one("content-encoding") == "gzip"


async def test_redirects_are_relayed_never_followed(public: Rig) -> None:
    public.upstream.answer = b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/x\r\nContent-Length: 0\r\n\r\n"
    reply = await public.talk(get())
    assert (reply.status, reply.one("location")) == (302, "http://127.0.0.1:1/x")
    assert public.upstream.connections == 1


async def test_an_old_client_gets_an_answer_that_it_can_read(public: Rig) -> None:
    public.upstream.answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    connection = await public.connect()
    await connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
    reply = await connection.reply()
    assert reply.body == b"hello"
    assert reply.all("transfer-encoding") == []
    assert reply.one("connection") == "close"
    connection.close()


async def test_an_old_client_may_keep_its_connection_where_the_length_is_known(public: Rig) -> None:
    connection = await public.connect()
    for _ in range(2):
        await connection.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        reply = await connection.reply()
        assert (reply.body, reply.one("connection")) == (b"ok", "keep-alive")
    connection.close()
    assert public.upstream.requests[0].one("host") == "gateway.test"


async def test_pipelined_requests_are_answered_in_their_order(public: Rig) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await public.upstream.read_request(reader)
        body = request.target.encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))

    public.upstream.handler = echo
    connection = await public.connect()
    await connection.send(b"".join(get(f"/{number}") for number in range(50)))
    assert [(await connection.reply()).body for _ in range(50)] == [b"/%d" % number for number in range(50)]
    connection.close()


async def test_close_is_honoured(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(get("/", "Connection: close") + get("/second"))
    reply = await connection.reply()
    assert reply.one("connection") == "close"
    assert await connection.closed()
    assert [request.target for request in public.upstream.requests] == ["/"]
    connection.close()


async def test_an_expectation_reaches_the_upstream_and_its_answer_the_client(public: Rig) -> None:
    # RFC 9110, section 10.1.1
    async def hesitant(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect: 100-continue" in head
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await reader.readexactly(5) == b"hello"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    public.upstream.handler = hesitant
    connection = await public.connect()
    await connection.send(get("/", "Expect: 100-continue", "Content-Length: 5", method="POST"))
    assert b"100 Continue" in await connection.reader.readuntil(b"\r\n\r\n")
    await connection.send(b"hello")
    assert (await connection.reply()).body == b"ok"
    connection.close()


async def test_an_expectation_with_chunks_is_met_by_the_gateway_which_must_see_the_first(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(get("/", "Expect: 100-continue", "Transfer-Encoding: chunked", method="POST"))
    assert b"100 Continue" in await connection.reader.readuntil(b"\r\n\r\n")
    await connection.send(b"5\r\nhello\r\n0\r\n\r\n")
    assert (await connection.reply()).body == b"ok"
    (request,) = public.upstream.requests
    assert (request.body, request.all("expect")) == (b"hello", [])
    connection.close()


async def test_an_answer_may_come_before_the_body_is_up(public: Rig) -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()

    public.upstream.handler = early
    connection = await public.connect()
    await connection.send(get("/", "Content-Length: 1000000", method="POST") + b"x" * 1000)
    reply = await connection.reply()
    assert (reply.status, reply.body) == (403, b"no")
    assert await connection.closed()
    connection.close()


async def test_bodies_stream_both_ways_at_once(public: Rig) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        writer.write(await reader.readexactly(3))
        await writer.drain()
        writer.write(await reader.readexactly(3))

    public.upstream.handler = echo
    connection = await public.connect()
    await connection.send(get("/", "Content-Length: 6", method="POST") + b"abc")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert b"200" in head
    assert await connection.reader.readexactly(3) == b"abc"
    await connection.send(b"def")
    assert await connection.reader.readexactly(3) == b"def"
    connection.close()


async def test_the_host_arrives_as_sent_unless_the_route_names_one(tmp_path: Path, no_database: Store) -> None:
    routes: list[dict[str, Any]] = [
        {"name": "plain", "path": "/plain", "auth": "none"},
        {"name": "named", "path": "/named", "auth": "none", "upstream_host": "inner.test:81", "strip_prefix": "/named"},
    ]
    async with rig(tmp_path, no_database, routes=routes) as running:
        await running.talk(b"GET /plain HTTP/1.1\r\nHost: Api.Example:8080\r\n\r\n")
        await running.talk(b"GET /named?x HTTP/1.1\r\nHost: Api.Example:8080\r\n\r\n")
        plain, named = running.upstream.requests
    assert (plain.one("host"), plain.target) == ("Api.Example:8080", "/plain")
    assert (named.one("host"), named.target) == ("inner.test:81", "/?x")
    assert named.one("x-forwarded-host") == "Api.Example:8080"
    assert named.one("x-forwarded-port") == "8080"


async def test_an_absolute_target_is_forwarded_as_a_path(public: Rig) -> None:
    # RFC 9112, section 3.2.2
    assert (await public.talk(b"GET http://a/x?y HTTP/1.1\r\nHost: a\r\n\r\n")).status == 200
    assert public.upstream.requests[0].target == "/x?y"


async def tunnelled(upstream: RawUpstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Received:
    """Accept an upgrade, then send everything back in upper case."""
    request = Received("", (await reader.readuntil(b"\r\n\r\n")).decode(), [])
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo/1\r\nConnection: Upgrade\r\n\r\n>")
    while data := await reader.read(1000):
        writer.write(data.upper())
        await writer.drain()
    upstream.requests.append(request)
    return request


async def test_an_upgrade_becomes_a_tunnel(public: Rig) -> None:
    # RFC 9110, section 7.8
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await tunnelled(public.upstream, reader, writer)

    public.upstream.handler = serve
    connection = await public.connect()
    await connection.send(get("/", "Connection: Upgrade", "Upgrade: echo/1") + b"early")
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101")
    assert b"Upgrade: echo/1\r\nConnection: Upgrade" in head
    assert await connection.reader.readexactly(6) == b">EARLY"
    await connection.send(b"late")
    assert await connection.reader.readexactly(4) == b"LATE"
    connection.writer.write_eof()
    assert await connection.closed()
    await eventually(lambda: len(public.upstream.requests) == 1)
    assert "Upgrade: echo/1\r\nConnection: Upgrade" in public.upstream.requests[0].target
    connection.close()


async def test_a_client_that_ended_its_side_before_the_upgrade_leaves_no_tunnel_behind(public: Rig) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (front,) = public.proxy.fronts
        await eventually(lambda: front._ended)
        await tunnelled(public.upstream, reader, writer)

    public.upstream.handler = serve
    connection = await public.connect()
    await connection.send(get("/", "Connection: Upgrade", "Upgrade: echo/1") + b"early")
    connection.writer.write_eof()
    assert (await connection.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    assert await asyncio.wait_for(connection.reader.read(), DEADLINE) == b">EARLY"
    await eventually(lambda: public.upstream.ended == 1 and not public.proxy.fronts)
    connection.close()


async def test_a_refused_upgrade_is_an_ordinary_answer(public: Rig) -> None:
    connection = await public.connect()
    await connection.send(get("/", "Connection: Upgrade", "Upgrade: echo/1") + get("/next"))
    assert (await connection.reply()).body == b"ok"
    assert (await connection.reply()).body == b"ok"
    assert [request.target for request in public.upstream.requests] == ["/", "/next"]
    connection.close()
