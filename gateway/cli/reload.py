"""`gateway reload`."""

import asyncio
from pathlib import Path
from typing import Final

import click

from gateway.cli.session import show, with_config, with_json
from gateway.cli.usage import Verb
from gateway.errors import OperatorError

_REFUSED: Final = "nothing has changed: the configuration before stays in force"


@click.command(cls=Verb, epilog="Example: gateway reload --config /etc/gateway/config.toml")
@with_config
@with_json
def command(path: Path, as_json: bool) -> None:
    """Have the running gateway take over its changed configuration, and wait for that.

    It says what changed; or every fault, and then nothing has changed. For root, and for the user that the gateway
    runs as.
    """
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
