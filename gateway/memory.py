"""Memory that a process holds beyond what it uses, and how it is given back.

What needs glibc does nothing elsewhere, and nothing but memory is lost.
"""

import contextlib
import ctypes
import gc
from typing import Final

_ARENA_MAX: Final = -8  # mallopt(3): M_ARENA_MAX


def use_one_heap() -> None:
    """Have the threads that are still to come allocate from the one heap: glibc does not give back what is free at the
    end of a thread's own, not even when it is asked to."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def give_back() -> None:
    """Return what is free on the heap to the system, which the C library keeps until it is asked."""
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def settle() -> None:
    """At the end of a start, through which nobody looked for garbage: give back what it took, spare the collector what
    lives as long as the process, and let it look seldom. A request leaves no cycles, and a start a thousand."""
    give_back()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
