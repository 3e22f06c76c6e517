"""The reason why a file cannot be read, for the operator to mend: what bars the way, whose it is, and who we are."""

import os
import pwd
import stat
from pathlib import Path


def reason(exc: OSError, path: Path) -> str:
    """The reason for which `path` could not be read or made."""
    said = exc.strerror or type(exc).__name__
    return f"{said}: {whose(path)}" if isinstance(exc, PermissionError) else said


def mend(path: Path) -> str:
    """The way out for somebody who may not read `path`, which is there or may be: nothing is to be made anew."""
    try:
        ours = path.stat().st_uid == os.geteuid()
    except OSError:
        ours = False
    return f"chmod 600 {path}" if ours else f"run this as its owner, or let {name_of(os.geteuid())} read it"


def whose(path: Path) -> str:
    """The obstacle on the way to `path`, and who we are: `it belongs to root (mode 0600), and we are ada`."""
    me = name_of(os.geteuid())
    for place in (*reversed(path.absolute().parents), path.absolute()):
        try:
            known = place.stat()
        except OSError:
            break
        folder = stat.S_ISDIR(known.st_mode)
        if not os.access(place, os.X_OK if folder else os.R_OK, effective_ids=True):
            what = f"the folder {place}" if place != path.absolute() else "it"
            return (
                f"{what} belongs to {name_of(known.st_uid)} (mode {stat.S_IMODE(known.st_mode):04o}), and we are {me}"
            )
    return f"we are {me}"


def name_of(uid: int) -> str:
    """A system user by name, or by number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
