"""Why a MAC request does not verify: what the gateway makes of it beside what the client signed.

The causes stand in the order of the guard's checks. What the client signed is known when it was told, or when some
mistake that is made in practice leads to a string over which the MAC fits (`credentials.variations`); then that is
the cause, and no guess.
"""

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.credentials import mac, signed
from gateway.credentials.authorization import MalformedCredential, split
from gateway.credentials.variations import ELEMENTS, Cause, Found, Hints, Parts, search, search_keys, spellings
from gateway.model import MacAlgorithm, MacDraft

_LENIENT: Final = re.compile(r'(?<![A-Za-z0-9_-])([A-Za-z][A-Za-z0-9_-]*+)[ \t]*+=[ \t]*+(?:"([^"]*+)"?|([^\s,"]*+))')
_ALGORITHMS: Final[tuple[MacAlgorithm, ...]] = ("hmac-sha-256", "hmac-sha-1")

_UNREMARKABLE: Final = 5  # seconds that clocks differ and requests take
_MILLISECONDS: Final = 10**11  # seconds ahead: some 3,000 years
_UNEXPLAINED: Final = (
    "Most likely the client used the key of another token; if not, its mistake is an unusual one, and the string that "
    "it signed is needed to find it."
)
_ANOTHER_KEY: Final = (
    "This key and the client's string do not make the MAC: most likely the client used the key of another token."
)


class Rules(Struct, frozen=True, kw_only=True):
    """The drafts and algorithms that token and configuration allow; `skew` is in seconds.

    `wants_body_hash` is the route's: a request with a body must state a hash of it.
    """

    drafts: tuple[MacDraft, ...] = ("00", "01")
    algorithms: tuple[MacAlgorithm, ...] = _ALGORITHMS
    skew: float = 60.0
    wants_body_hash: bool = False


class Request(Struct, frozen=True, kw_only=True):
    """A request as the gateway got it. `authorization` is the field's value; `at` is in seconds since 1970."""

    authorization: str
    covered: mac.Covered
    at: float
    body: bytes | None = None  # None: not known


class Difference(Struct, frozen=True, kw_only=True):
    """The first character in which two strings differ; lines and characters are counted from 1."""

    line: int
    character: int
    client: str  # the character, "" where the string has ended
    gateway: str


class Explanation(Struct, frozen=True, kw_only=True):
    """Whether a request verifies and, if not, why. `client` is what the client signed, None if nobody knows."""

    causes: tuple[Cause, ...]
    elements: tuple[str, ...] = ()  # the names of the gateway's lines
    gateway: bytes = b""
    client: bytes | None = None
    draft: MacDraft | None = None
    algorithm: MacAlgorithm | None = None
    remarks: tuple[str, ...] = ()

    @property
    def verified(self) -> bool:
        """Whether the gateway would take the request, but for token, scope and a nonce that was used before."""
        return not self.causes

    @property
    def difference(self) -> Difference | None:
        """Where the client's string leaves the gateway's."""
        return None if self.client is None else first_difference(self.client, self.gateway)


def first_difference(client: bytes, gateway: bytes) -> Difference | None:
    """The first character in which they differ; None if they are equal."""
    ours, theirs = gateway.decode("latin-1"), client.decode("latin-1")
    for index, (one, other) in enumerate(itertools.zip_longest(theirs, ours, fillvalue="")):
        if one != other:
            before = ours[:index]
            line_start = before.rfind("\n") + 1
            return Difference(line=before.count("\n") + 1, character=index - line_start + 1, client=one, gateway=other)
    return None


