"""Wrong usage, reported as every other fault is: one line that names what was given and what would be right.

Commands are `Verb`s and groups of them are `Noun`s, so that none of click's own several lines get out.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import click
from click.exceptions import NoArgsIsHelpError

from gateway.spelling import near

_LONGEST_SUMMARY: Final = 200


class WrongUsage(click.ClickException):
    """One line on stderr, and exit code 2."""

    exit_code = 2

    def show(self, file: IO[Any] | None = None) -> None:
        # What was typed may hold line ends, terminal sequences and bytes that are no UTF-8.
        line = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in self.message)
        click.echo(f"gateway: {line}", file=file, err=file is None)


class Verb(click.Command):
    """A command that does something."""

    allow_extra_args = True  # they are refused below, in our words

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _our_words(ctx):
            rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise WrongUsage(f"{rest[0]!r}: is one argument too many; {_see(ctx)}")
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        with _our_words(ctx):
            return super().invoke(ctx)


class Noun(click.Group):
    """A group of commands."""

    command_class = Verb

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        with _our_words(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, names = args[0], self.list_commands(ctx)
        if name not in names and not ctx.resilient_parsing:
            meant = _meant(name, names) or f"the commands are {', '.join(names)}"
            raise WrongUsage(f"{name!r}: is not a command of '{ctx.command_path}'; {meant}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        with _our_words(ctx):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with its whole first sentence, where click would cut it off."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, verb.get_short_help_str(_LONGEST_SUMMARY)) for name, verb in found if verb is not None]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@contextlib.contextmanager
def _our_words(ctx: click.Context) -> Iterator[None]:
    """Raise WrongUsage, in one line, for whatever usage error click finds."""
    try:
        yield
    except click.UsageError as exc:
        raise WrongUsage(_line(exc, ctx)) from exc


def _line(exc: click.UsageError, ctx: click.Context) -> str:
    match exc:
        case NoArgsIsHelpError():
            return _missing_command(ctx)
        case click.NoSuchOption():
            return _unknown_option(exc, ctx)
        case click.MissingParameter(param=click.Parameter() as missing):
            return f"{_name(missing)}: must be given; {_see(ctx)}"
        case click.BadParameter(param=click.Parameter() as bad):
            return f"{_name(bad)}: {_why(exc, bad)}; {_see(ctx)}"
        case click.BadOptionUsage():
            why = exc.message.removeprefix(f"Option {exc.option_name!r} ").removesuffix(".")
            return f"{exc.option_name}: {why}; {_see(ctx)}"
    if isinstance(ctx.command, click.Group):  # what else click says of a group is that its command is missing
        return _missing_command(ctx)
    return f"{exc.message}; {_see(ctx)}"


def _missing_command(ctx: click.Context) -> str:
    group = ctx.command
    names = group.list_commands(ctx) if isinstance(group, click.Group) else []
    noun = "" if ctx.parent is None else f"{ctx.info_name}: "
    return f"{noun}name a command: {', '.join(names)}; {_see(ctx)}"


def _unknown_option(exc: click.NoSuchOption, ctx: click.Context) -> str:
    names = [name for param in ctx.command.get_params(ctx) for name in (*param.opts, *param.secondary_opts)]
    mend = _meant(exc.option_name, [name for name in names if name.startswith("--")])
    if mend is None and isinstance(ctx.command, click.Group):
        mend = f"options stand after the command; {_see(ctx)}"
    return f"{exc.option_name}: is not an option of '{ctx.command_path}'; {mend or _see(ctx)}"


def _why(exc: click.BadParameter, param: click.Parameter) -> str:
    said, kind = exc.message.removesuffix("."), param.type
    if isinstance(kind, click.IntRange):
        bounds = f"from {kind.min} on" if kind.max is None else f"from {kind.min} to {kind.max}"
        return f"{said.rpartition(' is not ')[0]} is not a whole number {bounds}"
    return said


def _meant(given: str, names: Iterable[str]) -> str | None:
    meant = near(given, names)
    return None if meant is None else f"did you mean {meant}?"


def _name(param: click.Parameter) -> str:
    return max(param.opts, key=len) if isinstance(param, click.Option) else param.human_readable_name


def _see(ctx: click.Context) -> str:
    return f"see '{ctx.command_path} --help'"
