"""What a client may have signed in the place of what the gateway makes: the mistakes that are made in practice.

A MAC that does not fit says nothing about why. But a variation of the string over which it does fit is proof of the
cause, since no other string has that MAC. So each plausible mistake is made here on purpose, alone and in pairs.
"""

import base64
import binascii
import hmac
import itertools
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from msgspec import Struct

from gateway.credentials import mac
from gateway.model import MacAlgorithm, MacDraft

ELEMENTS: Final[dict[MacDraft, tuple[str, ...]]] = {
    "00": ("nonce", "method", "request-uri", "host", "port", "bodyhash", "ext"),
    "01": ("ts", "nonce", "method", "request-uri", "host", "port", "ext"),
}

_METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
_HOSTS: Final = ("localhost", "127.0.0.1", "[::1]", "0.0.0.0")  # as text in a signature, never listened on
_PORTS: Final = ("80", "443", "8080", "8443", "8000", "3000", "5000", "")
_MOST_ORDERED: Final = 5  # query parameters whose every order is tried
_MOST_DROPPED: Final = 16  # query parameters or path segments that are left out in turn
_SUB_DELIMITERS: Final = "!$&'()*+,;=:@"
_ESCAPE: Final = re.compile(r"%[0-9A-Fa-f]{2}")


class Cause(Struct, frozen=True, kw_only=True):
    """Why a request does not verify: a name for programs, whose words are for people too, and a sentence."""

    name: str
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The parts of the string that a MAC is made of, each as it stands there; they need not follow any grammar."""

    elements: Mapping[str, str]
    order: tuple[str, ...]
    key: bytes = field(repr=False)
    algorithm: str  # a MacAlgorithm, or the name of one that no draft has
    line_end: str = "\n"
    last_line_end: bool = True

    def text(self) -> bytes:
        """The string that is signed."""
        joined = self.line_end.join(self.elements.get(name, "") for name in self.order)
        return (joined + self.line_end * self.last_line_end).encode("latin-1", "replace")

    def digest(self) -> bytes:
        """The HMAC over the string."""
        return hmac.digest(self.key, self.text(), _FUNCTIONS[self.algorithm])

    def with_elements(self, **changes: str) -> "Parts":
        """These parts with other elements; `request_uri` stands for request-uri."""
        named = {name.replace("_", "-"): value for name, value in changes.items()}
        return replace(self, elements={**self.elements, **named})


_FUNCTIONS: Final[dict[str, str]] = {
    **{str(name): str(function) for name, function in mac.HASHES.items()},
    "hmac-sha-512": "sha512",
    "hmac-md5": "md5",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Hints:
    """Values that a client may have signed in place of the right ones. Keys are named for the person who reads."""

    token: str = ""
    addresses: tuple[tuple[str, str], ...] = ()  # hosts and ports that lead to the gateway
    targets: tuple[str, ...] = ()
    keys: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    body_hashes: Mapping[MacAlgorithm, str] = field(default_factory=dict)  # of the body that came


class Change(Struct, frozen=True):
    """One mistake: what it makes of the parts, and the cause to name for it."""

    cause: Cause
    make: Callable[[Parts], Parts]


class Found(Struct, frozen=True):
    """The string that a client did sign, and the mistakes that lead to it."""

    parts: Parts
    causes: tuple[Cause, ...]


def search(parts: Parts, hints: Hints, is_signed: Callable[[bytes], bool]) -> Found | None:
    """The fewest mistakes that make the MAC fit: none, one, or two of different kinds; None if there are none such."""
    return _search(parts, [list(group(parts, hints)) for group in GROUPS], is_signed)


def search_keys(text: bytes, parts: Parts, hints: Hints, is_signed: Callable[[bytes], bool]) -> Found | None:
    """The fewest mistakes of key and algorithm that make the MAC fit the client's own string; None if none do."""
    whole = {"text": text.decode("latin-1")}
    fixed = replace(parts, elements=whole, order=("text",), line_end="", last_line_end=False)
    return _search(fixed, [list(group(parts, hints)) for group in (_key, _algorithm)], is_signed)


