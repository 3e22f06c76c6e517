"""What a changed configuration may change while the gateway serves: all but where it listens and where its data is."""

from gateway.config import Settings
from gateway.errors import OperatorError


def require_reloadable(now: Settings, wanted: Settings) -> None:
    """Raises OperatorError with a line for each key that only a restart can change."""
    pairs = {
        "server.listen": (now.config.server.listen, wanted.config.server.listen),
        "admin.listen": (now.config.admin.listen, wanted.config.admin.listen),
        "database.data_dir": (str(now.data_dir), str(wanted.data_dir)),
    }
    faults = [
        f'{key}: only a restart can change it; restart, or write "{before}" again'
        for key, (before, after) in pairs.items()
        if before != after
    ]
    if now.database_url != wanted.database_url:  # may hold a password
        faults.append("database.url: only a restart can change it; restart, or write the old one again")
    if wanted.keyring is None:
        faults.append(
            f"keys.master: the file {wanted.master_key_file} is gone; put it back, the data is sealed with it"
        )
    if faults:
        raise OperatorError("\n".join(faults))
