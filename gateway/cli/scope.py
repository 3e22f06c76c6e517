"""`gateway scope`: define what a token may be good for (RFC 6749, section 3.3)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import click

from gateway.cli.common import done, in_store, note, show, show_all, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Description, ScopeName
from gateway.faults import OperatorError
from gateway.model import OFFLINE_ACCESS, Scope
from gateway.oauth import openid
from gateway.store import Conflict, Store

_MOST: Final = 10
_TAKE_AWAY: Final = "if it is defined again, they can have it; `gateway client update ID --scope …` takes it from them"
_CLOSED: Final = "no token opens them until it is defined again, or their scopes are changed"


@click.group(cls=Noun, epilog="Example: gateway scope list")
def command() -> None:
    """Define what a token may be good for."""


@command.command(epilog="Example: gateway scope create notes:read --description 'Read your notes'")
@click.argument("name")
@click.option("--description", required=True, metavar="TEXT", help="What the consent page says, in plain words.")
@with_config
@with_json
def create(name: str, description: str, path: Path, as_json: bool) -> None:
    """Define a scope."""
    value("NAME", name, ScopeName)
    value("--description", description, Description)

    async def act(store: Store, settings: Settings) -> Scope:
        if name in openid.SCOPES:
            raise OperatorError(f"scope {name!r}: is always there; its words may be changed under [scopes]")
        if name in settings.config.scopes:
            raise OperatorError(
                f"scope {name!r}: is already defined under [scopes] in {settings.path}; change it there"
            )
        try:
            return await store.scopes.create(name, description)
        except Conflict as exc:
            raise OperatorError(f"scope {name!r}: is already defined; `gateway scope list` shows all") from exc

    made = in_store(path, act)
    show({"name": made.name, "description": made.description}, as_json=as_json)


@command.command("list", epilog="Example: gateway scope list")
@with_config
@with_json
def list_(path: Path, as_json: bool) -> None:
    """List all scopes, those of the configuration too."""

    async def act(store: Store, settings: Settings) -> list[dict[str, str]]:
        known = await store.scopes.defined(settings.config.scopes)
        place = dict.fromkeys(openid.SCOPES, "OpenID Connect") | dict.fromkeys(
            (scope.name for scope in await store.scopes.all()), "database"
        )
        place |= dict.fromkeys(settings.config.scopes, "configuration")
        return [{"name": name, "description": known[name], "defined_in": place[name]} for name in sorted(known)]

    show_all(in_store(path, act), ("name", "description", "defined_in"), as_json=as_json)


@command.command(epilog="Example: gateway scope delete notes:read")
@click.argument("name")
@with_config
@with_json
def delete(name: str, path: Path, as_json: bool) -> None:
    """Offer a scope no longer, take it out of what people allowed, and end every token that carries it.

    One that is offered by the configuration is removed there; this ends what was issued with it afterwards.
    """

    async def act(store: Store, settings: Settings) -> list[str]:
        if name == OFFLINE_ACCESS:
            raise OperatorError(
                f"scope {name!r}: is always there; a client without the grant type refresh_token cannot have it"
            )
        if name in openid.SCOPES:
            raise OperatorError(
                f"scope {name!r}: is always there; `gateway client update ID --scope …` says what a client may ask for"
            )
        deleted = await store.scopes.delete(name)
        if name in settings.config.scopes:
            if deleted:  # the configuration goes on to offer it
                return []
            raise OperatorError(f"scope {name!r}: is defined under [scopes] in {settings.path}; remove it there")
        ended = await store.scopes.end(name)
        if not (deleted or ended):
            raise OperatorError(f"no scope {name!r}; `gateway scope list` shows all")
        clients = [f"{one.client_id} ({one.name})" for one in await store.clients.all() if name in one.scopes]
        routes = [f"route {route.name}" for route in settings.config.routes if name in route.all_scopes]
        return [
            *_still(clients, "clients may still ask for it", _TAKE_AWAY),
            *_still(routes, "still asked for", _CLOSED),
        ]

    for line in in_store(path, act):
        note(line)
    done({"name": name, "deleted": True}, f"scope {name} deleted", as_json=as_json)


def _still(holders: Sequence[str], what: str, mend: str) -> Iterator[str]:
    """The line on those whose definition still names a scope that has gone, if there are any."""
    if holders:
        more = f" and {len(holders) - _MOST} more" if len(holders) > _MOST else ""
        yield f"{what}: {', '.join(holders[:_MOST])}{more}; {mend}"
