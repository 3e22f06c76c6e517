"""A signed body that states its hash: what is short is held, compared, and only then spent and sent."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from oauthlib.oauth2.rfc6749.tokens import prepare_mac_header

from gateway.model import MacAlgorithm, MacDraft
from gateway.proxy.finished import Finished
from gateway.store import Store
from tests.guard.relay import Relay, relaying
from tests.proxy.rig import KEYRING, Rig, eventually, rig
from tests.proxy.signing import (
    FRAMINGS,
    LONGEST,
    MAC,
    Framing,
    Signer,
    altered,
    by_length,
    bytes_of,
    in_chunks,
    is_refused,
    nonces,
)
from tests.serving import crowding

KIB = 1024
ROUTES: list[dict[str, Any]] = [
    {"name": "mac", "path": "/mac", "auth": ["mac"], "max_body": "4MiB"},
    {"name": "strict", "path": "/strict", "auth": ["bearer", "mac"], "mac_body_hash": True, "max_body": "4MiB"},
    {"name": "small", "path": "/small", "auth": ["mac"], "max_body": "1KiB"},
]


# -- held ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 1000, LONGEST - 1, LONGEST])
async def test_short_body_that_was_altered_costs_no_nonce_and_reaches_nobody(
    guarded: Rig, signer: Signer, database: str, size: int
) -> None:
    body = bytes_of(size)
    for framing in FRAMINGS:
        for other in altered(body).values():
            if len(other) <= LONGEST:
                field, sent = framing(other)
                is_refused(await guarded.talk(signer.head(body, field, nonce="once") + sent))
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0
    for number, framing in enumerate(FRAMINGS):
        field, sent = framing(body)
        request = signer.head(body, field, nonce="once" if number == 0 else None) + sent
        assert (await guarded.talk(request)).status == 200
        assert (await guarded.talk(request)).status == 401
    assert [(seen.body, seen.complete) for seen in guarded.upstream.requests] == [(body, True)] * len(FRAMINGS)
    assert await nonces(database) == len(FRAMINGS)


@pytest.mark.parametrize("framing", FRAMINGS)
async def test_time_of_a_held_body_counts_from_its_head_on(guarded: Rig, signer: Signer, framing: Framing) -> None:
    told: list[Finished] = []
    guarded.proxy.listeners.append(told.append)
    field, sent = framing(bytes_of(1000))
    connection = await guarded.connect()
    await connection.send(signer.head(bytes_of(1000), field) + sent[:10])
    await eventually(lambda: any(front.exchange is not None for front in guarded.proxy.fronts))
    await connection.send(sent[10:])
    assert (await connection.reply()).status == 200
    [finished] = told
    assert 0 < finished.judged <= finished.connected <= finished.answered <= finished.seconds
    assert finished.client == "127.0.0.1"
    connection.close()


@pytest.mark.parametrize("algorithm", ["hmac-sha-256", "hmac-sha-1"])
@pytest.mark.parametrize("framing", [by_length, in_chunks])
async def test_client_of_oauthlib_sends_a_body_by_draft_00(
    guarded: Rig, store: Store, algorithm: MacAlgorithm, framing: Framing
) -> None:
    signer = await Signer.of(store, "00", algorithm)

    def signed(body: bytes) -> bytes:
        headers = prepare_mac_header(
            signer.tokens.access_token,
            "http://gateway.test/strict/x?b=1&a=2",
            signer.tokens.mac_key or "",
            "POST",
            body="hello=world%21",
            hash_algorithm=algorithm,
            issue_time=datetime.now(UTC).replace(tzinfo=None),
        )
        field, sent = framing(body)
        lines = ["POST /strict/x?b=1&a=2 HTTP/1.1", "Host: gateway.test", f"Authorization: {headers['Authorization']}"]
        return "\r\n".join([*lines, field, "", ""]).encode() + sent

    assert b"bodyhash=" in signed(b"")
    assert (await guarded.talk(signed(b"hello=world%20"))).status == 401
    assert guarded.upstream.connections == 0
    assert (await guarded.talk(signed(b"hello=world%21"))).status == 200
    (seen,) = guarded.upstream.requests
    assert (seen.body, seen.one("x-auth-token-type")) == (b"hello=world%21", "mac")


@pytest.mark.parametrize("draft", ["00", "01"])
async def test_short_body_may_come_byte_by_byte(guarded: Rig, store: Store, draft: MacDraft) -> None:
    signer, body = await Signer.of(store, draft), bytes_of(300)
    for framing in FRAMINGS:
        for other, status in ((body, 200), (body[:-1] + b"\0", 401)):
            field, sent = framing(other)
            reply = await guarded.talk(signer.head(body, field) + sent, bytewise=True)
            assert reply.status == status
    assert [seen.body for seen in guarded.upstream.requests] == [body] * len(FRAMINGS)


async def test_nothing_goes_up_before_the_last_byte_has_come(guarded: Rig, signer: Signer) -> None:
    body = bytes_of(LONGEST)
    for framing in (by_length, in_chunks):
        before = guarded.upstream.connections
        field, sent = framing(body)
        connection = await guarded.connect()
        await connection.send(signer.head(body, field) + sent[:-1])
        await eventually(lambda: any(front.exchange is not None for front in guarded.proxy.fronts))
        assert (await guarded.talk(signer.head(None, method="GET"))).status == 200  # which takes its time
        assert guarded.upstream.connections == before + 1
        await connection.send(sent[-1:])
        assert (await connection.reply()).status == 200
        assert guarded.upstream.connections == before + 2
        connection.close()


async def test_connection_stays_usable_after_a_body_that_does_not_fit(guarded: Rig, signer: Signer) -> None:
    connection = await guarded.connect()
    for framing in (by_length, in_chunks):
        field, sent = framing(b"other")
        right, fitting = framing(b"hello")
        await connection.send(signer.head(b"hello", field) + sent + signer.head(b"hello", right) + fitting)
        refused, passed = await connection.reply(), await connection.reply()
        assert (refused.status, refused.all("connection"), passed.status) == (401, [], 200)
    connection.close()
    assert [seen.body for seen in guarded.upstream.requests] == [b"hello", b"hello"]


async def test_trailers_pass_behind_a_body_that_fits(guarded: Rig, signer: Signer) -> None:
    for body in (b"", b"hello", bytes_of(LONGEST + 9)):
        field, sent = in_chunks(body)
        await guarded.talk(signer.head(body, field) + sent[:-2] + b"X-Checksum: 1\r\n\r\n")
    assert [seen.trailers for seen in guarded.upstream.requests] == [[("x-checksum", "1")]] * 3
    assert [len(seen.body) for seen in guarded.upstream.requests] == [0, 5, LONGEST + 9]


async def test_chunks_that_are_malformed_cost_no_nonce(guarded: Rig, signer: Signer, database: str) -> None:
    for sent in (b"5\r\nhello\r\nx\r\n", b"5\r\nhelloo\r\n0\r\n\r\n", b"5\r\nhello\r\n0\r\nbad trailer\r\n\r\n"):
        reply = await guarded.talk(signer.head(b"hello", "Transfer-Encoding: chunked") + sent)
        assert reply.status == 400
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0


# -- without a body ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [[], ["Content-Length: 0"]])
@pytest.mark.parametrize("draft", ["00", "01"])
async def test_request_without_a_body_may_state_the_hash_of_nothing_only(
    guarded: Rig, store: Store, database: str, fields: list[str], draft: MacDraft
) -> None:
    signer = await Signer.of(store, draft)
    assert (await guarded.talk(signer.head(b"hello", *fields, nonce="once"))).status == 401
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0
    assert (await guarded.talk(signer.head(b"", *fields, nonce="once"))).status == 200
    assert (await guarded.talk(signer.head(b"", *fields, method="GET"))).status == 200
    assert await nonces(database) == 2


@pytest.mark.parametrize("ext", ["body_hash=", "body_hash=AAAA", "body_hash=x, body_hash=x"])
async def test_malformed_hash_is_a_400_with_a_challenge(guarded: Rig, signer: Signer, database: str, ext: str) -> None:
    head = signer.head(b"hello", "Content-Length: 5").decode()
    start = head.index('ext="') + 5
    reply = await guarded.talk(f"{head[:start]}{ext}{head[head.index(chr(34), start) :]}hello".encode())
    assert reply.status == 400
    assert 'error="invalid_request"' in reply.one("www-authenticate")
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0


# -- routes that demand a hash -------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", [by_length, in_chunks])
async def test_route_that_demands_a_hash_refuses_a_signed_body_without(
    guarded: Rig, signer: Signer, database: str, framing: Framing
) -> None:
    field, sent = framing(b"hello")
    reply = await guarded.talk(signer.head(None, field, target="/strict", nonce="once") + sent)
    assert reply.status == 401
    assert "requires a signed hash of the body" in json.loads(reply.body)["error_description"]
    assert [challenge.split(" ")[0] for challenge in reply.all("www-authenticate")] == ["Bearer", "MAC"]
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0
    reply = await guarded.talk(signer.head(b"hello", field, target="/strict", nonce="once") + sent)
    assert reply.status == 200
    assert (await guarded.talk(signer.head(None, target="/strict", method="GET"))).status == 200


async def test_route_that_demands_a_hash_asks_no_bearer_for_one(guarded: Rig, signer: Signer, store: Store) -> None:
    bearer = await store.tokens.issue(signer.client_id, None, frozenset({"notes:write"}), 60.0, "bearer")
    head = f"POST /strict HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {bearer.access_token}\r\n"
    reply = await guarded.talk(head.encode() + b"Content-Length: 5\r\n\r\nhello")
    assert reply.status == 200


# -- Expect, sizes, clients that go away ---------------------------------------------------------------------


@pytest.mark.parametrize("framing", [by_length, in_chunks])
async def test_held_body_is_asked_for_by_the_gateway_and_not_by_the_upstream(
    guarded: Rig, signer: Signer, framing: Framing
) -> None:  # RFC 9110, section 10.1.1
    for body, status in ((b"hello", 200), (b"other", 401)):
        field, sent = framing(body)
        connection = await guarded.connect()
        await connection.send(signer.head(b"hello", field, "Expect: 100-continue"))
        assert await connection.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await connection.send(sent)
        assert (await connection.reply()).status == status
        assert connection.interim == []
        connection.close()
    (seen,) = guarded.upstream.requests
    assert seen.all("expect") == []
    assert (seen.body, seen.complete) == (b"hello", True)


async def test_body_of_a_request_that_is_refused_anyway_is_not_asked_for(guarded: Rig, signer: Signer) -> None:
    for head in (
        signer.head(b"hello", "Content-Length: 5", "Expect: 100-continue").replace(b"POST", b"PUT"),
        signer.head(bytes_of(2000), "Content-Length: 2000", "Expect: 100-continue", target="/small"),
    ):
        connection = await guarded.connect()
        await connection.send(head)
        assert (await connection.reply()).status in (401, 413)
        assert connection.interim == []
        connection.close()


@pytest.mark.parametrize("framing", [by_length, in_chunks])
async def test_body_that_is_too_long_for_its_route_costs_no_nonce(
    guarded: Rig, signer: Signer, database: str, framing: Framing
) -> None:
    for size, status in ((KIB, 200), (KIB + 1, 413)):
        body = bytes_of(size)
        field, sent = framing(body)
        assert (await guarded.talk(signer.head(body, field, target="/small") + sent)).status == status
    assert len(guarded.upstream.requests) == 1
    assert await nonces(database) == 1


async def test_client_that_goes_away_leaves_nothing_behind(guarded: Rig, signer: Signer, database: str) -> None:
    for framing in (by_length, in_chunks):
        field, sent = framing(b"hello")
        connection = await guarded.connect()
        await connection.send(signer.head(b"hello", field) + sent[:-1])
        await eventually(lambda: len(guarded.proxy.fronts) == 1)
        connection.writer.transport.abort()
        await eventually(lambda: not guarded.proxy.fronts)
    assert guarded.upstream.connections == 0
    assert await nonces(database) == 0


@pytest.mark.parametrize(("method", "body", "status", "seen"), [("GET", b"", 200, 3), ("PUT", b"hello", 502, 2)])
async def test_upstream_connection_that_went_stale_spends_one_nonce_only(
    guarded: Rig, signer: Signer, method: str, body: bytes, status: int, seen: int
) -> None:
    """What may be sent twice is, with its nonce spent once; a body is not."""

    async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await guarded.upstream.read_request(reader)
        writer.write(guarded.upstream.answer)
        if len(guarded.upstream.requests) < 3:
            await guarded.upstream.read_request(reader)

    guarded.upstream.handler = dying
    field, sent = by_length(body)
    request = signer.head(body, field, method=method) + sent
    assert (await guarded.talk(signer.head(None, method="GET"))).status == 200
    assert (await guarded.talk(request)).status == status
    assert len(guarded.upstream.requests) == seen
    assert (await guarded.talk(request)).status == 401
    assert len(guarded.upstream.requests) == seen


# -- the database --------------------------------------------------------------------------------------------


@pytest.fixture
async def relay(database: str) -> AsyncIterator[Relay]:
    async with relaying(database) as made:
        yield made


@pytest.mark.usefixtures("patient_stores")
@pytest.mark.parametrize(("size", "framing"), [(5, by_length), (5, in_chunks), (LONGEST + 1, in_chunks)])
async def test_database_that_is_gone_when_the_nonce_is_to_be_spent_is_a_503(
    tmp_path: Path,
    signer: Signer,
    relay: Relay,
    database: str,
    size: int,
    framing: Framing,
) -> None:
    store = Store.over(relay.dsn, KEYRING, size=2, name="gateway-test")
    body = bytes_of(size)
    field, sent = framing(body)
    try:
        async with rig(tmp_path, store, routes=ROUTES, mac=MAC) as running:
            connection = await running.connect()
            await connection.send(signer.head(body, field, "Expect: 100-continue", nonce="once"))
            assert b" 100 " in await connection.reader.readuntil(b"\r\n\r\n")
            relay.closed = True
            for use in list(relay.answers):
                relay.cut(use)
            began = time.monotonic()
            await connection.send(sent)
            reply = await connection.reply()
            assert (reply.status, reply.one("retry-after")) == (503, "2")
            assert time.monotonic() - began < 2.5 * crowding()
            assert running.upstream.connections == 0
            connection.close()
            relay.closed = False
            assert await nonces(database) == 0
            connection = await running.connect()
            await connection.send(signer.head(body, field, nonce="once") + sent)
            assert (await connection.reply()).status == 200
            connection.close()
    finally:
        await store.close()
