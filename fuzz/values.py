"""The members of plain values, by the names that make them: compiled ones are neither tuples nor dataclasses."""

from collections.abc import Callable
from functools import cache
from inspect import signature
from typing import Any, TypeVar, cast

Value = TypeVar("Value")


@cache
def _names(kind: Callable[..., object]) -> tuple[str, ...]:
    return tuple(signature(kind).parameters)


def members(value: object) -> dict[str, Any]:
    """Every member, by its name."""
    return {name: getattr(value, name) for name in _names(cast("Callable[..., object]", type(value)))}


def changed(value: Value, **changes: Any) -> Value:
    """The same value but for these members."""
    return type(value)(**members(value) | changes)
