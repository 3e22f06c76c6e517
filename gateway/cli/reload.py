"""`gateway reload`."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
from msgspec import to_builtins

from gateway.cli.common import show, value, with_config, with_json
from gateway.cli.usage import Verb
from gateway.faults import OperatorError

if TYPE_CHECKING:
    from gateway.supervisor.channel import Differs

_REFUSED: Final = "nothing has changed: the configuration before stays in force"
_UNCHANGED: Final = "nothing has changed; `gateway reload` puts the new configuration in force"
_LONGEST: Final = 86400.0


@click.command(cls=Verb, epilog="Example: gateway reload --config /etc/gateway/config.toml")
@click.option(
    "--shadow",
    metavar="TIME",
    help="Change nothing: judge live calls by both configurations for so long (10m), and report what would be decided "
    "otherwise.",
)
@with_config
@with_json
def command(path: Path, shadow: str | None, as_json: bool) -> None:
    """Have the running gateway take over its changed configuration, and wait for that.

    It says what changed; or every fault, and then nothing has changed. For root, and for the user that the gateway
    runs as.
    """
    if shadow is not None:
        _compare(path.absolute(), shadow, as_json=as_json)
        return
    from gateway.supervisor.control import ask_to_reload

    outcome, pid = asyncio.run(ask_to_reload(path.absolute()))
    if outcome.faults:
        raise OperatorError("\n".join([*outcome.faults, _REFUSED]))
    if as_json:
        show({"pid": pid, "changed": outcome.changed}, as_json=True)
        return
    click.echo(f"reloaded by process {pid}: " + ("" if outcome.changed else "nothing changed"))
    for line in outcome.changed:
        click.echo(f"  {line}")


def _compare(path: Path, shadow: str, *, as_json: bool) -> None:
    """Report what the changed configuration would decide otherwise; each kind of call when it is first seen."""
    from gateway.config.values import Duration
    from gateway.supervisor.shadow import ask_for_shadow

    seconds: float = value("--shadow", shadow, Duration)
    if seconds > _LONGEST:
        raise OperatorError(f"--shadow: must be at most 24h, not {shadow!r}")

    def found(kind: "Differs") -> None:
        if not as_json:
            click.echo(f"{_line(kind)}; first {kind.path}, request {kind.request_id}")

    outcome, pid = asyncio.run(ask_for_shadow(path, seconds, found))
    if outcome.faults:
        raise OperatorError("\n".join([*outcome.faults, _REFUSED]))
    compared = outcome.compared
    if as_json:
        show({"pid": pid, "changed": outcome.changed, "early": outcome.early, **to_builtins(compared)}, as_json=True)
        return
    if outcome.early:
        click.echo(f"ended early: {outcome.early}")
    missed = f", {compared.missed} were missed" if compared.missed else ""
    click.echo(f"{compared.calls} calls compared, {compared.different} would be decided otherwise{missed}")
    for kind in compared.kinds:
        click.echo(f"  {kind.count} times {_line(kind)}")
    if compared.others:
        click.echo(f"  {compared.others} times in further ways")
    click.echo(_UNCHANGED)


def _line(kind: "Differs") -> str:
    return f"{kind.method}: {kind.before} → {kind.after}"
