"""The program that stands between us and Postgres. It is run by path, without site-packages, and imports little.

`launch`: change to the database's system user, ask to be killed when the parent ends, become the given program.
`keep`: start a Postgres for commands and stop it when nobody uses it any more, however its users ended.
`reach`: tell which folder on the way to a path the system user cannot enter.

The kernel forgets PR_SET_PDEATHSIG when the user changes, and sends the signal when the *thread* that spawned the
child ends: hence the order in `launch`, and the main thread as parent everywhere.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_UNREACHABLE = 3
_PATIENCE = 60.0  # seconds, as the next two
_AGAIN = 0.2
_MOMENT = 2.0


def _become(user: str, uid: int, gid: int) -> None:
    if os.geteuid() == uid:
        return
    os.initgroups(user, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def launch(parent: int, death_signal: int, user: str, uid: int, gid: int, argv: list[str]) -> None:
    """Become `argv` as `user`, in a session of its own; `death_signal` arrives when `parent` ends."""
    os.setsid()  # a Ctrl-C at the terminal is for the gateway, which then stops Postgres in order
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    _become(user, uid, gid)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it died before it could be watched
        sys.exit(1)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(argv[0], argv)  # noqa: S606  # the whole purpose of this program


def keep(owner_lock: str, users_lock: str, log: str, user: str, uid: int, gid: int, argv: list[str]) -> None:
    """Own a Postgres until the last holder of the users' lock has gone; nothing where another process owns one."""
    owner = os.open(owner_lock, os.O_RDWR)
    users = os.open(users_lock, os.O_RDWR)
    if not _take(owner):  # as by the keeper of a command that was killed when it had just started it
        return
    if os.fork():  # the command need not wait for us; the lock goes on with the child
        os._exit(0)
    os.setsid()
    os.ftruncate(owner, 0)
    os.pwrite(owner, f"keeper {os.getpid()}\n".encode(), 0)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
    for stream in (1, 2):  # the command reads its pipe to the end
        os.dup2(output, stream)
    command = [sys.executable, "-I", "-S", __file__, "launch", str(os.getpid()), str(int(signal.SIGINT))]
    postgres = subprocess.Popen([*command, user, str(uid), str(gid), *argv], stdin=subprocess.DEVNULL, cwd="/")

    def stop() -> None:
        for how in (signal.SIGINT, signal.SIGQUIT):  # fast, then immediate shutdown
            patient_until = time.monotonic() + _PATIENCE
            while time.monotonic() < patient_until:
                postgres.send_signal(how)  # again, since one that has just been started hears nothing yet
                time.sleep(_AGAIN)

    def stop_when_unused() -> None:
        fcntl.flock(users, fcntl.LOCK_EX)
        stop()

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=stop, daemon=True).start())
    threading.Thread(target=stop_when_unused, daemon=True).start()
    code = postgres.wait()
    os._exit(0 if code == 0 else 1)  # the watching thread waits for ever


def _take(lock: int) -> bool:
    """Take a lock, unless somebody keeps it; whoever only looks whether it is free has it for no more than a moment."""
    patient_until = time.monotonic() + _MOMENT
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > patient_until:
                return False
            time.sleep(0.01)
        else:
            return True


def print_unreachable(user: str, uid: int, gid: int, paths: list[str]) -> None:
    """Print the first folder that `user` cannot enter, or file it cannot read, on the way to `paths`."""
    _become(user, uid, gid)
    for path in map(Path, paths):
        for step in (*reversed(path.parents), path):
            if not os.access(step, os.X_OK if step.is_dir() else os.R_OK):
                print(step)  # noqa: T201  # the answer
                sys.exit(_UNREACHABLE)


def _main(action: str, *args: str) -> None:
    if action == "launch":
        parent, death_signal, user, uid, gid, *argv = args
        launch(int(parent), int(death_signal), user, int(uid), int(gid), argv)
    elif action == "keep":
        owner_lock, users_lock, log, user, uid, gid, *argv = args
        keep(owner_lock, users_lock, log, user, int(uid), int(gid), argv)
    else:
        user, uid, gid, *paths = args
        print_unreachable(user, int(uid), int(gid), paths)


if __name__ == "__main__":
    _main(*sys.argv[1:])
