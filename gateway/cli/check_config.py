"""`gateway check-config`: every fault of a configuration file at once."""

import json
from pathlib import Path
from typing import Final

import click

from gateway import config
from gateway.cli.common import note, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import ConfigError, reference
from gateway.faults import OperatorError

_PRINTED: Final = {
    "schema": lambda: json.dumps(reference.schema(), indent=2) + "\n",
    "example": reference.example,
    "reference": reference.page,
}


@click.command(cls=Verb, epilog="Example: gateway check-config --config /etc/gateway/config.toml")
@click.option(
    "--schema", "printed", flag_value="schema", help="Print the JSON Schema of the file, for editors, and end."
)
@click.option("--example", "printed", flag_value="example", help="Print an example that shows every key, and end.")
@click.option(
    "--reference", "printed", flag_value="reference", help="Print a page (Markdown) about every key, and end."
)
@with_config
@with_json
def command(printed: str | None, path: Path, as_json: bool) -> None:
    """Check the file and the secrets that it names: never ports, locks or the database.

    `gateway doctor` looks at the machine, too.
    """
    if printed is not None:
        click.echo(_PRINTED[printed](), nl=False)
        return
    try:
        settings = config.load(path)
    except ConfigError as exc:
        if not as_json:
            raise OperatorError(str(exc)) from exc  # what was asked for, so 1 and not 78
        faults = [{"path": fault.path, "route": fault.route, "message": fault.message} for fault in exc.faults]
        click.echo(json.dumps({"valid": False, "faults": faults, "warnings": []}))
        raise SystemExit(1) from None
    if as_json:
        click.echo(json.dumps({"valid": True, "faults": [], "warnings": list(settings.warnings)}))
        return
    for warning in settings.warnings:
        note(f"warning: {warning}")
    click.echo(f"{path}: valid")
