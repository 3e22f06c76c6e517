"""Form-encoded parameters, where a name that comes twice is never resolved by guess.

Values are text with surrogate escapes, so that any bytes survive: `state` must come back exactly.
"""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from gateway.errors import invalid_request

MAX_FIELDS: Final = 100


@dataclass(frozen=True, slots=True, repr=False)
class Form:
    """The parameters of a query or a body, in order. It shows names only, since values may be secrets."""

    fields: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str | None:
        """The value of `name`; a parameter without a value counts as omitted (RFC 6749, section 3.1)."""
        for found, value in self.fields:
            if found == name:
                return value or None
        return None

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of `name` that is not empty, in order."""
        return tuple(value for found, value in self.fields if found == name and value)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(name for name, _ in self.fields)

    def repeated(self, *, but: frozenset[str] = frozenset()) -> str | None:
        """The first name that comes more than once, other than those that may (RFC 6749, section 3.1)."""
        seen = set[str]()
        for name, _ in self.fields:
            if name in seen and name not in but:
                return name
            seen.add(name)
        return None

    def encoded(self) -> str:
        """The parameters as `application/x-www-form-urlencoded` text, which `parse` reads as the same."""
        return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in self.fields)

    def __repr__(self) -> str:
        return f"Form({sorted(self.names)!r})"


def parse(raw: bytes) -> Form:
    """The parameters of `application/x-www-form-urlencoded` bytes (RFC 6749, appendix B).

    Raises OAuthError (invalid_request) beyond MAX_FIELDS parameters.
    """
    parts = [part for part in raw.split(b"&") if part]
    if len(parts) > MAX_FIELDS:
        raise invalid_request(f"There are more than {MAX_FIELDS} parameters.")
    pairs = (part.partition(b"=") for part in parts)
    return Form(tuple((decode(name), decode(value)) for name, _, value in pairs))


def decode(raw: bytes) -> str:
    """One form-encoded name or value; an escape that is none stands for itself, as in browsers."""
    raw = raw.replace(b"+", b" ")
    return (unquote_to_bytes(raw) if b"%" in raw else raw).decode("utf-8", "surrogateescape")


def legible(text: str) -> str:
    """Text without what no page can show and no database hold: NUL, and halves of surrogate pairs."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _encoded(text: str) -> str:
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def is_form(content_type: str) -> bool:
    """Whether a Content-Type names form-encoded parameters, with or without a charset."""
    return content_type.partition(";")[0].strip().lower() == "application/x-www-form-urlencoded"
