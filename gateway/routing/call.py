"""A call: a request at its route, as it is judged, and what the limits of that route say of it."""

from collections.abc import Iterable
from typing import Final, final

from mypy_extensions import mypyc_attr

from gateway.errors import FieldPair
from gateway.http1 import Field, Fields
from gateway.routing.limits import Limits
from gateway.routing.table import Route
from gateway.underway import Counter


@mypyc_attr(acyclic=True)
@final
class Turn:
    """What the limits of its route say of one call. `address` is the client's. Where calls under way are counted it is
    one of them, once it has begun, until its `end`."""

    __slots__ = ("_counter", "_rate_limit", "address", "ended", "limits")

    def __init__(self, limits: Limits, address: str) -> None:
        self.limits: Final = limits
        self.address: Final = address
        self.ended = False
        self._rate_limit = ""  # the value of the field in its answer
        self._counter: Counter | None = None

    def begin(self, counter: Counter) -> bool:
        """Whether the call may be one more of those under way, as which it is counted then."""
        if not counter.enter():
            return False
        self._counter = counter
        return True

    def show(self, left: str) -> None:
        """Have the answer say too what is left of a limit."""
        self._rate_limit = f"{self._rate_limit},{left}" if self._rate_limit else left

    def show_only(self, left: str) -> None:
        """Have the answer say nothing but what is left of this limit, which is in the way."""
        self._rate_limit = left

    def end(self) -> None:
        """The call is not under way any more, if it was, and will not be."""
        self.ended = True
        if self._counter is not None:
            self._counter.leave()
            self._counter = None

    @property
    def fields(self) -> tuple[FieldPair, ...]:
        """What the head of the answer says of the limits, whether or not the call passes."""
        if not self._rate_limit:
            return ()
        return ("RateLimit-Policy", self.limits.policies), ("RateLimit", self._rate_limit)


@mypyc_attr(acyclic=True)
@final
class Call:
    """What is to be judged: the parts of a request that credentials and scopes depend on. It is never altered.

    `target` is the raw request target as received, `host` (lower case) and `port` are those a signature covers:
    from `public_url` or the route's own host, never from the client's forwarding fields. `authorization` holds
    every Authorization field's value, `fields` all header fields. `has_body` says that a body comes in chunks, or is
    longer than nothing. `turn` is there on a route with limits.
    """

    __slots__ = (
        "authorization",
        "fields",
        "has_body",
        "host",
        "method",
        "port",
        "route",
        "target",
        "turn",
    )

    def __init__(
        self,
        route: Route,
        method: str,
        target: bytes,
        host: str,
        port: int,
        authorization: tuple[bytes, ...],
        fields: Iterable[Field] = (),
        has_body: bool = False,
        turn: Turn | None = None,
    ) -> None:
        self.route: Final = route
        self.method: Final = method
        self.target: Final = target
        self.host: Final = host
        self.port: Final = port
        self.authorization: Final = authorization
        self.fields: Final = fields
        self.has_body: Final = has_body
        self.turn: Final = turn

    @property
    def names(self) -> frozenset[bytes]:
        """The names of its header fields, in lower case."""
        fields = self.fields
        return fields.names.known if isinstance(fields, Fields) else frozenset([lower for lower, _, _ in fields])

    def values(self, name: bytes) -> tuple[bytes, ...]:
        """Every value of the field with this lower-case name."""
        fields = self.fields
        if isinstance(fields, Fields):
            return fields.values(name)
        return tuple([value for lower, _, value in fields if lower == name])
