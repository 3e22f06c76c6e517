"""A backup: one file with all that the database knows, for this Postgres or another one.

It holds rows, and no statements: the schema that they belong to is made by our own migrations when they are restored.
So

    it goes from any Postgres to any other, older or newer, embedded or not: no program of Postgres takes part, whose
    version would have to fit the server's
    nothing in a file can run as the role that owns the tables
    a backup of an older release is restored as it was, and then migrated

The file is a zip archive that other programs read too: the rows of each table as Postgres copies them (COPY, text
format), and `manifest.json`. The archive's comment, its last 64 bytes, is the SHA-256 of all before it in hexadecimal.

What is left out would be worth nothing in a restored database, or would let in what has passed already: the ring of
nonces and its floor (a restored database gets a floor past everything that was signed), how nonces are spread over
databases (which stays as it is there), the change log, and what lives for minutes only: requests that wait for a
person, codes that wait for their client.
"""

import contextlib
import errno
import hashlib
import json
import os
import stat
import tempfile
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

import asyncpg
from pydantic import BaseModel, ConfigDict, ValidationError

from gateway import __version__
from gateway.faults import OperatorError
from gateway.store import migrations
from gateway.store.database import Statements, cannot_reach, connect
from gateway.store.outages import is_outage
from gateway.store.pool import Connection

FORMAT: Final = 1
LEFT_OUT: Final = frozenset({"nonces", "nonce_floor", "nonce_database", "nonce_layouts", "changes", "flows"})
PATIENCE: Final = 86_400.0  # seconds that one statement may take
_ONLY: Final = {"codes": "where spent_at is not null"}
_MANIFEST: Final = "manifest.json"
_DIGEST: Final = 64
_CHUNK: Final = 1024**2

# How values are spelt in the file, and read from it; and no end to a transaction that waits for a slow disk.
SPELLING: Final = """
set local datestyle = 'ISO, YMD';
set local intervalstyle = 'postgres';
set local timezone = 'UTC';
set local bytea_output = 'hex';
set local extra_float_digits = 1;
set local statement_timeout = '86400s';
set local idle_in_transaction_session_timeout = 0"""


class Table(BaseModel):
    """A table's rows, as one member of the archive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    columns: tuple[str, ...]
    rows: int

    @property
    def member(self) -> str:
        return f"{self.name}.copy"


class Manifest(BaseModel):
    """Where a backup comes from, and what is in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int
    gateway: str
    postgres: str
    at: datetime  # of the snapshot, by the database's clock
    lineage: str  # the same for a database and for what it is restored as, and for no other
    master_key: str | None  # the name of the key (`Keyring.key_id`) in hexadecimal; the key itself is not in the file
    migrations: dict[str, str]  # checksums by name
    tables: tuple[Table, ...]

    def rows(self, table: str) -> int:
        """How many rows of a table there are."""
        return next((one.rows for one in self.tables if one.name == table), 0)


# -- writing -----------------------------------------------------------------------------------------------------


async def back_up(dsn: str, file: Path) -> Manifest:
    """Write a backup of the database as it is at one moment, while others go on using it.

    Raises OperatorError; then there is no file, or the one that was there before.
    """
    with new_file(file) as out:
        return await back_up_into(dsn, out)


async def back_up_into(dsn: str, out: IO[bytes]) -> Manifest:
    """The same into an open file.

    The locks come before the moment that is read, or a restore under way would end after that moment: its tables would
    be found, and nothing in them.
    """
    async with opened(dsn, "gateway-backup") as connection:
        await migrations.history(connection)
        names = [row["name"] for row in await Statements(connection).rows("tables_kept", names=migrations.made())]
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            if names:
                await connection.execute(f"lock table {', '.join(names)} in access share mode")
            return await write(connection, out)


