"""The program's root: quick, and without a traceback for what the operator can mend."""

import json
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from gateway import __version__, cli
from gateway.errors import StoreUnavailable
from gateway.faults import OperatorError
from tests.serving import PROGRAM, ROOT

NOUNS = ["demo", "serve", "check-config", "migrate", "client", "user", "scope", "token", "mac"]


def gateway(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([*PROGRAM, *arguments], capture_output=True, text=True, check=False, cwd=ROOT)


def test_help_names_every_noun_and_imports_none() -> None:
    program = (
        "import sys, json; from gateway.__main__ import main\n"
        "try: main()\n"
        "finally: print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert all(f"\n  {noun} " in done.stdout for noun in NOUNS)
    assert "worker" not in done.stdout
    loaded = set(json.loads(done.stderr))
    assert not loaded & {"aiohttp", "asyncpg", "pydantic", "rich", "cryptography", "asyncio"}


def test_the_version_is_the_packages() -> None:
    assert gateway("--version").stdout == f"gateway {__version__} (plain engine)\n"


@pytest.mark.parametrize("noun", NOUNS)
def test_every_command_has_help_with_an_example_of_itself(noun: str) -> None:
    command = cli.root.get_command(click.Context(cli.root), noun)
    assert command is not None
    for line in [[noun, verb] for verb in command.commands] if isinstance(command, click.Group) else [[noun]]:
        result = CliRunner().invoke(cli.root, [*line, "--help"])
        assert result.exit_code == 0
        example = " ".join(result.output.partition("Example")[2].split())
        assert f"gateway {' '.join(line)}" in example, result.output


@pytest.mark.parametrize("arguments", [["nonsense"], ["serve", "--nonsense"], ["client", "nonsense"]])
def test_wrong_usage_is_exit_2(arguments: list[str]) -> None:
    done = gateway(*arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (OperatorError("server.listen: one"), ["gateway: server.listen: one"]),
        (OperatorError("a: one\nb: two"), ["gateway: a: one", "gateway: b: two"]),
    ],
)
def test_what_the_operator_can_mend_is_one_line_a_fault(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, said: list[str]
) -> None:
    result = CliRunner().invoke(failing(monkeypatch, failure), ["serve"])
    assert (result.exit_code, result.stdout, result.stderr.splitlines()) == (1, "", said)


def test_a_silent_database_is_one_line_without_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(failing(monkeypatch, StoreUnavailable("postgresql://u:hunter2@h/d")), ["serve"])
    assert result.exit_code == 1
    [line] = result.stderr.splitlines()
    assert line.startswith("gateway: database.url: ")
    assert "hunter2" not in line


def failing(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> click.Group:
    """The root with a `serve` that fails."""

    @click.command()
    def command() -> None:
        raise failure

    monkeypatch.setattr("gateway.cli.serve.command", command)
    return cli.root
