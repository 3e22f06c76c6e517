"""A run of the tests names what it left out, and CI takes no gap that it does not know."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT

_TESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_some(number):
    pytest.skip({reason!r})

def test_other():
    pass
"""


def run(folder: Path, reason: str, **environment: str) -> tuple[int, str]:
    """The exit code of a run that leaves three tests out, and what it wrote."""
    (folder / "test_some.py").write_text(_TESTS.format(reason=reason))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "tests.conftest", "--rootdir", folder, "-c", os.devnull, folder],
        env={**{name: text for name, text in os.environ.items() if name != "CI"}, "PYTHONPATH": str(ROOT)}
        | environment,
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )
    return done.returncode, done.stdout


def test_a_run_ends_by_naming_what_it_left_out_and_why(tmp_path: Path) -> None:
    code, said = run(tmp_path, "the frobnicator is not installed")
    assert code == 0
    assert "left out" in said
    assert "   3 tests: the frobnicator is not installed\n" in said


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("the frobnicator is not installed", 1),
        ("pgbouncer is not installed: install the package pgbouncer", 1),
        ("go is not installed, so the client in go cannot be run", 0),
        ("only root can act for other users", 0),
    ],
)
def test_ci_fails_where_a_test_is_left_out_for_another_reason_than_the_listed(
    tmp_path: Path, reason: str, code: int
) -> None:
    found, said = run(tmp_path, reason, CI="true")
    assert found == code
    assert ("CI takes this for a failure" in said) is bool(code)
