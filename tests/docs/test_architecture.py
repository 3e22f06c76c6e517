"""docs/architecture.md: what it points at is there, and the layers are those that the checks hold."""

import re
import tomllib

from tests.serving import ROOT

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def test_every_place_that_is_named_exists() -> None:
    named = re.findall(r"`([\w./-]+(?:/|\.(?:py|toml)))`", TEXT)
    assert len(named) > 20
    missing = [place for place in named if not ((ROOT / place).exists() or (ROOT / "gateway" / place).exists())]
    assert missing == []


def test_layers_are_those_that_are_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [contract] = [one for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    checked = [name.removeprefix("gateway.") for layer in contract["layers"] for name in layer.split(" | ")]
    section = TEXT.partition("## Layers")[2].partition("\n## ")[0]
    told = re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)))
    assert set(told) == set(checked) - {"__main__", "memory", "resources"}
    order = {name: depth for depth, layer in enumerate(contract["layers"]) for name in re.findall(r"\w+", layer)}
    assert [order[name] for name in told] == sorted(order[name] for name in told)
