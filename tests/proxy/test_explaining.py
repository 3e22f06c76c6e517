"""Every kind of refusal and failure is explained by the identifier in its answer: where, why, and what to do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, NamedTuple

import pytest

from gateway import schemes
from gateway.errors import Cause
from gateway.guard import causes
from gateway.proxy import Limits
from gateway.proxy.explaining import STEPS
from gateway.schemes.scheme import Lifeless
from gateway.store import Store
from tests.proxy.rig import KEYRING, Connection, RawUpstream, Reply, Rig, eventually, rig
from tests.proxy.signing import MAC, Signer, by_length
from tests.web.rig import new_client

# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "open", "path": "/open", "auth": "none", "max_body": "1KiB", "timeout": "1s"},
    {"name": "read", "path": "/read", "auth": "none", "methods": ["GET"]},
    {"name": "shut", "path": "/shut", "auth": ["bearer"], "scopes": ["notes:write"]},
    {"name": "other", "path": "/other", "auth": ["bearer"]},
    {"name": "mac", "path": "/mac", "auth": ["mac"]},
    {"name": "hash", "path": "/hash", "auth": ["mac"], "mac_body_hash": True},
    {"name": "down", "path": "/down", "auth": "none", "upstreams": ["http://127.0.0.1:9"]},
]
# fmt: on
HOST = b"Host: gateway.test\r\n"
LIMITS = Limits(head=0.4, body_idle=0.4, tick=0.05)


class World(NamedTuple):
    """A gateway, its database, and who calls it."""

    rig: Rig
    store: Store
    signer: Signer

    async def explained(self, reply: Reply) -> dict[str, Any]:
        """What is told of the call that got this answer."""
        return self.recalled(request_id_of(reply))

    def recalled(self, request_id: str) -> dict[str, Any]:
        told: Any = json.loads(json.dumps(self.rig.proxy.recall(request_id)))
        [call] = told["calls"]
        assert told["gave"]
        return dict(call)

    async def token(self, *scopes: str) -> str:
        client, _ = await new_client(self.store, scopes=frozenset({"notes:read", "notes:write"}))
        issued = await self.store.tokens.issue(client.client_id, None, frozenset(scopes), 3600, "bearer")
        return issued.access_token


def request_id_of(reply: Reply) -> str:
    """The identifier in an answer: in the body of the gateway's own, and always in a field."""
    request_id = reply.one("x-request-id")
    if reply.all("content-type") == ["application/json"]:
        assert json.loads(reply.body)["request_id"] == request_id
    return request_id


def get(path: bytes, *fields: bytes, method: bytes = b"GET") -> bytes:
    return b"".join((method, b" ", path, b" HTTP/1.1\r\n", HOST, *(field + b"\r\n" for field in fields), b"\r\n"))


def bearer(path: bytes, token: str) -> bytes:
    return get(path, b"Authorization: Bearer " + token.encode())


@dataclass(frozen=True)
class Kind:
    """One kind of refusal or failure: how it comes about, and how it is explained."""

    status: int
    step: str
    cause: str
    mend: str
    call: bytes | Callable[[World], Awaitable[Reply]]
    answer: bytes | None = None  # of the upstream


