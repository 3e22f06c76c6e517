"""`gateway serve`."""

import sys
from functools import partial
from pathlib import Path
from typing import Any

import click

from gateway.cli import Refusal
from gateway.cli.common import with_config
from gateway.cli.usage import Verb
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError


class _Service(Verb):
    """A command whose stderr is a log: what keeps it from starting is told there, a line of JSON for each fault.

    At a terminal it is told as everywhere, and so is wrong usage.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OperatorError, StoreUnavailable) as exc:
            if sys.stderr.isatty():
                raise
            from gateway.observe import get_logger

            refusal, log = Refusal.of(exc), get_logger("gateway.supervisor")
            mend = {"statements": refusal.statements} if refusal.statements else {}
            for fault in refusal.message.splitlines():
                log.critical("cannot start", fault=fault, exit_code=refusal.exit_code, **mend)
            raise click.exceptions.Exit(refusal.exit_code) from exc


@click.command(cls=_Service, epilog="Example: gateway serve --config /etc/gateway/config.toml --workers 4")
@with_config
@click.option("--workers", type=click.IntRange(1, 256), help="Processes that serve; wins over server.workers.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much of what happens goes to stderr, as JSON lines.",
)
def command(path: Path, workers: int | None, log_level: str) -> None:
    """Run the production server until SIGTERM or Ctrl-C, which let requests in flight finish.

    `gateway reload` or SIGHUP have the configuration read again: new workers take over, and no connection is refused
    meanwhile. A configuration that is faulty at the start ends it with 78.
    """
    from gateway import config
    from gateway.observe import LEVELS
    from gateway.supervisor.supervisor import serve

    reload = partial(config.load, path, again=True)
    serve(config.load(path), workers=workers, level=LEVELS[LEVELS.index(log_level)], reload=reload)