async def write(connection: Connection, out: IO[bytes]) -> Manifest:
    """Write what the open transaction sees. Raises OperatorError where there is no schema, or a newer one."""
    await connection.execute(SPELLING)
    applied = await migrations.history(connection)
    if not applied:
        raise OperatorError("database.url: there is nothing to back up: the database has no schema of Gateway's")
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        names = [name for name in migrations.made() if name not in LEFT_OUT]
        tables = tuple(
            [
                await _write_table(connection, archive, row["name"], tuple(row["columns"]))
                for row in await Statements(connection).rows("tables_kept", names=names)
            ]
        )
        manifest = Manifest(
            format=FORMAT,
            gateway=__version__,
            postgres=await connection.fetchval("show server_version"),
            at=await connection.fetchval("select now()"),
            lineage=await lineage(connection),
            master_key=await connection.fetchval("select encode(master_key_id, 'hex') from settings"),
            migrations=dict(applied),
            tables=tables,
        )
        archive.writestr(_member(_MANIFEST), manifest.model_dump_json(indent=1))
        archive.comment = b"0" * _DIGEST
    out.seek(-_DIGEST, os.SEEK_END)
    end = out.tell()
    digest = _digest(out, end)
    out.seek(end)
    out.write(digest.encode())
    return manifest


async def _write_table(connection: Connection, archive: zipfile.ZipFile, name: str, columns: tuple[str, ...]) -> Table:
    query = f"select {', '.join(columns)} from {name} {_ONLY.get(name, '')}"  # noqa: S608 -- the catalogue's own names
    table = Table(name=name, columns=columns, rows=0)
    with archive.open(_member(table.member), "w", force_zip64=True) as member:

        async def sink(rows: bytes) -> None:
            member.write(rows)

        status = await connection.copy_from_query(query, output=sink, timeout=PATIENCE)
    return table.model_copy(update={"rows": copied(status)})


async def lineage(connection: Connection) -> str:
    """What tells a database, and what it is restored as, from all others; "" where nothing was ever applied."""
    return await Statements(connection).value("lineage") or ""


def copied(status: str) -> int:
    """The number of rows in Postgres's answer to COPY."""
    return int(status.removeprefix("COPY "))


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = (stat.S_IFREG | 0o600) << 16  # for who unpacks it
    return info


def _digest(file: IO[bytes], end: int) -> str:
    """The SHA-256 of the first `end` bytes, in hexadecimal."""
    hashed = hashlib.sha256()
    file.seek(0)
    while end > 0 and (chunk := file.read(min(end, _CHUNK))):
        hashed.update(chunk)
        end -= len(chunk)
    return hashed.hexdigest()


@asynccontextmanager
async def opened(dsn: str, name: str) -> AsyncIterator[Connection]:
    """A connection for long work. What fails on it by an outage, or by a full disk of the server's, raises
    OperatorError."""
    try:
        connection = await connect(dsn, name, statement_timeout=PATIENCE)
        try:
            migrations.require_server(connection)
            yield connection
        finally:
            connection.terminate()
    except asyncpg.InsufficientPrivilegeError as exc:
        raise OperatorError(
            f"database.url: the role may not do that ({exc.args[0]}); nothing was changed; run it as the owner of the "
            "tables (docs/backup.md)"
        ) from exc
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError) as exc:
        if isinstance(exc, asyncpg.PostgresError) and not is_outage(exc):
            raise OperatorError(f"database.url: {exc.args[0]}; nothing was changed") from exc
        raise cannot_reach(dsn, exc) from exc


@contextmanager
def new_file(path: Path) -> Iterator[IO[bytes]]:
    """A file that only its owner may read, which gets its name when it is whole and on the disk.

    However the process ends before, there is no file, and nothing is left of it. Raises OperatorError; a file of that
    name is never overwritten.
    """
    try:
        with _entered(path.parent) as folder:
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "it exists already")
            with nameless(path.parent) as (file, named):
                yield file
                file.flush()
                os.fsync(file.fileno())
                os.link(named, path.name, src_dir_fd=folder, dst_dir_fd=folder)  # what the name in /proc leads to
            os.fsync(folder)
    except FileExistsError as exc:
        raise OperatorError(f"{path}: exists already, and is not overwritten; name another file") from exc
    except OSError as exc:
        if isinstance(exc, TimeoutError | ConnectionError):
            raise  # the database's
        fit = "that you may write to" if isinstance(exc, PermissionError) else "with room for it"
        raise OperatorError(
            f"{path}: cannot be written ({exc.strerror}); nothing was left there; name a file in a folder {fit}"
        ) from exc


