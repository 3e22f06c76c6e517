"""Structured mutation: hostile bytes from the rows of the wire table."""

import random
from collections.abc import Sequence

from tests.wire.table import ANSWERS, REQUESTS

LONGEST = 4096  # bytes of a seed: what is longer only tests limits, slowly

REQUEST_SEEDS = [row.data for row in REQUESTS if len(row.data) <= LONGEST]
RESPONSE_SEEDS = [answer.data for answer in ANSWERS if len(answer.data) <= LONGEST]
TARGET_SEEDS = [row.data.split(b" ")[1] for row in REQUESTS if row.section.startswith(("RFC 9112, 3.2", "RFC 3986"))]
CREDENTIAL_SEEDS = [
    b'id="gwa_a", ts="1336363200", nonce="dj83hs9s", mac="bhCQXTVyfj5cmA9uKkPFx1zeOXM="',
    b'id="h480djs93hd8", nonce="264095:dj83hs9s", bodyhash="", mac="SLDJd4mg43cjQfElUs3Qub4L6xE="',
    b'id="a",ts="1",nonce="b",ext="c",mac="YQ=="',
    b'mac="",id="a" , nonce="1:a",mac="YQ=="',
    b'id="a", nonce="7e-06:a", mac="YWI="',
    b'ID="a", ts="01", nonce="\\"", mac="YWI"',
]

TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\n\r\n", b" ", b"\t", b":", b";", b",", b"=", b'"', b"\\", b"\0", b"\x7f", b"\xff", b"0",
    b"5", b"%", b"?", b"#",
    b"0\r\n\r\n", b"5\r\nhello\r\n", b"chunked", b"gzip, chunked", b"Content-Length: 5\r\n", b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Host: a\r\n", b"Connection: close\r\n", b"Connection: X-A\r\n",
    b"HTTP/1.1", b"HTTP/1.0",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"HTTP/1.1 200 OK\r\n", b"Expect: 100-continue\r\n",
    b"Connection: Upgrade\r\nUpgrade: websocket\r\n", b"X-A: b\r\n", b"/", b"//", b"..", b"%2e", b"%2f",
    b"\r\n ", b"FFFFFFFFFFFFFFFF", b"9" * 20, b"a" * 300, b"_", b"-", b"HEAD", b"POST",
]  # fmt: skip


def mutated(chance: random.Random, seeds: Sequence[bytes], most: int = 6) -> bytes:
    """Up to three seeds in a row, with up to `most` things changed."""
    data = b"".join(chance.choices(seeds, k=chance.choice((1, 1, 1, 2, 3))))
    for _ in range(chance.randint(0, most)):
        data = _changed(chance, data, seeds)
    return data


def _changed(chance: random.Random, data: bytes, seeds: Sequence[bytes]) -> bytes:
    start = chance.randint(0, len(data))
    end = min(len(data), start + chance.choice((0, 1, 1, 2, 4, 16, 64)))
    match chance.randrange(8):
        case 0:
            middle = b""
        case 1:
            middle = data[start:end] * 2
        case 2:
            middle = bytes((chance.randrange(256),))
        case 3:
            middle = data[start:end].swapcase()
        case 4:
            other = chance.choice(seeds)
            begin = chance.randint(0, len(other))
            middle = other[begin : begin + chance.choice((1, 4, 16, 64))]
        case 5:
            return data[:start]
        case _:
            middle = chance.choice(TOKENS)
    return data[:start] + middle + data[end:]


def cut(chance: random.Random, data: bytes) -> list[bytes]:
    """The bytes in pieces: one by one, or at some places."""
    if chance.random() < 0.3:
        return bytewise(data)
    places = sorted(chance.randint(0, len(data)) for _ in range(chance.randint(1, 5)))
    return [data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True) if start < end]


def bytewise(data: bytes) -> list[bytes]:
    """The bytes one by one."""
    return [data[index : index + 1] for index in range(len(data))]