def says(text: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await RawUpstream().read_request(reader)
        writer.write(text)
        await writer.drain()

    return handler


async def silent(*_: object) -> None:
    await asyncio.sleep(60)


async def revoked(world: World) -> Reply:
    token = await world.token("notes:write")
    await world.store.tokens.revoke(token, None)
    return await world.rig.talk(bearer(b"/shut", token))


async def disabled(world: World) -> Reply:
    client, _ = await new_client(world.store)
    issued = await world.store.tokens.issue(client.client_id, None, frozenset(), 3600, "bearer")
    await world.store.clients.disable(client.client_id)
    return await world.rig.talk(bearer(b"/shut", issued.access_token))


async def lacking(world: World) -> Reply:
    return await world.rig.talk(bearer(b"/shut", await world.token("notes:read")))


async def mac_as_bearer(world: World) -> Reply:
    return await world.rig.talk(bearer(b"/shut", world.signer.tokens.access_token))


async def forged(world: World) -> Reply:
    field = world.signer.authorization(None, target="/mac/x", method="GET")
    return await world.rig.talk(get(b"/mac/y", b"Authorization: " + field.encode()))


async def replayed(world: World) -> Reply:
    call = world.signer.head(None, target="/mac", method="GET")
    assert (await world.rig.talk(call)).status == 200
    return await world.rig.talk(call)


async def late(world: World) -> Reply:
    began = time.time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.proxy.signing.time.time", lambda: began() - 1000)
        call = world.signer.head(None, target="/mac", method="GET")
    return await world.rig.talk(call)


async def unhashed(world: World) -> Reply:
    return await world.rig.talk(world.signer.head(None, "Content-Length: 5", target="/hash") + b"hello")


async def altered(world: World) -> Reply:
    field, body = by_length(b"hello")
    return await world.rig.talk(world.signer.head(b"jello", field, target="/hash") + body)


async def ended_early(world: World) -> Reply:
    connection = await world.rig.connect()
    await connection.send(post(b"Content-Length: 5") + b"he")
    connection.writer.write_eof()
    try:
        return await connection.reply()
    finally:
        connection.close()


def post(*fields: bytes) -> bytes:
    return get(b"/open", *fields, method=b"POST")


INVENTED = KEYRING.new_token("gwa_")[:-3] + "xyz"
BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"
_400 = "ask the client's developer"

KINDS: dict[str, Kind] = {
    "request line": Kind(400, "head", "The request line is malformed", _400, b"GET  /open HTTP/1.1\r\n\r\n"),
    "no Host": Kind(400, "head", "Exactly one Host field", _400, b"GET /open HTTP/1.1\r\n\r\n"),
    "underscore": Kind(400, "head", "contains an underscore", _400, get(b"/open", b"X_Y: 1")),
    "version": Kind(505, "head", "HTTP/1.1 and HTTP/1.0", "use HTTP/1.1", b"GET /open HTTP/3.0\r\n" + HOST + b"\r\n"),
    "long target": Kind(414, "head", "", "shorter address", get(b"/open/" + b"x" * 9000)),
    "many fields": Kind(431, "head", "", "cookies are the usual cause", get(b"/open", *[b"A: " + b"x" * 8000] * 9)),
    "two lengths": Kind(400, "head", "Content-Length is repeated", _400, get(b"/open", *[b"Content-Length: 1"] * 2)),
    "coding": Kind(501, "head", "only transfer coding", "do without", post(b"Transfer-Encoding: gzip, chunked")),
    "expectation": Kind(417, "head", "only expectation", "100-continue", get(b"/open", b"Expect: rain")),
    "slow head": Kind(408, "head", "did not arrive in time", "network is so slow", b"GET /open HTTP/1.1\r\nHo"),
    "dot segment": Kind(400, "route", "dot segment", _400, get(b"/open/../shut")),
    "another host in the target": Kind(400, "route", "different hosts", _400, get(b"http://other.test/open")),
    "no route": Kind(404, "route", "Nothing is served", "add a route", get(b"/nothing")),
    "method": Kind(405, "route", "does not support that method", "route's methods", get(b"/read", method=b"POST")),
    "last hop": Kind(
        501, "route", "may not be forwarded", "do without", get(b"/open", b"Max-Forwards: 0", method=b"TRACE")
    ),
    "host of the pages": Kind(
        421, "route", "served at gateway.test", "pass Host on", b"GET /oauth2/token HTTP/1.1\r\nHost: a.test\r\n\r\n"
    ),
    "no credential": Kind(401, "credential", "no credential", "get a token and send it", get(b"/shut")),
    "two credentials": Kind(
        400, "credential", "more than one", "one Authorization field", get(b"/shut", *[b"Authorization: Bearer x"] * 2)
    ),
    "token in the query": Kind(
        400, "credential", "token in the query", "queries end up in logs", get(b"/shut?access_token=hush")
    ),
    "scheme": Kind(
        401, "credential", "a scheme that the route", "route's auth", get(b"/shut", b"Authorization: Basic YTpi")
    ),
    "malformed token": Kind(
        400, "credential", "malformed credential", "in Authorization", get(b"/shut", b"Authorization: Bearer a,b")
    ),
    "invented token": Kind(401, "token", "invented token", "never issued it", bearer(b"/shut", INVENTED)),
    "unknown token": Kind(401, "token", "unknown token", "needs a new one", bearer(b"/shut", "imported")),
    "revoked token": Kind(401, "token", "revoked token", "needs a new one", revoked),
    "disabled client": Kind(401, "token", "token of a disabled client", "gateway client enable", disabled),
    "MAC token as bearer": Kind(401, "token", "a mac token presented as bearer", "sign its requests", mac_as_bearer),
    "wrong MAC": Kind(401, "signature", "wrong MAC", "gateway mac verify --explain", forged),
    "timestamp": Kind(401, "signature", "timestamp", "correct the client's clock", late),
    "no body hash": Kind(401, "signature", "no body hash", "mac_body_hash", unhashed),
    "altered body": Kind(401, "body", "does not fit its hash", "may have changed the body", altered),
    "replay": Kind(401, "nonce", "replayed nonce", "new nonce", replayed),
    "scope": Kind(403, "scope", "lacks notes:write", "gateway client show", lacking),
    "long body": Kind(413, "body", "larger than 1024 bytes", "max_body", post(b"Content-Length: 2048")),
    "bad chunk": Kind(400, "body", "chunk", _400, post(b"Transfer-Encoding: chunked") + b"zz\r\n"),
    "slow body": Kind(
        408, "body", "did not arrive in time", "so slow", post(b"Content-Length: 5") + b"he"
    ),
    "body cut short": Kind(400, "body", "ended before the request did", _400, ended_early),
    "upstream is down": Kind(502, "upstream", "127.0.0.1:9: ", "check that the upstream is running", get(b"/down")),
    "upstream hangs up": Kind(502, "upstream", "", "its own log", get(b"/open"), b""),
    "upstream talks nonsense": Kind(502, "upstream", "", "its own log", get(b"/open"), b"SSH-2.0-OpenSSH\r\n\r\n"),
    "upstream's own fault": Kind(
        503, "upstream", "answered 503 by itself", "the upstream's own log", get(b"/open"), BUSY
    ),
    "answer cut off": Kind(
        200, "answer", "", "its own log", get(b"/open"), b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
    ),
}  # fmt: skip


@pytest.fixture
async def world(tmp_path: Path, store: Store) -> AsyncIterator[World]:
    async with rig(tmp_path, store, routes=ROUTES, mac=MAC, limits=LIMITS) as running:
        yield World(running, store, await Signer.of(store))


async def test_explanation_names_the_step_the_cause_and_the_mend(world: World, subtests: pytest.Subtests) -> None:
    assert len(KINDS) >= 30
    for name, kind in KINDS.items():
        with subtests.test(name):
            world.rig.upstream.handler = None if kind.answer is None else says(kind.answer)
            reply = await (world.rig.talk(kind.call) if isinstance(kind.call, bytes) else kind.call(world))
            assert reply.status == kind.status
            told = await world.explained(reply)
            assert told["status"] == kind.status
            assert told["cause"]
            assert kind.cause in told["cause"]
            assert kind.mend in told["mend"]
            by_step = {step["step"]: step for step in told["steps"]}
            assert tuple(by_step) == STEPS
            [stopped] = [step for step in by_step.values() if step["outcome"] in ("refused", "failed")]
            assert stopped["step"] == kind.step
            assert told["cause"] in stopped["text"]
            outcomes = [by_step[step]["outcome"] for step in STEPS]
            behind = outcomes[STEPS.index(kind.step) + 1 :]
            answered = ["passed"] if name == "upstream's own fault" else []  # its answer goes out
            assert set(behind) <= {"not reached", "not needed", *answered}
            assert "hush" not in json.dumps(told)


def declared() -> list[Cause]:
    """Every cause that the guard may refuse for."""
    modules = [causes, *(import_module(one.name) for one in iter_modules(schemes.__path__, "gateway.schemes."))]
    found = [value for module in modules for value in vars(module).values()]
    found += [one for table in found if isinstance(table, dict) for one in table.values()]
    found += [one for lifeless in found if isinstance(lifeless, Lifeless) for one in lifeless]
    return [one for one in found if isinstance(one, Cause)]


def test_every_cause_of_the_guards_refusals_is_a_step_of_the_call_and_says_what_to_do() -> None:
    assert len(declared()) > 50
    for one in declared():
        assert one.step in STEPS
        assert one.text.startswith(one.kind)
        assert len(one.mend) > 20


def test_causes_of_one_kind_differ_in_nothing_but_what_they_name() -> None:
    by_kind = {one.kind: (one.step, one.mend) for one in declared()}
    assert all(by_kind[one.kind] == (one.step, one.mend) for one in declared())


async def test_upstream_that_is_late_is_named_with_the_times(world: World) -> None:
    world.rig.upstream.handler = silent
    told = await world.explained(await world.rig.talk(get(b"/open")))
    assert (told["status"], told["outcome"], told["upstream"]) == (
        504,
        "failed",
        f"127.0.0.1:{world.rig.upstream.port}",
    )
    assert "gave no answer in 1s (timeout of route open)" in told["cause"]
    assert told["seconds"]["connected"] < told["seconds"]["all"]


async def test_client_that_left_is_told_as_such(world: World) -> None:
    world.rig.upstream.handler = silent
    connection = await world.rig.connect()
    await connection.send(get(b"/open"))
    await eventually(lambda: world.rig.upstream.connections == 1)
    request_id = await left(world.rig, connection)
    told = world.recalled(request_id)
    assert (told["outcome"], told["status"], told["cause"]) == (
        "left",
        None,
        "the client left before its answer was complete",
    )


async def left(running: Rig, connection: Connection) -> str:
    """End a connection from the client's side; gives what identified its request."""
    (front,) = [front for front in running.proxy.fronts if front.exchange is not None]
    assert front.exchange is not None
    request_id = front.exchange.request_id.decode()
    connection.writer.transport.abort()
    await eventually(lambda: front not in running.proxy.fronts)
    return request_id


async def test_database_that_is_away_is_named(tmp_path: Path, no_database: Store) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES) as running:
        world = World(running, no_database, None)  # type: ignore[arg-type]  # nobody signs
        told = await world.explained(await running.talk(bearer(b"/shut", "imported")))
        assert (told["status"], told["outcome"]) == (503, "failed")
        assert told["cause"].startswith("store: ")
        assert "database.url" in told["mend"]


