"""Whatever the pages and endpoints refuse costs their worker 10 ms at most, its line in the log included.

A page and a look into the database take some 2 ms of that whatever is asked, and so does the client on the same thread.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import pytest

from fuzz.slowness import BOUND, SIZE, Climb
from gateway.web.plane import PLANE
from tests.counts import scaled
from tests.web.rig import Plane

pytestmark = pytest.mark.measures

LONGEST = SIZE - 200  # bytes of what is in one line with something else
_IN_TARGETS = bytes(byte if byte in b'!"' or 0x24 <= byte < 0x7F else ord("x") for byte in range(256))
_IN_VALUES = bytes(byte if 0x20 <= byte < 0x7F else ord("x") for byte in range(256))
PIECES = (
    b"://a:", b"__Host-", b"%61", b"%", b"//", b"/a", b";a", b"a=1&", b"&b=", b"'", b'"', b"token ", b" ", b"a", b"a; ",
    b"client_id=x&", b"\xff", b"+",
)  # fmt: skip


def target(start: bytes, data: bytes) -> bytes:
    """A request with `data` in its target."""
    path = start + data.translate(_IN_TARGETS)[:LONGEST]
    few = path.split(b"/", 100)  # the access plane lets no more through
    return b"GET " + b"/".join(few[:-1]) + b"/" + few[-1].replace(b"/", b"x") + b" HTTP/1.1\r\nHost: %HOST\r\n\r\n"


def field(path: bytes, name: bytes, data: bytes) -> bytes:
    """A request with `data` in one of its fields."""
    value = data.translate(_IN_VALUES)[:LONGEST]
    return b"GET " + path + b" HTTP/1.1\r\nHost: %HOST\r\n" + name + b": " + value + b"\r\n\r\n"


def form(path: bytes, start: bytes, data: bytes) -> bytes:
    """A form of which `data` is the rest."""
    body = start + data[: SIZE - len(start)]
    head = b" HTTP/1.1\r\nHost: %HOST\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    return b"POST " + path + head + b"Content-Length: %d\r\n\r\n" % len(body) + body


REFUSED: dict[str, Callable[[bytes], bytes]] = {
    "a path": partial(target, b"/nothing/"),
    "a query": partial(target, b"/oauth2/authorize?"),
    "a client": partial(target, b"/oauth2/authorize?client_id="),
    "metadata": partial(target, b"/.well-known/oauth-protected-resource/"),
    "a cookie": partial(field, b"/oauth2/account", b"Cookie"),
    "a credential": partial(field, b"/oauth2/token", b"Authorization"),
    "a grant": partial(form, b"/oauth2/token", b"grant_type="),
    "a form": partial(form, b"/oauth2/token", b""),
    "a token": partial(form, b"/oauth2/introspect", b"token="),
    "a sign-in": partial(form, b"/oauth2/login", b"csrf_token="),
}


async def test_no_refusal_of_a_page_or_an_endpoint_costs_more_than_10_ms(
    plane: Plane, subtests: pytest.Subtests
) -> None:
    port = urlsplit(plane.url).port

    async def refused(made: Callable[[bytes], bytes], data: bytes) -> None:
        plane.app[PLANE].refusals._written.clear()  # so that each has a line
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(made(data).replace(b"%HOST", urlsplit(plane.url).netloc.encode(), 1))
        async with asyncio.timeout(30):
            head = await reader.read(1 << 16)
        writer.close()
        seen.add(int(head.split(b" ")[1]))

    for name, made in REFUSED.items():
        with subtests.test(name):
            climb, chance, seen = Climb(PIECES, 2 * BOUND), random.Random(name), set[int]()
            for _ in range(scaled(300)):
                await climb.step_answered(partial(refused, made), chance)
            assert min(seen) >= 300
