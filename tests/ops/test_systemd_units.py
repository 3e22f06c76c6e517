"""The units of `ops/systemd`: what systemd says of them."""

import re
import shutil
import subprocess

import pytest

from tests.serving import ROOT

ANALYZE = shutil.which("systemd-analyze")
UNITS = ROOT / "ops" / "systemd"
pytestmark = pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")


def said(*arguments: str) -> tuple[int, str]:
    assert ANALYZE is not None
    done = subprocess.run([ANALYZE, "--no-pager", *arguments], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_service_is_exposed_as_little_as_the_manual_says() -> None:
    code, text = said("security", "--offline=true", "--threshold=25", str(UNITS / "gateway.service"))
    found = re.search(r"Overall exposure level for gateway.service: ([0-9.]+)", text)
    assert found is not None, text
    assert float(found[1]) <= 2.5
    assert code == 0


@pytest.mark.parametrize("unit", ["gateway.service", "gateway.socket"])
def test_units_have_nothing_that_systemd_does_not_know(unit: str) -> None:
    _, text = said("verify", "--man=no", str(UNITS / unit))
    ours = [line for line in text.splitlines() if "gateway." in line and "/opt/gateway/bin/gateway" not in line]
    assert ours == []
