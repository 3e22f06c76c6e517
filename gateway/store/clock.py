"""The time by which tokens live and die."""

from datetime import UTC, datetime


class Clock:
    """The system's time, except that it never goes back within a process: what was dead stays dead."""

    def __init__(self) -> None:
        self._latest = datetime.now(UTC)

    def __call__(self) -> datetime:
        self._latest = max(self._latest, datetime.now(UTC))
        return self._latest
