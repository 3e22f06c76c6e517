"""A process's care not to outlive its parent, and the change from root to a user who may do less."""

import ctypes
import getpass
import os
import pwd
import signal
from typing import Final

from gateway.supervisor.users import SystemUser

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38


def die_with_parent() -> None:
    """Ask the kernel to kill this process when the thread that spawned it ends, also by kill -9."""
    _prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), "PR_SET_PDEATHSIG")


def is_child_of(parent: int) -> bool:
    """Whether the parent still lives; to be asked after `die_with_parent`, which misses an earlier death."""
    return os.getppid() == parent


def become(user: SystemUser) -> None:
    """Be that user for good, without a way back by a program that raises privileges, and die with the parent still.

    The home is theirs from now on, where libraries look for files. The database's role stays the one that root's
    environment means, if the address names none.
    """
    os.environ.setdefault("PGUSER", getpass.getuser())
    os.initgroups(user.name, user.gid)
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
    os.environ |= {"HOME": pwd.getpwuid(user.uid).pw_dir, "USER": user.name, "LOGNAME": user.name}
    _prctl(_PR_SET_NO_NEW_PRIVS, 1, "PR_SET_NO_NEW_PRIVS")
    die_with_parent()  # which the kernel forgets with the change of the user


def _prctl(option: int, value: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({name})")
