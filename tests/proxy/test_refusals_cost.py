"""Whatever is refused costs a worker 5 ms at most, its line in the log included: the worst 8 KiB are searched for."""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fuzz.slowness import SIZE, Climb
from gateway.observe import get_logger
from gateway.proxy import Limits
from gateway.refusals import Refusals
from gateway.store import Store
from tests.counts import scaled
from tests.proxy.rig import Rig, rig
from tests.web.rig import new_client

pytestmark = pytest.mark.measures

ROUTES: list[dict[str, Any]] = [
    {"name": "api", "path": "/api", "auth": ["bearer", "mac", "signature"], "scopes": ["notes:write"]},
    {"name": "small", "path": "/small", "auth": "none", "max_body": "1KiB"},
]
SERVER = {"trusted_proxies": ["127.0.0.0/8"]}
HOST = b"Host: gateway.test\r\n"
CHUNKED = HOST + b"Transfer-Encoding: chunked\r\n"
LONGEST = SIZE - 200  # bytes of what is in one line with something else
_IN_TARGETS = bytes(byte if byte in b'!"' or 0x24 <= byte < 0x7F or byte >= 0x80 else ord("x") for byte in range(256))
_PLAIN = bytes(byte if byte in b"/-_:@='&!" or bytes((byte,)).isalnum() else ord("x") for byte in _IN_TARGETS)
_IN_VALUES = bytes(byte if byte in b"\t" or 0x20 <= byte < 0x7F or byte >= 0x80 else ord("x") for byte in range(256))


def target(start: bytes, data: bytes, *, plain: bool = False, token: bytes = b"") -> bytes:
    """A request with `data` in its target, or with what of it makes no path ambiguous."""
    data = data.translate(_PLAIN).replace(b"//", b"/x") if plain else data.translate(_IN_TARGETS)
    line = b"GET " + start + data[:LONGEST] + b" HTTP/1.1\r\n" + HOST
    return line + (b"Authorization: Bearer " + token + b"\r\n" if token else b"") + b"\r\n"


def field(path: bytes, name: bytes, data: bytes, *, rest: bytes = HOST, method: bytes = b"GET") -> bytes:
    """A request with `data` in one of its fields."""
    value = data.translate(_IN_VALUES)[:LONGEST]
    return method + b" " + path + b" HTTP/1.1\r\n" + name + value + b"\r\n" + rest + b"\r\n"


def fields(path: bytes, data: bytes) -> bytes:
    """A request with `data` for its fields."""
    return b"GET " + path + b" HTTP/1.1\r\n" + HOST + data[:LONGEST] + b"\r\n\r\n"


REFUSED: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "404 path": (partial(target, b"/nothing/", plain=True), 404),
    "400 path": (partial(target, b"/../"), 400),
    "400 query": (partial(target, b"/api?access_token=x&"), 400),
    "401 path": (partial(target, b"/api/"), 401),
    "401 plain path": (partial(target, b"/api/", plain=True), 401),
    "401 query": (partial(target, b"/api?"), 401),
    "421 path": (lambda data: target(b"/oauth2/", data, plain=True).replace(b"gateway.test", b"evil.test"), 421),
    "401 bearer": (partial(field, b"/api", b"Authorization: Bearer "), 400),
    "401 MAC": (partial(field, b"/api", b"Authorization: MAC "), 400),
    "401 scheme": (partial(field, b"/api", b"Authorization: "), 400),
    "401 two": (partial(field, b"/api", b"Authorization: a\r\nAuthorization: "), 400),
    "400 signature": (partial(field, b"/api", b"Signature: sig=:YQ==:\r\nSignature-Input: "), 400),
    "400 host": (partial(field, b"/", b"Host: ", rest=b""), 400),
    "404 accept": (partial(field, b"/nothing", b"Accept: text/html, "), 404),
    "404 chain": (partial(field, b"/nothing", b"X-Forwarded-For: "), 404),
    "404 proto": (partial(field, b"/nothing", b"X-Forwarded-Proto: "), 404),
    "404 cookie": (partial(field, b"/nothing", b"Cookie: "), 404),
    "404 connection": (partial(field, b"/nothing", b"Connection: "), 404),
    "404 upgrade": (partial(field, b"/nothing", b"Connection: Upgrade\r\nUpgrade: "), 404),
    "400 hops": (partial(field, b"/nothing", b"Max-Forwards: ", method=b"OPTIONS"), 400),
    "400 length": (partial(field, b"/small", b"Content-Length: "), 400),
    "400 coding": (partial(field, b"/small", b"Transfer-Encoding: "), 400),
    "417 expectation": (partial(field, b"/small", b"Expect: "), 417),
    "400 fields": (partial(fields, b"/nothing"), 400),
    "400 line": (lambda data: data[:LONGEST].replace(b"\n", b"x") + b"\r\n\r\n", 400),
    "413 length": (lambda data: field(b"/small", b"X: ", data, rest=HOST + b"Content-Length: 9999\r\n"), 413),
    "413 chunk": (lambda data: field(b"/small", b"X: ", data, rest=CHUNKED) + b"fff\r\n", 413),
    "400 chunk": (lambda data: field(b"/small", b"X: ", b"", rest=CHUNKED) + data + b"\r\n", 400),
}  # fmt: skip
# What some reader on the way looks for, and goes on from.
PIECES = (
    b"://a:", b"__Host-", b"%61", b"%", b"//", b"/a", b"/;", b"/../", b";a", b",a", b", 1.2.3.4", b"a=1&", b"?code=a",
    b'"a"', b'\\"', b"'", b"token ", b"mac id=", b" ", b"a", b"A.", b"a; ", b"q=1,", b"text/html;", b"x-a: b\r\n",
    b'id="a", ', b"0",
)  # fmt: skip


LIMITS = Limits(tick=3600.0, linger=0.0)


async def worst_of(running: Rig, made: Callable[[bytes], bytes], seed: str) -> tuple[float, set[int]]:
    """The most that a refusal took, each with its line in the log, and the statuses that came. Fails beyond 5 ms."""
    climb, chance, seen = Climb(PIECES), random.Random(seed), set[int]()

    async def refused(data: bytes) -> None:
        running.proxy.refusals = Refusals(get_logger("gateway.proxy"))
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(made(data))
        async with asyncio.timeout(30):
            head = await reader.read(1 << 16)
        writer.close()
        seen.add(int(head.split(b" ")[1]))

    for _ in range(scaled(400)):
        await climb.step_answered(refused, chance)
    return climb.worst, seen


async def test_no_refusal_costs_more_than_5_ms(
    tmp_path: Path, no_database: Store, subtests: pytest.Subtests, capsys: pytest.CaptureFixture[str]
) -> None:
    async with rig(tmp_path, no_database, routes=ROUTES, server=SERVER, limits=LIMITS) as running:
        for name, (made, expected) in REFUSED.items():
            with subtests.test(name):
                _, seen = await worst_of(running, made, name)
                assert expected in seen
                assert min(seen) >= 400
                assert '"event": "refused"' in capsys.readouterr().err


async def test_a_refusal_of_a_live_token_costs_no_more_than_5_ms(tmp_path: Path, store: Store) -> None:
    client, _ = await new_client(store)
    tokens = await store.tokens.issue(client.client_id, None, frozenset({"notes:read"}), 3600, "bearer")
    made = partial(target, b"/api/", plain=True, token=tokens.access_token.encode())
    async with rig(tmp_path, store, routes=ROUTES, server=SERVER, limits=LIMITS) as running:
        _, seen = await worst_of(running, made, "a live token")
        assert 403 in seen
        assert min(seen) >= 400
