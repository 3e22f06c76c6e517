"""States that follow each other by a table, to which every change is held."""

from collections.abc import Mapping
from enum import IntEnum
from typing import TypeVar

State = TypeVar("State", bound=IntEnum)


def changed(table: Mapping[State, frozenset[State]], now: State, then: State) -> State:
    """The state that follows. Raises RuntimeError for a change that the table does not have: a fault of ours."""
    if then not in table[now]:
        raise RuntimeError(f"{now.name} cannot become {then.name}")
    return then
