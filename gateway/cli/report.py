"""`gateway report`: access that nobody needs."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import click

from gateway.cli.common import in_store, note, show_all, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.store import Store
from gateway.store.database import Row

_COLUMNS: Final = ("client_id", "client_name", "scope", "last_used_at", "grants")


@click.group(cls=Noun, epilog="Example: gateway report scopes --unused-for 90d")
def command() -> None:
    """Find access that nobody needs."""


@command.command(epilog="Example: gateway report scopes --unused-for 90d")
@click.option("--unused-for", metavar="DURATION", default="30d", show_default=True, help="How long they were not used.")
@with_config
@with_json
def scopes(unused_for: str, path: Path, as_json: bool) -> None:
    """List the scopes that clients may ask for and have not used for so long, those never used first.

    A scope is used by a call that a route demands it for. Clients that are younger, and disabled ones, are left out.
    `grants` counts the people whose consent covers it. `gateway client update ID --scope …` takes scopes away.
    """
    seconds = float(value("--unused-for", unused_for, Duration))

    async def act(store: Store, _: Settings) -> tuple[datetime, datetime, list[Row]]:
        before = store.now() - timedelta(seconds=seconds)
        since, rows = await store.holdings.scopes_unused(before)
        return before, since, rows

    before, since, rows = in_store(path, act)
    if since > before:
        note(f"uses are written down since {since:%Y-%m-%d %H:%M:%S}Z only; what was used before then looks unused")
    show_all([dict(row.items()) for row in rows], _COLUMNS, as_json=as_json)
