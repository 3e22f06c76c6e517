"""A client of HTTP message signatures (RFC 9421) that knows nothing of the gateway's own code: the standard library."""

import base64
import hashlib
import hmac
import time
from dataclasses import dataclass, field, replace
from typing import Any

from tests.proxy.signing import Signer, in_chunks

ROUTES: list[dict[str, Any]] = [
    {"name": "signed", "path": "/signed", "auth": ["signature"], "strip_prefix": "/signed"},
    {"name": "any", "path": "/any", "auth": ["bearer", "mac", "signature"]},
    {"name": "read", "path": "/read", "auth": ["signature"], "scopes": ["notes:read"]},
    {"name": "forward", "path": "/forward", "auth": ["signature"], "forward_authorization": True},
    {"name": "mac", "path": "/mac", "auth": ["mac"]},
    {"name": "public", "path": "/public", "auth": "none"},
    {"name": "one", "path": "/own", "hosts": ["one.test"], "auth": ["signature"]},
    {"name": "two", "path": "/own", "hosts": ["two.test"], "auth": ["signature"]},
]


def digest_of(body: bytes) -> str:
    """The Content-Digest of a body."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"


@dataclass
class Parts:
    """A request in the parts that a row may alter before it is signed, or afterwards."""

    token: str
    key: str
    method: str = "GET"
    target: str = "/signed/1?b=1&a=2"
    host: str = "gateway.test"
    authority: str = "gateway.test"
    body: bytes | None = None
    chunked: bool = False
    covered: str = '"@method" "@target-uri"'
    parameters: dict[str, str] = field(default_factory=dict)
    fields: list[str] = field(default_factory=list)
    label: str = "sig"
    inputs: str = ""
    value: str = ""

    def sign(self) -> "Parts":
        """Make `inputs` and `value` for the parts as they are."""
        if self.body is not None:
            self.fields.append(f"Content-Digest: {digest_of(self.body)}")
            self.covered += ' "content-digest"'
        usual = {"created": str(int(time.time())), "nonce": '"n1"', "keyid": f'"{self.token}"'}
        stated = "".join(f";{name}={value}" for name, value in (usual | self.parameters).items() if value)
        params = f"({self.covered}){stated}"
        lines = [f"{name}: {self.component(name)}" for name in self.covered.split()]
        base = "\n".join([*lines, f'"@signature-params": {params}'])
        mac = base64.b64encode(hmac.digest(self.key.encode(), base.encode(), "sha256")).decode()
        self.inputs, self.value = f"{self.label}={params}", f"{self.label}=:{mac}:"
        return self

    def component(self, name: str) -> str:
        path, mark, query = self.target.partition("?")
        derived = {
            '"@method"': self.method,
            '"@target-uri"': f"http://{self.authority}{self.target}",
            '"@authority"': self.authority,
            '"@path"': path,
            '"@query"': f"{mark}{query}" or "?",
            '"@scheme"': "http",
            '"@request-target"': self.target,
        }
        if name in derived:
            return derived[name]
        if name == '"host"':
            return self.host
        lines = (line.partition(": ") for line in self.fields)
        return ", ".join(value for sent, _, value in lines if sent.lower() == name.strip('"'))

    def bytes(self) -> bytes:
        """The request as it is sent."""
        credential = [
            *([f"Signature-Input: {self.inputs}"] if self.inputs else []),
            *([f"Signature: {self.value}"] if self.value else []),
        ]
        framing, sent = [], b""
        if self.body is not None:
            framing, sent = [f"Content-Length: {len(self.body)}"], self.body
            if self.chunked:
                (line, sent) = in_chunks(self.body)
                framing = [line]
        head = [f"{self.method} {self.target} HTTP/1.1", f"Host: {self.host}", *self.fields, *credential, *framing]
        return "\r\n".join([*head, "", ""]).encode("latin-1") + sent


def parts(signer: Signer, **changes: Any) -> Parts:
    """A request by a signer's token, not signed yet."""
    assert signer.tokens.mac_key is not None
    return replace(Parts(token=signer.tokens.access_token, key=signer.tokens.mac_key), **changes)
