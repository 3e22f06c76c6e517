"""`gateway events`: what happened, and whether the record of it is whole."""

import asyncio
import re
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import click

from gateway.cli.common import (
    as_json_text,
    done,
    in_store,
    line,
    note,
    require_client,
    show,
    show_all,
    value,
    with_config,
    with_json,
)
from gateway.cli.usage import Noun, WrongUsage
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from gateway.spelling import near
from gateway.store import Store
from gateway.store.chain import BrokenChain, Proven
from gateway.store.events import KINDS, Event, Wanted

_COLUMNS: Final = ("time", "kind", "who", "user", "client", "address", "request_id", "detail")
_LIMIT: Final = 1000
_POLL: Final = 0.5  # seconds
_WINDOW: Final = 2000  # numbers in which a later event may still turn up: they are not in the order of the commits
_SUBJECT: Final = re.compile(r"u[a-z2-7]{16}")
_CLIENT_ID: Final = re.compile(r"c[a-z2-7]{16}")
_ANCHOR: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{16})")
_FAMILIES: Final = sorted({kind.partition(".")[0] for kind in KINDS})


@click.group(cls=Noun, invoke_without_command=True, epilog="Example: gateway events --user ada --kind token --since 2h")
@click.option("--user", "username", metavar="U", help="What concerns this person: a username, or the subject.")
@click.option("--client", "client_id", metavar="ID", help="What concerns this client.")
@click.option("--kind", metavar="KIND", help='Such as "token.revoked", or "token" for all that begins so.')
@click.option("--since", metavar="DURATION", help='How far back, such as "2h".  [default: as far as there is any]')
@click.option(
    "--limit", type=click.IntRange(min=1), default=_LIMIT, show_default=True, help="The newest of them, so many."
)
@click.option("--follow", is_flag=True, help="Go on with what happens from now on, until Ctrl-C.")
@with_config
@with_json
@click.pass_context
def command(
    ctx: click.Context,
    *,
    username: str | None,
    client_id: str | None,
    kind: str | None,
    since: str | None,
    limit: int,
    follow: bool,
    path: Path,
    as_json: bool,
) -> None:
    """Show what happened: sign-ins, consents, tokens, revocations, reuse, and what operators did.

    The oldest comes first. With --follow, --json prints an object a line.
    """
    if ctx.invoked_subcommand is not None:
        return
    seconds = None if since is None else float(value("--since", since, Duration))
    wanted_kind = None if kind is None else _kind(kind)

    async def act(store: Store, _: Settings) -> None:
        wanted = Wanted(
            subject=None if username is None else await _subject(username, store),
            client_id=None if client_id is None else await _client(client_id, store),
            kind=wanted_kind,
        )
        begin = None if seconds is None else store.now() - timedelta(seconds=seconds)
        number = await store.events.newest()
        found = await _newest(store, number, wanted, begin, limit)
        if follow:
            _print(found, as_json=as_json)
            await _follow(store, number, wanted, as_json=as_json)
        else:
            show_all([record(event) if as_json else _row(event) for event in found], _COLUMNS, as_json=as_json)

    with suppress(KeyboardInterrupt):
        in_store(path, act)


@command.command(epilog="Example: gateway events verify --anchor 1845:9f86d081884c7d65")
@click.option(
    "--anchor", metavar="N:LINK", help="What an earlier verification printed, or the log: it must still hold."
)
@with_config
@with_json
def verify(anchor: str | None, path: Path, as_json: bool) -> None:
    """Prove that no event was altered, removed or put in, or name the first one.

    Keep the anchor that it prints where nobody who writes to the database can: with --anchor it proves later that the
    record goes on from there, and that the database was not put back as a whole.
    """
    if anchor is not None and (found := _ANCHOR.fullmatch(anchor)) is None:
        raise OperatorError(f"--anchor {anchor!r}: is not such as 1845:9f86d081884c7d65")
    known = None if anchor is None or found is None else (int(found[1]), found[2])
    proven = in_store(path, lambda store, _: store.chain.verify(known))
    if proven.faults:
        _refuse(proven, as_json=as_json)
    shown = {"events": proven.events, "waiting": proven.waiting, "anchor": proven.anchor}
    if as_json:
        show({"whole": True, **shown, "faults": []}, as_json=True)
    else:
        show({"whole": "yes", **shown}, as_json=False)


