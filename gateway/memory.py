"""What a process holds of the machine's memory beyond what it uses, and how that goes back.

`let_go_of_files` is for Linux, the others are for glibc. Elsewhere nothing happens, and nothing but memory is lost.
"""

import contextlib
import ctypes
import re
from pathlib import Path
from typing import Final

_ARENA_MAX: Final = -8  # mallopt(3): M_ARENA_MAX
_DONTNEED: Final = 4  # madvise(2): MADV_DONTNEED
# A range that is mapped of a file and cannot be written, and the lines about it (proc_pid_smaps(5)).
_OF_FILES: Final = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ [1-9]\d* .*\n((?:[A-Z].*\n)*)", re.MULTILINE)
_UNCHANGED: Final = re.compile(r"^Anonymous: +0 kB\n(?:(?!Anonymous:).*\n)*?Swap: +0 kB$", re.MULTILINE)


def use_one_heap() -> None:
    """Have the threads that are still to come allocate from the one heap: glibc does not give back what is free at the
    end of a thread's own, not even when it is asked to."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free on the heap to the system, which the C library keeps until it is asked."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def let_go_of_files() -> None:
    """Unmap all pages of programs and libraries: most were read once, to be linked and set up at the start.

    What is used comes back by itself, out of the system's cache. It would come back as it stands in the file, so a
    range with pages that were changed, as linking does before it forbids to write them, stays as it is. So does all
    while there are other threads: what one of them maps anew in the meantime would be taken for the file.
    """
    with contextlib.suppress(OSError, AttributeError):
        if len([*Path("/proc/self/task").iterdir()]) > 1:
            return
        madvise = ctypes.CDLL(None).madvise
        mapped = Path("/proc/self/smaps").read_text(encoding="utf-8", errors="surrogateescape")
        for first, end, about in _OF_FILES.findall(mapped):
            if _UNCHANGED.search(about) is not None:
                start, length = int(first, 16), int(end, 16) - int(first, 16)
                madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _DONTNEED)
