"""The master key of an embedded database, made on its first start."""

import os
import tempfile
from pathlib import Path

from gateway import config
from gateway.config import Settings
from gateway.crypto import new_master_key
from gateway.errors import OperatorError
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
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)
