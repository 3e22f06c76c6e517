"""`gateway migrate`: bring a database to this release's schema."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click

from gateway import config
from gateway.cli.common import operator, show, show_all, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import Settings
from gateway.faults import OperatorError
from gateway.store import migrations, privileges, spreading
from gateway.store.acting import acting
from gateway.store.nonces import Layout
from gateway.store.spreading import moment
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
    """Apply the migrations that a database is missing, and those of database.nonces; an embedded one does that by
    itself. A changed list of database.nonces counts 20 minutes later.

    An embedded database that another PostgreSQL made is taken over by the one that is installed, and its old folder is
    kept.

    It is for the role that owns the tables. With --status, as the role that serves, it also prints the GRANTs that
    this role lacks, and then ends with 1.
    """
    settings = config.load(path)
    if status:
        asyncio.run(_show_status(settings, as_json=as_json))
        return

    async def act() -> tuple[list[str], Takeover | None, dict[str, list[str]], Layout | None]:
        taken, further = None, dict[str, list[str]]()
        if settings.database_url is None:
            taken = await _taken_over(with_master_key(settings), programs)
        async with _dsn(settings) as dsn:
            applied = await migrations.migrate(dsn)
            for number, other in enumerate(settings.nonces):
                with spreading.about(number):
                    further[f"database.nonces[{number}]"] = await migrations.migrate(other)
            return applied, taken, further, await spreading.change(dsn, settings.nonces)

    applied, taken, further, layout = asyncio.run(act())
    if taken is not None and not as_json:
        click.echo(
            f"taken over from PostgreSQL {taken.before} by {taken.now}; the old folder is {taken.kept}: remove it when "
            "you have seen that all is there"
        )
    if as_json:
        kept = {} if taken is None else {"taken_over": {"from": taken.before, "to": taken.now, "kept": str(taken.kept)}}
        spread = {} if layout is None else {"nonces_spread": {"from": moment(layout), "over": len(layout.databases)}}
        show({"applied": applied, **({"further": further} if further else {}), **spread, **kept}, as_json=True)
        return
    if applied or any(further.values()):
        show({"applied": applied, **{key: names for key, names in further.items() if names}}, as_json=False)
    elif taken is None and layout is None:
        click.echo("nothing to apply: the database is up to date")
    if layout is not None:
        click.echo(
            f"from {moment(layout)} on nonces are spread over {len(layout.databases)} databases; have every gateway "
            "reload the list before that, or, where a database leaves it, 15 minutes after that"
        )


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
        current = all(applied_at is not None for _, applied_at in found)
        faults = (await spreading.look(dsn, settings.nonces)).faults if current and lacking is None else []
    rows = [{"name": name, "applied_at": applied_at} for name, applied_at in found]
    show_all(rows, ("name", "applied_at"), as_json=as_json)
    if lacking is not None:
        raise lacking.fault()
    for fault in faults:
        raise fault


@asynccontextmanager
async def _dsn(settings: Settings) -> AsyncIterator[str]:
    """The database as it is, not yet migrated."""
    if settings.database_url is not None:
        yield settings.database_url
        return
    async with embedded.running(with_master_key(settings).data_dir, user=settings.config.server.user) as dsn:
        yield dsn
