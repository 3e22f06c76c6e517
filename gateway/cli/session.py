"""`gateway session`: browsers that are signed in."""

from pathlib import Path
from typing import Final

import click

from gateway.cli.common import done, held_by, in_store, show_newest, subject_of, what_is_held, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.store import Store
from gateway.store.database import Row

_COLUMNS: Final = ("session_id", "user", "signed_in_at", "expires_at", "last_used_at", "address", "user_agent")


@click.group(cls=Noun, epilog="Example: gateway session list --user ada")
def command() -> None:
    """List browsers that are signed in, and sign them out."""


@command.command("list", epilog="Example: gateway session list --user ada")
@held_by
@with_config
@with_json
def list_(
    *,
    username: str | None,
    older_than: str | None,
    unused_for: str | None,
    limit: int,
    path: Path,
    as_json: bool,
) -> None:
    """List the browsers that are signed in, the newest first."""

    async def act(store: Store, _: Settings) -> list[dict[str, object]]:
        held = await what_is_held(store, username, older_than, unused_for)
        return [_record(row) for row in await store.holdings.sessions(held, limit + 1)]

    show_newest(in_store(path, act), _COLUMNS, limit, as_json=as_json)


@command.command(epilog="Example: gateway session revoke --user ada")
@click.argument("session_id", required=False)
@click.option("--user", "username", metavar="U", help="Every browser of this person.")
@with_config
@with_json
def revoke(session_id: str | None, username: str | None, path: Path, as_json: bool) -> None:
    """Sign out one browser, or all of a person, at once, and of the applications that they signed in to from there.

    What was allowed for while they are away stays: see `gateway grant revoke`.
    """
    if (session_id is None) == (username is None):
        mend = "one of them must be given" if session_id is None else "give one of them, not both"
        raise click.UsageError(f"SESSION_ID, --user: {mend}")

    async def act(store: Store, _: Settings) -> int:
        count = await store.holdings.revoke_sessions(session_id=session_id, subject=await subject_of(username, store))
        if session_id is not None and not count:
            raise OperatorError(f"no session {session_id!r}; `gateway session list` shows all")
        return count

    count = in_store(path, act)
    done({"revoked": count}, f"{count} revoked", as_json=as_json)


def _record(row: Row) -> dict[str, object]:
    return {
        "session_id": row["session_id"],
        "user": row["username"],
        "subject": row["subject"],
        "signed_in_at": row["signed_in_at"],
        "expires_at": row["expires_at"],
        "last_used_at": row["last_used_at"],
        "address": row["address"],
        "user_agent": row["user_agent"],
    }
