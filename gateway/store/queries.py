"""The named statements of `sql/queries/*.sql`.

A statement begins with `-- name: its_name`, then a comment that says what it does, then native SQL with `$parameter`:

    -- name: user_find
    -- The user of that name, whatever its letters' case.
    select … from users where lower(username) = lower($username);

Parameters are named in small letters and may stand in several places. Postgres itself knows numbers only: each name
becomes `$1`, `$2`, … when the files are read, in the order in which the names come first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final, cast

from gateway.resources import folder

_NAME: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)
_DESCRIPTION: Final = re.compile(r"\s*-- \S")

# One piece of SQL (PostgreSQL 18, section 4.1): what a `$` in quotes or within a name is, is no parameter.
_PIECE: Final = re.compile(
    r"""
    (?P<comment> (?: \s*+ --[^\n]*+ )++ )
  | (?P<verbatim>
        (?: (?! \b[eE]' ) [^\W\d][\w$]*+        # words, which may have a dollar sign in them, and all that stands
          | \d | \s++ (?!--) | -(?!-) | /(?!\*) | [^\w\s'"$/-]  # between them: every process reads every statement
        )++
      | \b[eE]'(?: [^'\\] | \\. | '' )*+'       # a string with escapes
      | '(?: [^'] | '' )*+'
      | "(?: [^"] | "" )*+"
    )
  | (?P<quoted> \$ (?: [^\W\d]\w*+ )?+ \$ )   # a dollar-quoted string, up to the next one of these signs
  | \$(?P<parameter> \w++ )
  | (?P<unknown> ['"$] | /\* )                  # a quotation without an end, a lone dollar sign
  | .
    """,
    re.VERBOSE | re.DOTALL,
)
RECORDED: Final = frozenset(("request_id", "address", "actor", "proof"))  # what `store.acting` gives
_PARAMETER: Final = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Query:
    """A statement as Postgres takes it, and the names of its parameters in the order of their numbers."""

    name: str
    sql: str
    parameters: tuple[str, ...]
    _names: frozenset[str] = field(init=False, repr=False, compare=False)
    records: bool = field(init=False, repr=False, compare=False)  # it writes an event, with what `acting` knows

    def __post_init__(self) -> None:
        object.__setattr__(self, "_names", frozenset(self.parameters))
        object.__setattr__(self, "records", self._names >= RECORDED)

    def arguments(self, given: Mapping[str, object]) -> list[object]:
        """The values in their order. Raises TypeError that names what is missing or unknown."""
        if given.keys() != self._names:
            faults = [f"has no ${name}" for name in sorted(given.keys() - self._names)]
            faults += [f"lacks ${name}" for name in self.parameters if name not in given]
            raise TypeError(f"the statement {self.name} {' and '.join(faults)}")
        return [given[name] for name in self.parameters]


@cache
def load() -> Mapping[str, Query]:
    """Every statement by its name."""
    return parse(sorted((folder("sql") / "queries").glob("*.sql")))


def parse(files: list[Path]) -> dict[str, Query]:
    """The statements of some files. Raises ValueError on one that is nameless, undescribed, doubled or malformed."""
    found: dict[str, Query] = {}
    for file in files:
        before, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        if before.strip():
            raise ValueError(f"{file.name}: text before the first `-- name:`")
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"{file.name}: {name} is defined twice")
            if _DESCRIPTION.match(body) is None:
                raise ValueError(f"{file.name}: {name} has no description")
            try:
                found[name] = compiled(name, body)
            except ValueError as exc:
                raise ValueError(f"{file.name}: {name}: {exc}") from exc
    return found


def compiled(name: str, text: str) -> Query:
    """A statement with numbers for its parameters, without comments. Raises ValueError where it cannot be read.

    The name stays in the text as a comment, so that `pg_stat_activity` shows it to an operator.
    """
    numbers: dict[str, int] = {}
    parts, at = list[str](), 0
    while at < len(text):
        piece = cast("re.Match[str]", _PIECE.match(text, at))  # every sign is one
        end = piece.end()
        if piece["quoted"] is not None:
            end = text.find(piece[0], end) + len(piece[0])
        if piece["unknown"] is not None or end <= at + len(piece["quoted"] or ""):
            raise ValueError(f"what begins with {piece[0]} in {_line_of(piece)!r} is not understood, or has no end")
        if piece["parameter"] is not None:
            parts.append(_number(piece["parameter"], numbers))
        elif piece["comment"] is None:
            parts.append(text[at:end])
        at = end
    sql = "".join(parts).strip().removesuffix(";").rstrip()
    return Query(name, f"-- {name}\n{sql}", tuple(numbers))


def _number(parameter: str, numbers: dict[str, int]) -> str:
    """What Postgres knows a parameter by, from now on."""
    if _PARAMETER.fullmatch(parameter) is None:
        raise ValueError(f"${parameter}: a parameter is named in small letters, as $client_id is")
    return f"${numbers.setdefault(parameter, len(numbers) + 1)}"


def _line_of(piece: re.Match[str]) -> str:
    """The line in which a piece begins."""
    text, at = piece.string, piece.start()
    end = text.find("\n", at)
    return text[text.rfind("\n", 0, at) + 1 : end if end >= 0 else None].strip()
