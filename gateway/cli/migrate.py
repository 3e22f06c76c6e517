"""`gateway migrate`: bring a database to this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import click

from gateway import config
from gateway.cli.session import show, show_all, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import Settings
from gateway.store import migrations
from gateway.supervisor import embedded
from gateway.supervisor.keys import with_master_key


@click.command(cls=Verb, epilog="Example: gateway migrate --status")
@click.option("--status", is_flag=True, help="Only show what is applied and what is missing.")
@with_config
@with_json
def command(status: bool, path: Path, as_json: bool) -> None:
    """Apply the migrations that a database is missing; an embedded one does that by itself."""
    settings = config.load(path)

    async def act() -> tuple[list[str], list[tuple[str, datetime | None]]]:
        async with _dsn(settings) as dsn:
            if status:
                return [], await migrations.status(dsn)
            return await migrations.migrate(dsn), []

    applied, all_of_them = asyncio.run(act())
    if status:
        rows = [{"name": name, "applied_at": applied_at} for name, applied_at in all_of_them]
        show_all(rows, ("name", "applied_at"), as_json=as_json)
    elif as_json or applied:
        show({"applied": applied}, as_json=as_json)
    else:
        click.echo("nothing to apply: the database is up to date")


@asynccontextmanager
async def _dsn(settings: Settings) -> AsyncIterator[str]:
    """The database as it is, not yet migrated."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with embedded.running(with_master_key(settings).data_dir) as dsn:
        yield dsn
