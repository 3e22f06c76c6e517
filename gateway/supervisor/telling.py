"""What tells of calls, made or missed before a worker needs it: the access log's file, and the packages of traces."""

import importlib.util
import os
from pathlib import Path

from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.log_sink import STDERR, SYSLOG, open_to_append
from gateway.resources import installing
from gateway.supervisor.programs import unreachable
from gateway.supervisor.users import SystemUser


def make_log(settings: Settings, workers: SystemUser | None) -> None:
    """Make the file of the access log where there is none, as the workers' own. Raises OperatorError if it cannot be
    written."""
    place = settings.config.log.access_file
    if settings.config.log.access == "off" or place == STDERR or place.startswith(SYSLOG):
        return
    path = settings.base / place
    try:
        _make(path, workers)
    except OSError as exc:
        raise OperatorError(
            f'log.access_file = "{place}": {path} cannot be written ({exc.strerror}); '
            'make its folder, let the gateway write there, or name another, or "-" for stderr'
        ) from exc
    if workers is not None and (barred := unreachable(workers, [path])) is not None:
        raise OperatorError(
            f'log.access_file = "{place}": the workers run as {workers.name}, who cannot use {barred}; '
            'let them, or name a file in another folder, such as /var/log/gateway, or "-" for stderr'
        )


def require_traces(settings: Settings) -> None:
    """Raises OperatorError where traces are wanted and their packages are not installed."""
    wanted = settings.config.traces.endpoint is not None
    if wanted and not all(importlib.util.find_spec(name) for name in ("opentelemetry", "google")):
        raise OperatorError(
            f"traces.endpoint: the packages of traces are not installed; {installing('traces')}, or leave the key out"
        )


def _make(path: Path, workers: SystemUser | None) -> None:
    if workers is None:
        os.close(open_to_append(path))
        return
    try:  # what is there is for the workers to open: root follows no link that one of them may have put there
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
    except FileExistsError:
        return
    os.fchown(made, workers.uid, workers.gid)
    os.close(made)
