"""Outages: why a database gave no usable answer, and what the operator can do about it."""

import os
import socket
from typing import Final, NamedTuple

import asyncpg

_GRANTS: Final = "once the role may CONNECT, `gateway migrate --status` prints the missing GRANTs"
_START: Final = "start the database, or correct host and port"

# What no answer, or none of use, looks like. Everything else that asyncpg raises is a fault of ours.
_UNAVAILABLE: Final = (
    OSError,  # TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutdown, start-up, cancelled by a timeout
    asyncpg.InsufficientResourcesError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.TransactionRollbackError,  # deadlock, serialisation
    asyncpg.ObjectNotInPrerequisiteStateError,  # a lock was not had in time
    asyncpg.ReadOnlySQLTransactionError,  # demoted to a standby
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InternalClientError,
    asyncpg.FatalPostgresError,
)

# The first that fits.
_MENDS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (asyncpg.InvalidPasswordError, "correct the password in database.url, or give the role that one (ALTER ROLE)"),
    (asyncpg.InvalidAuthorizationSpecificationError, "create the role, or allow it in from here in pg_hba.conf"),
    (asyncpg.InvalidCatalogNameError, "create it (CREATE DATABASE …) and run `gateway migrate`, or name another"),
    (asyncpg.InsufficientPrivilegeError, _GRANTS),
    (asyncpg.DiskFullError, "make room on the database's disk"),
    (asyncpg.TooManyConnectionsError, "raise the server's max_connections, or use fewer workers"),
    (asyncpg.CannotConnectNowError, "it is starting or stopping; try again in a moment"),
    (asyncpg.ReadOnlySQLTransactionError, "name the primary: a standby takes no writes"),
    (asyncpg.InternalClientError, "name the primary: no server there can take writes"),
    (socket.gaierror, "correct the host's name, or make sure that this machine can resolve it"),
    (TimeoutError, "check that the server is running, and that no firewall on the way drops packets to it"),
    (ConnectionRefusedError, _START),
    (FileNotFoundError, "start the database, or correct the folder of its socket"),
    (PermissionError, "run this as a user who may use the server's socket"),
    (OSError, _START),
)


class Outage(NamedTuple):
    """The reason in one phrase, and the mend."""

    reason: str
    mend: str


def is_outage(exc: BaseException) -> bool:
    """Whether an exception means that the database gave no usable answer."""
    if isinstance(exc, asyncpg.InterfaceError):
        return not isinstance(exc, ValueError)  # those are arguments that do not fit
    return isinstance(exc, _UNAVAILABLE)


def _system_words(exc: OSError) -> str:
    """asyncio's own words name a call and an address that the operator knows already; a resolver's are its own."""
    if exc.errno is None or isinstance(exc, socket.gaierror):
        return exc.strerror or "the connection failed"
    return os.strerror(exc.errno)


def outage_of(exc: BaseException) -> Outage:
    """The outage that an exception means, in the database's own words where it said any."""
    mend = next((mend for kind, mend in _MENDS if isinstance(exc, kind)), "start the database, or name another")
    if isinstance(exc, TimeoutError):
        reason = "no answer in time"
    elif isinstance(exc, OSError):
        reason = _system_words(exc)
    elif isinstance(exc, asyncpg.PostgresError):
        reason = str(exc.args[0]) if exc.args else type(exc).__name__
    elif isinstance(exc, asyncpg.InternalClientError):
        reason = "no server there can take writes"
    else:
        reason = f"the connection ended ({type(exc).__name__})"
    return Outage(reason, mend)
