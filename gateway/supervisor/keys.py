"""The file of the master keys: made on the first start of an embedded database, and written anew step by step while the
keys are rotated (`gateway key rotate`).
"""

import fcntl
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gateway import config
from gateway.config import Settings
from gateway.config.key_file import KeyFile
from gateway.crypto import new_master_key
from gateway.faults import OperatorError
from gateway.supervisor.cluster import make_data_dir
from gateway.supervisor.programs import find_binaries
from gateway.supervisor.users import SystemUser, make_folder, system_user_for


def with_master_key(settings: Settings) -> Settings:
    """`settings` with a keyring: where an embedded database has no master key yet, one is made in its file (0600).

    It is made before the database (once it is known that there can be one), so that no crash leaves data without its
    key; and by link, so that of two that start at once both use the same one. Raises OperatorError.
    """
    path = settings.master_key_file
    if settings.keyring is not None or path is None:
        return settings
    find_binaries()
    user = system_user_for(settings.data_dir, settings.config.server.user)
    make_data_dir(settings.data_dir, user)
    try:
        make_folder(path.parent, user)
        _make(path, user)
    except OSError as exc:
        raise OperatorError(
            f"keys.master: {path} cannot be written ({exc.strerror}); make its folder writable or name another file"
        ) from exc
    return config.resolve(settings.config, settings.path)


def _make(path: Path, user: SystemUser) -> None:
    file, draft = tempfile.mkstemp(prefix=".master-", dir=path.parent)  # 0600 from the start
    try:
        with os.fdopen(file, "w") as out:
            out.write(new_master_key() + "\n")
            out.flush()
            os.fchown(out.fileno(), user.uid, user.gid)  # root may be the caller, and that user start it next time
            os.fsync(out.fileno())
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        Path(draft).unlink()
    _sync_folder(path.parent)


class MasterKeyFile:
    """The file of the master keys, for who has locked it. Every state of it is whole, whenever a writer is killed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> KeyFile:
        """What stands there. Raises OperatorError."""
        try:
            return KeyFile.parse(self._path.read_text("utf-8-sig"))
        except (OSError, ValueError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else exc
            raise OperatorError(f"keys.master: {self._path} cannot be read ({reason})") from exc

    def write(self, keys: KeyFile) -> None:
        """Put other keys in their place, for the same users as before. Raises OperatorError."""
        draft = None
        try:
            known = self._path.stat()
            file, draft = tempfile.mkstemp(prefix=".master-", dir=self._path.parent)
            with os.fdopen(file, "w") as out:
                out.write(keys.render())
                out.flush()
                os.fchown(out.fileno(), known.st_uid, known.st_gid)
                os.fchmod(out.fileno(), stat.S_IMODE(known.st_mode))
                os.fsync(out.fileno())
            Path(draft).replace(self._path)
            _sync_folder(self._path.parent)
        except OSError as exc:
            if draft is not None:
                with suppress(OSError):
                    Path(draft).unlink()
            raise OperatorError(
                f"keys.master: {self._path} cannot be replaced ({exc.strerror}); its owner or root can, where its "
                "folder is writable; else put a new key in its place by hand, with the old one under keys.previous"
            ) from exc


@contextmanager
def locked(path: Path) -> Iterator[MasterKeyFile]:
    """The file of the master keys, for one command at a time. Raises OperatorError when another one has it."""
    try:
        path = path.resolve(strict=True)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as exc:
        raise OperatorError(f"keys.master: {path} cannot be read ({exc.strerror})") from exc
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield MasterKeyFile(path)
    except BlockingIOError as exc:
        raise OperatorError(f"keys.master: another `gateway key` works on {path}; wait for its end") from exc
    finally:
        os.close(folder)


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
