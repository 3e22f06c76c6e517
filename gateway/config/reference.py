"""Documentation of the keys for people and editors: made of their declarations in `tables`, and of nothing else.

`gateway check-config` prints each. Two are kept in the repository, where a test compares them: config.example.toml and
docs/configuration.md.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Final, get_origin

from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from gateway.config import tables
from gateway.config.tables import Config, Table, table_within
from gateway.config.toml import key, toml
from gateway.config.values import FIXED, STATED

_WIDTH: Final = 120

_EXAMPLE_HEAD: Final = (
    'Every key of Gateway\'s configuration. Lines that begin with "#" and a key show a default, or an example where '
    "there is none; the others are what a small installation sets. `gateway check-config` reports every fault that the "
    "file itself has, and with `--example` prints this file; `gateway doctor` looks at the machine, too."
)
_PAGE_HEAD: Final = """\
<!-- Made of gateway/config/tables.py by: gateway check-config --reference -->

# What may stand in the configuration?
"""
_PAGE_LINKS: Final = (
    "[config.example.toml](../config.example.toml) is a file to begin with. `gateway check-config` prints every fault "
    "that the file itself has, each with its path and the mend, and with `--schema` a JSON Schema for editors; "
    "`gateway doctor` and the start look at the machine."
)

_SPAN: Final = re.compile(r"`[^`]*`")
_MARKUP: Final = re.compile(rf"({_SPAN.pattern})|([\\|*<\[\]])")  # a span of code, or what Markdown takes for its own
_FIXED: Final = " Only a restart changes it."
_STUCK: Final = "\0"  # a space at which no line ends
_PLAIN: Final = re.compile(r"`[^\w`]")  # how a span begins that ends plainly where nothing is set in another type


class _WithoutNames(GenerateJsonSchema):
    """A schema whose titles say how a value is written, instead of a key's name once more."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        del schema
        return False


def schema() -> dict[str, Any]:
    """The JSON Schema of the file."""
    _read_texts()
    return Config.model_json_schema(schema_generator=_WithoutNames)


@cache
def _read_texts() -> None:
    """Make of the text below each declaration the key's description.

    That is not left to pydantic, which would do it in each process that loads the tables: most of what they take.
    """
    classes = [node for node in ast.parse(inspect.getsource(tables)).body if isinstance(node, ast.ClassDef)]
    for node in classes:
        fields = getattr(tables, node.name).model_fields
        for declared, text in pairwise(node.body):
            match declared, text:
                case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(words))):
                    known: FieldInfo = fields[name]
                    known.description = inspect.cleandoc(words)
    for node in classes:
        getattr(tables, node.name).model_rebuild(force=True)


# -- the example ---------------------------------------------------------------------------------------------


def example() -> str:
    """A file that shows every key, and is right for a small installation: config.example.toml."""
    known = schema()
    tables = [_table(name, field, known) for name, field in Config.model_fields.items()]
    return "\n\n".join((f"{_comment(_EXAMPLE_HEAD)}\n#\n{_comment(_words(Config))}", *tables)) + "\n"


def _table(name: str, field: FieldInfo, known: Mapping[str, Any]) -> str:
    table = _table_of(field)
    lines = [*(_entries(field) if table is None else _keys(table, known))]
    header, optional = _header(name, field), "[[" in _header(name, field) and STATED not in field.metadata
    if optional:  # none of these tables is what a small installation has
        header, lines = f"#{header}", [line if line.startswith("#") else f"#{line}" for line in lines]
    return "\n".join((_comment(_text(field)), header, *lines))


def _keys(table: type[Table], known: Mapping[str, Any]) -> Iterator[str]:
    for name, field, kind in _declared(table, known):
        stated = field.is_required() or STATED in field.metadata
        value = _example(field) if stated or field.default is None else field.default
        yield _comment(_text(field))
        yield f"{'' if stated else '#'}{name} = {toml(value)}  # {'required: ' if field.is_required() else ''}{kind}"


def _comment(text: str) -> str:
    return _SPAN.sub(lambda found: found[0][1:-1] if _PLAIN.match(found[0]) else found[0], _filled(text, "# "))


