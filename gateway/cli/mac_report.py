"""What `gateway mac verify` prints: two strings side by side, where they part, and why."""

import re
import shutil
from collections.abc import Iterator, Sequence
from typing import Final

from gateway.credentials.explaining import Explanation

_LINE = re.compile(r"[^\n]*\n|[^\n]+")
_NAME: Final = 14  # columns for the names of elements, with the mark before them
_GAP: Final = 2
_ESCAPES: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\"}


def as_json(explained: Explanation) -> dict[str, object]:
    """The whole explanation, for programs."""
    difference = explained.difference
    return {
        "verified": explained.verified,
        "draft": explained.draft,
        "algorithm": explained.algorithm,
        "causes": [{"name": cause.name, "description": cause.said} for cause in explained.causes],
        "gateway_string": explained.gateway.decode("latin-1") if explained.elements else None,
        "client_string": None if explained.client is None else explained.client.decode("latin-1"),
        "first_difference": None
        if difference is None
        else {
            "line": difference.line,
            "element": element_at(explained, difference.line),
            "character": difference.character,
            "client": difference.client,
            "gateway": difference.gateway,
        },
        "remarks": list(explained.remarks),
    }


def as_text(explained: Explanation) -> str:
    """The whole explanation, for people."""
    lines = ["verifies" if explained.verified else "does not verify"]
    if explained.draft is not None:
        lines[0] += f" (draft {explained.draft}, {explained.algorithm})"
    lines += [f"  {words(cause.name)}: {_escaped(cause.said, quiet=True)}" for cause in explained.causes]
    lines += [f"  note: {remark}" for remark in explained.remarks]
    if explained.elements:
        width = min(max(shutil.get_terminal_size((100, 24)).columns, 80), 160)
        lines += ["", *_side_by_side(explained, width)]
    difference = explained.difference
    if difference is not None:
        place = f"line {difference.line} ({element_at(explained, difference.line)}), character {difference.character}"
        both = f"the client has {_shown(difference.client)}, the gateway has {_shown(difference.gateway)}"
        lines += ["", f"first difference: {place}: {both}"]
    return "\n".join(lines)


def string_by_line(text: bytes, elements: Sequence[str]) -> list[str]:
    """One normalised string, each line with the name of its element."""
    return [f"  {name:<{_NAME - 2}}{_escaped(line)}" for name, line in zip(elements, _lines(text), strict=False)]


def words(name: str) -> str:
    """A cause's name as it is read."""
    return name.replace("_", " ")


def element_at(explained: Explanation, line: int) -> str:
    """The name of the element in a line of the gateway's string, or what is said of one behind them; counted from 1."""
    return explained.elements[line - 1] if line <= len(explained.elements) else "after the last element"


def _side_by_side(explained: Explanation, width: int) -> Iterator[str]:
    ours, theirs = _lines(explained.gateway), [] if explained.client is None else _lines(explained.client)
    columns = 1 if explained.client is None else 2
    cell = (width - _NAME - _GAP * (columns - 1)) // columns
    headings = ("gateway expects",) if columns == 1 else ("client signed", "gateway expects")
    yield _row("", headings, cell)
    difference = explained.difference
    for index in range(max(len(ours), len(theirs))):
        texts = [lines[index] if index < len(lines) else "" for lines in ((ours,) if columns == 1 else (theirs, ours))]
        differs = difference is not None and difference.line == index + 1
        at = difference.character - 1 if differs and difference is not None else None
        yield from _rows(element_at(explained, index + 1), texts, cell, at)


def _rows(name: str, texts: Sequence[str], cell: int, at: int | None) -> Iterator[str]:
    """One element in its columns, in as many rows as it needs, with a mark below the character `at`."""
    shown = [_escaped(text) for text in texts]
    marks = [None if at is None else len(_escaped(text[:at])) for text in texts]
    named = f"{'  ' if at is None else '> '}{name}"
    for start in range(0, max(1, *map(len, shown)), cell):
        yield _row(named if start == 0 else "", [text[start : start + cell] for text in shown], cell)
        here = [mark - start if mark is not None and start <= mark < start + cell else None for mark in marks]
        if any(mark is not None for mark in here):
            yield _row("", ["" if mark is None else " " * mark + "^" for mark in here], cell)


def _row(name: str, cells: Sequence[str], width: int) -> str:
    return f"{name:<{_NAME}}{(' ' * _GAP).join(cell.ljust(width) for cell in cells)}".rstrip()


def _lines(text: bytes) -> list[str]:
    return _LINE.findall(text.decode("latin-1"))


def _shown(character: str) -> str:
    return f'"{_escaped(character)}"' if character else "nothing more"


def _escaped(text: str, *, quiet: bool = False) -> str:
    """For a terminal: nothing that it would act on, and line ends to be seen; `quiet` leaves backslashes alone."""
    return "".join(
        mark if " " <= mark <= "~" and (quiet or mark != "\\") else _ESCAPES.get(mark, f"\\x{ord(mark):02x}")
        for mark in text
    )
