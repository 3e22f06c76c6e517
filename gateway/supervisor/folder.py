"""The private folder of one running gateway, where its workers have their sockets."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.supervisor.users import SystemUser

_PREFIX: Final = "gateway-run-"
_LONGEST: Final = 80  # a unix socket's path may have 107 bytes, and it needs a name in the folder


@contextlib.contextmanager
def private_folder(workers: SystemUser | None = None) -> Iterator[Path]:
    """A folder that only this user can enter (0700), removed at the end.

    Where root keeps it for workers that run as another user, they can reach what lies in it and change nothing (0710).

    Its owner holds a lock in it, so that what a killed gateway left behind is known as such and removed by the
    next one.
    """
    parent = Path(tempfile.gettempdir())
    if len(os.fsencode(parent)) > _LONGEST - len(_PREFIX) - 8:
        parent = Path("/tmp")  # noqa: S108  # mkdtemp makes a name that nobody can foresee
    _remove_remnants(parent)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.write(lock, f"{os.getpid()}\n".encode())
        if workers is not None:
            os.chown(folder, 0, workers.gid)
            folder.chmod(0o710)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_remnants(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.geteuid():
                continue
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(lock).st_size:  # it is written once the lock is held, so a new one is never taken
                    shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
