"""`gateway token`: the operator's own acts on tokens."""

import re
from datetime import datetime
from pathlib import Path
from typing import Final, cast

import click

from gateway.cli.common import (
    done,
    held_by,
    in_store,
    require_client,
    require_scopes,
    show,
    show_newest,
    standard_input,
    value,
    what_is_held,
    with_config,
    with_json,
)
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.faults import OperatorError
from gateway.model import AccessToken, TokenType
from gateway.store import Store
from gateway.store.database import Row
from gateway.store.records import IssuedTokens

_COLUMNS: Final = ("token", "kind", "user", "client_id", "scopes", "issued_at", "expires_at", "last_used_at")
_DIGITS: Final = 16
_DIGEST: Final = re.compile(r"[0-9A-Fa-f]{8,64}")


@click.group(cls=Noun, epilog="Example: gateway token revoke --user ada")
def command() -> None:
    """Issue, list, inspect and revoke tokens."""


@command.command(epilog="Example: gateway token issue --client c4jzq2mkd7xw5a3b --user ada --scope notes:read --ttl 1h")
@click.option("--client", "client_id", required=True, metavar="ID", help="The client that will use it.")
@click.option(
    "--user", "username", metavar="U", help="The person it acts for; without one, the token is the client's own."
)
@click.option(
    "--scope",
    multiple=True,
    metavar="SCOPE",
    help="What it may be used for; repeatable.  [default: all that the client may ask for]",
)
@click.option("--ttl", metavar="DURATION", help='How long it is valid, such as "1h".  [default: tokens.access_ttl]')
@click.option(
    "--type", "token_type", type=click.Choice(["bearer", "mac"]), help="The token's kind.  [default: the client's]"
)
@with_config
@with_json
def issue(
    *,
    client_id: str,
    username: str | None,
    scope: tuple[str, ...],
    ttl: str | None,
    token_type: TokenType | None,
    path: Path,
    as_json: bool,
) -> None:
    """Issue an access token without anybody's consent, and print it this once."""
    seconds = None if ttl is None else cast("float", value("--ttl", ttl, Duration))

    async def act(store: Store, settings: Settings) -> IssuedTokens:
        client = await require_client(client_id, store)
        scopes = await require_scopes("--scope", scope, store, settings) or client.scopes
        lifetime = settings.config.tokens.access_ttl if seconds is None else seconds
        return await store.tokens.issue(client_id, username, scopes, lifetime, token_type)

    show(in_store(path, act).body(), as_json=as_json)


@command.command("list", epilog="Example: gateway token list --user ada --unused-for 14d")
@click.option("--client", "client_id", metavar="ID", help="Of this client.")
@click.option("--scope", metavar="SCOPE", help="That carry this scope.")
@held_by
@with_config
@with_json
def list_(
    *,
    client_id: str | None,
    scope: str | None,
    username: str | None,
    older_than: str | None,
    unused_for: str | None,
    limit: int,
    path: Path,
    as_json: bool,
) -> None:
    """List the tokens that live, the newest first.

    Tokens are known by the beginning of their digest, which `token revoke --digest` takes. When one was last used is
    known to some five minutes.
    """

    async def act(store: Store, _: Settings) -> list[dict[str, object]]:
        held = await what_is_held(store, username, older_than, unused_for, client_id=client_id, scope=scope)
        return [_listed(row) for row in await store.holdings.tokens(held, limit + 1)]

    show_newest(in_store(path, act), _COLUMNS, limit, as_json=as_json)


@command.command(epilog="Example: gateway token inspect gwa_…")
@click.argument("token")
@with_config
@with_json
def inspect(token: str, path: Path, as_json: bool) -> None:
    """Show what introspection answers about a token (RFC 7662), and what else an operator wants to know: of one that
    is dead, why.

    TOKEN may be `-` to read it from standard input, where no process list shows it.
    """
    token = _given(token)

    async def act(store: Store, _: Settings) -> dict[str, object]:
        answer, explained = await store.tokens.introspect(token, None), await store.tokens.explain(token)
        known = {name: _iso(item) for name, item in explained.known.items()}
        if not answer["active"]:
            return {"active": False, "why": explained.why_dead or "it ended just now", **known}
        access = await store.access_tokens.find(token)
        return {**answer, **known, **({} if access is None else _details(access))}

    answer = in_store(path, act)
    if not as_json:  # issued_at and expires_at say it in words
        answer = {name: item for name, item in answer.items() if name not in ("iat", "exp")}
    show(answer, as_json=as_json)