def explain(
    request: Request,
    *,
    key: bytes | None,
    algorithm: MacAlgorithm,
    rules: Rules,
    hints: Hints,
    client_string: bytes | None = None,
) -> Explanation:
    """Whether a request verifies with this key and, if not, why. Raises nothing, whatever the request holds.

    Without a key, only what keeps the gateway from reading the credential is explained. `client_string` is what the
    client says that it signed; it is shown unless another string proves to be it.
    """
    attributes, faults = _read(request, rules)
    if key is None or not {"nonce", "mac"} <= attributes.keys():
        return Explanation(causes=tuple(faults))
    draft: MacDraft = "01" if "ts" in attributes else "00"
    hashes = {} if request.body is None else {name: mac.body_hash(name, request.body) for name in _ALGORITHMS}
    hints = replace(hints, token=attributes.get("id", ""), body_hashes=hashes)
    parts = _parts(request.covered, attributes, draft, key, algorithm)
    client, causes = _of_signature(parts, hints, spellings(attributes["mac"]), client_string)
    remarks: list[str] = []
    causes += _of_rules(draft, algorithm, rules)
    causes += _of_time(attributes.get("ts"), request.at, rules.skew, remarks)
    if not faults:
        causes += _of_body(request, algorithm, rules, remarks)
    return Explanation(
        causes=(*faults, *causes),
        elements=ELEMENTS[draft],
        gateway=parts.text(),
        client=client,
        draft=draft,
        algorithm=algorithm,
        remarks=tuple(remarks),
    )


# -- reading -------------------------------------------------------------------------------------------------


def token_in(authorization: str) -> str | None:
    """The token of a MAC credential, also of one that the gateway cannot read; None where none can be made out."""
    scheme, _, rest = authorization.partition(" ")
    return _leniently(rest).get("id") if scheme.lower() == "mac" else None


def _read(request: Request, rules: Rules) -> tuple[dict[str, str], list[Cause]]:
    """The attributes, as far as they can be made out, and why the guard would not even read them."""
    value = request.authorization.encode("utf-8", "surrogateescape")
    try:
        scheme, rest = split(value)
        if scheme != "mac":
            said = f"The Authorization field holds a credential of the scheme {scheme}, not MAC."
            return {}, [Cause(name="scheme", said=said)]
        read = mac.parse(rest)
        signed.from_mac(read, request.covered)
    except mac.OtherDraft as exc:
        said = f"{exc} {mac.accepted(rules.drafts, rules.algorithms)}"
        return {}, [Cause(name="draft_mismatch", said=said)]
    except MalformedCredential as exc:
        said = f"The gateway cannot read it (400): {exc}"
        return _leniently(value.decode("latin-1").partition(" ")[2]), [Cause(name="malformed", said=said)]
    names = ("id", "ts", "nonce", "bodyhash", "ext", "mac")
    given = {name: getattr(read, name) for name in names}
    return {name: item for name, item in given.items() if item is not None}, []


def _leniently(text: str) -> dict[str, str]:
    """Attributes with or without quotes and commas; the first of several counts."""
    attributes: dict[str, str] = {}
    for found in _LENIENT.finditer(text):
        attributes.setdefault(found[1].lower(), found[2] if found[2] is not None else found[3])
    return attributes


def _parts(
    covered: mac.Covered, attributes: Mapping[str, str], draft: MacDraft, key: bytes, algorithm: MacAlgorithm
) -> Parts:
    elements = {name: attributes.get(name, "") for name in ("ts", "nonce", "bodyhash", "ext")}
    elements |= {"method": covered.method, "request-uri": covered.target.decode("latin-1")}
    elements |= {"host": covered.host, "port": str(covered.port)}
    return Parts(elements=elements, order=ELEMENTS[draft], key=key, algorithm=algorithm)


# -- comparing -----------------------------------------------------------------------------------------------


def _of_signature(
    parts: Parts, hints: Hints, meant: Mapping[bytes, Cause | None], client_string: bytes | None
) -> tuple[bytes | None, list[Cause]]:
    """What the client signed, and why the MAC does not fit what the gateway makes."""
    found = search(parts, hints, meant.__contains__)
    if found is not None:
        return found.parts.text(), _causes_of(found, meant)
    if client_string is None:
        return None, [Cause(name="another_key_or_string", said=_UNEXPLAINED)]
    whole = client_string if client_string.endswith(b"\n") else client_string + b"\n"
    for string in dict.fromkeys((client_string, whole, client_string + b"\n\n", whole + b"\n")):  # shells drop the last
        found = search_keys(string, parts, hints, meant.__contains__)
        if found is not None:
            return string, [*_of_difference(string, parts), *_causes_of(found, meant)]
    return whole, [Cause(name="another_key", said=_ANOTHER_KEY), *_of_difference(whole, parts)]


