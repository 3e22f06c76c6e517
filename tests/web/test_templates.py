"""Templates are compiled once, and what is kept of that counts for nothing but the text that it was made of."""

import sys
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from gateway.resources import folder
from gateway.web.templates import Compiled

TEMPLATE = "page.html"


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one template, where what is compiled may be kept."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    write(tmp_path, "Hello {{ name }}")
    return tmp_path


def write(templates: Path, text: str) -> None:
    (templates / TEMPLATE).write_text(text)


def shown(templates: Path, compiled: list[str] | None = None) -> str:
    """The page, as a new process shows it; `compiled` gets the texts that it compiles."""

    class Environment(jinja2.Environment):
        def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
            if compiled is not None:
                compiled.append(source)
            return super()._parse(source, name, filename)

    environment = Environment(
        loader=jinja2.FileSystemLoader(templates), bytecode_cache=Compiled(templates), autoescape=True
    )
    return environment.get_template(TEMPLATE).render(name="Ada")


def kept(templates: Path) -> Path:
    [file] = (templates / "__pycache__").iterdir()
    return file


def test_a_template_is_compiled_once_for_all_processes(templates: Path) -> None:
    compiled: list[str] = []
    assert [shown(templates, compiled) for _ in range(3)] == ["Hello Ada"] * 3
    assert compiled == ["Hello {{ name }}"]


def test_what_is_kept_is_for_those_whom_the_template_is_for(templates: Path) -> None:
    (templates / TEMPLATE).chmod(0o640)
    shown(templates)
    assert kept(templates).stat().st_mode & 0o777 == 0o640


def test_another_text_is_compiled_anew(templates: Path) -> None:
    shown(templates)
    write(templates, "Welcome {{ name }}")
    assert shown(templates) == "Welcome Ada"


def test_another_jinja_compiles_anew(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown(templates)
    monkeypatch.setattr(jinja2, "__version__", "0")
    compiled: list[str] = []
    assert shown(templates, compiled) == "Hello Ada"
    assert compiled


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda good: good[:16],
        lambda good: good[:32],
        lambda good: good[:-1],
        lambda good: bytes(len(good)),
        lambda good: good[:32] + b"\xff" * 8,
        lambda good: good[: len(good) // 2] + bytes(len(good) - len(good) // 2),  # as a machine without power leaves it
        lambda good: good.replace(b"Hello", b"Hullo"),
    ],
    ids=["empty", "half a mark", "no code", "cut off", "zeros", "other bytes", "half of zeros", "one byte"],
)
def test_what_is_spoilt_is_compiled_anew(templates: Path, spoil: Callable[[bytes], bytes]) -> None:
    shown(templates)
    good = kept(templates).read_bytes()
    kept(templates).write_bytes(spoil(good))
    assert shown(templates) == "Hello Ada"
    assert kept(templates).read_bytes() == good


def test_where_nothing_can_be_kept_pages_are_shown_all_the_same(templates: Path) -> None:
    (templates / "__pycache__").write_text("no folder")
    assert shown(templates) == "Hello Ada"


def test_nothing_is_kept_where_python_keeps_nothing(templates: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert shown(templates) == "Hello Ada"
    assert not (templates / "__pycache__").exists()


def test_no_page_has_macros_of_its_own() -> None:
    """They would refer to what the page is rendered with, which refers to them: garbage for the collector."""
    for file in folder("templates").glob("*.html"):
        parsed = jinja2.Environment().parse(file.read_text(encoding="utf-8"))
        is_page = parsed.find(jinja2.nodes.Extends) is not None or file.name == "base.html"
        assert not (is_page and parsed.find(jinja2.nodes.Macro)), file.name
