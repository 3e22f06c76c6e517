"""Each kind of secret that the code makes is told by its prefix, and stands in docs/security.md."""

import re

from gateway.crypto import Keyring
from tests.serving import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
PREFIX = re.compile(r'"(gw[a-z]_)"')


def test_each_prefix_is_on_the_page_and_stands_for_one_kind() -> None:
    made = {found for path in (ROOT / "gateway").rglob("*.py") for found in PREFIX.findall(path.read_text("utf-8"))}
    rows = [line.split(" | ") for line in PAGE.splitlines() if line.startswith("| `gw")]
    told = [prefix for what in rows for prefix in re.findall(r"gw[a-z]_", " ".join(what[:2]))]
    assert sorted(told) == sorted(made)


def test_all_but_the_last_three_have_a_keyed_check(keyring: Keyring) -> None:
    rows = [line.partition(" | ")[0] for line in PAGE.splitlines() if line.startswith("| `gw")]
    for prefix in re.findall(r"gw[a-z]_", " ".join(rows[:-3])):
        token = keyring.new_token(prefix)
        assert keyring.is_ours(token, prefix)
