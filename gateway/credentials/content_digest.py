"""Content-Digest: what the body's bytes must hash to (RFC 9530, section 2).

    Content-Digest = Dictionary of algorithm=:digest:       sha-256 and sha-512; others are passed over

Passed over too are the parameters of a digest, which RFC 9530 leaves to the future. At least one algorithm must be
one that is known: a body that nobody can check is not vouched for.
"""

import base64
import hashlib
from collections.abc import Sequence
from typing import Final

from gateway.credentials import structured
from gateway.credentials.authorization import MalformedCredential
from gateway.credentials.signed import BodyDigest, HashName

FIELD: Final = b"content-digest"
_HASHES: Final[dict[str, HashName]] = {"sha-256": "sha256", "sha-512": "sha512"}
ALGORITHMS: Final = tuple(_HASHES)
_LONGEST: Final = 1024  # bytes of the whole field


def parse(values: Sequence[bytes]) -> tuple[BodyDigest, ...]:
    """The digests that are stated and known, from the values of the field's lines; at least one.

    Raises MalformedCredential.
    """
    stated = structured.dictionary(values, field="Content-Digest", longest=_LONGEST)
    found = []
    for algorithm, name in _HASHES.items():
        member = stated.get(algorithm)
        if member is None:
            continue
        digest = member.value if isinstance(member, structured.Item) else None
        if not isinstance(digest, bytes) or len(digest) != hashlib.new(name).digest_size:
            raise MalformedCredential(f"The {algorithm} of Content-Digest is malformed; send {algorithm}=:BASE64:.")
        found.append(BodyDigest(digest, name))
    if not found:
        raise MalformedCredential("Content-Digest has no known digest; send sha-256 or sha-512.")
    return tuple(found)


def render(body: bytes, algorithm: str = "sha-256") -> str:
    """The field's value for a body, by one of `ALGORITHMS`."""
    digest = hashlib.new(_HASHES[algorithm], body).digest()
    return f"{algorithm}=:{base64.b64encode(digest).decode('ascii')}:"
