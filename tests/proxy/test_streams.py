"""What lasts ends with the token that opened it, in whatever phase it is, and in time when its worker is replaced."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest

from gateway.model import Client, User
from gateway.proxy import Limits
from gateway.proxy.finished import Finished
from gateway.proxy.sockets import reset
from gateway.store import Store
from gateway.store.users import Known
from tests.proxy.rig import DEADLINE, KEYRING, Connection, Rig, eventually, queue_of_successors, rig
from tests.proxy.signature_client import parts
from tests.proxy.signing import Signer
from tests.proxy.test_credentials import ada, client, issued
from tests.proxy.test_endings import everything
from tests.proxy.test_websocket import CLOSED, HANDSHAKE, Server

__all__ = ["ada", "client"]

ROUTES: list[dict[str, Any]] = [
    {"name": "guarded", "path": "/", "auth": ["bearer"], "max_body": "10MiB"},
    {"name": "staff", "path": "/staff", "auth": ["bearer"], "groups": {"GET": ["staff"], "*": []}},
    {"name": "brief", "path": "/brief", "auth": ["bearer"], "drain": "1s"},
    {"name": "wiki", "path": "/wiki", "auth": ["bearer", "session"]},
    {"name": "any", "path": "/any", "auth": ["bearer", "mac", "signature"]},
]
BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = BEGUN + b"Transfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n"
LENGTH = BEGUN + b"Content-Length: 100\r\n\r\ndata: 1\n"
UNTIL_CLOSE = BEGUN + b"\r\ndata: 1\n"


@pytest.fixture
async def running(tmp_path: Path, store: Store) -> AsyncIterator[Rig]:
    """Nobody follows the change log here, so that the database is asked time and again (`guard.watch`)."""
    async with rig(tmp_path, store, routes=ROUTES, limits=Limits(tick=0.02, recheck=0.05)) as made:
        yield made


@pytest.fixture
def told(running: Rig) -> list[Finished]:
    told: list[Finished] = []
    running.proxy.listeners.append(told.append)
    return told


def call(token: str, *fields: bytes, method: bytes = b"GET", path: bytes = b"/x") -> bytes:
    lines = [b"%b %b HTTP/1.1" % (method, path), b"Host: a", b"Authorization: Bearer %b" % token.encode(), *fields]
    return b"\r\n".join([*lines, b"", b""])


def answering(running: Rig, answer: bytes, sent: asyncio.Event | None = None) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        if sent is not None:
            sent.set()
        await reader.read()

    running.upstream.handler = serve


async def begun(running: Rig, data: bytes, until: bytes = b"data: 1\n") -> Connection:
    connection = await running.connect()
    await connection.send(data)
    await asyncio.wait_for(connection.reader.readuntil(until), DEADLINE)
    return connection


@pytest.mark.parametrize(
    ("answer", "version"),
    [(CHUNKED, b"1.1"), (LENGTH, b"1.1"), (UNTIL_CLOSE, b"1.1"), (UNTIL_CLOSE, b"1.0")],
    ids=["chunked", "length", "chunked by us", "until close"],
)
async def test_answer_under_way_is_cut_when_its_token_is_revoked(
    answer: bytes, version: bytes, running: Rig, told: list[Finished], store: Store, client: Client, ada: User
) -> None:
    answering(running, answer)
    token, other = await issued(store, client), await issued(store, client)
    stream = await begun(running, call(token).replace(b"HTTP/1.1", b"HTTP/" + version))
    stays = await begun(running, call(other))
    await store.tokens.revoke(token, None)
    rest, was_reset = await everything(stream)
    assert rest in (b"", b"\r\n")  # no last chunk, and nothing else
    assert was_reset is (version == b"1.0")  # where a mere end would look like the answer's
    await eventually(lambda: running.upstream.ended == 1)
    (finished,) = told
    assert finished.refused is not None
    assert (finished.status, finished.complete, finished.refused.why) == (200, False, "revoked token")
    assert finished.refused.identity is not None
    assert finished.refused.identity.client_id == client.client_id
    assert running.proxy.recall(finished.request_id.decode())["calls"][0]["cause"] == "revoked token"  # type: ignore[index]
    assert not stays.reader.at_eof()
    assert len(running.proxy.fronts) == 1
    for connection in (stream, stays):
        connection.close()


async def test_call_that_waits_for_its_answer_is_refused_when_its_token_is_revoked(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    sent = asyncio.Event()
    answering(running, b"", sent)
    token = await issued(store, client)
    connection = await running.connect()
    await connection.send(call(token))
    await sent.wait()
    await store.tokens.revoke(token, None)
    reply = await connection.reply()
    assert reply.status == 401
    assert 'error="invalid_token"' in reply.one("www-authenticate")
    await eventually(lambda: running.upstream.ended == 1)
    connection.close()


async def test_upload_under_way_is_refused_when_its_token_is_revoked(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    sent = asyncio.Event()
    answering(running, b"", sent)
    token = await issued(store, client)
    connection = await running.connect()
    await connection.send(call(token, b"Content-Length: 1000000", method=b"PUT") + bytes(500_000))
    await sent.wait()
    await store.tokens.revoke(token, None)
    reply = await connection.reply("PUT")
    assert (reply.status, reply.one("connection")) == (401, "close")
    await eventually(lambda: running.upstream.ended == 1)
    connection.close()


async def test_websocket_is_told_1008_when_its_token_is_revoked(
    running: Rig, told: list[Finished], store: Store, client: Client, ada: User
) -> None:
    server = Server(running.upstream)
    running.upstream.handler = server.serve
    token = await issued(store, client)
    handshake = HANDSHAKE % b"/" + b"Authorization: Bearer %b\r\n\r\n" % token.encode()
    connection = await begun(running, handshake, b"\r\n\r\n")
    await connection.send(b"\x81\x85\0\0\0\0hello")
    await eventually(lambda: server.heard == b"\x81\x85\0\0\0\0hello")
    assert told == []  # it is told of when it has ended
    await store.tokens.revoke(token, None)
    assert await everything(connection) == (CLOSED[1008], False)
    await eventually(lambda: server.ended)
    (finished,) = told
    assert finished.refused is not None
    assert (finished.status, finished.refused.why, finished.received, finished.sent) == (101, "revoked token", 11, 0)
    assert finished.upstream
    connection.close()


async def test_what_goes_on_ends_when_its_person_leaves_the_groups_of_the_route(
    running: Rig, told: list[Finished], store: Store, client: Client, ada: User
) -> None:
    await store.users.update("ada", None, None, None, Known(groups=("staff", "cooks")))
    answering(running, CHUNKED)
    token = await issued(store, client)
    stream, elsewhere = await begun(running, call(token, path=b"/staff")), await begun(running, call(token))
    sent = asyncio.Event()
    answering(running, b"", sent)
    waiting = await running.connect()
    await waiting.send(call(token, path=b"/staff"))
    await sent.wait()
    await store.users.update("ada", None, None, None, Known(groups=("staff",)))
    await store.users.update("ada", None, None, None, Known(groups=("cooks",)))
    reply = await waiting.reply()
    assert (reply.status, b"access_denied" in reply.body) == (403, True)
    assert (await everything(stream))[0] == b"\r\n"  # behind the chunk, and no last one
    assert {finished.refused.why for finished in told if finished.refused} == {"in none of the route's groups"}
    assert not elsewhere.reader.at_eof()
    for connection in (stream, waiting, elsewhere):
        connection.close()


async def test_tunnel_of_another_protocol_is_closed_when_its_token_is_revoked(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    answering(running, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
    token = await issued(store, client)
    connection = await begun(running, call(token, b"Connection: Upgrade", b"Upgrade: x"), b"hello")
    await store.tokens.revoke(token, None)
    assert await connection.closed()
    await eventually(lambda: running.upstream.ended == 1)
    connection.close()


# -- when it expires -----------------------------------------------------------------------------------------


async def test_endless_answer_ends_when_its_token_expires(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    answering(running, CHUNKED)
    stream = await begun(running, call(await issued(store, client, ttl=3.0)))
    assert await everything(stream) in ((b"", False), (b"\r\n", False))
    stream.close()


@pytest.mark.parametrize("kind", ["session", "token"])
async def test_log_says_of_a_stream_and_of_a_tunnel_whether_a_session_or_a_token_has_expired(
    kind: str, running: Rig, told: list[Finished], store: Store, client: Client, ada: User
) -> None:
    if kind == "session":
        session = KEYRING.new_token("gwb_")
        assert await store.sessions.start(ada.subject, session, 1.0) is not None
        credential = b"Cookie: gateway_session=%b\r\nOrigin: http://gateway.test" % session.encode()
    else:
        credential = b"Authorization: Bearer %b" % (await issued(store, client, ttl=1.0)).encode()
    head = b"GET /wiki HTTP/1.1\r\nHost: gateway.test\r\n%b\r\n" % credential
    answering(running, CHUNKED)
    stream = await begun(running, head + b"\r\n")
    answering(running, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
    tunnel = await begun(running, head + b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n", b"hello")
    await eventually(lambda: len(told) == 2)
    assert [finished.refused.why for finished in told if finished.refused] == [f"expired {kind}"] * 2
    for connection in (stream, tunnel):
        connection.close()


@pytest.mark.parametrize("scheme", ["bearer", "mac", "signature"])
async def test_what_a_call_of_any_scheme_has_opened_ends_when_its_token_expires(
    scheme: str, running: Rig, told: list[Finished], store: Store
) -> None:
    signer = await Signer.of(store)
    signer.tokens = await store.tokens.issue(
        signer.client_id, None, frozenset({"notes:write"}), 2.0, "bearer" if scheme == "bearer" else None
    )

    def head(*fields: str) -> bytes:
        if scheme == "bearer":
            return call(signer.tokens.access_token, *[field.encode() for field in fields], path=b"/any")
        if scheme == "mac":
            return signer.head(None, *fields, target="/any", method="GET")
        nonce = f'"{scheme}{len(fields)}"'
        return parts(signer, target="/any", fields=[*fields], parameters={"nonce": nonce}).sign().bytes()

    answering(running, CHUNKED)
    stream = await begun(running, head())
    answering(running, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nhello")
    tunnel = await begun(running, head("Connection: Upgrade", "Upgrade: x"), b"hello")
    await eventually(lambda: len(told) == 2)
    assert [finished.refused.why for finished in told if finished.refused] == ["expired token"] * 2
    for connection in (stream, tunnel):
        connection.close()


async def test_answer_with_a_length_and_a_call_that_waits_outlive_the_expiry(
    running: Rig, store: Store, client: Client, ada: User
) -> None:
    release, waiting = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"GET /length"):
            writer.write(LENGTH)
        waiting.set()
        await release.wait()
        writer.write(
            b"x" * 92 if head.startswith(b"GET /length") else b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
        )

    running.upstream.handler = serve
    token = await issued(store, client, ttl=60.0)
    length = await begun(running, call(token, path=b"/length"))
    waits = await running.connect()
    await waits.send(call(token, path=b"/waits"))
    await waiting.wait()
    fronts = [front for front in running.proxy.fronts if front.exchange is not None]
    await eventually(
        lambda: all(front.exchange is not None and front.exchange._right_ends_at < inf for front in fronts)
    )
    for front in fronts:
        assert front.exchange is not None
        front.exchange._right_ends_at = 0.0  # as if the minute were over
    await asyncio.sleep(0.1)  # ticks, in which nothing may happen
    release.set()
    assert await asyncio.wait_for(length.reader.readexactly(92), DEADLINE) == b"x" * 92
    assert (await waits.reply()).body == b"ok"
    for connection in (length, waits):
        connection.close()


# -- when the worker is replaced -----------------------------------------------------------------------------


async def test_streams_may_go_on_for_their_routes_drain_when_their_worker_is_replaced(
    running: Rig, told: list[Finished], store: Store, client: Client, ada: User
) -> None:
    server = Server(running.upstream)
    token = await issued(store, client)
    running.upstream.handler = server.serve
    bearer = b"Authorization: Bearer %b\r\n\r\n" % token.encode()
    brief = await begun(running, HANDSHAKE % b"/brief" + bearer, b"\r\n\r\n")
    longer = await begun(running, HANDSHAKE % b"/" + bearer, b"\r\n\r\n")
    answering(running, CHUNKED)
    stream = await begun(running, call(token, path=b"/brief"))
    answering(running, LENGTH)
    download = await begun(running, call(token, path=b"/brief"))
    async with queue_of_successors() as queue:
        draining = asyncio.ensure_future(running.proxy.drain(60.0, queue.handover))
        began = asyncio.get_running_loop().time()
        assert await everything(brief) == (CLOSED[1001], False)
        assert (await everything(stream))[0] in (b"", b"\r\n")
        assert asyncio.get_running_loop().time() - began > 0.9
        assert {finished.refused.error for finished in told if finished.refused is not None} == {"drained"}
        assert len(running.proxy.fronts) >= 2  # the others go on
        again = asyncio.ensure_future(running.proxy.drain(0.2))  # the gateway is stopped meanwhile
        assert await everything(longer) == (CLOSED[1001], False)
        await again
        for connection in (brief, stream, longer, download):
            reset(connection.writer.transport)  # type: ignore[arg-type]
        await asyncio.wait_for(draining, DEADLINE)


async def test_streams_of_public_routes_are_nobodys_to_revoke(tmp_path: Path, no_database: Store) -> None:
    routes = [{"name": "all", "path": "/", "auth": "none"}]
    limits = replace(Limits(), tick=0.02, recheck=0.02)
    async with rig(tmp_path, no_database, routes=routes, limits=limits) as running:
        answering(running, CHUNKED)
        stream = await begun(running, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await asyncio.sleep(0.1)
        assert len(running.proxy.guard.watch) == 0
        assert not stream.reader.at_eof()
        stream.close()