def _causes_of(found: Found, meant: Mapping[bytes, Cause | None]) -> list[Cause]:
    spelling = meant[found.parts.digest()]
    return [*found.causes, *([] if spelling is None else [spelling])]


def _of_difference(client_string: bytes, parts: Parts) -> list[Cause]:
    """The cause for two strings that differ as by no common mistake: the element where they part."""
    difference = first_difference(client_string, parts.text())
    if difference is None:
        return []
    name = parts.order[min(difference.line, len(parts.order)) - 1]
    said = f"The client signed a different {name} from the gateway's: they differ at character {difference.character}."
    return [Cause(name=name.replace("-", "_"), said=said)]


def _of_rules(draft: MacDraft, algorithm: MacAlgorithm, rules: Rules) -> Iterator[Cause]:
    if draft not in rules.drafts:
        there = ", ".join(rules.drafts) or "none"
        said = f"Draft {draft} is not accepted for this client; accepted: {there} (client and [mac] drafts)."
        yield Cause(name="draft_mismatch", said=said)
    if algorithm not in rules.algorithms:
        said = f"The token's algorithm {algorithm} is not accepted; accepted: {', '.join(rules.algorithms)}."
        yield Cause(name="algorithm_mismatch", said=said)


def _of_time(ts: str | None, at: float, skew: float, remarks: list[str]) -> Iterator[Cause]:
    if ts is None or not ts.isdecimal() or len(ts) > mac.MAXIMUM["ts"]:
        return
    ahead = int(ts) - int(at)
    off = f"{abs(ahead)} s {'ahead' if ahead > 0 else 'behind'}"
    if abs(ahead) <= skew:
        if abs(ahead) > _UNREMARKABLE:
            remarks.append(f"The client's clock is {off}, or the request took that long; up to {skew:g} s is accepted.")
        return
    said = f"The client's clock is {off}; up to {skew:g} s is accepted."
    if ahead > _MILLISECONDS:
        said = f"The client's ts seems to count milliseconds ({off}); use seconds since 1970."
    elif ahead < 0:
        said = f"The client's clock is {off}, or the request is that old; up to {skew:g} s is accepted."
    yield Cause(name="clock", said=said)


def _of_body(request: Request, algorithm: MacAlgorithm, rules: Rules, remarks: list[str]) -> Iterator[Cause]:
    _, rest = split(request.authorization.encode("utf-8", "surrogateescape"))
    digests = signed.from_mac(mac.parse(rest), request.covered).digests
    body = request.body
    if not digests:
        if body and rules.wants_body_hash:
            yield Cause(name="body_hash", said="This route requires a signed hash of the body; there is none.")
        elif body:
            remarks.append("No hash of the body is signed, so a change of the body would not be noticed.")
        return
    if not signed.BodyCheck(digests, algorithm).possible:
        said = f"The body was not hashed with the token's algorithm, {algorithm}."
        yield Cause(name="body_hash", said=said)
    elif body is None:
        remarks.append("A hash of the body is signed; give the body as well to have it checked.")
    elif not _has(digests, algorithm, body):
        why = next((said for said, other in _bodies(body) if _has(digests, algorithm, other)), "it was changed")
        yield Cause(name="body_changed", said=f"The body that arrived does not match the signed hash: {why}.")


def _has(digests: Sequence[signed.BodyDigest], algorithm: MacAlgorithm, body: bytes) -> bool:
    check = signed.BodyCheck(digests, algorithm)
    check.update(body)
    return check.fits()


def _bodies(body: bytes) -> Iterator[tuple[str, bytes]]:
    """Bodies that a client may have hashed in the place of the one that came."""
    yield "an empty body was hashed", b""
    for end in (b"\n", b"\r\n"):
        yield "it was hashed with a line end after it", body + end
        yield "it was hashed without the line end after it", body.removesuffix(end)
    yield "it was hashed with other line ends", body.replace(b"\r\n", b"\n")
    yield "it was hashed with other line ends", body.replace(b"\n", b"\r\n")
    yield "it was hashed percent-decoded", unquote_to_bytes(body)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError):
        return
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only, in_order in itertools.product((True, False), repeat=2):
            text = json.dumps(content, separators=separators, ensure_ascii=ascii_only, sort_keys=in_order)
            yield "its JSON was written out again", text.encode("utf-8", "surrogatepass")