@command.command(epilog="Example: gateway token revoke --user ada")
@click.argument("token", required=False)
@click.option("--user", "username", metavar="U", help="Every token and code of this person.")
@click.option("--client", "client_id", metavar="ID", help="Every token and code of this client.")
@click.option("--digest", metavar="HEX", help="The token that `token list` shows so.")
@with_config
@with_json
def revoke(
    *,
    token: str | None,
    username: str | None,
    client_id: str | None,
    digest: str | None,
    path: Path,
    as_json: bool,
) -> None:
    """End one token, or all of a person or client, at once. A refresh token takes its family with it.

    TOKEN may be `-` to read it from standard input, where no process list shows it.
    """
    if [token, username, client_id, digest].count(None) != 3:
        none = token is username is client_id is digest is None
        mend = "one of them must be given" if none else "give one of them, not several"
        raise click.UsageError(f"TOKEN, --user, --client, --digest: {mend}")
    if token is not None:
        token = _given(token)

    async def act(store: Store, _: Settings) -> int:
        if username is not None:
            ended = await store.users.revoke_tokens(username)
            fault = f"no user {username!r}; `gateway user list` shows all"
        elif client_id is not None:
            ended = await store.clients.revoke_tokens(client_id)
            fault = f"no client {client_id!r}; `gateway client list` shows all"
        elif digest is not None:
            ended = 1 if await store.tokens.revoke_digest(await _digest(digest, store)) else None
            fault = f"--digest {digest!r}: that token is no longer valid, so nothing was revoked"
        else:
            ended = 1 if await store.tokens.revoke(cast("str", token), None) else None
            fault = "TOKEN: is no longer valid, so nothing was revoked; `gateway token inspect` says why"
        if ended is None:
            raise OperatorError(fault)
        return ended

    count = in_store(path, act)
    done({"revoked": count}, f"{count} revoked", as_json=as_json)


async def _digest(prefix: str, store: Store) -> bytes:
    """The one token's digest that begins so."""
    if _DIGEST.fullmatch(prefix) is None:
        raise OperatorError(
            f"--digest {prefix!r}: must be 8 to 64 hexadecimal digits, as `gateway token list` shows them"
        )
    found = await store.holdings.tokens_beginning(prefix.lower())
    if len(found) != 1:
        which = "several tokens begin so; give more digits" if found else "no token begins so"
        raise OperatorError(f"--digest {prefix!r}: {which}; `gateway token list` shows those that live")
    return found[0]


def _listed(row: Row) -> dict[str, object]:
    """A token as it is listed, by the beginning of its digest."""
    return {
        "token": row["digest"].hex()[:_DIGITS],
        "kind": row["kind"],
        "type": row["token_type"],
        "user": row["username"],
        "subject": row["subject"],
        "client_id": row["client_id"],
        "client_name": row["client_name"],
        "scopes": sorted(row["scopes"]),
        "issued_at": row["issued_at"],
        "expires_at": row["expires_at"],
        "last_used_at": row["last_used_at"],
    }


def _given(token: str) -> str:
    return standard_input("token").strip() if token == "-" else token  # noqa: S105  # no token but the sign for stdin


def _iso(item: object) -> object:
    return f"{item:%Y-%m-%dT%H:%M:%SZ}" if isinstance(item, datetime) else item


def _details(token: AccessToken) -> dict[str, object]:
    if token.token_type == "bearer":  # noqa: S105  # a kind, no token
        return {"kind": "access_token"}
    return {"kind": "access_token", "mac_algorithm": token.mac_algorithm, "mac_drafts": list(token.mac_drafts)}
