"""What is wrong with a file, in plain words: each fault with its path in the file, what stands there and the mend.

Values are shown, save where a secret may stand: nothing below `keys` and at `database.url` is ever repeated.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.config import settings
from gateway.config.addresses import Wanted
from gateway.config.tables import AS_ARRAY, AS_TABLE, AS_TEXT, Config, Table, settled, table_within
from gateway.errors import FaultyConfiguration
from gateway.spelling import near

_MARKS: Final = frozenset({AS_TEXT, AS_ARRAY, AS_TABLE, "[key]"})
_SECRETS: Final = (("keys",), ("database", "url"))
_LONGEST: Final = 80

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_ROUTE: Final = re.compile(r"routes\[(\d{1,6})\](?:\.[A-Za-z0-9_*-]+|\[\d+\])*")

# What must be set, and an example of it.
_EXAMPLES: Final = {
    "server": "a table [server] with public_url",
    "public_url": '"https://api.example.com"',
    "name": '"notes"',
    "path": '"/api/notes"',
    "upstreams": '["http://127.0.0.1:9000"]',
    "auth": '["bearer"], or "none" for a public route',
}

# pydantic's own findings in our words.
_WANTED: Final = {
    "string_type": "must be text in quotes",
    "bool_type": "must be true or false, without quotes",
    "int_type": "must be a whole number, without quotes",
    "tuple_type": "must be an array in [ ]",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "too_short": "needs at least one entry",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


@dataclass(frozen=True, slots=True)
class Fault:
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


def judged(tables: Mapping[str, Any]) -> tuple[settings.Config | None, list[Fault]]:
    """The configuration that the tables of a file stand for, or what is wrong with them one by one."""
    try:
        return settled(Config.model_validate(tables)), []
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_url=False) if not _is_echo(error)]
        return None, list(dict.fromkeys(faults))


class RouteNames:
    """How people know the routes of a file, who would have to count them otherwise."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        routes = tables.get("routes")
        names = [route.get("name") if isinstance(route, Mapping) else None for route in _listed(routes)]
        self._names = [name if isinstance(name, str) and name else None for name in names]

    def told(self, fault: Fault) -> Fault:
        """The fault with the names of its route, and of the others that its message is about."""
        found = _ROUTE.match(fault.path)
        name = None if found is None else self._name(found)
        return Fault(fault.path, self.within(fault.message), name)

    def within(self, text: str) -> str:
        """`text` with a name behind each place in a route."""
        return _ROUTE.sub(lambda found: found[0] + self._mark(self._name(found)), text)

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


def dotted(location: tuple[str | int, ...]) -> str:
    """A place in the file as TOML writes it: `routes[0].scopes."notes read"`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return path


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
        example = _EXAMPLES.get(str(location[-1]))
        return Fault(path, "must be set" + (f", such as {example}" if example else ""))
    context = error.get("ctx", {})
    cause = context.get("error")
    if isinstance(cause, ValueError) and not isinstance(cause, Wanted):
        return Fault(path, str(cause))
    message = str(cause) if cause else _WANTED.get(kind, error["msg"]).format_map(_plain(context))
    if location == ("routes",) and isinstance(value, Mapping):
        return Fault(path, "each route has a table of its own: write [[routes]], not [routes]")
    if any(location[: len(secret)] == secret for secret in _SECRETS):
        message = 'must be a reference: { file = "…" } or { env = "…" }' if kind == "model_type" else message
        return Fault(path, f"{message}, not {_kind(value)}")
    return Fault(path, message if kind == "too_short" else f"{message}, not {shown(value)}")


def _plain(context: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.replace("'", '"') if isinstance(value, str) else value for name, value in context.items()}


def _known_keys(location: tuple[str | int, ...]) -> str:
    """The mend for an unknown key: the one that was meant, or all that there are."""
    table: type[Table] = Config
    for part in location[:-1]:
        if isinstance(part, str) and part in table.model_fields:
            table = table_within(table.model_fields[part].annotation) or table
    names = list(table.model_fields)
    meant = near(str(location[-1]), names)
    return f"the keys here are {', '.join(names)}" if meant is None else f"did you mean {meant}?"


# -- what can be read of a broken file -----------------------------------------------------------------------

Readable = Mapping[str, Any]  # the keys of one table that hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What of a file can be read although other parts are broken, so that all faults are reported together.

    Absent keys have their defaults; broken ones are left out.
    """

    server: Readable
    admin: Readable
    database: Readable
    keys: Readable
    mac: Readable
    branding: Readable
    scopes: frozenset[str]
    routes: tuple[Readable, ...]

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Draft":
        """The readable parts of the tables of a file."""
        fields = Config.model_fields
        names = ("server", "admin", "database", "keys", "mac", "branding")
        parts = {name: _readable(cast("type[Table]", fields[name].annotation), tables.get(name, {})) for name in names}
        scopes, routes = tables.get("scopes"), tables.get("routes")
        route = cast("type[Table]", table_within(fields["routes"].annotation))
        return cls(
            **parts,
            scopes=frozenset(scopes if isinstance(scopes, Mapping) else ()),
            routes=tuple(_readable(route, given) for given in _listed(routes)),
        )

    @classmethod
    def whole(cls, config: settings.Config) -> "Draft":
        """A configuration without faults in its tables."""
        return cls(
            server=vars(config.server),
            admin=vars(config.admin),
            database=vars(config.database),
            keys=vars(config.keys),
            mac=vars(config.mac),
            branding=vars(config.branding),
            scopes=frozenset(config.scopes),
            routes=tuple(map(vars, config.routes)),
        )


def _readable(table: type[Table], given: object) -> Readable:
    if not isinstance(given, Mapping):
        return {}
    return dict(_fields_that_hold(table, given))


def _fields_that_hold(table: type[Table], given: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each field on its own: the same checks as for the whole table, with nothing else in the way."""
    for name, field in table.model_fields.items():
        if name not in given and field.is_required():
            continue
        try:
            value = given[name] if name in given else field.get_default(call_default_factory=True)
            holder = table.__pydantic_validator__.validate_assignment(table.model_construct(), name, value)
            yield name, settled(getattr(holder, name))
        except ValidationError:
            continue
