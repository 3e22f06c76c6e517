"""README.md is one reading, and what it says to paste works: from an empty folder to a 200 from one's own API."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.counts import LONG
from tests.folders import SHORT
from tests.serving import ROOT, free_ports

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = sorted((ROOT / "docs").glob("*.md"))
LINKING = [*sorted(ROOT.glob("*.md")), *PAGES, *sorted((ROOT / "bench").glob("*.md")), *(ROOT / "fuzz").glob("*.md")]
_SECTION = TEXT.partition("## Put it in front of your API")[2].partition("\n## ")[0]
BLOCKS = [
    re.sub(r"^   ", "", block, flags=re.MULTILINE)
    for block in re.findall(r"^   ```sh\n(.*?)^   ```$", _SECTION, re.MULTILINE | re.DOTALL)
]


def test_readme_is_one_reading() -> None:
    assert len(TEXT.splitlines()) < 130


def _headings(page: Path) -> set[str]:
    """What a link can name after the #, as GitHub makes it from the headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?[^)]*\)", page.read_text(encoding="utf-8")):
        if not target.startswith("https://"):
            there = page.parent / target if target else page
            assert there.exists(), target
            assert not anchor or anchor in _headings(there), f"{target}#{anchor}"


def test_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    assert {page.name for page in PAGES} - {"README.md"} <= set(re.findall(r"\]\(([\w.-]+)\)", index))


@pytest.fixture
def empty() -> Iterator[Path]:
    """An empty folder that any system user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="gwt-", dir=SHORT))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _repository(folder: Path) -> Path:
    """The checkout, as something that git can clone."""
    left_out = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "build", "dist")
    copy = shutil.copytree(ROOT, folder / "repository", ignore=left_out, symlinks=True)
    git = ("git", "-c", "user.name=A test", "-c", "user.email=test@example.com", "-C", str(copy))
    for command in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "A copy")):
        subprocess.run([*git, *command], check=True, capture_output=True)
    return copy


def _dependencies(folder: Path) -> Path:
    """All that is installed here but Gateway, by link, so that pip has nothing to fetch."""
    found = folder / "dependencies"
    found.mkdir()
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not re.match(r"oauth2_gateway|_?_editable", entry.name):
                (found / entry.name).symlink_to(entry)
    return found


def test_pasted_lines_end_with_200_from_ones_own_api(empty: Path, tmp_path: Path) -> None:
    upstream, public, admin = map(str, free_ports(3))
    script = "set -e\n" + "\n".join(BLOCKS)
    for port, free in (("9000", upstream), ("8080", public), ("9901", admin)):
        script = re.sub(rf"\b{port}\b", free, script)
    interpreter = tmp_path / "bin"
    interpreter.mkdir()
    (interpreter / "python3").symlink_to(sys.executable)
    with subprocess.Popen(
        ["bash", "-c", f"{script}\nkill $(jobs -p); wait || true"],
        cwd=empty,
        env={
            "PATH": f"{interpreter}:/usr/bin:/bin",
            "HOME": str(tmp_path),
            "REPOSITORY": str(_repository(tmp_path)),
            "PYTHONPATH": str(_dependencies(empty)),
            "PIP_NO_INDEX": "1",
            "PIP_NO_DEPS": "1",
            "PIP_NO_BUILD_ISOLATION": "false",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "GATEWAY_ENGINE": "compiled" if LONG else "plain",  # which takes minutes, and changes nothing that is told
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            out, err = shell.communicate(timeout=900 if LONG else 240)  # where it compiles, others may too
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    answers = re.findall(r"HTTP/1.1 (\d+)", out)
    assert answers == ["401", "200"], out + err
    assert out.rstrip().endswith('{"text": "hello"}')
