"""`gateway restore`."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from gateway import config
from gateway.cli.common import database, done, operator, with_config, with_json
from gateway.cli.usage import Verb
from gateway.store.acting import acting
from gateway.store.backup import Backup
from gateway.store.restore import Order, Report, require_key, restore
from gateway.store.revival import MOST_NAMED, Fate, Kinds

_ENDED: Final = "Lived in the backup, and stay ended (people and clients among them came back disabled):"
_SHOWN: Final = 10  # of a kind, in words; JSON has more
_CHANGED: Final = {
    "passwords": "The newest passwords were kept of:",
    "secrets": "The newest client secrets were kept of:",
    "registrations": "Changed since, and again as in the backup; look at them with `gateway client show`:",
    "accounts": "Renamed since, and again as in the backup:",
}


@click.command(cls=Verb, epilog="Example: gateway restore gateway.backup --keep replaced.backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="OLD", help="Write what is replaced to this new file first."
)
@click.option("--discard", is_flag=True, help="What is replaced need not be kept.")
@click.option("--end-all", is_flag=True, help="End all tokens and sessions in the backup: everybody signs in again.")
@click.option("--trust", is_flag=True, help="Let all live that lived in the backup, also what was ended since.")
@with_config
@with_json
def command(
    *, file: Path, keep: Path | None, discard: bool, end_all: bool, trust: bool, path: Path, as_json: bool
) -> None:
    """Put the backup in FILE in the place of what the database holds, while the gateway serves or not.

    What was revoked, disabled or deleted since the backup stays so where the database that is replaced can tell;
    otherwise --end-all or --trust must be given. The master key that it was written with must be in its place.
    """
    if keep is not None and discard:
        raise click.UsageError("--keep, --discard: give one of them, not both")
    if end_all and trust:
        raise click.UsageError("--end-all, --trust: give one of them, not both")
    fate = Fate.END if end_all else Fate.TRUST if trust else None
    settings = config.load(path)

    async def act(backup: Backup) -> Report:
        async with database(settings) as (keyed, dsn):
            assert keyed.keyring is not None  # noqa: S101  # made by `database` or demanded by `load`
            order = Order(fate=fate, keep=keep, discard=discard)
            with acting(actor=operator()):
                return await restore(dsn, backup, order, keyring=keyed.keyring, skew=settings.config.mac.skew)

    with Backup(file) as backup:
        require_key(backup, settings.keyring)
        report = asyncio.run(act(backup))
    if as_json:
        done(_record(file, report), "", as_json=True)
        return
    for line in _lines(file, report):
        done({}, line, as_json=False)


def _record(file: Path, report: Report) -> dict[str, object]:
    found = report.revival
    return {
        "file": str(file),
        "backup_at": report.backup.at,
        "restored_at": report.at,
        "tokens": report.fate.value,
        "replaced_database_told": report.carried_over,
        "kept": None if report.kept is None else str(report.kept),
        "signed_from": report.floor,
        **{
            name: {kind: {"count": some.count, "names": list(some.names)} for kind, some in kinds.items()}
            for name, kinds in (
                ("ended", found.ended), ("lost", found.lost), ("living", found.living), ("changed", found.changed)
            )
        },
    }  # fmt: skip


def _lines(file: Path, report: Report) -> Iterator[str]:
    found, made = report.revival, report.backup
    yield f"restored from {file}: {made.at:%Y-%m-%d %H:%M:%S}Z, by Gateway {made.gateway} on PostgreSQL {made.postgres}"
    if report.kept is not None:
        yield f"what was replaced is in {report.kept}"
    yield from _listed(
        "Lived in the backup, and stay ended (people and clients among them came back disabled):", found.ended
    )
    yield from _listed("Newer than the backup, and gone:", found.lost)
    for kind, some in found.changed.items():
        yield from _listed(_CHANGED[kind], {kind: some})
    if not report.carried_over:
        yield from _listed("Live by the backup alone; what of them was ended since, nobody here knows:", found.living)
        yield "Passwords and client secrets are those of the backup: set anew what was changed since."
    yield f"Requests that were signed before {report.floor:%Y-%m-%d %H:%M:%S}Z are refused, so that none passes twice."


def _listed(sentence: str, kinds: Kinds) -> Iterator[str]:
    """What a sentence says of whom; nothing of nobody."""
    if not kinds:
        return
    yield sentence
    for kind, some in sorted(kinds.items()):
        yield f"  {kind}: {some.count}"
        yield from (f"    {name}" for name in some.names[:_SHOWN])
        if some.count > _SHOWN:
            more = "" if some.count > MOST_NAMED else "; --json names all"
            yield f"    and {some.count - _SHOWN} more{more}"