def _search(parts: Parts, groups: Sequence[Sequence[Change]], is_signed: Callable[[bytes], bool]) -> Found | None:
    if is_signed(parts.digest()):
        return Found(parts, ())
    for change in itertools.chain.from_iterable(groups):
        made = change.make(parts)
        if is_signed(made.digest()):
            return Found(made, (change.cause,))
    for one, other in itertools.combinations(groups, 2):
        for first in one:
            half = first.make(parts)
            for second in other:
                made = second.make(half)
                if is_signed(made.digest()):
                    return Found(made, (first.cause, second.cause))
    return None


def spellings(text: str) -> dict[bytes, Cause | None]:
    """The digests that a `mac` attribute may be meant as, with what is wrong with its spelling."""
    found: dict[bytes, Cause | None] = {}
    for name, said, decode in _SPELLINGS:
        try:
            decoded = decode(text)
        except (binascii.Error, ValueError):
            continue
        if decoded and decoded not in found:
            found[decoded] = None if name is None else Cause(name="mac_encoding", said=f"The mac is {said}.")
    return found


def _hex_in_base64(text: str) -> bytes:
    return bytes.fromhex(base64.b64decode(text, validate=True).decode("ascii"))


def _url_safe(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _unpadded(text: str) -> bytes:
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)


_AS_DIGEST: Final = "send the base64 of the HMAC's bytes"
_SPELLINGS: Final[tuple[tuple[str | None, str, Callable[[str], bytes]], ...]] = (
    (None, "", lambda text: base64.b64decode(text, validate=True)),
    ("padding", f"base64 without its padding; {_AS_DIGEST}", _unpadded),
    ("url", "base64url, with - and _; use base64, with + and /", _url_safe),
    ("hex", f"hexadecimal; {_AS_DIGEST}", bytes.fromhex),
    ("hex", f"the base64 of hexadecimal text; {_AS_DIGEST}", _hex_in_base64),
)


# -- the groups: mistakes of one kind exclude each other --------------------------------------------------------


def _set(name: str, said: str, **changes: str) -> Change:
    return Change(Cause(name=name, said=said), lambda parts: parts.with_elements(**changes))


def _address(parts: Parts, hints: Hints) -> Iterator[Change]:
    """Host and port: what a client calls is not always what the gateway is configured to be."""
    host, port = parts.elements["host"], parts.elements["port"]
    known = dict.fromkeys([*hints.addresses, *((host, port) for _, port in hints.addresses)])
    names = [name for name, _ in hints.addresses] + [host.upper(), host.title(), f"{host}:{port}", f"{host}:", ""]
    names += [host.removeprefix("www.") if host.startswith("www.") else f"www.{host}", *_HOSTS]
    ports = [port, *(number for _, number in hints.addresses), *_PORTS]
    for other, number in dict.fromkeys([*known, *itertools.product(dict.fromkeys([host, *names]), ports)]):
        if (other, number) != (host, port):
            yield _set(*_address_mistake(host, port, other, number), host=other, port=number)


def _address_mistake(host: str, port: str, other: str, number: str) -> tuple[str, str]:
    if other == host:
        tls = {number, port} == {"80", "443"}
        why = "TLS ends at a proxy in front" if tls else "a proxy in front listens on another port"
        return "port", f"The client signed port {number or 'none'}, the gateway covers {port} (public_url): {why}."
    if other.lower() == host:
        return "host_case", f"The client signed the host as {other!r}; it is signed in lower case."
    if other.lower().startswith(f"{host}:"):
        return "host_port", f"The client signed {other!r} as the host; the host is signed without its port."
    signed = other if number == port else f"{other}:{number}"
    covers = host if number == port else f"{host}:{port}"
    why = "it calls the gateway by another name, or through another proxy"
    return "host", f"The client signed the host {signed!r}, the gateway covers {covers!r} (public_url): {why}."


