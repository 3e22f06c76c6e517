"""What a worker remembers of its calls: all that failed, a sample of what passed, and never a secret."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy.decisions import FLOOD, SAMPLES, Decision
from gateway.store import Store
from tests.proxy.rig import KEYRING, Rig, eventually, rig

ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none", "timeout": "1s"},
    {"name": "shut", "path": "/shut", "auth": ["bearer"]},
    {"name": "bound", "path": "/bound", "auth": ["bearer"], "dpop": "required"},
]
GET = b"GET /open HTTP/1.1\r\nHost: a\r\n\r\n"
INVENTED = KEYRING.new_token("gwa_")[:-3] + "xyz"


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES) as made:
        yield made


def decision(running: Rig, request_id: str) -> Decision:
    [(_, found)] = running.proxy.decisions.find(request_id.encode())
    return found


async def test_refusal_is_remembered_by_the_identifier_in_its_answer_without_any_secret(running: Rig) -> None:
    fields = f"Host: api.test\r\nAuthorization: Bearer {INVENTED}\r\nX-Api-Key: hush\r\n"
    call = f"GET /shut/1?key=hush HTTP/1.1\r\n{fields}\r\n"
    reply = await running.talk(call.encode())
    found = decision(running, reply.one("x-request-id"))
    assert found.asked is not None
    assert (found.asked.method, found.asked.host, found.asked.path) == (b"GET", b"api.test", b"/shut/1")
    assert (found.asked.queried, found.asked.schemes) == (True, ("bearer",))
    assert found.asked.token == sha256(INVENTED.encode()).digest()
    assert found.finished.refused is not None
    assert found.finished.refused.cause == "invented token"
    assert INVENTED not in repr(found)
    assert "hush" not in repr(found)


async def test_of_a_token_that_is_bound_to_a_key_the_digest_is_remembered(running: Rig) -> None:
    fields = f"Host: api.test\r\nAuthorization: DPoP {INVENTED}\r\nDPoP: not.a.proof\r\n"
    reply = await running.talk(f"GET /bound/1 HTTP/1.1\r\n{fields}\r\n".encode())
    found = decision(running, reply.one("x-request-id"))
    assert found.asked is not None
    assert (found.asked.schemes, found.asked.token) == (("dpop",), sha256(INVENTED.encode()).digest())


@pytest.mark.parametrize(
    "call",
    [
        b"GET  /open HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /open HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n",
    ],
)
async def test_every_refusal_is_remembered(running: Rig, call: bytes) -> None:
    for _ in range(2 * SAMPLES):
        reply = await running.talk(call)
        assert decision(running, reply.one("x-request-id")).finished.status == reply.status


async def test_error_of_the_upstream_is_remembered(running: Rig) -> None:
    running.upstream.answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
    replies = [await running.talk(GET) for _ in range(2 * SAMPLES)]
    found = [decision(running, reply.one("x-request-id")).finished for reply in replies]
    assert {(one.status, one.refused, one.upstream) for one in found} == {
        (503, None, f"127.0.0.1:{running.upstream.port}")
    }


@pytest.mark.plain
async def test_of_calls_that_pass_a_few_are_remembered_between_two_ticks(running: Rig) -> None:
    decisions = running.proxy.decisions
    decisions.tick = lambda: None  # type: ignore[method-assign]  # no time passes
    replies = [await running.talk(GET) for _ in range(3 * SAMPLES)]
    remembered = [bool(decisions.find(reply.one("x-request-id").encode())) for reply in replies]
    assert sum(remembered) <= SAMPLES
    del decisions.tick
    decisions.tick()
    assert decision(running, (await running.talk(GET)).one("x-request-id")).finished.status == 200


@pytest.mark.plain
async def test_of_a_flood_some_are_remembered_and_of_other_kinds_all(running: Rig) -> None:
    decisions = running.proxy.decisions
    decisions.tick = lambda: None  # type: ignore[method-assign]  # no time passes
    connection = await running.connect()
    replies = []
    for _ in range(FLOOD + 5):
        await connection.send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        replies.append(await connection.reply())
    connection.close()
    assert sum(bool(decisions.find(reply.one("x-request-id").encode())) for reply in replies) == FLOOD
    assert decisions.memory.forgotten == 5
    other = await running.talk(b"GET /shut HTTP/1.1\r\nHost: a\r\n\r\n")
    assert decision(running, other.one("x-request-id")).finished.status == 401


async def test_client_that_leaves_is_remembered(running: Rig) -> None:
    request_id = (await running.left(GET)).decode()
    await eventually(lambda: not running.proxy.fronts)
    assert (decision(running, request_id).finished.status, decision(running, request_id).finished.complete) == (
        0,
        False,
    )
