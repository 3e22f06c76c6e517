"""Changes of the configuration that a gateway can take over while it serves, and those that it took over.

All may change but the keys that are declared `FIXED` in `config.tables`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from pydantic.fields import FieldInfo

from gateway.config import Config, Route, Settings
from gateway.config.tables import table_within
from gateway.config.values import FIXED
from gateway.crypto import Keyring
from gateway.faults import OperatorError
from gateway.store.database import place

_LONGEST: Final = 80


def require_reloadable(now: Settings, wanted: Settings) -> None:
    """Raises OperatorError with a line for each key that only a restart can change."""
    faults = []
    for table, key, field in fixed_keys():
        before = _value(now, table, key)
        if before != _value(wanted, table, key):
            old = f'"{before}"' if field.repr else "the old one"  # which may hold a password
            faults.append(f"{table}.{key}: only a restart can change it; restart, or write {old} again")
    if wanted.keyring is None:
        faults.append(
            f"keys.master: the file {wanted.master_key_file} is gone; put it back, the data is sealed with it"
        )
    if faults:
        raise OperatorError("\n".join(faults))


def fixed_keys() -> Iterator[tuple[str, str, FieldInfo]]:
    """The keys that only a restart can change, by table and name."""
    for table, of in Config.model_fields.items():
        within = table_within(of.annotation)
        for key, field in ({} if within is None else within.model_fields).items():
            if FIXED in field.metadata:
                yield table, key, field


def _value(settings: Settings, table: str, key: str) -> object:
    """What a key comes to: of a reference, what it leads to."""
    match table, key:
        case "database", "url":
            return settings.database_url
        case "database", "data_dir":
            return settings.data_dir
    return getattr(getattr(settings.config, table), key)


def changes(before: Settings, after: Settings) -> list[str]:
    """A line for each key that differs, in the order of the file; routes by their names, secrets never shown."""
    found = [line for table in type(after.config).model_fields for line in _table(table, before.config, after.config)]
    found += _databases("replicas", before.replicas, after.replicas)
    found += _databases("nonces", before.nonces, after.nonces)
    return [*found, *_keys(before.keyring, after.keyring)]


def _databases(key: str, before: tuple[str, ...], after: tuple[str, ...]) -> Iterator[str]:
    """What became of a list of databases, by where they are: an address may hold a password."""
    if before != after:
        old, new = (f"[{', '.join(map(place, dsns))}]" for dsns in (before, after))
        yield f"database.{key}: {old} → {new}"


def _keys(before: Keyring | None, after: Keyring | None) -> Iterator[str]:
    """What became of the master keys, by their names."""
    if before is None or after is None:
        return
    for key_id in sorted(after.key_ids - before.key_ids):
        yield f"keys: {key_id.hex()} is accepted"
    if after.key_id != before.key_id:
        yield f"keys: {after.key_id.hex()} is used in the place of {before.key_id.hex()}"
    for key_id in sorted(before.key_ids - after.key_ids):
        yield f"keys: {key_id.hex()} is accepted no longer"


def _table(name: str, before: object, after: object) -> Iterator[str]:
    old, new = getattr(before, name), getattr(after, name)
    if name == "routes":
        old, new = ({route.name: route for route in routes} for routes in (old, new))
        if [*old] != [*new] and {*old} == {*new}:
            yield "routes: in another order"
    if name in ("keys", "database") or old == new:  # what may change of these is told apart
        return
    if isinstance(new, Mapping):
        yield from _entries(name, old, new)
    else:
        yield from _values(name, old, new)


def _entries(table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What came, went or became another in a table of names."""
    for name in dict.fromkeys((*old, *new)):
        if name not in new:
            yield f"{table}: {name} removed"
        elif name not in old:
            yield f"{table}: {name} added"
        elif isinstance(new[name], Route):
            yield from _values(f"{table}: {name}", old[name], new[name])
        elif old[name] != new[name]:
            yield f"{table}: {name}: {_shown(old[name])} → {_shown(new[name])}"


def _values(table: str, old: Any, new: Any) -> Iterator[str]:
    for key, now in new:
        if (was := getattr(old, key)) != now:
            unit = "" if key == "sample" else "s"
            yield f"{table}.{key}: {_shown(was, unit)} → {_shown(now, unit)}"


def _shown(value: object, unit: str = "s") -> str:
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # every other one is a duration
        return f"{value:g}{unit}"
    if isinstance(value, tuple | list):
        text = f"[{', '.join(map(_shown, value))}]"
    elif isinstance(value, Mapping):
        text = f"{{ {', '.join(f'{name} = {_shown(item)}' for name, item in value.items())} }}"
    else:
        text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
