"""`gateway serve`."""

from functools import partial
from pathlib import Path

import click

from gateway.cli.session import with_config
from gateway.cli.usage import Verb


@click.command(cls=Verb, epilog="Example: gateway serve --config /etc/gateway/config.toml --workers 4")
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

    SIGHUP reads the configuration again: new workers take over, and no connection is refused meanwhile.
    """
    from gateway import config
    from gateway.observe import LEVELS
    from gateway.supervisor.supervisor import serve

    reload = partial(config.load, path, again=True)
    serve(config.load(path), workers=workers, level=LEVELS[LEVELS.index(log_level)], reload=reload)
