"""The words that people read: spelt in one way on every page, in the documentation and in the commands' help."""

import re
from pathlib import Path

import pytest

from tests.serving import ROOT

PAGES = [*sorted((ROOT / "templates").glob("*.html")), ROOT / "gateway/web/words.py"]
READ = [*PAGES, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "gateway/cli").glob("*.py"))]
READ += [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "config.example.toml")]

_MARKUP = re.compile(r"\{%.*?%\}|\{\{.*?\}\}|\{#.*?#\}|<[^>]*>|\"{3}.*?\"{3}", re.DOTALL)


def _name(file: Path) -> str:
    return file.name


@pytest.mark.parametrize("file", PAGES, ids=_name)
def test_pages_have_one_kind_of_apostrophe(file: Path) -> None:
    assert re.findall(r"\w+'\w+", _MARKUP.sub(" ", file.read_text())) == []


@pytest.mark.parametrize("file", READ, ids=_name)
def test_username_and_email_are_each_one_word(file: Path) -> None:
    assert re.findall(r"\b[Uu]ser\s+names?\b|\b[Ee]-mails?\b", file.read_text()) == []


def test_every_page_of_the_documentation_is_in_its_index() -> None:
    index = (ROOT / "docs/README.md").read_text()
    assert [file.name for file in (ROOT / "docs").glob("*.md") if f"({file.name})" not in index] == ["README.md"]
