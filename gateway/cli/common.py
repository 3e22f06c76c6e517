"""Steps that the commands share: finding the configuration and the store, reading options, and printing.

A command is a click function that reads its options, hands one coroutine to `in_store`, and prints what it gives.
"""

import asyncio
import functools
import json
import os
import pwd
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from gateway import config
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.faults import OperatorError
from gateway.model import Client
from gateway.store import Store
from gateway.store.acting import acting
from gateway.store.migrations import migrate
from gateway.store.uses import HoldingsFilter
from gateway.supervisor import embedded
from gateway.supervisor.keys import with_master_key

T = TypeVar("T")
Command = Callable[..., None]

_POOL = 2


def with_config(command: Command) -> Command:
    """Add `--config FILE`, as the parameter `path`."""
    option = click.option(
        "--config",
        "path",
        type=click.Path(path_type=Path, readable=False),  # what keeps it from being read is told by who reads it
        envvar="GATEWAY_CONFIG",
        default=Path("config.toml"),
        help="The configuration file.  [default: $GATEWAY_CONFIG, else ./config.toml]",
    )

    @functools.wraps(command)
    def checked(**given: object) -> None:
        _require_text(given)
        command(**given)

    return option(checked)


def takes_config(command: Command) -> Command:
    """Add `--config FILE` to a command that needs none, so that all can be called alike."""
    option = click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),
        expose_value=False,
        help="For all commands; this one reads none.",
    )
    return option(command)


def _require_text(given: Mapping[str, object]) -> None:
    """Refuse what no database can store, wherever it stands: bytes that are no UTF-8 come as lone surrogates."""
    for name, item in given.items():
        for text in item if isinstance(item, tuple) else (item,):
            if isinstance(text, str) and not _is_unicode(text):
                raise OperatorError(f"{name} {text!r}: is not UTF-8 text; check the terminal's locale")


def _is_unicode(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= mark <= "\udfff" for mark in text)


def with_json(command: Command) -> Command:
    """Add `--json`, as the parameter `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


# -- the store -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def database(settings: Settings) -> AsyncIterator[tuple[Settings, str]]:
    """The settings with their keyring, and the DSN: of the external database, or of the embedded one, migrated."""
    if settings.database_url is not None:
        yield settings, settings.database_url
        return
    settings = with_master_key(settings)
    async with embedded.running(settings.data_dir, user=settings.config.server.user) as dsn:
        await migrate(dsn)
        yield settings, dsn


@asynccontextmanager
async def database_as_it_is(settings: Settings) -> AsyncIterator[str]:
    """The DSN of the database, not migrated; of an embedded one that is there. Raises OperatorError."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    user = settings.config.server.user
    if not embedded.is_there(settings.data_dir, user):
        raise OperatorError(
            f"database.data_dir = {str(settings.data_dir)!r}: there is no database in it; name its folder, or set "
            "database.url"
        )
    async with embedded.running(settings.data_dir, user=user) as dsn:
        yield dsn


def in_store(path: Path, act: Callable[[Store, Settings], Awaitable[T]]) -> T:
    """The result of `act` with the store of the configuration at `path`. Raises OperatorError and StoreUnavailable."""

    async def run() -> T:
        async with database(config.load(path)) as (settings, dsn):
            assert settings.keyring is not None  # noqa: S101  # made by `database` or demanded by `load`
            store = await Store.open(
                dsn,
                settings.keyring,
                size=_POOL,
                name="gateway-command",
                tokens=settings.config.tokens,
                issuer=settings.config.server.issuer,
            )
            try:
                with acting(actor=operator()):
                    return await act(store, settings)
            finally:
                await store.close()

    return asyncio.run(run())


def operator() -> str:
    """Who gives this command, as the record of events names them."""
    try:
        login = os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        login = str(os.getuid())
    return f"operator:{login}@{socket.gethostname()}"


async def require_scopes(option: str, names: Iterable[str], store: Store, settings: Settings) -> frozenset[str]:
    """The scopes that were asked for. Raises OperatorError when nobody defined one of them."""
    known, asked = await store.scopes.defined(settings.config.scopes), frozenset(names)
    for name in sorted(asked - known.keys()):
        there = ", ".join(sorted(known)) or "none"
        raise OperatorError(
            f"{option}: there is no scope {name!r}; define it with `gateway scope create` or under [scopes] "
            f"(defined: {there})"
        )
    return asked


# -- input ---------------------------------------------------------------------------------------------------


def value(option: str, text: str, kind: Any) -> Any:
    """An option's text read as the configuration's `kind` of value. Raises OperatorError."""
    try:
        return TypeAdapter(kind).validate_python(text)
    except ValidationError as exc:
        said = str(exc.errors()[0]["msg"]).removeprefix("Value error, ")
        raise OperatorError(f"{option}: {said}, not {text!r}") from exc


