"""Values and places as they are written in TOML."""

import json
import re
from collections.abc import Iterable, Mapping

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def toml(value: object) -> str:
    """A value in one line, as it would stand behind `key =`."""
    if isinstance(value, bool | str | int | float):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Mapping):
        if not value:
            return "{}"
        return f"{{ {', '.join(f'{key(name)} = {toml(part)}' for name, part in value.items())} }}"
    if isinstance(value, Iterable):
        return f"[{', '.join(map(toml, value))}]"
    raise TypeError(f"{type(value).__name__} is nothing that is written in the file")


def key(name: str) -> str:
    """A key, in quotes where it needs them."""
    return name if _BARE_KEY.fullmatch(name) else json.dumps(name)


def dotted(location: tuple[str | int, ...]) -> str:
    """A place in the file: `routes[0].scopes."notes read"`."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += ("." if path else "") + key(part)
    return path
