"""The databases that nonces are spread over, as an operator deals with them: whether those that the configuration names
are those of the layouts (`gateway.guard.spread`), and how a changed list is put in force.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import pairwise
from time import time
from typing import Final

import asyncpg

from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from gateway.store import queries
from gateway.store.database import Database, Server, cannot_reach, connect
from gateway.store.migrations import require_current, require_server
from gateway.store.nonces import MAIN, READ_AHEAD, Layout, NonceLayouts
from gateway.store.poolers import require_settings
from gateway.store.privileges import require_privileges

_KEY: Final = "database.nonces"
_OUTAGES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, ValueError)


class Away(OperatorError):
    """A database of nonces that gives no answer."""


@dataclass(slots=True)
class Spreading:
    """How a list fits: what is wrong with it, which of its databases are away, and what is so for a while only."""

    faults: list[OperatorError] = field(default_factory=list)
    away: list[Away] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)


async def look(dsn: str, nonces: Sequence[str]) -> Spreading:
    """Hold a list of databases against the layouts in the main one, at `dsn`. Raises OperatorError where that gives no
    answer."""
    found, names = Spreading(), list[str]()
    for number, other in enumerate(nonces):
        try:
            with about(number):
                names.append(await _name(other))
                await require_privileges(other)
        except Away as exc:
            found.away.append(exc)
        except OperatorError as exc:
            found.faults.append(exc)
    if not found.faults:
        _require_different(names)
        async with _layouts_of(dsn) as layouts:
            _compare(found, set(names), (await layouts.read()).layouts)
    return found


async def change(dsn: str, nonces: Sequence[str]) -> Layout | None:
    """Put a list of databases in force, which are migrated, in some minutes; None where it is. Raises OperatorError."""
    names = list[str]()
    for number, other in enumerate(nonces):
        with about(number):
            names.append(await _name(other))
    if (own := await _name(dsn)) in names:
        raise OperatorError(f"{_KEY}[{names.index(own)}]: is database.url, where nonces are put anyway; leave it out")
    _require_different(names)
    async with _layouts_of(dsn) as layouts:
        return await layouts.change(names)


def moment(layout: Layout) -> str:
    """The moment that a layout begins at."""
    return f"{datetime.fromtimestamp(layout.from_second, UTC):%Y-%m-%d %H:%M:%S}Z"


@contextmanager
def about(number: int) -> Iterator[None]:
    """Have an error of what is done within name the database of that number in the list, and not the main one."""
    try:
        yield
    except OperatorError as exc:
        text = str(exc).replace("database.url", f"{_KEY}[{number}]")
        raise type(exc)(text, statements=exc.statements) from exc


def _require_different(names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise OperatorError(
                f"{_KEY}: two of them are one database, or one is a copy of the other; leave one out, or give the "
                "copy a name of its own",
                statements=("UPDATE nonce_database SET name = gen_random_uuid();",),
            )


def _compare(found: Spreading, names: set[str], layouts: Sequence[Layout]) -> None:
    """Note what is wrong with databases of these names, beside those that are away."""
    newest, since = layouts[-1], int(time()) - READ_AHEAD
    ending = [(before, after) for before, after in pairwise(layouts) if after.from_second > since]
    if names - set(newest.databases).union(*(before.databases for before, _ in ending)):
        found.faults.append(
            OperatorError(f"{_KEY}: one of them is new, and no nonces are put there yet; run `gateway migrate`")
        )
    if len(set(newest.databases) - {MAIN} - names) > len(found.away):
        found.faults.append(
            OperatorError(
                f"{_KEY}: nonces are spread over {len(newest.databases) - 1} further databases, of which not all are "
                "named here; name all of them, or run `gateway migrate` for the list as it is"
            )
        )
    found.advice.extend(
        f"{_KEY}: until {moment(after)} nonces are put into a database that is not named here; calls whose nonces "
        "belong there get 503 until then; name it for so long"
        for before, after in ending
        if len(set(before.databases) - {MAIN} - names) > len(found.away)
    )


async def _name(dsn: str) -> str:
    """The name of a database that is as this release needs it. Raises OperatorError; Away where it gives no answer."""
    try:
        connection = await connect(dsn, "gateway-supervisor")
        try:
            require_server(connection)
            await require_current(connection)
            await require_settings(connection)
            async with connection.transaction():
                name: str = await connection.fetchval(queries.load()["nonce_database_name"].sql)
        finally:
            connection.terminate()
    except asyncpg.InsufficientPrivilegeError as exc:
        await require_privileges(dsn)
        raise cannot_reach(dsn, exc) from exc
    except _OUTAGES as exc:
        raise Away(str(cannot_reach(dsn, exc))) from exc
    return name


@asynccontextmanager
async def _layouts_of(dsn: str) -> AsyncIterator[NonceLayouts]:
    database = Database(partial(Server(dsn).connect, "gateway-supervisor"), 1)
    try:
        yield NonceLayouts(database)
    except StoreUnavailable as exc:
        raise cannot_reach(dsn, exc.__cause__ or exc) from exc
    except asyncpg.UndefinedTableError as exc:
        raise OperatorError("database.url: the database is not migrated; run `gateway migrate`") from exc
    finally:
        await database.close()
