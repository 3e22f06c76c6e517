"""What is wrong with a file, in plain words: each fault with its path in the file, what stands there and the mend.

Values are shown, save where a secret may stand: what is written instead of a reference, or of a table that has one, is
never repeated.
"""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final

from msgspec import Struct
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from gateway.config.addresses import Wanted
from gateway.config.tables import (
    AS_ARRAY,
    AS_TABLE,
    AS_TEXT,
    Config,
    Issuer,
    Route,
    SecretReference,
    Table,
    table_within,
)
from gateway.config.toml import dotted, toml
from gateway.config.values import SuchAs
from gateway.faults import FaultyConfiguration
from gateway.spelling import near

_MARKS: Final = frozenset({AS_TEXT, AS_ARRAY, AS_TABLE, "[key]"})
_LONGEST: Final = 80
_PLACES_KNOWN: Final = 256  # a thousand routes have their faults in a few keys

_PLACE: Final = re.compile(r"routes\[(\d{1,6})\](?:\.[A-Za-z0-9_*-]+|\[\d+\])*")

# pydantic's own findings in our words.
_WANTED: Final = {
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number, without quotes",
    "float_type": "must be a number, without quotes",
    "finite_number": "must be a number",
    "tuple_type": "must be an array in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "too_short": "needs at least one entry",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


class Fault(Struct, frozen=True):
    """One thing wrong with the configuration: where, and what would be right."""

    path: str
    message: str
    route: str | None = None  # the name of the route that it lies in

    def __str__(self) -> str:
        where = self.path if self.route is None else f"{self.path} (route {shown(self.route)})"
        return f"{where}: {self.message}" if where else self.message


class ConfigError(FaultyConfiguration):
    """The configuration cannot be used; `faults` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def validated(tables: Mapping[str, Any]) -> tuple[Config | None, list[Fault]]:
    """The configuration that the tables of a file stand for, or what is wrong with them one by one."""
    try:
        return Config.model_validate(tables), []
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_url=False) if not _is_echo(error)]
        return None, list(dict.fromkeys(faults))


class RouteNames:
    """The names of a file's routes, so that nobody has to count them."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        routes = tables.get("routes")
        names = [route.get("name") if isinstance(route, Mapping) else None for route in _listed(routes)]
        self._names = [name if isinstance(name, str) and name else None for name in names]

    def named(self, fault: Fault) -> Fault:
        """The fault with the names of its route, and of the others that its message is about."""
        found = _PLACE.match(fault.path)
        name = None if found is None else self._name(found)
        return Fault(fault.path, self.within(fault.message), name)

    def within(self, text: str) -> str:
        """`text` with a name behind each place in a route."""
        return _PLACE.sub(lambda found: found[0] + self._mark(self._name(found)), text)

    def _name(self, found: re.Match[str]) -> str | None:
        index = int(found[1])
        return self._names[index] if index < len(self._names) else None

    @staticmethod
    def _mark(name: str | None) -> str:
        return "" if name is None else f" (route {shown(name)})"


def _listed(routes: object) -> Sequence[object]:
    return routes if isinstance(routes, list | tuple) else ()


def _is_echo(error: ErrorDetails) -> bool:
    """Whether pydantic calls an array too short because it left out the entries that it complained of already."""
    return error["type"] == "too_short" and len(error["input"]) > 0


def shown(value: object) -> str:
    """A value of the file in one short line."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        text = json.dumps(value)
        return text if len(text) <= _LONGEST else f'{text[:_LONGEST]}…"'
    if isinstance(value, int | float):
        return str(value)
    return _kind(value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "true or false"
    kinds: tuple[tuple[type | tuple[type, ...], str], ...] = (
        (str, "text"),
        ((int, float), "a number"),
        ((list, tuple), "an array"),
        (Mapping, "a table"),
    )
    return next((name for kind, name in kinds if isinstance(value, kind)), "a date or a time")


def _fault(error: ErrorDetails) -> Fault:
    location = tuple(part for part in error["loc"] if part not in _MARKS)
    path, kind, value = dotted(location), error["type"], error.get("input")
    if kind == "extra_forbidden":
        return Fault(path, f"is not a known key; {_known_keys(location)}")
    if kind == "missing":
        return Fault(path, f"must be set, such as {_example(location)}")
    context = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ValueError) and not isinstance(cause, Wanted):
        return Fault(path, str(cause))
    message = str(cause) if cause else _wanted(kind, context) or error["msg"]
    if location in (("routes",), ("issuers",)) and isinstance(value, Mapping):
        return Fault(path, f"each {path[:-1]} has a table of its own: write [[{path}]], not [{path}]")
    table, field = _declared(location)
    if _may_be_secret(table, field):
        if kind == "model_type" and table is SecretReference:
            message = 'must be a reference: { file = "…" } or { env = "…" }'
        return Fault(path, f"{message}, not {_kind(value)}")
    return Fault(path, message if kind == "too_short" else f"{message}, not {shown(value)}")


def _wanted(kind: str, context: Mapping[str, Any]) -> str:
    """What pydantic finds wrong, in our words; nothing where we have none."""
    return _WANTED.get(kind, "").format_map(_plain(context))


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.replace("'", '"') if isinstance(value, str) else value for name, value in context.items()}


def _declared(location: tuple[str | int, ...]) -> tuple[type[Table], FieldInfo | None]:
    """The innermost table at a place in the file, and the declaration of the innermost key."""
    return _declared_under(tuple(part for part in location if isinstance(part, str)))


@lru_cache(_PLACES_KNOWN)
def _declared_under(names: tuple[str, ...]) -> tuple[type[Table], FieldInfo | None]:
    table: type[Table] = Config
    field: FieldInfo | None = None
    for name in names:
        field = table.model_fields.get(name)
        within = None if field is None else table_within(field.annotation)
        if within is None:  # what lies deeper are names of the operator's
            break
        table = within
    return table, field


def _may_be_secret(table: type[Table], field: FieldInfo | None) -> bool:
    """Whether the value of a key is a secret, or a table that has one, when it is written as something else."""
    if table is SecretReference:
        return True
    stands_for_table = field is not None and table_within(field.annotation) is table
    return stands_for_table and any(
        table_within(one.annotation) is SecretReference for one in table.model_fields.values()
    )


def _known_keys(location: tuple[str | int, ...]) -> str:
    """The mend for an unknown key: the one that was meant, or all that there are."""
    names = list(_declared(location[:-1])[0].model_fields)
    meant = near(str(location[-1]), names)
    return f"the keys here are {', '.join(names)}" if meant is None else f"did you mean {meant}?"


def _example(location: tuple[str | int, ...]) -> str:
    """An example of what may stand at a key that must be set."""
    table, field = _declared(location)
    if field is not None and field.examples:
        words = [mark.words for mark in field.metadata if isinstance(mark, SuchAs)]
        return words[0] if words else toml(field.examples[0])
    needed = [name for name, one in table.model_fields.items() if one.is_required()]
    return f"a table [{location[-1]}] with {', '.join(needed)}"


# -- what can be read of a broken file -----------------------------------------------------------------------

Readable = Mapping[str, Any]  # the keys of one table that hold
_TABLES_KNOWN: Final = 256  # with the same keys: a thousand routes are written in a few ways

_TABLES: Final = {
    name: field.annotation
    for name, field in Config.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Table)
}


class Draft(Struct, frozen=True):
    """The parts of a file that can be read although others are broken, so that all faults are reported together.

    Absent keys have their defaults; broken ones are left out.
    """

    tables: Mapping[str, Readable]
    scopes: frozenset[str]
    routes: tuple[Readable, ...]
    issuers: tuple[Readable, ...]

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Draft":
        """The readable parts of the tables of a file."""
        scopes = tables.get("scopes")
        return cls(
            {name: _readable(table, tables.get(name, {})) for name, table in _TABLES.items()},
            frozenset(scopes if isinstance(scopes, Mapping) else ()),
            tuple(_readable(Route, given) for given in _listed(tables.get("routes"))),
            tuple(_readable(Issuer, given) for given in _listed(tables.get("issuers"))),
        )

    @classmethod
    def whole(cls, config: Config) -> "Draft":
        """A configuration without faults in its tables."""
        tables = {name: vars(getattr(config, name)) for name in _TABLES}
        routes, issuers = (tuple(map(vars, one)) for one in (config.routes, config.issuers))
        return cls(tables, frozenset(config.scopes), routes, issuers)

    def get(self, table: str, key: str) -> Any:
        """The value of a key, or None where what stands there is broken."""
        return self.tables[table].get(key)


def _readable(table: type[Table], given: object) -> Readable:
    """Each field on its own: the same checks as for the whole table, with nothing else in the way."""
    if not isinstance(given, Mapping):
        return {}
    return _defaults(table, frozenset(table.model_fields.keys() - given.keys())) | {
        name: value for name in table.model_fields.keys() & given.keys() for value in _held(table, name, given[name])
    }


@lru_cache(_TABLES_KNOWN)
def _defaults(table: type[Table], absent: frozenset[str]) -> dict[str, Any]:
    fields = {name: field for name, field in table.model_fields.items() if name in absent and not field.is_required()}
    return {
        name: value
        for name, field in fields.items()
        for value in _held(table, name, field.get_default(call_default_factory=True))
    }


def _held(table: type[Table], name: str, value: object) -> tuple[()] | tuple[Any]:
    """The value as its field takes it, alone, or nothing where it does not."""
    try:
        holder = table.__pydantic_validator__.validate_assignment(_empty(table).model_copy(), name, value)
    except ValidationError:
        return ()
    return (getattr(holder, name),)


@cache
def _empty(table: type[Table]) -> Table:
    return table.model_construct()