def _target(parts: Parts, hints: Hints) -> Iterator[Change]:
    target = parts.elements["request-uri"]
    path, mark, query = target.partition("?")
    seen = {target}
    for name, said, other in itertools.chain(
        (("target", "A proxy in front changed the target on its way.", one) for one in hints.targets),
        _queries(path, mark, query),
        _escapes(path, mark, query),
        _paths(path, mark + query),
        _absolute(target, parts),
    ):
        if other not in seen:
            seen.add(other)
            yield _set(name, said, request_uri=other)


_Alternative = tuple[str, str, str]


def _queries(path: str, mark: str, query: str) -> Iterator[_Alternative]:
    if mark and not query:
        yield "question_mark", 'The client signed without the "?" at the end.', path
    if not mark:
        yield "question_mark", 'The client signed a "?" at the end, which did not arrive.', f"{path}?"
    if query:
        yield "query", "The client signed the path without the query.", path
        yield "question_mark", "The client signed without the question mark.", path + query
    parameters = query.split("&")
    orders: list[Iterable[str]] = [sorted(parameters), reversed(parameters)]
    if len(parameters) <= _MOST_ORDERED:
        orders += itertools.permutations(parameters)
    for order in orders:
        yield "query_order", "The query's parameters were signed in a different order.", f"{path}?{'&'.join(order)}"
    for index, one in enumerate(parameters[:_MOST_DROPPED]):
        rest = parameters[:index] + parameters[index + 1 :]
        name = one.partition("=")[0]
        said = f"The parameter {name!r} was not signed: it was added afterwards."
        yield "query", said, path + (f"?{'&'.join(rest)}" if rest else "")
        if one.endswith("="):
            bare = [*parameters[:index], one[:-1], *parameters[index + 1 :]]
            yield "query", f'The client signed the parameter {name!r} without its "=".', f"{path}?{'&'.join(bare)}"
    yield "query", "The client signed a query that ends in &.", f"{path}?{query}&"
    yield "query", "The client signed the query without the & at its end.", f"{path}?{query.rstrip('&')}"


def _escapes(path: str, mark: str, query: str) -> Iterator[_Alternative]:
    rest = mark + query
    for change in (str.upper, str.lower):
        other = _ESCAPE.sub(lambda found: change(found[0]), path + rest)  # noqa: B023  # used at once
        yield "escapes", "The client signed the percent-encoding in a different letter case.", other
    decoded = "The client signed the {} percent-decoded; it is signed as it is sent."
    for what, other in (
        ("target", _decoded(path) + mark + _decoded(query)),
        ("path", _decoded(path) + rest),
        ("query", path + mark + _decoded(query)),
        ("query", path + mark + _decoded(query.replace("+", " "))),
    ):
        yield "escapes", decoded.format(what), other
    for safe in ("/", "/~" + _SUB_DELIMITERS, "/" + _SUB_DELIMITERS.replace("+", "")):
        for encoded in (_encoded(path, safe), quote(path.encode("latin-1"), safe=safe)):
            yield "escapes", "The client signed the path with a different percent-encoding.", encoded + rest
    for other in (query.replace("+", "%20"), query.replace("%20", "+"), _encoded(query, "/?=&~"), _form(query)):
        yield "escapes", "The client signed the query with a different percent-encoding.", path + mark + other


def _decoded(text: str) -> str:
    return unquote_to_bytes(text.encode("latin-1")).decode("latin-1")


