"""`gateway migrate`: bring a database to this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from gateway import config
from gateway.cli.session import show, show_all, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import Settings
from gateway.errors import OperatorError
from gateway.store import migrations, privileges
from gateway.supervisor import embedded
from gateway.supervisor.keys import with_master_key


@click.command(cls=Verb, epilog="Example: gateway migrate --status")
@click.option("--status", is_flag=True, help="Only show what is applied and what is missing.")
@with_config
@with_json
def command(status: bool, path: Path, as_json: bool) -> None:
    """Apply the migrations that a database is missing; an embedded one does that by itself.

    It is for the role that owns the tables. With --status, as the role that serves, it also prints the GRANTs that
    this role lacks, and then ends with 1.
    """
    settings = config.load(path)
    if status:
        asyncio.run(_show_status(settings, as_json=as_json))
        return

    async def act() -> list[str]:
        async with _dsn(settings) as dsn:
            return await migrations.migrate(dsn)

    applied = asyncio.run(act())
    if as_json or applied:
        show({"applied": applied}, as_json=as_json)
    else:
        click.echo("nothing to apply: the database is up to date")


async def _show_status(settings: Settings, *, as_json: bool) -> None:
    async with _dsn(settings) as dsn:
        lacking = await privileges.lacking(dsn)
        try:
            found = await migrations.status(dsn)
        except OperatorError as exc:
            raise exc if lacking is None else lacking.fault() from exc
    rows = [{"name": name, "applied_at": applied_at} for name, applied_at in found]
    show_all(rows, ("name", "applied_at"), as_json=as_json)
    if lacking is not None:
        raise lacking.fault()


@asynccontextmanager
async def _dsn(settings: Settings) -> AsyncIterator[str]:
    """The database as it is, not yet migrated."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with embedded.running(with_master_key(settings).data_dir, user=settings.config.server.user) as dsn:
        yield dsn
