"""The named statements of `sql/queries/*.sql`.

A statement begins with `-- name: its_name`, then a comment that says what it does, then native SQL with `$1`:

    -- name: user_find
    -- The user of that name, whatever its letters' case.
    select … from users where lower(username) = lower($1);
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from gateway.resources import folder

_NAME: Final = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)
_DESCRIPTION: Final = re.compile(r"\s*-- \S")


@cache
def load() -> Mapping[str, str]:
    """Every statement by its name."""
    return parse(sorted((folder("sql") / "queries").glob("*.sql")))


def parse(files: list[Path]) -> dict[str, str]:
    """The statements of some files. Raises ValueError on a nameless, undescribed or doubled one.

    The name stays in the text as a comment, so that `pg_stat_activity` shows it to an operator.
    """
    found: dict[str, str] = {}
    for file in files:
        before, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        if before.strip():
            raise ValueError(f"{file.name}: text before the first `-- name:`")
        for name, body in zip(parts[::2], parts[1::2], strict=True):
            if name in found:
                raise ValueError(f"{file.name}: {name} is defined twice")
            if _DESCRIPTION.match(body) is None:
                raise ValueError(f"{file.name}: {name} has no description")
            found[name] = f"-- {name}\n{_statement(body)}"
    return found


def _statement(body: str) -> str:
    lines = [line for line in body.splitlines() if line.strip() and not line.lstrip().startswith("--")]
    return "\n".join(lines).rstrip().removesuffix(";")
