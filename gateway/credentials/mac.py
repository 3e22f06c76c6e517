"""MAC tokens: signed requests by draft-ietf-oauth-v2-http-mac, 00 and 01 (02 is 01 with other prose).

    credentials   = "MAC" 1*SP attribute *( OWS "," OWS attribute )      any order, none twice
    attribute     = name "=" DQUOTE plain-string DQUOTE
    plain-string  = 1*( %x20-21 / %x23-5B / %x5D-7E )
    draft 01      = id ts nonce [ext] mac              ts    = positive integer without leading zeros
    draft 00      = id nonce [bodyhash] [ext] mac      nonce = age ":" plain-string

Stricter than the drafts' grammar: values are always quoted, and an attribute that the draft does not name is
refused, since the signature would not cover it. Drafts 03 to 05 were redesigned (`kid` in the place of `id`, `seq-nr`,
`access_token`, `h`, `cb`), and no two implementations of them agree: they are recognised, and refused by that name.

The string that is signed has one element a line, each line ended by LF, absent optional ones empty:

    draft 01      ts, nonce, METHOD, request-uri, host, port, ext
    draft 00      nonce, METHOD, request-uri, host, port, bodyhash, ext

No element can hold a LF, so that equal strings mean equal parts.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from gateway.credentials.authorization import MalformedCredential
from gateway.model import MacAlgorithm, MacDraft

MAXIMUM: Final = {"id": 256, "ts": 15, "nonce": 128, "bodyhash": 88, "ext": 1024, "mac": 88}  # characters

_ATTRIBUTES_OF: Final[dict[MacDraft, str]] = {"00": "id, nonce, bodyhash, ext, mac", "01": "id, ts, nonce, ext, mac"}

HASHES: Final[dict[MacAlgorithm, Literal["sha1", "sha256"]]] = {"hmac-sha-256": "sha256", "hmac-sha-1": "sha1"}

_CHARACTER: Final = r"[\x20-\x21\x23-\x5b\x5d-\x7e]"
_PLAIN: Final = f"{_CHARACTER}+"
_ATTRIBUTE: Final = re.compile(rf'([A-Za-z][A-Za-z0-9_-]*)="({_PLAIN})"', re.ASCII)
_COMMA: Final = re.compile(r"[ \t]*,[ \t]*", re.ASCII)
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_AGE: Final = r"[0-9]{1,15}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?"  # real clients send 5.000048 and 7e-06
_GRAMMAR: Final = {
    "id": re.compile(_PLAIN),
    "ts": re.compile(r"[1-9][0-9]*", re.ASCII),
    "nonce": re.compile(_PLAIN),
    "bodyhash": re.compile(_BASE64, re.ASCII),
    "ext": re.compile(_PLAIN),
    "mac": re.compile(_BASE64, re.ASCII),
}
_WANTED: Final = {
    "id": "must be the access token",
    "ts": "must be a positive number of seconds since 1970, without leading zeros",
    "nonce": "must be printable ASCII without quotes and backslashes",
    "bodyhash": "must be base64",
    "ext": "must be printable ASCII without quotes and backslashes",
    "mac": "must be base64",
}
# Draft 01 as nearly all clients write it, in one step. Whatever has another form is none the worse for it: see `parse`.
_COMMON_FORM: Final = re.compile(
    rb'id="(%(plain)b{1,256})", ?ts="([1-9][0-9]{0,14})", ?nonce="(%(plain)b{1,128})", ?'
    rb'mac="([A-Za-z0-9+/]{27}=|[A-Za-z0-9+/]{43}=)"' % {b"plain": _CHARACTER.encode()}
)
_NONCE_00 = re.compile(rf"{_AGE}:{_PLAIN}", re.ASCII)

# Real clients of drafts 03 to 05 leave quotes, commas or both out, so their names alone are looked for.
_REDESIGNED: Final = re.compile(r"(?:^|[\s,])(?:kid|seq-nr|access_token|h|cb)[ \t]*=", re.IGNORECASE)
_ID: Final = re.compile(r"(?:^|[\s,])id[ \t]*=", re.IGNORECASE)

_METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Z]+", re.ASCII)  # signed in upper case, so taken in upper case only
_TARGET: Final = re.compile(rb"[\x21-\x7e\x80-\xff]+")
_HOST: Final = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", re.ASCII)


class OtherDraft(MalformedCredential):
    """A credential of draft 03, 04 or 05, whose form is another and is not accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The attributes of a MAC Authorization field. Raises MalformedCredential when they do not follow their grammar.

    `id` is the access token and `ts` the time in seconds since 1970; without `ts` it is draft 00's form.
    """

    id: str
    nonce: str
    mac: str
    ts: str | None = None
    bodyhash: str | None = None
    ext: str | None = None

    def __post_init__(self) -> None:
        for name in _GRAMMAR:
            _check_attribute(name, getattr(self, name))
        if self.ts is not None and self.bodyhash is not None:
            raise MalformedCredential(
                "The attribute bodyhash belongs to draft 00, ts to draft 01: leave one of them out."
            )
        if self.ts is None and _NONCE_00.fullmatch(self.nonce) is None:
            raise MalformedCredential("The attribute ts is missing, and the nonce is not AGE:RANDOM as in draft 00.")

    @property
    def draft(self) -> MacDraft:
        """The draft whose form this is."""
        return "00" if self.ts is None else "01"

    def __repr__(self) -> str:
        return f"Credentials(draft {self.draft})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """The parts of a request that a signature covers: the raw target as received, the public host and port."""

    method: str
    target: bytes
    host: str
    port: int


def accepted(drafts: Sequence[MacDraft], algorithms: Sequence[MacAlgorithm]) -> str:
    """The sentence that tells a client with another form of credential which forms are accepted."""
    forms = " or ".join(f"draft {draft} ({_ATTRIBUTES_OF[draft]})" for draft in drafts)
    return f"Accepted: {forms} with {' or '.join(algorithms)}."


def common_form(value: bytes) -> tuple[bytes, bytes, bytes, bytes] | None:
    """Token, ts, nonce and mac of a credential of draft 01 in its common form, without ext; else None.

    `parse` reads the same from it, and more forms. Whether the base64 is spelt right is not looked at.
    """
    found = _COMMON_FORM.fullmatch(value)
    return None if found is None else (found[1], found[2], found[3], found[4])


def parse(rest: bytes) -> Credentials:
    """The attributes from what follows the scheme. Raises MalformedCredential, and OtherDraft for drafts 03 to 05."""
    try:
        text = rest.decode("ascii")
    except UnicodeDecodeError as exc:
        raise MalformedCredential("The MAC credential is not ASCII.") from exc
    try:
        return Credentials(**_attributes(text))
    except MalformedCredential as fault:
        if _REDESIGNED.search(text) and not _ID.search(text):
            raise OtherDraft("The MAC credential has the form of drafts 03 to 05.") from fault
        raise


def _attributes(text: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    at = 0
    while True:
        found = _ATTRIBUTE.match(text, at)
        if found is None:
            raise MalformedCredential('A MAC credential must be a list of NAME="VALUE", separated by commas.')
        name, value, at = found[1].lower(), found[2], found.end()
        if name not in _GRAMMAR:
            raise MalformedCredential(
                "The MAC credential has an unknown attribute; draft 01 has id, ts, nonce, ext and mac."
            )
        if name in attributes:
            raise MalformedCredential(f"The attribute {name} appears twice.")
        attributes[name] = value
        if at == len(text):
            break
        comma = _COMMA.match(text, at)
        if comma is None:
            raise MalformedCredential("The attributes of a MAC credential must be separated by commas.")
        at = comma.end()
    for name in ("id", "nonce", "mac"):
        if name not in attributes:
            raise MalformedCredential(f"The attribute {name} is missing.")
    return attributes


def render(credentials: Credentials) -> str:
    """The whole value of an Authorization field that `parse` reads back as the same credentials."""
    names = ("id", "ts", "nonce", "bodyhash", "ext", "mac")
    given = ((name, getattr(credentials, name)) for name in names)
    return "MAC " + ", ".join(f'{name}="{value}"' for name, value in given if value is not None)


def normalized_string(
    covered: Covered, *, nonce: str, ts: str | None = None, bodyhash: str | None = None, ext: str | None = None
) -> bytes:
    """The bytes that are signed: draft 01's with `ts`, draft 00's without.

    Raises MalformedCredential when a part of the request cannot be signed: a method in lower case (the string has it in
    upper case, so that `get` would pass for `GET`), a host in capitals or with a port, a control character, or an
    attribute outside its grammar.
    """
    for name, value in {"ts": ts, "nonce": nonce, "bodyhash": bodyhash, "ext": ext}.items():
        _check_attribute(name, value)
    return _joined(covered, nonce, ts, bodyhash, ext)


def string_of(credentials: Credentials, covered: Covered) -> bytes:
    """The normalised request string of credentials, whose attributes are known to follow their grammar."""
    return _joined(covered, credentials.nonce, credentials.ts, credentials.bodyhash, credentials.ext)


def covered_lines(covered: Covered) -> bytes:
    """The lines between the nonce and ext in draft 01's string.

    Raises MalformedCredential where a part cannot be signed.
    """
    _check_covered(covered)
    request = b"%b\n%b\n%b\n%d\n"
    return request % (covered.method.encode(), covered.target, covered.host.encode(), covered.port)


def _joined(covered: Covered, nonce: str, ts: str | None, bodyhash: str | None, ext: str | None) -> bytes:
    request = covered_lines(covered)
    if ts is None:
        return b"%b\n%b%b\n%b\n" % (nonce.encode(), request, (bodyhash or "").encode(), (ext or "").encode())
    return b"%b\n%b\n%b%b\n" % (ts.encode(), nonce.encode(), request, (ext or "").encode())


def _check_attribute(name: str, value: str | None) -> None:
    if value is None:
        return
    if len(value) > MAXIMUM[name]:
        raise MalformedCredential(f"The attribute {name} is longer than {MAXIMUM[name]} characters: shorten it.")
    if not value or _GRAMMAR[name].fullmatch(value) is None:
        raise MalformedCredential(f"The attribute {name} is malformed: it {_WANTED[name]}.")


def _check_covered(covered: Covered) -> None:
    if _METHOD.fullmatch(covered.method) is None:
        raise MalformedCredential("The method of a signed request must be in upper case.")
    if _TARGET.fullmatch(covered.target) is None:
        raise MalformedCredential("The target of a signed request must not contain spaces or control characters.")
    if _HOST.fullmatch(covered.host) is None:
        raise MalformedCredential("The host of a signed request must be in lower case and without a port.")


def sign(key: bytes, algorithm: MacAlgorithm, text: bytes) -> str:
    """The `mac` attribute: base64 of the HMAC over a normalised string. The key is its characters as issued."""
    return base64.b64encode(hmac.digest(key, text, HASHES[algorithm])).decode("ascii")


def body_hash(algorithm: MacAlgorithm, body: bytes) -> str:
    """The `bodyhash` attribute of draft 00: base64 of the algorithm's digest of the body, as it is sent."""
    return base64.b64encode(hashlib.new(HASHES[algorithm], body).digest()).decode("ascii")
