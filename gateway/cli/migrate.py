"""`gateway migrate`: bring a database to this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from gateway import config
from gateway.cli.session import operator, show, show_all, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import Settings
from gateway.errors import OperatorError
from gateway.store import migrations, privileges
from gateway.store.acting import acting
from gateway.supervisor import embedded
from gateway.supervisor.keys import with_master_key
from gateway.supervisor.takeover import Takeover, take_over


@click.command(cls=Verb, epilog="Example: gateway migrate --status")
@click.option("--status", is_flag=True, help="Only show what is applied and what is missing.")
@click.option(
    "--programs",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where the PostgreSQL is that made an embedded database, if it is not in its usual place.",
)
@with_config
@with_json
def command(status: bool, programs: Path | None, path: Path, as_json: bool) -> None:
    """Apply the migrations that a database is missing; an embedded one does that by itself.

    An embedded database that another PostgreSQL made is taken over by the one that is installed, and its old folder is
    kept.

    It is for the role that owns the tables. With --status, as the role that serves, it also prints the GRANTs that
    this role lacks, and then ends with 1.
    """
    settings = config.load(path)
    if status:
        asyncio.run(_show_status(settings, as_json=as_json))
        return

    async def act() -> tuple[list[str], Takeover | None]:
        taken = None
        if settings.database_url is None:
            taken = await _taken_over(with_master_key(settings), programs)
        async with _dsn(settings) as dsn:
            return await migrations.migrate(dsn), taken

    applied, taken = asyncio.run(act())
    if taken is not None and not as_json:
        click.echo(
            f"taken over from PostgreSQL {taken.before} by {taken.now}; the old folder is {taken.kept}: remove it when "
            "you have seen that all is there"
        )
    if as_json:
        kept = {} if taken is None else {"taken_over": {"from": taken.before, "to": taken.now, "kept": str(taken.kept)}}
        show({"applied": applied, **kept}, as_json=True)
    elif applied:
        show({"applied": applied}, as_json=False)
    elif taken is None:
        click.echo("nothing to apply: the database is up to date")


async def _taken_over(settings: Settings, programs: Path | None) -> Takeover | None:
    assert settings.keyring is not None  # noqa: S101  # just made, if there was none
    skew, user = settings.config.mac.skew, settings.config.server.user
    with acting(actor=operator()):
        return await take_over(settings.data_dir, user, programs, keyring=settings.keyring, skew=skew)


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
