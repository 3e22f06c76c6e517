"""Another issuer on this machine: its metadata, its keys and its tokens, with any part of them another."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tests.oauth.signing import Signer, signer
from tests.streams import accepting

Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]
AUDIENCE = "https://api.example.com"
METADATA = "/.well-known/openid-configuration"
METADATA_BY_RFC_8414 = "/.well-known/oauth-authorization-server"
KEYS = "/jwks.json"
RSA, EC, EDWARDS = (signer(algorithm, kid=f"{algorithm}-1") for algorithm in ("RS256", "ES256", "EdDSA"))
NEXT = signer("ES256", kid="ES256-2")


def document(members: object, *, fields: str = "", status: str = "200 OK", kind: str = "application/json") -> bytes:
    """An answer of JSON."""
    content = members if isinstance(members, bytes) else json.dumps(members).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n{fields}\r\n"
    return head.encode() + content


@dataclass
class Issuer:
    """What listens at an issuer's URL, and who asked."""

    port: int = 0
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def publish(self, *keys: Signer, **more: Any) -> None:
        """Metadata and keys as they should be; `more` are members of the metadata."""
        said = {"issuer": self.url, "jwks_uri": f"{self.url}{KEYS}", **more}
        self.answers |= {METADATA: document(said), KEYS: document({"keys": [key.jwk for key in keys]})}

    def claims(self, **claims: Any) -> dict[str, Any]:
        """What a good token says; a claim of None is left out."""
        now = int(time.time())
        said: dict[str, Any] = {"iss": self.url, "sub": "ada", "aud": AUDIENCE, "client_id": "app", "scope": "read"}
        said |= {"iat": now, "exp": now + 600, "jti": "j1"} | claims
        return {name: value for name, value in said.items() if value is not None}

    def token(self, key: Signer = EC, *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token of this issuer's."""
        return key.assertion(self.claims(**claims), **{"typ": "at+jwt", "kid": key.jwk.get("kid"), **(header or {})})

    def configured(self, **keys: Any) -> dict[str, Any]:
        """The table of the gateway's configuration."""
        return {"name": "corp", "url": self.url, "audience": [AUDIENCE], "algorithms": ["ES256", "RS256"], **keys}


@asynccontextmanager
async def an_issuer(*keys: Signer) -> AsyncIterator[Issuer]:
    """An issuer with these keys."""
    issuer = Issuer()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        path = head.split(b" ")[1].decode()
        issuer.asked.append(path)
        answer = issuer.answers.get(path, document({}, status="404 Not Found"))
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
        else:
            await answer(writer)

    async with accepting(serve) as issuer.port:
        issuer.publish(*(keys or (RSA, EC)))
        yield issuer