async def test_upstream_that_refuses_is_told_as_a_call_that_passed(world: World) -> None:
    world.rig.upstream.handler = says(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
    told = await world.explained(await world.rig.talk(get(b"/open")))
    assert (told["outcome"], told["status"], told["cause"]) == ("passed", 404, "the upstream answered 404 by itself")
    assert {step["outcome"] for step in told["steps"]} == {"passed", "not needed"}


async def test_call_that_passed_is_told_with_whose_it_was(world: World) -> None:
    token = await world.token("notes:write")
    told = await world.explained(await world.rig.talk(bearer(b"/shut/1?x=hush", token)))
    assert (told["outcome"], told["status"], told["cause"], told["mend"]) == ("passed", 200, None, None)
    assert {step["outcome"] for step in told["steps"]} == {"passed", "not needed"}
    assert told["client_id"] in next(step["text"] for step in told["steps"] if step["step"] == "token")
    assert "hush" not in json.dumps(told)
    assert token not in json.dumps(told)


async def test_routes_that_were_looked_at_say_why_they_did_not_match(world: World) -> None:
    told = await world.explained(await world.rig.talk(get(b"/read/1", method=b"POST")))
    assert told["routes"] == [
        {"route": "read", "path": "/read", "host": None, "matches": False, "why_not": "it is for GET"}
    ]


async def test_hostile_bytes_are_told_in_ascii(world: World) -> None:
    path = b"/nothing/" + bytes(byte for byte in range(0x80, 0x100)) + b"\"'<script>{}"
    told = await world.explained(await world.rig.talk(get(path, method=b"\x7e!#$")))
    text = json.dumps(told, ensure_ascii=False)
    assert text.isascii()
    assert text.isprintable()


async def test_unknown_identifiers_are_told_apart_from_forgotten_ones(world: World) -> None:
    request_id = request_id_of(await world.rig.talk(get(b"/nothing")))
    forgotten, foreign = request_id[:16] + "ffffff", "0" * 22
    assert [world.rig.proxy.recall(name)["gave"] for name in (request_id, forgotten, foreign)] == [True, True, False]
    assert all(world.rig.proxy.recall(name)["calls"] == [] for name in (forgotten, foreign))
