"""A copy of the package, which a test changes before a process of its own runs it."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.serving import ROOT


def copied(folder: Path) -> Path:
    """The copy in that folder."""
    return shutil.copytree(ROOT / "gateway", folder / "gateway", ignore=shutil.ignore_patterns("__pycache__"))


def said_by(folder: Path, code: str) -> list[str]:
    """The words that Python code prints, run with the copy in that folder; it fails for a complaint."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": f"{folder}:{ROOT}"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()
