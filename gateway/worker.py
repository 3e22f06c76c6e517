"""A worker's process before its plane is in it: what libraries would load besides, and no worker uses, stays out.

Each megabyte here is one a worker. The command line is not loaded either, nor what judges a configuration, which
`tests/supervisor/test_memory.py` holds to a list.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Final, Never

# What structlog, aiohttp and shutil would take along where it happens to be installed for something else.
_MISSING: Final = ("bz2", "lzma", "rich", "greenlet", "better_exceptions", "twisted", "brotli", "brotlicffi")
# What aiohttp has to be a client and a command, and would not load without.
_EMPTY: Final = (
    *("argparse", "netrc", "urllib.request", "aiohttp.client", "aiohttp.client_middleware_digest_auth"),
    *("aiohttp.client_middlewares", "aiohttp.connector", "aiohttp.cookiejar", "aiohttp.resolver", "aiohttp.tracing"),
)
# In C++, whose library would come along for the sake of a few lists that nobody changes.
_IN_PYTHON: Final = "FROZENLIST_NO_EXTENSIONS"
_WHOLE: Final = "GATEWAY_WORKER_WHOLE"  # in the environment of a worker that does not load otherwise


def main(plane: str, listener: int, control: int) -> None:
    """Be a worker of that plane on the inherited sockets, until it is told to end."""
    program(plane)(listener, control)


def program(plane: str) -> Callable[[int, int], None]:
    """What a worker of that plane runs, with nothing loaded of the other one."""
    if _WHOLE in os.environ:
        return _program(plane)
    try:
        with _nothing_needless():
            return _program(plane)
    except Exception:  # a library newer than our tests may need more: no megabyte is worth a worker that does not start
        os.environ[_WHOLE] = "1"
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # itself, as it was started


def _program(plane: str) -> Callable[[int, int], None]:
    from gateway.app import process

    if plane == "access":
        from gateway.app.access import serving
    else:
        from gateway.app.authorization import serving
    return partial(process.run, serving)


@contextmanager
def _nothing_needless() -> Iterator[None]:
    """While this holds, what no worker needs seems not to be there, or to be there and is empty."""
    hidden: dict[str, ModuleType | None] = dict.fromkeys(_MISSING) | {name: _Empty(name) for name in _EMPTY}
    hidden = {name: module for name, module in hidden.items() if name not in sys.modules}
    stated = os.environ.get(_IN_PYTHON)
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None, so that the import fails (sys.modules)
    os.environ[_IN_PYTHON] = "1"
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        del os.environ[_IN_PYTHON]
        if stated is not None:
            os.environ[_IN_PYTHON] = stated


class _Empty(ModuleType):
    """A module from which every name can be imported, and is `_Nothing`."""

    def __getattr__(self, name: str) -> type:
        return getattr(_Nothing, name)  # type: ignore[no-any-return]  # a class, or the AttributeError


class _OfNothing(type):
    def __getattr__(cls, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *_: object, **__: object) -> Never:
        raise ImportError("this is kept out of a worker: see gateway/worker.py")


class _Nothing(metaclass=_OfNothing):
    """What can be named, looked into and derived from, as modules do when they are loaded, and never made."""
