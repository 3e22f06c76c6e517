"""The commands, one module a noun: `gateway/cli/<noun>.py` holds a click command or group named `command`.

A noun's module is imported when the noun is used, so that `--help` and short commands start fast. What an
operator can mend is one line on stderr a fault and exit 1, or 78 where the configuration is faulty; wrong usage is exit
2; none shows a traceback.
"""

import importlib
import os
from typing import IO, Any, Final

import click

from gateway import __version__
from gateway.cli.usage import Noun
from gateway.errors import StoreUnavailable
from gateway.faults import FaultyConfiguration, OperatorError
from gateway.resources import engine

_NOUNS: Final = {
    "demo": "Try everything at once: a database, a sample API, a client, a user and routes.",
    "serve": "Run the production server.",
    "reload": "Have the running server take over its changed configuration.",
    "explain": "Tell what became of a call, step by step, and what to do.",
    "routes": "Tell what would become of a call that was never made.",
    "doctor": "Say what is wrong with an installation, why that matters, and how to mend it.",
    "check-config": "Report every fault of a configuration file.",
    "key": "Rotate the master key, and see what still needs an old one.",
    "migrate": "Bring a database to this release's schema, and to the PostgreSQL that is installed.",
    "backup": "Write all that the database knows to a file.",
    "restore": "Bring a backup back, here or in another database.",
    "client": "Register and manage OAuth clients.",
    "registration": "Let clients register themselves.",
    "user": "Create and manage the people who sign in.",
    "scope": "Define what a token may be good for.",
    "token": "Issue, list, inspect and revoke tokens.",
    "grant": "List what people allow applications, and take it back.",
    "session": "List browsers that are signed in, and sign them out.",
    "events": "Show what happened, and prove that nothing of it was altered or removed.",
    "report": "Find access that nobody needs.",
    "mac": "Sign requests with a MAC token, and explain why one does not verify.",
    "signature": "Sign requests by HTTP Message Signatures (RFC 9421).",
}


class Refusal(click.ClickException):
    """A fault that the operator can mend: its lines go to stderr as they are."""

    exit_code = 1

    def __init__(self, message: str, statements: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.statements = statements

    @classmethod
    def of(cls, exc: OperatorError | StoreUnavailable) -> "Refusal":
        if isinstance(exc, StoreUnavailable):
            from gateway.observe import scrub

            return cls(f"database.url: {scrub(str(exc))}")
        kind = _FaultyConfiguration if isinstance(exc, FaultyConfiguration) else cls
        return kind(str(exc), exc.statements)

    def show(self, file: IO[Any] | None = None) -> None:
        for line in self.message.splitlines():
            click.echo(f"gateway: {line}", file=file, err=file is None)
        for statement in self.statements:  # as they are, so that they can be pasted
            click.echo(statement, file=file, err=file is None)


class _FaultyConfiguration(Refusal):
    exit_code = os.EX_CONFIG


class _Nouns(Noun):
    """The root of all commands: it knows their names and summaries, and imports a noun only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_NOUNS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        del ctx
        if cmd_name not in _NOUNS:
            return None
        module = cmd_name.replace("-", "_")
        found: click.Command = importlib.import_module(f"gateway.cli.{module}").command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl(list(_NOUNS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (OperatorError, StoreUnavailable) as exc:
            raise Refusal.of(exc) from exc


@click.group(
    cls=_Nouns,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Example: gateway demo",
)
@click.version_option(__version__, prog_name="gateway", message=f"%(prog)s %(version)s ({engine()} engine)")
def root() -> None:
    """An OAuth 2 authorization server and an async reverse proxy in one program."""
