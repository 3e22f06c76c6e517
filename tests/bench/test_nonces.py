"""The benchmark of nonces runs as its head says, and gives every figure."""

import asyncio
import re
import sys

from tests.serving import ROOT


async def test_short_run_prints_every_table() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.nonces", "--rounds", "1", "--seconds", "0.05", "--million", "2000"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    text = out.decode()
    for title in ("Spending", "Partitions that turn over", "all checks but the nonce", "Remembering and forgetting"):
        assert title in text
    for waiting in (1, 16, 64, 256):
        assert len(re.findall(rf"^\| {waiting} +\|", text, re.MULTILINE)) == 2
