"""A worker's process before its plane is in it: what libraries would load besides, and no worker uses, stays out.

Each megabyte here is one a worker. The command line is not loaded either, nor what judges a configuration, which
`tests/supervisor/test_memory.py` holds to a list.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

# What structlog, aiohttp and shutil would take along where it happens to be installed for something else.
_NEEDLESS: Final = ("bz2", "lzma", "rich", "greenlet", "better_exceptions", "twisted", "brotli", "brotlicffi")
_SETTINGS: Final = {
    "SSL_CERT_FILE": os.devnull,  # aiohttp reads all of the system's certificates for a client of its own
    "FROZENLIST_NO_EXTENSIONS": "1",  # the C++ library for the sake of a few lists that nobody changes
}


def main(plane: str, listener: int, control: int) -> None:
    """Be a worker of that plane on the inherited sockets, until it is told to end."""
    program(plane)(listener, control)


def program(plane: str) -> Callable[[int, int], None]:
    """What a worker of that plane runs, with nothing loaded of the other one."""
    with _nothing_needless():
        from gateway.app import process

        if plane == "access":
            from gateway.app.access import serving
        else:
            from gateway.app.authorization import serving
    return partial(process.run, serving)


@contextmanager
def _nothing_needless() -> Iterator[None]:
    """While this holds, what no worker needs seems not to be there."""
    hidden = {name: None for name in _NEEDLESS if name not in sys.modules}
    stated = {name: os.environ[name] for name in _SETTINGS if name in os.environ}
    sys.modules.update(hidden)  # type: ignore[arg-type]  # None, so that the import fails (sys.modules)
    os.environ.update(_SETTINGS)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        for name in _SETTINGS:
            del os.environ[name]
        os.environ.update(stated)