def _encoded(text: str, safe: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1")), safe=safe)


def _form(query: str) -> str:
    return quote(unquote_to_bytes(query.replace("+", " ").encode("latin-1")), safe="=&").replace("%20", "+")


def _paths(path: str, rest: str) -> Iterator[_Alternative]:
    slash = "The client signed the path {} a slash at its end."
    if path.endswith("/"):
        yield "path", slash.format("without"), path.rstrip("/") + rest
        yield "path", slash.format("without"), (path.rstrip("/") or "/") + rest
    else:
        yield "path", slash.format("with"), f"{path}/{rest}"
    segments = path.split("/")[1:]
    for count in range(1, min(len(segments), _MOST_DROPPED)):
        gone = "/" + "/".join(segments[:count])
        said = f"The client signed the path without {gone!r}, which a proxy in front put there."
        yield "path_prefix", said, "/" + "/".join(segments[count:]) + rest
    yield "path", "The client signed the path with its dot or empty segments resolved.", posixpath.normpath(path) + rest
    yield "path", "The client signed the path in lower case.", path.lower() + rest
    yield "path", "The client signed the path without its first slash.", path.removeprefix("/") + rest


def _absolute(target: str, parts: Parts) -> Iterator[_Alternative]:
    host, port = parts.elements["host"], parts.elements["port"]
    for scheme in ("https", "http"):
        for authority in (host, f"{host}:{port}"):
            said = "The client signed the whole URL; only path and query belong here, host and port follow."
            yield "whole_url", said, f"{scheme}://{authority}{target}"


def _method(parts: Parts, hints: Hints) -> Iterator[Change]:
    del hints
    method = parts.elements["method"]
    for other in dict.fromkeys((method.upper(), method.lower(), method.title())):
        if other != method:
            said = f"The client signed the method as {other!r}; it is sent and signed in upper case."
            yield _set("method_case", said, method=other)
    for other in _METHODS:
        if other != method.upper():
            yield _set("method", f"The client signed {other}, but {method} was sent.", method=other)


def _key(parts: Parts, hints: Hints) -> Iterator[Change]:
    def other(name: str, said: str, key: bytes) -> Change:
        return Change(Cause(name=name, said=said), lambda parts: replace(parts, key=key))

    for label, key in hints.keys.items():
        yield other("key_of_another_token", f"The client signed with {label}.", key)
    yield other("key", "The client signed with the access token; sign with the mac_key.", hints.token.encode())
    as_issued = "use the characters of the key as issued"
    for how, decode in (("base64", _base64_of_any_kind), ("hexadecimal", _from_hex)):
        try:
            yield other("key_encoding", f"The client decoded the key from {how}; {as_issued}.", decode(parts.key))
        except (binascii.Error, ValueError):
            continue
    yield other("key_encoding", f"The client encoded the key in base64; {as_issued}.", base64.b64encode(parts.key))
    for how, key in (
        ("with a line end after the key", parts.key + b"\n"),
        ("with a line end after the key", parts.key + b"\r\n"),
        ("with quotes around the key", b'"' + parts.key + b'"'),
        ('with OAuth 1\'s "&" after the key', parts.key + b"&"),
        ("with an empty key", b""),
    ):
        yield other("key_encoding", f"The client signed {how}; {as_issued}.", key)


def _base64_of_any_kind(key: bytes) -> bytes:
    plain = key.replace(b"-", b"+").replace(b"_", b"/").rstrip(b"=")
    return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)


def _from_hex(key: bytes) -> bytes:
    return bytes.fromhex(key.decode("ascii"))


def _algorithm(parts: Parts, hints: Hints) -> Iterator[Change]:
    del hints
    for other in _FUNCTIONS:
        if other != parts.algorithm:
            said = f"The client signed with {other}, but the token's algorithm is {parts.algorithm}."
            yield Change(Cause(name="algorithm_mismatch", said=said), _with(algorithm=other))


def _with(**changes: Any) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts, **changes)


