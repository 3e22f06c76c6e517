"""Requests as browsers and programs send them: no two heads alike, each with a path, trace and validator of its own."""

import random
from typing import Final

_AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"


def target(chance: random.Random, path: str) -> str:
    """One thing below `path`."""
    return f"{path}/{chance.randbytes(6).hex()}?fields=title,body&page={chance.randrange(1, 900)}"


def head(
    chance: random.Random, host: str, target: str, authorization: str | None, *, session: str = "", length: int = 0
) -> bytes:
    """One request's head, with a session among its cookies, where one is given; with `length` a POST of so many bytes
    of JSON."""
    trace, span, etag = (chance.randbytes(size).hex() for size in (16, 8, 10))
    lines = [
        f"{'POST' if length else 'GET'} {target} HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {_AGENT}",
        "Accept: application/json, text/plain, */*",
        "Accept-Language: en-GB,en;q=0.8",
        "Accept-Encoding: gzip, deflate, br",
        f"Referer: https://app.example.com/things/{etag[:6]}",
        f"Cookie: {session and f'gateway_session={session}; '}theme=dark; consent={etag[:8]}; visit={trace[:12]}",
        "Sec-Fetch-Site: same-site",
        "Sec-Fetch-Mode: cors",
        f"traceparent: 00-{trace}-{span}-01",
        f'If-None-Match: "{etag}"',
    ]
    if authorization is not None:
        lines.append(f"Authorization: {authorization}")
    if length:
        lines += ["Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(chance: random.Random) -> bytes:
    """One answer, with its own validator and time."""
    body = f'{{"id": "{chance.randbytes(6).hex()}", "title": "A note", "page": {chance.randrange(1, 900)}}}'
    lines = [
        "HTTP/1.1 200 OK",
        "Server: things/2.4",
        f"Date: Sat, 28 Nov 2026 08:00:{chance.randrange(60):02d} GMT",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f'ETag: "{chance.randbytes(10).hex()}"',
        "Cache-Control: private, max-age=0",
        "Vary: Authorization, Accept-Encoding",
    ]
    return "\r\n".join([*lines, "", body]).encode()
