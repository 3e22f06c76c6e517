"""The number of connections to the database that the processes hold at most, and that an embedded one allows.

    worker access           a pool, the lookup of many tokens, another for spending nonces, the change log
    worker authorization    a pool
    others                  the supervisor, commands under way, what Postgres keeps for superusers, a backup

While a configuration is taken over, as many workers start again before the former ones have ended; and a third time
where these still finish what is in flight when it changes once more.
"""

from typing import Final

from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.store.access_tokens import LANES
from gateway.store.nonces import MOST as _NONCES

GENERATIONS: Final = 3  # of workers, at a time
ACCESS_POOL: Final = 4  # for what is seldom asked
AUTHORIZATION_POOL: Final = 10
_ACCESS: Final = ACCESS_POOL + LANES + _NONCES + 1
_OTHERS: Final = 40
_FEWEST: Final = 200  # so that a few more workers need no restart
_WORKERS_EACH: Final = 4  # access workers that one of the authorization plane is enough for


def authorization_workers(settings: Settings, workers: int) -> int:
    """The number of workers of the authorization plane beside so many of the access plane."""
    return settings.config.server.authorization_workers or -(-workers // _WORKERS_EACH)


def needed(settings: Settings, workers: int) -> int:
    """The most connections that one generation of workers holds; `workers` are those of the access plane."""
    return workers * _ACCESS + authorization_workers(settings, workers) * AUTHORIZATION_POOL


def max_connections(settings: Settings, workers: int) -> int:
    """The number of connections that an embedded database is started for, whose first generation is this one."""
    return max(_FEWEST, GENERATIONS * needed(settings, workers) + _OTHERS)


def room_in(started_for: int) -> int:
    """The connections left for workers by a database that was started for so many."""
    return started_for - _OTHERS


def require_room(settings: Settings, workers: int, started_for: int) -> None:
    """Pass if so many workers fit twice, as the next reload will want. Raises OperatorError."""
    room = room_in(started_for)
    if 2 * needed(settings, workers) <= room:
        return
    most = max((count for count in range(1, workers) if 2 * needed(settings, count) <= room), default=0)
    mend = f"restart, or ask for at most {most}" if most else "restart"
    raise OperatorError(
        f"server.workers: {workers} (with {authorization_workers(settings, workers)} for authorization) may hold "
        f"{needed(settings, workers)} connections, twice while a reload is under way, and the embedded database was "
        f"started for {started_for}; {mend}"
    )