def _refuse(proven: Proven, *, as_json: bool) -> None:
    """Say what is wrong with the record, and end with 1."""
    if as_json:
        faults = [
            {"fault": one.fault, "number": one.seq, "event_id": one.event_id, "text": one.text} for one in proven.faults
        ]
        click.echo(as_json_text({"whole": False, "events": proven.events, "waiting": proven.waiting, "faults": faults}))
        raise SystemExit(1)
    raise OperatorError("\n".join(line([f"events: {fault.text}"]) for fault in proven.faults))


@command.command("begin-anew", epilog="Example: gateway events begin-anew")
@with_config
@with_json
def begin_anew(path: Path, as_json: bool) -> None:
    """Begin another chain, when you know what is wrong with this one.

    What was written before is kept as long as events are, and is not proven any more.
    """

    async def act(store: Store, _: Settings) -> int:
        try:
            return await store.chain.begin_anew()
        except BrokenChain as exc:
            raise OperatorError(f"events: {exc}") from exc

    aside = in_store(path, act)
    done({"begun": True, "set_aside": aside}, "The record is proven from here on.", as_json=as_json)


# -- what is asked for ----------------------------------------------------------------------------------------


def _kind(kind: str) -> str:
    if kind in KINDS or kind in _FAMILIES:
        return kind
    meant = near(kind, [*KINDS, *_FAMILIES])
    mend = f"there are {', '.join(KINDS)}" if meant is None else f"did you mean {meant}?"
    raise WrongUsage(f"--kind {kind!r}: there is no such kind of event; {mend}")


async def _subject(username: str, store: Store) -> str:
    """The subject of a person; somebody who was deleted is asked for by the subject itself."""
    found = await store.users.find(username)
    if found is not None:
        return found.subject
    if _SUBJECT.fullmatch(username):
        return username
    raise OperatorError(f"--user: no user {username!r}; `gateway user list` shows all, or give the subject")


async def _client(client_id: str, store: Store) -> str:
    """The client that was asked for; also one that was deleted."""
    if _CLIENT_ID.fullmatch(client_id) is None:
        await require_client(client_id, store)
    return client_id


async def _newest(store: Store, before: int, wanted: Wanted, since: datetime | None, limit: int) -> list[Event]:
    """The newest of those that are wanted, the oldest of them first."""
    found = list[Event]()
    async for event in store.events.before(before, wanted, since):
        if len(found) == limit:
            note(f"there are more than {limit}, the oldest of which are not shown; --limit shows more")
            break
        found.append(event)
    return found[::-1]


async def _follow(store: Store, begin: int, wanted: Wanted, *, as_json: bool) -> None:
    """Print what is written from now on."""
    last, seen = begin, set[int]()
    while True:
        await asyncio.sleep(_POLL)
        try:
            number = await store.events.newest()
            if number == last:
                continue
            least = max(begin, last - _WINDOW)
            found = [event async for event in store.events.before(number, wanted, least=least)]
        except StoreUnavailable as exc:
            note(f"{exc}; it goes on when it answers again")
            await asyncio.sleep(10 * _POLL)
            continue
        _print((event for event in reversed(found) if event.event_id not in seen), as_json=as_json)
        last, seen = number, {event.event_id for event in found}


# -- how it is shown ------------------------------------------------------------------------------------------


def record(event: Event) -> dict[str, object]:
    """An event in JSON."""
    return {
        "event_id": event.event_id,
        "time": None if event.at is None else event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": event.kind,
        "actor": event.actor,
        "subject": event.subject,
        "username": event.username,
        "client_id": event.client_id,
        "client_name": event.client_name,
        "address": event.address,
        "request_id": event.request_id,
        "detail": event.detail,
    }


def _row(event: Event) -> dict[str, object]:
    """An event in a table."""
    by_themselves = event.username is not None and event.actor == f"user:{event.subject}"
    return {
        "time": event.at,
        "kind": event.kind,
        "who": f"user:{event.username}" if by_themselves else event.actor or "",
        "user": event.username or event.subject,
        "client": event.client_id,
        "address": event.address,
        "request_id": event.request_id,
        "detail": " ".join(
            f"{name}={_short(item)}" for name, item in event.detail.items() if item not in ([], "", None)
        ),
    }


def _short(item: object) -> str:
    if isinstance(item, list):
        return ",".join(map(str, item))
    return str(item).lower() if isinstance(item, bool) else str(item)


def _print(events: Iterable[Event], *, as_json: bool) -> None:
    for event in events:
        if as_json:
            click.echo(as_json_text(record(event)))
        else:
            row = _row(event)
            click.echo(line(row[name] or "-" for name in _COLUMNS))
