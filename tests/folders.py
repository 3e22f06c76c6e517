"""Where the tests write: in memory, where there is room for it.

To make a file on a disk's file system costs up to forty times the CPU that it costs there, and a database has a
thousand of them.
"""

import os
import tempfile
from pathlib import Path
from typing import Final

import psutil

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 6 * 1024**3  # bytes; a run takes a third of it
_NAME: Final = "TMPDIR"


def _is_to_be_used() -> bool:
    """Whether files go to memory: nobody named another folder, there is room, and programs run from there."""
    named = os.environ.get(_NAME)
    if named is not None:
        return named == str(_MEMORY)  # as the first process of this run has decided
    if not _MEMORY.is_mount() or not os.access(_MEMORY, os.W_OK):
        return False
    found = os.statvfs(_MEMORY)
    room = min(found.f_bavail * found.f_frsize, psutil.virtual_memory().available)
    return room >= _ROOM and not found.f_flag & os.ST_NOEXEC


IN_MEMORY: Final = _is_to_be_used()
SHORT: Final = str(_MEMORY if IN_MEMORY else "/tmp")
"""A folder for temporary files that every user can enter, by a path that leaves room for a socket's."""


def settle() -> None:
    """Have all temporary files of this process, and of those that it starts, made there."""
    if IN_MEMORY:
        os.environ[_NAME] = tempfile.tempdir = SHORT
