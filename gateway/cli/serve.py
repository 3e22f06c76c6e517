"""`gateway serve`."""

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
    from gateway.errors import OperatorError
    from gateway.observe import LEVELS
    from gateway.supervisor.supervisor import serve

    def reload() -> config.Settings:
        if path.is_fifo():  # which would be waited for, and nothing else would be done meanwhile
            raise OperatorError(f"{path}: is a pipe, which can be read only once; start with a file")
        return config.load(path)

    serve(config.load(path), workers=workers, level=LEVELS[LEVELS.index(log_level)], reload=reload)
