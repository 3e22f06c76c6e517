"""Samples of `ops/` that are read: the roles by a real Postgres, the composition by Compose, configurations by us."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import asyncpg
import pytest

from gateway import config
from gateway.crypto import new_master_key
from gateway.store.migrations import migrate
from gateway.store.privileges import lacking
from tests.databases import in_database
from tests.doctor.conftest import run
from tests.serving import ROOT, write_key

OPS = ROOT / "ops"
PAGE = (ROOT / "docs" / "deploying.md").read_text(encoding="utf-8")


async def test_roles_are_enough_with_the_grants_that_are_printed(server_of_ones_own: str) -> None:
    # The embedded server's own role and database have these names already.
    text = (OPS / "postgres" / "roles.sql").read_text().replace("CHANGE-ME-OWNER", "one").replace("CHANGE-ME", "two")
    text = re.sub(r"^--.*\n", "", re.sub(r"\bgateway\b", "serving", text), flags=re.MULTILINE)
    await run(server_of_ones_own, *(statement for statement in text.split(";\n") if statement.strip()))
    owner, serving = (
        in_database(server_of_ones_own, "serving").replace("//gateway@", f"//{role}@")
        for role in ("gateway_owner", "serving")
    )
    assert await migrate(owner)
    found = await lacking(serving)
    assert found is not None
    assert found.owner == "gateway_owner"
    await run(owner, *found.grants)
    assert await lacking(serving) is None
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(serving, "create table more ()")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await run(serving, "drop table users")


def test_configurations_are_valid(tmp_path: Path) -> None:
    inside = re.search(r"cat > /etc/gateway/config.toml <<'END'\n(.*?)^END$", PAGE, re.MULTILINE | re.DOTALL)
    assert inside is not None
    write_key(tmp_path / "master.key", new_master_key())
    write_key(tmp_path / "database.url", "postgresql://gateway:hunter2@127.0.0.1/gateway")
    for text in (inside[1], (OPS / "container" / "gateway.toml").read_text()):
        file = tmp_path / "config.toml"
        file.write_text(text)
        assert config.load(file).warnings == ()


def test_image_is_built_from_all_that_the_package_needs(tmp_path: Path) -> None:
    source, wheels = tmp_path / "src", tmp_path / "wheels"
    source.mkdir()
    for line in re.findall(r"^COPY (?!--from)(.*)$", (OPS / "container" / "Containerfile").read_text(), re.MULTILINE):
        *names, target = line.split()
        for name in names:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / name, source / target)
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)],
        check=True,
        cwd=source,
        env={**os.environ, "GATEWAY_ENGINE": "plain"},
    )
    [wheel] = wheels.iterdir()
    with zipfile.ZipFile(wheel) as found:
        assert {"gateway/sql/schema.sql", "gateway/supervisor/cluster.py"} <= set(found.namelist())


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_composition_is_understood_by_compose() -> None:
    done = subprocess.run(
        ["docker-compose", "-f", str(OPS / "container" / "compose.yaml"), "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_page_names_every_sample() -> None:
    samples = {path.name for path in OPS.rglob("*") if path.is_file() and path.parent.name in _DEPLOYED}
    assert {name for name in samples if name not in PAGE} == {"gateway.toml"}


_DEPLOYED = ("systemd", "nginx", "caddy", "haproxy", "container", "postgres")
