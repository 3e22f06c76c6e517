"""Structured fields (RFC 9651), as http-sf reads and writes them, and stricter where a signature rests on it.

Why a library: http-sf is kept by an author of RFC 9651, MIT-licensed, typed, without dependencies of weight, tested
by the vectors of the IETF's HTTP working group, and reads a Signature-Input in 12 µs. (For RFC 9421 as a whole there
are libraries too; which signature counts, what it must cover and when its key is looked up are our own decisions.)
Its error becomes ours, and what RFC 9651 leaves open is closed here:

    a repeated key       refused: by RFC 9651 the last one wins, but two readers of which one takes the first would
                         see two requests under one signature
    an endless field     refused beyond a length that the caller states
    several lines        joined as one list (RFC 9651, section 4.2)

It is loaded where a field is read or written, and not by all who know of signatures: see `load`.

Values are Python's: int, Decimal, str (a String), Token, bytes, bool, datetime (a Date), DisplayString. A bool is an
int and a Token prints as a str, so a caller who wants an Integer or a String asks for the exact type.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, NoReturn, cast

from gateway.credentials.authorization import MalformedCredential

if TYPE_CHECKING:
    import http_sf

Kind = Literal["dictionary", "list", "item"]
Parameters = dict[str, object]


class Item(NamedTuple):
    """A bare item and its parameters, in their order."""

    value: object
    parameters: Parameters


class InnerList(NamedTuple):
    """A list of items with parameters of its own."""

    items: tuple[Item, ...]
    parameters: Parameters


Member = Item | InnerList


def load() -> None:
    """Have the library there before a call waits for it: it takes 20 ms."""
    import http_sf  # noqa: F401


def dictionary(values: Sequence[bytes], *, field: str, longest: int) -> dict[str, Member]:
    """The members of a Dictionary field by their keys, from the values of its lines; empty for an empty field.

    `field` names it in errors. Raises MalformedCredential, also when it is longer than `longest` bytes or a key
    repeats.
    """
    parsed = _parsed(values, "dictionary", field, longest)
    return {key: _member(member) for key, member in cast("dict[str, object]", parsed).items()}


def serialised(member: Member) -> str:
    """A member in its one strict spelling (RFC 9651, sections 4.1.1.1 and 4.1.3). Raises MalformedCredential."""
    plain = (list(member.items), member.parameters) if isinstance(member, InnerList) else tuple(member)
    return _serialised([plain])


def strict(values: Sequence[bytes], kind: Kind, *, field: str, longest: int) -> str:
    """A whole field of a known kind in its one strict spelling (RFC 9421, section 2.1.1).

    Raises MalformedCredential.
    """
    return _serialised(_parsed(values, kind, field, longest))


def _parsed(values: Sequence[bytes], kind: Kind, field: str, longest: int) -> object:
    import http_sf

    whole = values[0] if len(values) == 1 else b", ".join(values)
    if len(whole) > longest:
        raise MalformedCredential(f"The field {field} is longer than {longest} bytes.")

    def repeated(_key: str, where: str) -> NoReturn:
        raise MalformedCredential(f"The field {field} has a {'parameter' if where == 'parameter' else 'key'} twice.")

    try:
        return http_sf.parse(whole, tltype=kind, on_duplicate_key=repeated)
    except ValueError as exc:
        raise MalformedCredential(f"The field {field} is not a well-formed structured field (RFC 9651).") from exc


def _serialised(structure: object) -> str:
    import http_sf

    try:
        return http_sf.ser(cast("http_sf.StructuredType", structure))
    except ValueError as exc:
        raise MalformedCredential("A structured field cannot be empty or contain these characters (RFC 9651).") from exc


def _member(member: object) -> Member:
    value, parameters = cast("tuple[object, Parameters]", member)
    if isinstance(value, list):
        return InnerList(tuple(Item(*item) for item in value), parameters)
    return Item(value, parameters)
