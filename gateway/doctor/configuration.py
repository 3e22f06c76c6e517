"""The file, the secrets that it names, and who else may read or write them."""

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.barred import name_of
from gateway.config import ConfigError, Settings
from gateway.config.tables import has_password
from gateway.doctor.finding import WARNING, Finding
from gateway.faults import OperatorError
from gateway.supervisor.users import worker_user

_NO_START: Final = "the gateway does not start with it, and one that runs refuses to reload it"
_TAKES_OVER: Final = "whoever can change it decides where calls go and who may make them"


def faults_of(exc: ConfigError) -> Iterator[Finding]:
    """What `gateway check-config` says of the file."""
    for fault in exc.faults:
        where = fault.path if fault.route is None else f"{fault.path} (route {fault.route})"
        yield Finding.of(fault.message, _NO_START, about=where or "configuration")


def findings(settings: Settings) -> Iterator[Finding]:
    """What is wrong with a file that is valid."""
    for warning in settings.warnings:
        yield Finding.of(warning, "it is valid, and seldom meant", level=WARNING)
    for path in dict.fromkeys((settings.path, *_secrets(settings))):
        yield from _writable(path)
    yield from _open_password(settings)
    yield from _idle_keys(settings)
    if settings.config.server.user:
        try:
            worker_user(settings.data_dir, settings.config.server.user)
        except OperatorError as exc:
            yield Finding.of(exc, "the gateway does not start")


def _secrets(settings: Settings) -> Iterator[Path]:
    keys, url = settings.config.keys, settings.config.database.url
    for reference in (keys.master, *keys.previous, *(() if isinstance(url, str) else (url,))):
        if reference.file is not None:
            yield reference.path(settings.base)


def _writable(path: Path) -> Iterator[Finding]:
    """The file, or a folder that it lies in, that more than its owner and root may write to."""
    about = "configuration" if path.suffix == ".toml" else "keys"
    for place in (path, *path.absolute().parents):
        try:
            known = place.stat()
        except OSError:
            continue
        sticky = stat.S_ISDIR(known.st_mode) and known.st_mode & stat.S_ISVTX
        others = known.st_mode & stat.S_IWOTH or (known.st_mode & stat.S_IWGRP and known.st_gid != 0)
        if others and not sticky:
            mode = stat.S_IMODE(known.st_mode)
            what = f"{place} (mode {mode:04o}, of {name_of(known.st_uid)}) can be written by others than its owner"
            yield Finding(about, what, _TAKES_OVER, f"chmod go-w {place}")


def _open_password(settings: Settings) -> Iterator[Finding]:
    mode = stat.S_IMODE(settings.path.stat().st_mode)
    for key, url in settings.config.database.addresses.items():
        if not (mode & stat.S_IROTH and has_password(url)):
            continue
        yield Finding(
            f"database.{key}",
            f"the password stands in {settings.path}, which everybody on this machine may read (mode {mode:04o})",
            "whoever has it can read and change all that the gateway knows",
            f'chmod o-r {settings.path}, and better name a place for the address: {{ file = "…" }} or {{ env = "…" }}',
        )


def _idle_keys(settings: Settings) -> Iterator[Finding]:
    previous = settings.config.keys.previous
    if settings.keyring is not None and len(settings.keyring.key_ids) <= len(previous):
        yield Finding(
            "keys.previous",
            "a key is listed twice, or is keys.master itself",
            "the key that was meant to be kept is missing, and what was sealed with it cannot be read",
            "list the keys from before, each once",
            WARNING,
        )