@contextmanager
def _entered(folder: Path) -> Iterator[int]:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield number
    finally:
        os.close(number)


@contextmanager
def nameless(folder: Path) -> Iterator[tuple[IO[bytes], str]]:
    """A file without a name, and what to link it by; one with a passing name where the file system has no such."""
    try:
        number = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        number, passing = tempfile.mkstemp(prefix=".backup-", dir=folder)
        with os.fdopen(number, "w+b") as file:
            try:
                yield file, passing
            finally:
                Path(passing).unlink()
        return
    with os.fdopen(number, "w+b") as file:
        yield file, f"/proc/self/fd/{number}"


# -- reading -----------------------------------------------------------------------------------------------------


class Backup:
    """A backup that is whole, unaltered, and of a version that this one can restore; a context manager."""

    def __init__(self, path: Path) -> None:
        """Open and check it. Raises OperatorError."""
        self.path = path
        with contextlib.ExitStack() as stack:
            self._file = stack.enter_context(_opened_file(path))
            self._archive = stack.enter_context(_checked_archive(path, self._file))
            self.manifest = _manifest(path, self._archive)
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    async def rows(self, table: Table) -> AsyncIterator[bytes]:
        """A table's rows, in pieces, for COPY."""
        with self._archive.open(table.member) as member:
            while chunk := member.read(_CHUNK):
                yield chunk

    def fault(self, text: str) -> OperatorError:
        """An error about this file."""
        return _fault(self.path, text)


def _fault(path: Path, text: str) -> OperatorError:
    return OperatorError(f"{path}: {text}")


def _opened_file(path: Path) -> IO[bytes]:
    try:
        number = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe is not waited for
    except FileNotFoundError as exc:
        raise _fault(path, "there is no such file; name a backup that `gateway backup` made") from exc
    except OSError as exc:
        raise _fault(path, f"cannot be read ({exc.strerror}); make it readable for the user who runs this") from exc
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise _fault(path, "is not a plain file; name a backup that `gateway backup` made")
    return os.fdopen(number, "rb")


def _checked_archive(path: Path, file: IO[bytes]) -> zipfile.ZipFile:
    if file.read(4) != b"PK\3\4":
        raise _fault(path, "is not a backup of Gateway's; name a file that `gateway backup` made")
    end = max(0, os.fstat(file.fileno()).st_size - _DIGEST)
    digest = _digest(file, end)
    if file.read(_DIGEST) != digest.encode():
        raise _fault(
            path, "was cut short or altered after it was written; nothing was restored; use another copy of it"
        )
    try:
        return zipfile.ZipFile(file)
    except zipfile.BadZipFile as exc:
        raise _fault(path, "is not a backup of Gateway's; name a file that `gateway backup` made") from exc


def _manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        found = json.loads(archive.read(_MANIFEST))
        if found["format"] != FORMAT:
            raise _fault(
                path,
                f"was made by Gateway {found['gateway']}, in a form that this version ({__version__}) cannot read; "
                "install that version or a later one",
            )
        manifest = Manifest.model_validate_json(archive.read(_MANIFEST))
    except (KeyError, TypeError, ValueError, ValidationError, zipfile.BadZipFile) as exc:
        raise _fault(path, "is not a backup of Gateway's; name a file that `gateway backup` made") from exc
    if migrations.unreleased(migrations.migrations(), manifest.migrations):
        raise _fault(
            path,
            "was made by an unreleased version, from before 0.1.0, whose data this one cannot take over; nothing was "
            "restored; begin with a new database",
        )
    try:
        migrations.pending(migrations.migrations(), manifest.migrations)
    except OperatorError as exc:
        raise _fault(
            path,
            f"its schema is not one that this version ({__version__}) knows; it was made by Gateway "
            f"{manifest.gateway}: install that version, or a later one, and restore with it",
        ) from exc
    missing = {table.member for table in manifest.tables} - set(archive.namelist())
    if missing or not manifest.migrations:
        raise _fault(path, "is not complete; use another copy of it")
    return manifest
