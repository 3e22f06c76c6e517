"""`gateway grant`: what people allow applications."""

from pathlib import Path
from typing import Final

import click

from gateway.cli.common import (
    done,
    held_by,
    in_store,
    require_client,
    show_newest,
    subject_of,
    what_is_held,
    with_config,
    with_json,
)
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.store.database import Row

_COLUMNS: Final = ("grant_id", "user", "client_id", "client_name", "scopes", "created_at", "updated_at", "last_used_at")


@click.group(cls=Noun, epilog="Example: gateway grant list --client c4jzq2mkd7xw5a3b")
def command() -> None:
    """List what people allow applications, and take it back."""


@command.command("list", epilog="Example: gateway grant list --user ada --unused-for 90d")
@click.option("--client", "client_id", metavar="ID", help="To this client.")
@click.option("--scope", metavar="SCOPE", help="That cover this scope.")
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
    """List what people allow applications today, the newest first."""

    async def act(store: Store, _: Settings) -> list[dict[str, object]]:
        held = await what_is_held(store, username, older_than, unused_for, client_id=client_id, scope=scope)
        return [_record(row) for row in await store.holdings.grants(held, limit + 1)]

    show_newest(in_store(path, act), _COLUMNS, limit, as_json=as_json)


@command.command(epilog="Example: gateway grant revoke --user ada --client c4jzq2mkd7xw5a3b")
@click.argument("grant_id", required=False)
@click.option("--user", "username", metavar="U", help="All that this person allows; with --client, that one.")
@click.option("--client", "client_id", metavar="ID", help="All that anybody allows this client.")
@with_config
@with_json
def revoke(grant_id: str | None, username: str | None, client_id: str | None, path: Path, as_json: bool) -> None:
    """Take back what was allowed, with all that was issued from it, at once."""
    if (grant_id is None) == (username is client_id is None):
        mend = "one of them must be given" if grant_id is None else "give the one or the others"
        raise click.UsageError(f"GRANT_ID, --user, --client: {mend}")

    async def act(store: Store, _: Settings) -> int:
        if client_id is not None:
            await require_client(client_id, store)
        subject = await subject_of(username, store)
        count = await store.holdings.revoke_grants(grant_id=grant_id, subject=subject, client_id=client_id)
        if grant_id is not None and not count:
            raise OperatorError(f"no grant {grant_id!r}; `gateway grant list` shows all")
        return count

    count = in_store(path, act)
    done({"revoked": count}, f"{count} revoked", as_json=as_json)


def _record(row: Row) -> dict[str, object]:
    return {
        "grant_id": row["grant_id"],
        "user": row["username"],
        "subject": row["subject"],
        "client_id": row["client_id"],
        "client_name": row["client_name"],
        "scopes": sorted(row["scopes"]),
        "resource": list(row["resource"]),
        "created_at": row["created_at"],
        "updated_at": row["updated_at"],
        "last_used_at": row["last_used_at"],
    }
