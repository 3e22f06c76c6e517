"""Requests signed a moment before they are sent, each with a nonce of its own (MAC draft 01, hmac-sha-256); and tokens
that another issuer has signed."""

import base64
import hmac
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Final

from gateway.credentials import mac
from gateway.oauth import signing

PER_SECOND: Final = 25_000  # more than one worker on one core can pass


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs GET requests with one MAC token and its key."""

    token: str
    key: bytes = field(repr=False)

    def credentials(self, path: str, port: int, count: int) -> list[str]:
        """The Authorization fields of `count` requests for a path of the loopback's server, signed now."""
        ts, run, keyed = str(int(time.time())), secrets.token_hex(6), hmac.new(self.key, digestmod="sha256")
        covered = mac.Covered(method="GET", target=path.encode(), host="127.0.0.1", port=port)
        front, back = mac.normalized_string(covered, ts=ts, nonce="NONCE").split(b"NONCE")
        signed = []
        for number in range(count):
            nonce = f"{run}{number:08d}"
            running = keyed.copy()
            running.update(b"%b%b%b" % (front, nonce.encode(), back))
            proof = base64.b64encode(running.digest()).decode()
            signed.append(f'MAC id="{self.token}", ts="{ts}", nonce="{nonce}", mac="{proof}"')
        return signed


def tokens_of_an_issuer(url: str, count: int) -> tuple[tuple[str, ...], str]:
    """So many JWT access tokens (RFC 9068) of an issuer, each of another person, and its set of keys."""
    key, now = signing.new("ES256"), int(time.time())
    claims = {"iss": url, "aud": "bench", "scope": "bench", "client_id": "app", "iat": now, "exp": now + 86400}
    tokens = (key.signed({**claims, "sub": f"u{number}", "jti": f"{number:016x}"}, "at+jwt") for number in range(count))
    return tuple(tokens), json.dumps({"keys": [key.public]})
