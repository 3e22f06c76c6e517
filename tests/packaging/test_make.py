"""`make` says plainly what is missing."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.serving import ROOT

MAKE = shutil.which("make") or ""
pytestmark = pytest.mark.skipif(not MAKE, reason="this machine has no make")


def make(*arguments: str, path: Path | None = None) -> tuple[int, str]:
    """The exit code of make and what it wrote, with `path` as the only folder of programs."""
    environment = {"PATH": str(path) if path else "/usr/bin:/bin"}
    done = subprocess.run(
        [MAKE, "--no-print-directory", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def python_that_says(folder: Path, script: str) -> Path:
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


def test_make_alone_tells_what_there_is() -> None:
    code, said = make()
    assert code == 0
    assert all(
        f"make {target} " in said for target in ("demo", "test", "test-long", "coverage", "lint", "fuzz", "bench")
    )


def test_a_missing_python_is_named(tmp_path: Path) -> None:
    code, said = make("venv", f"PYTHON={tmp_path}/python3", f"VENV={tmp_path}/venv")
    assert code != 0
    assert f"{tmp_path}/python3 is missing: install the package python3" in said


def test_an_old_python_is_named(tmp_path: Path) -> None:
    old = python_that_says(tmp_path, 'case "$1" in --version) echo Python 3.9.2;; *) exit 1;; esac')
    code, said = make("venv", f"PYTHON={old}", f"VENV={tmp_path}/venv")
    assert code != 0
    assert "Python 3.9.2 is too old: install Python 3.11 or newer" in said


def test_a_missing_venv_module_is_named(tmp_path: Path) -> None:
    bare = python_that_says(tmp_path, 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.13;; esac')
    code, said = make("venv", f"PYTHON={bare}", f"VENV={tmp_path}/venv")
    assert code != 0
    assert "the venv module of" in said
    assert "python3.13-venv" in said


def test_a_missing_browser_is_named(tmp_path: Path) -> None:
    for tool in ("id", "tail", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    code, said = make("chromium", path=tmp_path)
    assert code != 0
    assert "install the package chromium" in said


def test_missing_programs_are_named_and_the_tests_go_on(tmp_path: Path) -> None:
    for tool in ("id", "sh"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    code, said = make("programs", "PATH=" + str(tmp_path), path=tmp_path)
    assert code == 0
    for name in ("pgbouncer", "curl", "openssl", "nginx", "caddy", "haproxy", "prometheus"):
        assert f"the tests that need {name} are left out: install the package {name}" in said


def test_missing_programs_for_clients_are_named_and_the_tests_go_on(tmp_path: Path) -> None:
    for tool in ("id", "sh", "mkdir"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or "")
    code, said = make(f"{tmp_path}/node/.made", f"VENV={tmp_path}", "PATH=" + str(tmp_path), path=tmp_path)
    assert code == 0
    for name in ("nodejs", "npm"):
        assert f"the tests of clients in JavaScript are left out: install the package {name}" in said


def test_root_gets_missing_programs_by_the_systems_packages_without_starting_them(tmp_path: Path) -> None:
    (tmp_path / "sh").symlink_to(shutil.which("sh") or "")
    for name, does in (("id", "echo 0"), ("apt-get", f'echo "$RUNLEVEL $@" >>{tmp_path}/calls')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    code, said = make("programs", f"VENV={tmp_path}", "PATH=" + str(tmp_path), path=tmp_path)
    assert code == 0
    assert "left out" not in said
    installed = [line for line in (tmp_path / "calls").read_text().splitlines() if "install" in line]
    wanted = ("pgbouncer", "curl", "openssl", "nginx", "caddy", "haproxy", "prometheus")
    assert installed == [f"1 -q -y install --no-install-recommends {name}" for name in wanted]