def standard_input(prompt: str) -> str:
    """A secret from standard input without its line end, asked for when a person sits there."""
    if sys.stdin.isatty():
        return str(click.prompt(prompt, hide_input=True, err=True))
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as exc:
        raise OperatorError(f"{prompt}: standard input is not UTF-8") from exc
    return text.removesuffix("\n").removesuffix("\r")


# -- output --------------------------------------------------------------------------------------------------


def show(record: Mapping[str, object], *, as_json: bool) -> None:
    """Print one record: an object in JSON, else a line for each member that has a value."""
    if as_json:
        click.echo(as_json_text(record))
        return
    width = max(map(len, record))
    for name, item in record.items():
        if item not in (None, "", [], ()):
            click.echo(f"{name:<{width}}  {_text(item)}")


def show_all(records: Sequence[Mapping[str, object]], columns: Sequence[str], *, as_json: bool) -> None:
    """Print records: an array in JSON, else a table of some columns."""
    if as_json:
        click.echo(as_json_text(records))
        return
    rows = [[name.upper() for name in columns], *([_text(record[name]) for name in columns] for record in records)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(columns))]
    for row in rows if records else ():
        click.echo("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def done(record: Mapping[str, object], sentence: str, *, as_json: bool) -> None:
    """Say that something was done: its record in JSON, else a sentence."""
    click.echo(as_json_text(record) if as_json else _text(sentence))


def note(text: str) -> None:
    """Something worth knowing, on stderr."""
    click.echo(f"gateway: {text}", err=True)


def line(items: Iterable[object]) -> str:
    """One line of a list that goes on, for a terminal."""
    return "  ".join(map(_text, items)).rstrip()


def held_by(command: Command) -> Command:
    """Add the options that narrow a list of what people and clients have."""
    options = (
        click.option("--user", "username", metavar="U", help="Of this person."),
        click.option("--older-than", metavar="DURATION", help='Older than, such as "30d".'),
        click.option("--unused-for", metavar="DURATION", help='Last used before, or never and older, such as "14d".'),
        click.option(
            "--limit", type=click.IntRange(min=1), default=1000, show_default=True, help="The newest, so many."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


async def what_is_held(
    store: Store,
    username: str | None,
    older_than: str | None,
    unused_for: str | None,
    *,
    client_id: str | None = None,
    scope: str | None = None,
) -> HoldingsFilter:
    """What the options of such a list ask for. Raises OperatorError."""
    if client_id is not None:
        await require_client(client_id, store)
    return HoldingsFilter(
        subject=await subject_of(username, store),
        client_id=client_id,
        scope=scope,
        issued_before=_ago("--older-than", older_than, store.now()),
        unused_since=_ago("--unused-for", unused_for, store.now()),
    )


def _ago(option: str, text: str | None, now: datetime) -> datetime | None:
    """The moment that was so long ago; None where no option says so. Raises OperatorError."""
    return None if text is None else now - timedelta(seconds=float(value(option, text, Duration)))


async def subject_of(username: str | None, store: Store) -> str | None:
    """The subject of a person who was asked for. Raises OperatorError where there is none."""
    found = None if username is None else await store.users.find(username)
    if username is not None and found is None:
        raise OperatorError(f"--user: no user {username!r}; `gateway user list` shows all")
    return None if found is None else found.subject


async def require_client(client_id: str, store: Store) -> Client:
    """The client that was asked for. Raises OperatorError where there is none."""
    found = await store.clients.find(client_id)
    if found is None:
        raise OperatorError(f"--client: no client {client_id!r}; `gateway client list` shows all")
    return found


def show_newest(records: Sequence[Mapping[str, object]], columns: Sequence[str], limit: int, *, as_json: bool) -> None:
    """Print the newest of some records, of which one more than `limit` was asked for."""
    if len(records) > limit:
        note(f"there are more than {limit}, of which the newest are shown; --limit shows more")
    show_all(records[:limit], columns, as_json=as_json)


def as_json_text(content: object) -> str:
    """JSON in printable ASCII, whatever strangers put into it."""
    return json.dumps(content, default=_plain).replace("\x7f", "\\u007f")


def _plain(item: object) -> str:
    if isinstance(item, datetime):
        return item.isoformat(timespec="seconds")
    raise TypeError(f"no JSON for {type(item).__name__}")


def _text(item: object) -> str:
    """For a terminal: nothing that it would act on, and every item on its line."""
    if isinstance(item, datetime):
        return item.strftime("%Y-%m-%d %H:%M:%SZ")
    if isinstance(item, bool):
        return "yes" if item else "no"
    if isinstance(item, list | tuple):
        return " ".join(map(_text, item))
    return printable("" if item is None else str(item))


def printable(text: str) -> str:
    """A text that a terminal shows and does not act on."""
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in text)
