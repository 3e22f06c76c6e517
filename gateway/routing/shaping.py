"""Which header fields an operator may put into messages, both ways, and what becomes of them.

    set      in the place of every field of that name, also of those that some servers read as that name
    add      beside what came
    remove   away

A value may name who calls, in braces ("{client_id}"). What it names may be unknown: then the field is left out, and one
that the client sent does not stand in its place.
"""

import re
from collections.abc import Mapping
from typing import Final, final

from gateway.routing.fields import (
    DECEIVING,
    DECEIVING_PREFIX,
    HOP_BY_HOP,
    IDENTITY,
    TAKES_OVER_ORIGIN,
    Shape,
    mentions_ours,
)

OF_CALLER: Final = ("subject", "username", "email", "client_id", "scope", "groups")  # unknown on public routes
NAMED: Final = (*OF_CALLER, "request_id", "address")
_FRAMING: Final = HOP_BY_HOP | {b"content-length", b"trailer", b"host", b"expect", b"max-forwards", b"date"}
# Other names for what the gateway says of a caller: they may be said of the caller, and of nobody else.
_OF_ADDRESS: Final = frozenset(
    (b"x-real-ip", b"client-ip", b"x-client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip")
)
_OF_USER: Final = frozenset((b"remote-user", b"x-remote-user", b"x-auth-user"))
_OF_GROUPS: Final = frozenset((b"x-auth-groups", b"x-forwarded-groups", b"remote-groups"))
_BY_CALLER: Final = {
    **dict.fromkeys(_OF_ADDRESS, ("{address}",)),
    **dict.fromkeys(_OF_USER, ("{username}", "{subject}", "{email}")),
    **dict.fromkeys(_OF_GROUPS, ("{groups}",)),
}

_PARTS: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")


def barred_from_answers(name: str, value: str) -> str:
    """The reason for which a field may not be put into answers, or taken out; empty where it may."""
    lower = name.lower().encode()
    if lower in _FRAMING:
        return "frames the message or is for one connection only, so the gateway writes it"
    if lower == b"x-request-id":
        return "is the gateway's own, by which calls are found in its log"
    if lower in TAKES_OVER_ORIGIN:
        return "reaches into the sign-in pages where they share the host, so no answer has it"
    if lower == b"set-cookie" and mentions_ours(value.encode()):
        return "names a cookie of the gateway's own"
    return ""


def barred_from_requests(name: str, value: str | None, credentials: frozenset[bytes]) -> str:
    """The reason for which a field may not be put into requests, or taken out where `value` is None; empty where it
    may. `credentials` are fields, in lower case, that say who calls."""
    lower = name.lower().encode()
    if lower == b"host":
        return "is said by upstream_host"
    if lower in _FRAMING - {b"date"}:
        return "frames the message or is for one connection only, so the gateway writes it"
    if lower in credentials:
        return "is the caller's credential, which forward_authorization alone lets pass"
    if value is None and lower in _BY_CALLER:
        return "never passes as the client sent it"
    if lower in _BY_CALLER:
        wanted = _BY_CALLER[lower]
        said = " or ".join(f'"{one}"' for one in wanted)
        return "" if value in wanted else f"says who calls, so its value must be {said}"
    if lower in IDENTITY or lower in DECEIVING or lower.startswith(DECEIVING_PREFIX):
        return "is the gateway's own to say, or would let the upstream see another call than the one that was judged"
    if lower == b"cookie" and value is not None and mentions_ours(value.encode()):
        return "names a cookie of the gateway's own"
    return ""


def unknown_names(template: str) -> list[str]:
    """What stands in braces in a value, and is no name of anything; "{{" and "}}" stand for the braces themselves."""
    return [found[0] for found in _PARTS.finditer(template) if found[0] not in ("{{", "}}") and found[1] not in NAMED]


def names_in(template: str) -> list[str]:
    """What a value names of the call."""
    return [found[1] for found in _PARTS.finditer(template) if found[1] in NAMED]


@final
class Changes:
    """What one route does with the fields of messages, one way. `named` says that values name something of the call."""

    __slots__ = ("_fixed", "_templates", "cut", "named")

    def __init__(self, set_: Mapping[str, str], add: Mapping[str, str], remove: tuple[str, ...]) -> None:
        self.cut: Final = frozenset(name.lower().encode("ascii") for name in (*set_, *remove))
        pairs = [*set_.items(), *add.items()]
        self._templates: Final = tuple((name, value) for name, value in pairs if names_in(value))
        self.named: Final = bool(self._templates)
        self._fixed: Final = b"".join(_line(name, value, {}) for name, value in pairs if not names_in(value))

    def shape(self, known: Mapping[str, str | None]) -> Shape:
        """What becomes of one message; `known` is what values name."""
        return Shape(self.cut, self._fixed + b"".join(_line(name, value, known) for name, value in self._templates))


def _line(name: str, template: str, known: Mapping[str, str | None]) -> bytes:
    """One whole line, which nothing in a value can end; none where what the value names is unknown."""
    if any(known.get(one) is None for one in names_in(template)):
        return b""
    value = _PARTS.sub(lambda found: found[0][0] if found[1] is None else str(known[found[1]]), template)
    return f"{name}: {_CONTROLS.sub('', value).strip()}\r\n".encode("utf-8", "replace")
