"""The system user that Postgres and the workers run as where root starts them: never root, and never `nobody`.

A gateway that an ordinary user starts runs as that user whole, and so do commands. Where root starts one, the
supervisor stays root, which reads the configuration and opens the ports; what strangers' bytes reach runs as

    server.user; else the owner of the embedded database, of data_dir, or of the folder that it is to be made in;
    else, where all of these are root's, the account `gateway`, or `postgres`, or an account `gateway` made now.

What root makes for the service belongs to that user, so that a gateway which that user starts later finds it its own.
"""

import contextlib
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway import barred
from gateway.faults import FaultyConfiguration, OperatorError

_ACCOUNTS: Final = ("gateway", "postgres")
_SHARED: Final = "nobody"  # everybody's, so that one of its programs may read what another one has
_NEW_ACCOUNT: Final = ("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent")
_NO_SHELL: Final = ("--shell", "/usr/sbin/nologin")


@dataclass(frozen=True, slots=True)
class SystemUser:
    """An account of the machine."""

    name: str
    uid: int
    gid: int

    @classmethod
    def by_uid(cls, uid: int) -> "SystemUser":
        try:
            entry = pwd.getpwuid(uid)
        except KeyError:
            raise OperatorError(
                f'database.url = "embedded": the system user {uid} has no name, which Postgres needs; '
                "add it to /etc/passwd or set database.url"
            ) from None
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @classmethod
    def by_name(cls, name: str) -> "SystemUser":
        """Raises KeyError."""
        entry = pwd.getpwnam(name)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid)

    @property
    def arguments(self) -> tuple[str, str, str]:
        return self.name, str(self.uid), str(self.gid)


def fault_of(data_dir: Path, text: str) -> OperatorError:
    """An error about a data_dir that the operator can mend."""
    return OperatorError(f"database.data_dir = {str(data_dir)!r}: {text}")


def system_user_for(data_dir: Path, wanted: str = "") -> SystemUser:
    """The system user of the service with its data in `data_dir`; `wanted` is `server.user`. Raises OperatorError."""
    real = Path(os.path.realpath(data_dir))
    me = os.geteuid()
    owner = owner_of(real / "postgres")
    if me == 0:
        return _for_root(real, wanted, owner)
    if owner is None and not os.access(real, os.X_OK) and owner_of(real) not in (None, me):
        owner = owner_of(real)
    if owner not in (None, me):
        name = SystemUser.by_uid(owner).name
        whom = "root" if owner == 0 else f"{name} or as root"
        raise fault_of(real, f"the database belongs to the system user {name}; run this as {whom}")
    _require_visible(real)
    return SystemUser.by_uid(me)


def _require_visible(data_dir: Path) -> None:
    """Raises OperatorError where a folder on the way bars us, so that nobody can tell what there is."""
    inside = data_dir / "postgres"
    try:
        inside.stat()
    except PermissionError as exc:
        raise fault_of(
            data_dir,
            f"it cannot be reached ({barred.reason(exc, inside)}); run this as a user who can enter that folder, or "
            "name another one",
        ) from exc
    except OSError:  # there is nothing yet, or no folder: the start says so
        return


def worker_user(data_dir: Path, wanted: str) -> SystemUser | None:
    """Whom the workers become; None where they stay who started them. Raises OperatorError."""
    if os.geteuid() == 0:
        return system_user_for(data_dir, wanted)
    if wanted and _named(wanted).uid != os.geteuid():
        raise FaultyConfiguration(
            f'server.user = "{wanted}": only root can start workers as another user; start the gateway as {wanted} or '
            "as root, or leave the key out"
        )
    return None


def _for_root(data_dir: Path, wanted: str, owner: int | None) -> SystemUser:
    if wanted:
        user = _named(wanted)
        if owner not in (None, user.uid):
            raise fault_of(
                data_dir,
                f'the database belongs to a system user other than server.user = "{wanted}"; '
                f"chown -R {wanted} {data_dir} while nothing runs there, or name its owner",
            )
        return user
    for folder in (data_dir / "postgres", data_dir):
        if owner_of(folder):
            return _require_unshared(data_dir, SystemUser.by_uid(owner_of(folder) or 0))
    standing = next(path for path in (data_dir, *data_dir.parents) if os.path.exists(path))  # noqa: PTH110  # Path raises
    if standing != data_dir and owner_of(standing):
        with contextlib.suppress(OperatorError):  # of a user without a name, as in a container
            return _require_unshared(standing, SystemUser.by_uid(owner_of(standing) or 0))
    return _account()


def _named(wanted: str) -> SystemUser:
    try:
        user = SystemUser.by_name(wanted)
    except KeyError:
        raise FaultyConfiguration(
            f'server.user = "{wanted}": there is no such system user; make it: useradd --system {wanted}'
        ) from None
    if user.uid == 0 or user.name == _SHARED:
        why = "an account that others share" if user.uid else "the user who may do anything"
        raise FaultyConfiguration(f'server.user = "{wanted}": is {user.name}, {why}; name a user of the gateway\'s own')
    return user


def _require_unshared(folder: Path, user: SystemUser) -> SystemUser:
    if user.name == _SHARED:
        raise fault_of(
            folder,
            f"it belongs to {_SHARED}, an account that others share; chown -R it to a user of the gateway's own",
        )
    return user


def _account() -> SystemUser:
    """The account that is there for us, made if there is none."""
    for name in _ACCOUNTS:
        with contextlib.suppress(KeyError):
            return SystemUser.by_name(name)
    command = [*_NEW_ACCOUNT, *_NO_SHELL, _ACCOUNTS[0]]
    with contextlib.suppress(OSError, KeyError):
        subprocess.run(command, capture_output=True, check=False, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
        return SystemUser.by_name(_ACCOUNTS[0])  # made by us, or by another who was faster
    raise OperatorError(
        "server.user: neither Postgres nor the workers run as root, and there is no system user for them; make one "
        f"(useradd --system {_ACCOUNTS[0]}), or start the gateway as an ordinary user"
    )


# -- what root makes for that user -----------------------------------------------------------------------------


def give(path: Path, user: SystemUser) -> None:
    """Make the folder or file that root has just made the user's own; never what a link leads to."""
    if os.geteuid() != 0:
        return
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        known = os.fstat(opened)
        if known.st_uid == 0 and (stat.S_ISDIR(known.st_mode) or known.st_nlink == 1):
            os.fchown(opened, user.uid, user.gid)
    finally:
        os.close(opened)


def make_folder(path: Path, user: SystemUser) -> None:
    """Make a folder of that user's, which only they can enter, where there is none. Raises OSError."""
    if path.is_dir():
        return
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            if os.geteuid() == 0:
                parent.chmod(0o755)  # whatever root's umask
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise
        return
    give(path, user)


def owner_of(path: Path) -> int | None:
    """The owner's number; None where there is nothing, or nothing that we may see."""
    try:
        return path.stat().st_uid
    except OSError:
        return None
