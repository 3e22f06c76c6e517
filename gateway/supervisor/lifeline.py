"""How a process makes sure that it does not outlive its parent."""

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that spawned it ends, also by kill -9."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")


def is_child_of(parent: int) -> bool:
    """Whether the parent still lives; to be asked after `die_with_parent`, which misses an earlier death."""
    return os.getppid() == parent
