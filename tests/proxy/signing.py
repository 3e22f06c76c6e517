"""Signed requests as bytes, and how many nonces the database remembers."""

import base64
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from gateway.credentials import mac
from gateway.model import MacAlgorithm, MacDraft
from gateway.store import NewClient, Store
from gateway.store.records import IssuedTokens
from tests.proxy.rig import Reply

LONGEST: Final = 64 * 1024  # bytes of a body that is held
MAC: Final = {"drafts": ["01", "00"], "algorithms": ["hmac-sha-256", "hmac-sha-1"]}


@dataclass
class Signer:
    """A client with one token; each request gets a nonce of its own unless one is named."""

    client_id: str
    tokens: IssuedTokens
    draft: MacDraft = "01"
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    @classmethod
    async def of(cls, store: Store, draft: MacDraft = "01", algorithm: MacAlgorithm = "hmac-sha-256") -> "Signer":
        client, _ = await store.clients.create(
            NewClient(
                name="Signer",
                confidential=True,
                redirect_uris=(),
                grant_types=frozenset({"client_credentials"}),
                scopes=frozenset({"notes:write"}),
                token_type="mac",
                mac_drafts=(draft,),
                mac_algorithm=algorithm,
            )
        )
        tokens = await store.tokens.issue(client.client_id, None, frozenset({"notes:write"}), 3600, None)
        return cls(client.client_id, tokens, draft)

    def authorization(
        self, body: bytes | None, *, target: str = "/mac", method: str = "POST", nonce: str | None = None
    ) -> str:
        """The Authorization field, with the hash of `body` unless that is None."""
        assert self.tokens.mac_key is not None
        assert self.tokens.mac_algorithm is not None
        nonce = nonce or f"n{next(self._numbers)}"
        stated = None if body is None else mac.body_hash(self.tokens.mac_algorithm, body)
        attributes: dict[str, str | None] = {"ts": str(int(time.time())), "nonce": nonce, "ext": None}
        if self.draft == "00":
            attributes |= {"ts": None, "nonce": f"0:{nonce}", "bodyhash": stated}
        elif stated is not None:
            attributes |= {"ext": f"body_hash={stated}"}
        covered = mac.Covered(method=method, target=target.encode(), host="gateway.test", port=80)
        text = mac.normalized_string(covered, **attributes)  # type: ignore[arg-type]  # the nonce is never None
        signature = mac.sign(self.tokens.mac_key.encode(), self.tokens.mac_algorithm, text)
        shown = {"id": self.tokens.access_token, **attributes, "mac": signature}
        return "MAC " + ", ".join(f'{name}="{value}"' for name, value in shown.items() if value is not None)

    def head(
        self,
        body: bytes | None,
        *fields: str,
        target: str = "/mac",
        method: str = "POST",
        nonce: str | None = None,
    ) -> bytes:
        """A request's head that states the hash of `body`; its framing is among `fields`."""
        authorization = self.authorization(body, target=target, method=method, nonce=nonce)
        lines = [f"{method} {target} HTTP/1.1", "Host: gateway.test", f"Authorization: {authorization}", *fields]
        return "\r\n".join([*lines, "", ""]).encode()


def by_length(body: bytes) -> tuple[str, bytes]:
    """The framing field of a body of known length, and its bytes."""
    return f"Content-Length: {len(body)}", body


def in_chunks(body: bytes, sizes: Sequence[int] = (1, 7, 4096, 3, 70_000, 2)) -> tuple[str, bytes]:
    """The framing field of a chunked body, and its bytes, in chunks of these sizes by turns."""
    parts, turns, at = [], itertools.cycle(sizes), 0
    while at < len(body):
        part = body[at : at + next(turns)]
        parts.append(b"%x\r\n%b\r\n" % (len(part), part))
        at += len(part)
    return "Transfer-Encoding: chunked", b"".join(parts) + b"0\r\n\r\n"


Framing = Callable[[bytes], tuple[str, bytes]]
FRAMINGS: tuple[Framing, ...] = (
    by_length,
    in_chunks,
    lambda body: in_chunks(body, [len(body) or 1]),
    lambda body: in_chunks(body, [997]),
)


def bytes_of(size: int) -> bytes:
    """A body of that size in which no two neighbours are alike."""
    return (base64.b85encode(b"%x" % size) + bytes(range(256)) * (size // 256 + 1))[:size]


def altered(body: bytes) -> dict[str, bytes]:
    """Bodies that are almost this one."""
    changed: dict[str, bytes] = {"longer": body + b"x"}
    if body:
        changed |= {
            "another first byte": bytes([body[0] ^ 1]) + body[1:],
            "another last byte": body[:-1] + bytes([body[-1] ^ 1]),
            "shorter": body[:-1],
            "nothing": b"",
        }
    return changed


def is_refused(reply: Reply) -> None:
    """A whole 401 that says that the body is another one."""
    assert (reply.status, reply.complete) == (401, True)
    (challenge,) = reply.all("www-authenticate")
    assert challenge.startswith("MAC realm=")
    assert 'error="invalid_token"' in challenge
    assert reply.all("date")
    assert json.loads(reply.body)["error_description"] == "The body does not match the signed hash."


async def nonces(dsn: str) -> int:
    """How many nonces the database remembers."""
    connection = await asyncpg.connect(dsn)
    try:
        tables = await _tables(connection)
        return sum([await connection.fetchval(f"select count(*) from {name}") for name in tables])
    finally:
        await connection.close()


async def _tables(connection: "asyncpg.Connection[asyncpg.Record]") -> list[str]:
    names = await connection.fetch(
        "select c.oid::regclass::text as name from pg_class c join pg_attribute a on a.attrelid = c.oid "
        "where c.relkind in ('r', 'p') and not c.relispartition and c.relname like '%nonces' and a.attname = 'key'"
    )
    assert names
    return [record["name"] for record in names]


@asynccontextmanager
async def nonces_locked(dsn: str) -> AsyncIterator[None]:
    """Nobody can spend a nonce meanwhile."""
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            for name in await _tables(connection):
                await connection.execute(f"lock table {name} in access exclusive mode")
            yield
    finally:
        await connection.close()