# -- the page of the documentation ---------------------------------------------------------------------------


def page() -> str:
    """Each table with its keys, how they are written and what they are unless stated: docs/configuration.md."""
    known = schema()
    sections = [_section(name, field, known) for name, field in Config.model_fields.items()]
    return "\n".join((_PAGE_HEAD, _filled(_words(Config)), "", _filled(_PAGE_LINKS), *sections)) + "\n"


def _section(name: str, field: FieldInfo, known: Mapping[str, Any]) -> str:
    table, header = _table_of(field), _header(name, field)
    head = f"\n## `{header}`\n\n{_filled(_cell(_text(field)))}\n"
    if table is None:
        return "\n".join((head, "```toml", header, *_entries(field), "```"))
    rows = [
        f"| `{one}` | {_cell(kind)} | {_default(within)} | {_cell(_text(within))} |"
        for one, within, kind in _declared(table, known)
    ]
    return "\n".join((head, "| key | value | default | |", "|---|---|---|---|", *rows))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    return "–" if field.default is None else f"`{toml(field.default)}`"


def _cell(text: str) -> str:
    """Text in which Markdown finds no markup but spans of code."""
    return _MARKUP.sub(lambda found: found[1] or rf"\{found[2]}", text)


# -- of a declaration ----------------------------------------------------------------------------------------


def _declared(table: type[Table], known: Mapping[str, Any]) -> Iterator[tuple[str, FieldInfo, str]]:
    """Each key of a table, its declaration and how its value is written."""
    written = known["$defs"][table.__name__]["properties"]
    for name, field in table.model_fields.items():
        yield name, field, _kind(written[name], known)


def _kind(one: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """The way a value is written, by its schema."""
    match one:
        case {"$ref": place}:
            return str(known["$defs"][place.rpartition("/")[2]]["title"])
        case {"title": title}:
            return str(title)
        case {"oneOf": forms} | {"anyOf": forms}:
            return " or ".join(_kind(form, known) for form in forms if form.get("type") != "null")
        case {"const": choice}:
            return toml(choice)
        case {"enum": [*choices, last]}:
            return f"{', '.join(map(toml, choices))} or {toml(last)}"
        case {"type": "array", "items": entry}:
            return f"[{_kind(entry, known)}, …]"
        case {"patternProperties": entries}:
            return f"{{ … = {' or '.join(_kind(entry, known) for entry in entries.values())} }}"
        case {"minimum": least, "maximum": most}:
            return f"{least} to {most}"
        case {"type": "boolean"}:
            return "true or false"
    raise TypeError(f"no words for {one}")


def _entries(field: FieldInfo) -> Iterator[str]:
    """The example of a table whose keys are the operator's own names."""
    return (f"{key(name)} = {toml(value)}" for name, value in _example(field).items())


def _example(field: FieldInfo) -> Any:
    (value,) = field.examples or (None,)
    return value


def _header(name: str, field: FieldInfo) -> str:
    """The line that begins a table, or each of several."""
    return f"[{name}]" if _table_of(field) in (None, field.annotation) else f"[[{name}]]"


def _table_of(field: FieldInfo) -> type[Table] | None:
    """The table that a key holds, None where it holds values or tables by names of the operator's."""
    return None if get_origin(field.annotation) is dict else table_within(field.annotation)


def _text(field: FieldInfo) -> str:
    """The text about a key, or about the table that it is."""
    table = _table_of(field)
    if field.description is None and table is not None:
        return _words(table)
    return " ".join((field.description or "").split()) + (_FIXED if FIXED in field.metadata else "")


def _words(table: type[Table]) -> str:
    return " ".join((inspect.getdoc(table) or "").split())


def _filled(text: str, mark: str = "") -> str:
    """Lines of which each begins with `mark`; no span of code is broken."""
    whole = _SPAN.sub(lambda found: found[0].replace(" ", _STUCK), text)
    filled = textwrap.fill(whole, _WIDTH, initial_indent=mark, subsequent_indent=mark, break_on_hyphens=False)
    return filled.replace(_STUCK, " ")
