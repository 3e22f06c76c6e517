"""Answers that come before their request is up: the client hears with them whether its connection stays.

A server reads the rest of the request or ends the connection (RFC 9112, section 9.3), and whoever ends it says so in
the answer (section 9.6): else the next request of the client is cut off without a word.
"""

import asyncio

import pytest

from gateway.proxy.limits import DEFAULT
from tests.proxy.rig import Connection, RawUpstream, Reply, Rig, eventually

SMALL = DEFAULT.discard
LARGE = 4 * SMALL


def post(size: int | None, *fields: str) -> bytes:
    framing = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    return "\r\n".join(["POST /early HTTP/1.1", "Host: a", framing, *fields, "", ""]).encode()


GET = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def answering(upstream: RawUpstream, after: int, begin: bytes, end: bytes = b"") -> asyncio.Event:
    """Have the upstream begin its answer to a POST once so much of its body has come, and end it when that is set."""
    ends = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if (await reader.readuntil(b"\r\n\r\n")).startswith(b"POST"):
            await reader.readexactly(after)
            writer.write(begin)
            if end:
                await ends.wait()
                writer.write(end)
            await reader.read(-1)
        else:
            writer.write(upstream.answer)

    upstream.handler = serve
    return ends


def stays(reply: Reply) -> bool:
    return "close" not in reply.all("connection")


async def next_answer(connection: Connection) -> Reply:
    await connection.send(GET)
    return await connection.reply()


WHOLE = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
BEGUN = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n"  # which is the upstream's own to end


async def test_a_connection_stays_when_little_is_left_of_a_large_body(public: Rig) -> None:
    answering(public.upstream, LARGE - SMALL, WHOLE)
    connection = await public.connect()
    await connection.send(post(LARGE) + b"x" * (LARGE - SMALL))
    reply = await connection.reply()
    assert (reply.status, reply.body, stays(reply)) == (403, b"no", True)
    await connection.send(b"x" * SMALL)
    assert (await next_answer(connection)).body == b"ok"
    connection.close()


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (post(LARGE), b"x" * (LARGE - SMALL - 1)),
        (post(None), b"%x\r\n%b\r\n" % (SMALL, b"x" * SMALL)),
    ],
    ids=["more than is worth reading", "nobody knows how much"],
)
async def test_an_answer_before_the_rest_says_that_the_connection_ends(head: bytes, sent: bytes, public: Rig) -> None:
    answering(public.upstream, SMALL, WHOLE)
    connection = await public.connect()
    await connection.send(head + sent)
    reply = await connection.reply()
    assert (reply.status, reply.body, stays(reply)) == (403, b"no", False)
    assert await connection.closed()
    connection.close()


async def test_an_answer_before_a_body_that_may_never_come_says_that_the_connection_ends(public: Rig) -> None:
    """RFC 9110, section 10.1.1: a client that awaits 100 may leave its body out."""
    answering(public.upstream, 0, WHOLE)
    connection = await public.connect()
    await connection.send(post(10, "Expect: 100-continue"))
    reply = await connection.reply()
    assert (reply.status, stays(reply)) == (403, False)
    assert await connection.closed()
    connection.close()


@pytest.mark.parametrize("left", [SMALL, SMALL + 1], ids=["stays", "ends"])
async def test_what_an_answer_said_holds_however_much_comes_before_its_end(left: int, public: Rig) -> None:
    ends = answering(public.upstream, LARGE - left, BEGUN, b"ok")
    connection = await public.connect()
    await connection.send(post(LARGE) + b"x" * (LARGE - left))
    head = await connection.reader.readuntil(b"\r\n\r\n")
    assert (b"Connection: close" in head) == (left > SMALL)
    await connection.send(b"x" * left)
    ends.set()
    assert await connection.reader.readexactly(2) == b"ok"
    if left > SMALL:
        assert await connection.closed()
    else:
        assert (await next_answer(connection)).body == b"ok"
    connection.close()


async def test_what_is_left_never_passes_for_a_request(public: Rig) -> None:
    """The rest of a body is dropped to its last byte, and what stands in it is nobody's request."""
    answering(public.upstream, 0, WHOLE)
    connection = await public.connect()
    await connection.send(post(len(GET)))
    assert (await connection.reply()).status == 403
    await connection.send(GET)
    assert (await next_answer(connection)).body == b"ok"
    await eventually(lambda: public.upstream.ended == 2)
    assert public.upstream.connections == 2
    connection.close()
