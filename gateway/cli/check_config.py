"""`gateway check-config`: every fault of a configuration file at once."""

import json
from pathlib import Path

import click

from gateway import config
from gateway.cli.session import note, with_config, with_json
from gateway.cli.usage import Verb
from gateway.config import ConfigError
from gateway.errors import OperatorError


@click.command(cls=Verb, epilog="Example: gateway check-config --config /etc/gateway/config.toml")
@click.option("--schema", is_flag=True, help="Print the JSON Schema of the file, for editors, and do nothing else.")
@with_config
@with_json
def command(schema: bool, path: Path, as_json: bool) -> None:
    """Judge the file and the secrets that it names: never ports, locks or the database."""
    if schema:
        from gateway.config import tables

        click.echo(json.dumps(tables.Config.model_json_schema(), indent=2))
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