def _layout(parts: Parts, hints: Hints) -> Iterator[Change]:
    """Mistakes of layout: the elements, their order, and the ends of their lines."""
    del hints
    ts, nonce = parts.elements.get("ts", ""), parts.elements["nonce"]
    order = parts.order
    if order == ELEMENTS["01"]:
        cause = Cause(name="draft_mismatch", said="The client signed draft 00's string, but its header is draft 01's.")
        for given in (f"{ts}:{nonce}", nonce):
            yield Change(cause, _as_00(given))
    else:
        cause = Cause(name="draft_mismatch", said="The client signed draft 01's string, but its header is draft 00's.")
        age, _, random = nonce.partition(":")
        for first, second in ((age, random), (age, nonce), ("", nonce)):
            yield Change(cause, _as_01(first, second))
    lost = "" if parts.elements.get(order[-1]) else f", or the empty line of an absent {order[-1]}"
    line = Cause(name="line_ends", said=f"The client left out the line end after the last element{lost}.")
    yield Change(line, _with(last_line_end=False))
    crlf = Cause(name="line_ends", said="The client ended the lines with CR LF; they end with LF alone.")
    yield Change(crlf, _with(line_end="\r\n"))
    absent = tuple(name for name in order if parts.elements.get(name) or name not in ("ext", "bodyhash"))
    said = "The client left out the lines of absent elements; an absent element is an empty line."
    if absent != order:
        yield Change(Cause(name="empty_line", said=said), _with(order=absent))
        yield Change(Cause(name="empty_line", said=said), _with(order=absent, last_line_end=False))
    longer = Cause(name="empty_line", said="The client signed one more empty line than the draft has.")
    for more in ((*order[:-1], "bodyhash", order[-1]), (*order, "nothing")):
        yield Change(longer, _with(order=more))
    swapped = {"ts": "nonce", "nonce": "ts", "host": "host", "port": "port"}
    mixed = Cause(name="order", said="The client signed the elements in a different order.")
    yield Change(mixed, _with(order=tuple(swapped.get(name, name) for name in order)))


def _as_00(nonce: str) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts.with_elements(nonce=nonce), order=ELEMENTS["00"])


def _as_01(ts: str, nonce: str) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts.with_elements(ts=ts, nonce=nonce), order=ELEMENTS["01"])


def _extension(parts: Parts, hints: Hints) -> Iterator[Change]:
    ext, bodyhash = parts.elements.get("ext", ""), parts.elements.get("bodyhash", "")
    if ext:
        yield _set("ext", "The client sent ext, but did not sign it.", ext="")
        yield _set("ext", "The client signed ext percent-decoded; it is signed as it is sent.", ext=_decoded(ext))
        yield _set("ext", "The client signed ext with its quotes; they are left out.", ext=f'"{ext}"')
    if bodyhash:
        yield _set("bodyhash", "The client sent a bodyhash, but did not sign it.", bodyhash="")
    for value in hints.body_hashes.values():
        if "bodyhash" in parts.order and not bodyhash:
            yield _set("bodyhash", "The client signed a bodyhash, but did not send it.", bodyhash=value)
        if not ext:
            said = "The client signed a body_hash in ext, but did not send ext."
            yield _set("ext", said, ext=f"body_hash={value}")


def _time(parts: Parts, hints: Hints) -> Iterator[Change]:
    del hints
    ts, nonce = parts.elements.get("ts", ""), parts.elements["nonce"]
    if ts.isdecimal() and len(ts) <= mac.MAXIMUM["ts"]:
        twice = "The client signed a different time from the one it sent: it read its clock twice."
        for off in (1, -1, 2, -2, 3, -3):
            yield _set("ts", twice, ts=str(int(ts) + off))
        for other in (f"{ts}000", ts[:-3], f"{ts}.0", ""):
            yield _set("ts", f"The client signed the ts as {other!r}, but sent {ts}.", ts=other)
    for other in (_decoded(nonce), f'"{nonce}"', nonce.partition(":")[2], ""):
        if other != nonce:
            yield _set("nonce", f"The client signed the nonce as {other!r}, but sent {nonce!r}.", nonce=other)


# The most likely first: of several that would fit, which only happens in tests, the first is told.
GROUPS: Final = (_target, _address, _method, _key, _algorithm, _layout, _extension, _time)
