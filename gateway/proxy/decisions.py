"""What a worker remembers of the calls that it has decided on, so that `gateway explain` can tell of them.

All that were refused, failed, or were slow are remembered, as far as the space of `gateway.recent` reaches, and a few a
second of those that passed. Kept is how a call ended, and of its head what no secret stands in: no query, no field's
value, no body, and of the token its digest. What there is to tell is worked out when somebody asks.
"""

from hashlib import sha256
from typing import Final, NamedTuple

from gateway.credentials import MalformedCredential, bearer, scheme_of, split
from gateway.http1 import RequestHead
from gateway.model import cookie_name
from gateway.proxy.finished import Finished
from gateway.recent import Memory, Recent
from gateway.routing import cookies
from gateway.routing.cors import preflight_for
from gateway.schemes import BY_BEARER_TOKEN, IN_AUTHORIZATION, IN_BROWSERS, SCHEMES

FAILED: Final = 2_000_000  # bytes for what was refused or failed
PASSED: Final = 300_000
SLOW: Final = 1.0  # seconds from which on a call that passed is remembered in any case
FLOOD: Final = 25  # calls that end in one fault that are remembered between two ticks: more would cost too much
SAMPLES: Final = 5  # calls that are remembered though nothing was wrong with them, between two ticks
_LONGEST_PATH: Final = 1024
_LONGEST_NAME: Final = 255  # of a host or a method
_ENTRY: Final = 1200  # bytes of a decision, but for the names in its head
_TOKEN: Final = 700  # of what it refers to besides where its token is known, unless others refer to that too


class Asked(NamedTuple):
    """A request's head, without what may be secret in it. `path` ends where the query begins, and `cut` says that it
    was longer. `fields` is their number, `schemes` are those by which the call says who makes it, and `token` is the
    digest of its bearer token."""

    method: bytes
    host: bytes
    path: bytes
    cut: bool
    queried: bool
    minor_version: int
    fields: int
    length: int | None
    preflight: bool
    schemes: tuple[str, ...]
    token: bytes

    @classmethod
    def of(cls, head: RequestHead) -> "Asked":
        """What is kept of a head."""
        path, query, _ = head.target.partition(b"?")
        schemes, token = _presented(head)
        return cls(
            method=head.method[:_LONGEST_NAME],
            host=head.host[:_LONGEST_NAME],
            path=path[:_LONGEST_PATH],
            cut=len(path) > _LONGEST_PATH,
            queried=bool(query),
            minor_version=head.minor_version,
            fields=len(head.fields),
            length=head.length,
            preflight=preflight_for(head.method, head.fields) != b"",
            schemes=schemes,
            token=token,
        )


class Decision(NamedTuple):
    """How a call ended, and what it was: `finished` is without its head."""

    finished: Finished
    asked: Asked | None  # None where the head never came, or could not be read


class Decisions:
    """One worker's memory. Between two ticks, `SAMPLES` of the calls that pass are remembered, and `FLOOD` of those
    that end in one fault: more would be forgotten as fast as they came, and take others with them."""

    def __init__(self) -> None:
        self._failed, self._passed = Recent[Decision](FAILED), Recent[Decision](PASSED)
        self._samples = SAMPLES
        self._faults: dict[str, int] = {}  # since the last tick
        self._over = 0  # how many of them were too many

    def tick(self) -> None:
        """Some time has passed."""
        self._samples = SAMPLES
        self._faults.clear()
        self._pass_over()

    def wants(self, fault: str, seconds: float) -> bool:
        """Whether to remember a call that ended in this fault (empty where it passed) after so many seconds."""
        if fault:
            count = self._faults[fault] = self._faults.get(fault, 0) + 1
            if count <= FLOOD:
                return True
            self._over += 1
            return False
        if seconds >= SLOW:
            return True
        self._samples -= 1
        return self._samples >= 0

    def remember(self, finished: Finished) -> None:
        """Remember how a call ended."""
        if finished.status >= 400 or not finished.complete:
            self._keep(self._failed, _kind(finished), finished)
        else:
            route = finished.route
            self._keep(self._passed, "" if route is None else route.name, finished)

    def _keep(self, recent: Recent[Decision], kind: str, finished: Finished) -> None:
        asked = None if finished.head is None else Asked.of(finished.head)
        refused, size = finished.refused, _ENTRY
        if asked is not None:
            size += len(asked.method) + len(asked.host) + len(asked.path)
        if finished.allowed is not None or (refused is not None and refused.identity is not None):
            size += _TOKEN
        recent.keep(kind, finished.request_id, Decision(finished.without_head(), asked), size)

    def find(self, request_id: bytes) -> list[tuple[float, Decision]]:
        """The calls of this identifier, the latest first, each with the time when it had ended."""
        found = [*self._failed.find(request_id), *self._passed.find(request_id)]
        return sorted(found, key=lambda each: each[0], reverse=True)

    @property
    def memory(self) -> Memory:
        """How far back it reaches, for what was refused or failed."""
        self._pass_over()
        return self._failed.memory

    def _pass_over(self) -> None:
        over, self._over = self._over, 0
        if over:
            self._failed.pass_over(over)


def _kind(finished: Finished) -> str:
    refused = finished.refused
    if refused is None:
        return f"{finished.status} {finished.upstream}"
    return f"{refused.status} {refused.kind} {refused.upstream}"


def _presented(head: RequestHead) -> tuple[tuple[str, ...], bytes]:
    """The schemes by which a call says who makes it, and the digest of its bearer token if it has one."""
    fields, token = head.fields, b""
    values = fields.values(b"authorization")
    schemes = [_shown(scheme_of(value)) for value in values]
    schemes += [name for name, facts in SCHEMES.items() if not facts.beside.isdisjoint(fields.names.known)]
    if not schemes:
        cookie = fields.values(b"cookie")
        schemes += [scheme for scheme, name in _COOKIES if cookies.read(cookie, name) is not None][:1]
    if len(schemes) == 1 and schemes[0] in BY_BEARER_TOKEN:
        try:
            credential = split(values[0])[1]
            bearer.check(credential)
            token = sha256(credential).digest()
        except MalformedCredential:
            token = b""
    return tuple(schemes), token


def _shown(scheme: str) -> str:
    """The name of a scheme that has one: where the scheme is missing, the first word may be the secret."""
    return scheme if scheme in _SCHEMES else "another scheme"


_COOKIES: Final = tuple(
    (scheme, cookie_name(SCHEMES[scheme].cookie, secure=secure).encode())
    for scheme in sorted(IN_BROWSERS)
    for secure in (True, False)
)
_SCHEMES: Final = IN_AUTHORIZATION | {"basic", "digest", "negotiate", "hawk", "oauth", "token"}
