"""Packages that others load for nothing, where they happen to be installed."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import cast


@contextmanager
def without(package: str) -> Iterator[None]:
    """Whoever imports `package` within this context finds it not installed, unless it has been loaded before."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = cast("ModuleType", None)  # which import takes for one that is not there
    try:
        yield
    finally:
        del sys.modules[package]
