"""The texts of errors (RFC 6749, section 5.2), as they stand in the program."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import gateway

PACKAGE = Path(gateway.__file__).parent
MAKERS = {
    "OAuthError",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "refusal",
    "unauthorized_client",
    "unsupported_grant_type",
}
ALLOWED = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")


def _texts(node: ast.expr) -> Iterator[str]:
    """What a literal says, and a formatted one but for what is put into it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str):
            yield part.value


def _told() -> Iterator[tuple[str, str]]:
    """The texts that strangers are told, each with where it stands; the cause after them is for the log."""
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            name = getattr(node.func, "id", getattr(node.func, "attr", "")) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and name in MAKERS:
                for argument in node.args[: 2 if name in ("OAuthError", "refusal") else 1]:
                    yield from ((f"{file.name}:{node.lineno}", text) for text in _texts(argument))


def test_every_text_is_of_the_characters_of_section_5_2() -> None:
    """Also RFC 6749, section 4.1.2.1 and RFC 6750, section 3: no quote, no backslash, nothing beyond ASCII."""
    told = list(_told())
    assert len(told) > 80, "nothing was looked at"
    assert not [(place, text) for place, text in told if ALLOWED.fullmatch(text) is None]
