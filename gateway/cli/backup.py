"""`gateway backup`."""

import asyncio
from pathlib import Path

import click

from gateway import config
from gateway.cli.common import database_as_it_is, done, with_config, with_json
from gateway.cli.usage import Verb
from gateway.store import backup
from gateway.store.backup import Manifest


@click.command(cls=Verb, epilog="Example: gateway backup /var/backups/gateway-$(date +%F).backup")
@click.argument("file", type=click.Path(path_type=Path))
@with_config
@with_json
def command(file: Path, path: Path, as_json: bool) -> None:
    """Write all that the database knows to FILE, while the gateway serves or not.

    FILE is new, and only you can read it. It holds digests of passwords and tokens, but not the master key, without
    which it is worth little: keep a copy of that elsewhere.
    """
    settings = config.load(path)

    async def act() -> Manifest:
        async with database_as_it_is(settings) as dsn:
            return await backup.back_up(dsn, file)

    made = asyncio.run(act())
    key = "it was written with no master key yet"
    if made.master_key is not None:
        key = f"the master key {made.master_key} is not in it: keep a copy of that elsewhere"
    size = file.stat().st_size
    held = f"{_count(made.rows('users'), 'person', 'people')}, {_count(made.rows('clients'), 'client', 'clients')}"
    done(
        {
            "file": str(file), "bytes": size, "at": made.at, "gateway": made.gateway, "postgres": made.postgres,
            "master_key": made.master_key, "rows": {table.name: table.rows for table in made.tables},
        },
        f"{file}: {held}, {_size(size)}; {key}",
        as_json=as_json,
    )  # fmt: skip


def _count(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _size(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
