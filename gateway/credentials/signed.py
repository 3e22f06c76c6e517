"""A signed credential as the guard judges it, whatever scheme it came by.

    MAC drafts 00 and 01      Authorization: MAC …                from_mac
    RFC 9421                  Signature-Input and Signature       credentials.signatures

Which algorithm counts is the token's to say: what is signed and which hashes were stated is known before the token
is, whether they are right only afterwards.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple, final
from urllib.parse import unquote_to_bytes

from mypy_extensions import mypyc_attr

from gateway.credentials import mac
from gateway.credentials.authorization import MalformedCredential
from gateway.crypto import equal
from gateway.model import MacAlgorithm, MacDraft

HashName = Literal["sha1", "sha256", "sha512"]

_SIZES: Final = frozenset(hashlib.new(name).digest_size for name in mac.HASHES.values())
_BODY_HASH: Final = b"body_hash"
_BETWEEN: Final = re.compile(r"[&,; ]+")


class Proof(NamedTuple):
    """A text that is signed, and the HMAC over it as it came."""

    text: bytes
    mac: bytes


class BodyDigest(NamedTuple):
    """A stated hash of the body: what it must be, and by which function (None: that of the token's algorithm)."""

    digest: bytes
    hash: HashName | None = None


class BodyCheck:
    """Takes one body in, part by part, and knows at its end whether it is the one whose hashes were stated."""

    __slots__ = ("_running", "_stated")

    def __init__(self, stated: Iterable[BodyDigest], algorithm: MacAlgorithm) -> None:
        own = mac.HASHES[algorithm]
        self._stated = tuple((digest, hash_ or own) for digest, hash_ in stated)
        self._running = {name: hashlib.new(name) for _, name in self._stated}

    def update(self, data: bytes) -> None:
        """Take the next part."""
        for running in self._running.values():
            running.update(data)

    def fits(self) -> bool:
        """Whether the body that was taken in has every hash that was stated."""
        return all(equal(self._running[name].digest(), digest) for digest, name in self._stated)

    @property
    def possible(self) -> bool:
        """Whether any body could fit: each hash has its length."""
        return all(self._running[name].digest_size == len(digest) for digest, name in self._stated)


@mypyc_attr(acyclic=True)
class Once:
    """By what a request counts once, beside its token: the nonce, of its scheme (and of the draft of MAC), and when it
    was signed. It is never altered.

    `created` is in seconds since 1970; without it (draft 00) the nonce counts for the token's whole life.
    """

    __slots__ = ("created", "draft", "nonce", "scheme")

    def __init__(self, scheme: str, nonce: str, created: int | None, draft: MacDraft | None = None) -> None:
        self.scheme: Final = scheme
        self.nonce: Final = nonce
        self.created: Final = created
        self.draft: Final = draft


@mypyc_attr(acyclic=True)
@final
class Signed(Once):
    """A request's claim that the holder of `token`'s MAC key made it.

    Every proof must be right by the token's algorithm, which must be `algorithm` where that is given. After `expires`
    the claim is void; all `digests` must be the body's.
    """

    __slots__ = ("algorithm", "digests", "expires", "proofs", "token")

    def __init__(
        self,
        *,
        scheme: str,
        token: str,
        nonce: str,
        proofs: tuple[Proof, ...],
        draft: MacDraft | None = None,
        created: int | None = None,
        expires: int | None = None,
        algorithm: MacAlgorithm | None = None,
        digests: tuple[BodyDigest, ...] = (),
    ) -> None:
        super().__init__(scheme, nonce, created, draft)
        self.token: Final = token
        self.proofs: Final = proofs
        self.expires: Final = expires
        self.algorithm: Final = algorithm
        self.digests: Final = digests

    def proven_by(self, key: bytes, algorithm: MacAlgorithm) -> bool:
        """Whether the holder of `key` signed the request so, in time that does not tell where it differs."""
        if self.algorithm not in (None, algorithm) or not self.proofs:
            return False
        return all(equal(hmac.digest(key, text, mac.HASHES[algorithm]), stated) for text, stated in self.proofs)

    def __repr__(self) -> str:
        return f"Signed({self.scheme}, {self.draft})"


def from_mac(credentials: mac.Credentials, covered: mac.Covered) -> Signed:
    """The claim that a MAC credential makes of a request.

    Raises MalformedCredential, also where the request cannot be signed.
    """
    text = mac.string_of(credentials, covered)
    return Signed(
        scheme="mac",
        token=credentials.id,
        nonce=credentials.nonce,
        proofs=(Proof(text, _decoded(credentials.mac, "The attribute mac")),),
        draft=credentials.draft,
        created=None if credentials.ts is None else int(credentials.ts),
        digests=_digests(credentials),
    )


def read_mac(rest: bytes, covered: mac.Covered) -> Signed:
    """The claim of a MAC credential, from what follows the scheme in Authorization.

    The form that nearly all clients send is read in one step, to the same claim. Raises MalformedCredential, also
    `mac.OtherDraft`.
    """
    found = mac.common_form(rest)
    if found is None:
        return from_mac(mac.parse(rest), covered)
    token, ts, nonce, stated = found
    proof = Proof(b"%b\n%b\n%b\n" % (ts, nonce, mac.covered_lines(covered)), _decoded(stated, "The attribute mac"))
    return Signed(
        scheme="mac", token=token.decode(), nonce=nonce.decode(), proofs=(proof,), draft="01", created=int(ts)
    )


def _digests(credentials: mac.Credentials) -> tuple[BodyDigest, ...]:
    """Draft 00's `bodyhash`, or `body_hash=BASE64` in `ext`; of two, nobody could say which one counts."""
    stated = [] if credentials.ext is None else _in_ext(credentials.ext)
    if credentials.bodyhash is not None:
        stated.append(credentials.bodyhash)
    if not stated:
        return ()
    if len(stated) > 1:
        raise MalformedCredential("The hash of the body is given twice.")
    digest = _decoded(stated[0], "The hash of the body")
    if len(digest) not in _SIZES:
        raise MalformedCredential("The hash of the body has the wrong length; it is 20 bytes (SHA-1) or 32 (SHA-256).")
    return (BodyDigest(digest),)


def _in_ext(ext: str) -> list[str]:
    """Each `body_hash` among the parts of `ext`, which blanks, commas, semicolons or ampersands separate."""
    parts = (unquote_to_bytes(part).partition(b"=") for part in _BETWEEN.split(ext))
    return [value.decode("latin-1") for name, equals, value in parts if equals and name == _BODY_HASH]


def _decoded(text: str | bytes, what: str) -> bytes:
    """The bytes of base64 in its one right spelling (RFC 4648, section 3.5). Raises MalformedCredential."""
    spelt = text.encode() if isinstance(text, str) else text
    try:
        decoded = base64.b64decode(spelt, validate=True)
    except ValueError:
        decoded = b""
    if not decoded or base64.b64encode(decoded) != spelt:
        raise MalformedCredential(f"{what} is not base64.")
    return decoded
