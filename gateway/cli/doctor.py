"""`gateway doctor`."""

import asyncio
import json
from pathlib import Path
from typing import Final

import click
from msgspec import to_builtins

from gateway.cli.common import value, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config.addresses import split_listen
from gateway.config.values import ListenAddress
from gateway.doctor import Finding, Report, examine

_MARGIN: Final = " " * 11


@click.command(cls=Verb, epilog="Example: gateway doctor --config /etc/gateway/config.toml")
@click.option(
    "--through",
    metavar="HOST:PORT",
    help="Where public_url is reached, such as the proxy in front, when this machine cannot do so by its name.",
)
@with_config
@with_json
def command(through: str | None, path: Path, as_json: bool) -> None:
    """Look at the whole installation: what is wrong, why that matters, and how to mend it.

    Configuration, keys, database, listeners, upstreams, and public_url from outside in: the gateway asks itself through
    the proxy in front. It changes nothing, works while the gateway serves or not, and ends with 1 on a fault.
    """
    place = None if through is None else split_listen(value("--through", through, ListenAddress))
    report = asyncio.run(examine(path, through=place))
    if as_json:
        click.echo(json.dumps({"healthy": report.healthy, **to_builtins(report)}))
    else:
        _show(report)
    if not report.healthy:
        raise SystemExit(1)


def _show(report: Report) -> None:
    for finding in report.findings:
        click.echo("\n".join(map(_plain, _lines(finding))))
    for name, fact in report.facts.items():
        click.echo(_plain(f"{'looked at':<11}{name}: {fact}"))
    for name, reason in report.left_out.items():
        click.echo(_plain(f"{'left out':<11}{name}: {reason}"))
    faults = sum(finding.level == "fault" for finding in report.findings)
    warnings = len(report.findings) - faults
    click.echo(f"{_counted(faults, 'fault')}, {_counted(warnings, 'warning')}")


def _lines(finding: Finding) -> list[str]:
    return [
        f"{finding.level:<11}{finding.about}: {finding.what}",
        f"{_MARGIN}why:  {finding.why}",
        f"{_MARGIN}mend: {finding.mend}",
        *(f"{_MARGIN}  {statement}" for statement in finding.statements),
    ]


def _counted(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'' if count == 1 else 's'}"


def _plain(line: str) -> str:
    """For a terminal: nothing that it would act on, whatever servers answered."""
    return "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in line)
