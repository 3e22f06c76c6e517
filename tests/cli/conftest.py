"""Commands against a real database: in this process, since there are many, and as programs where that matters."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli import root
from gateway.crypto import new_master_key
from tests.serving import ROOT, toml, write_key


@dataclass(frozen=True)
class Answer:
    """What a command did: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def fault(self) -> str:
        """The one line of a command that was refused; it fails when there is anything else."""
        return self.refused_with(1)

    def refused_with(self, code: int) -> str:
        """The one line of a command that ended with this code; 78 tells of a faulty configuration."""
        assert self.code == code, (self.code, self.out, self.err)
        assert self.out == ""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def matches(told: str, line: str) -> bool:
    """Whether a line says what the pattern wants; the line is shown when it does not."""
    assert re.search(told, line), line
    return True


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed: they find their configuration by $GATEWAY_CONFIG."""

    config: Path

    def __call__(self, *arguments: str, text: str | bytes = "") -> Answer:
        """Run one command in this process."""
        done = CliRunner().invoke(
            root, arguments, input=text, env={"GATEWAY_CONFIG": str(self.config)}, prog_name="gateway"
        )
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Answer(done.exit_code, done.stdout, done.stderr)

    def program(self, *arguments: str, text: str = "") -> Answer:
        """Run one command as the program that it is."""
        done = subprocess.run(
            [sys.executable, "-m", "gateway", *arguments],
            input=text,
            capture_output=True,
            text=True,
            cwd=ROOT,
            env={**os.environ, "GATEWAY_CONFIG": str(self.config)},
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def client(self, *options: str) -> Any:
        """A client that was created."""
        return self("client", "create", "--name", "An app", *options, "--json").json

    def user(self, username: str = "ada") -> Any:
        """A person who was created."""
        return self("user", "create", "--username", username, "--generate-password", "--json").json

    def rewrite(self, tables: Mapping[str, object]) -> None:
        """Other tables in the configuration file, beside what the database needs."""
        self.config.write_text(toml({**_needed(self.config), **tables}))


def _needed(config: Path) -> dict[str, object]:
    key = config.with_name("master.key")
    dsn = config.with_name("dsn").read_text()
    return {
        "server": {"public_url": "https://api.example.com"},
        "database": {"url": dsn},
        "keys": {"master": {"file": str(key)}},
    }


@pytest.fixture
def bare(empty_database: str, tmp_path: Path) -> Terminal:
    """A terminal whose database has no schema yet."""
    return _terminal(empty_database, tmp_path)


@pytest.fixture
def gateway(database: str, tmp_path: Path) -> Terminal:
    """A terminal with a migrated database and two scopes."""
    terminal = _terminal(database, tmp_path)
    terminal.rewrite({"scopes": {"notes:read": "Read your notes", "notes:write": "Write notes"}})
    return terminal


def _terminal(dsn: str, folder: Path) -> Terminal:
    write_key(folder / "master.key", new_master_key())
    (folder / "dsn").write_text(dsn)
    terminal = Terminal(folder / "config.toml")
    terminal.rewrite({})
    return terminal
