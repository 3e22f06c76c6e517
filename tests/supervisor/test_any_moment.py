"""Ended at any moment of its start, by kill -9 or by a signal, the gateway leaves nothing behind that hinders."""

import asyncio
import fcntl
import json
import os
import random
import signal
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.counts import scaled
from tests.serving import PATIENCE, PROGRAM, ROOT, Gateway, data_folder, serving, until, write_config

LONGEST_START = 2.0  # seconds, in which the moment is drawn


def processes_of(data_dir: Path) -> list[psutil.Process]:
    """Every process that has this folder in its arguments, and workers whose parent is gone."""
    found = list[psutil.Process]()
    for process in psutil.process_iter(["cmdline", "environ", "status"]):
        if process.info["status"] == psutil.STATUS_ZOMBIE:
            continue
        known = (process.info["environ"] or {}).get("GATEWAY_TEST_MARK")
        if known == str(data_dir) or any(str(data_dir) in part for part in process.info["cmdline"] or []):
            found.append(process)
    return found


def nothing_is_left(data_dir: Path) -> bool:
    return not processes_of(data_dir)


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGTERM])
async def test_a_start_that_is_broken_off_leaves_no_process_and_the_next_one_succeeds(
    tmp_path: Path, signum: signal.Signals
) -> None:
    moments = random.Random(20)  # the same moments in every run
    with data_folder(tmp_path) as data_dir:
        config, _, _ = write_config(tmp_path, data_dir)
        for _ in range(scaled(50)):
            process = await asyncio.create_subprocess_exec(
                *(*PROGRAM, "serve", "--config", str(config)),
                stderr=asyncio.subprocess.PIPE,
                env={**os.environ, "GATEWAY_TEST_MARK": str(data_dir)},
                cwd=ROOT,
            )
            await asyncio.sleep(moments.uniform(0.0, LONGEST_START))
            process.send_signal(signum)
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert b"Traceback" not in said
            if signum is signal.SIGTERM:  # before it listens to signals it has nothing to end
                assert process.returncode in (0, -signal.SIGTERM), said.decode()
            await until(partial(nothing_is_left, data_dir))
        keys = {"master": {"file": str(data_dir / "master.key")}}
        async with serving(tmp_path, database={"data_dir": str(data_dir)}, keys=keys) as gateway:
            assert await gateway.status("/.well-known/oauth-authorization-server") == 200


async def test_a_start_that_waits_is_alive_and_ends_at_a_signal(tmp_path: Path) -> None:
    with data_folder(tmp_path) as data_dir:
        config, url, admin_url = write_config(tmp_path, data_dir)
        data_dir.mkdir(mode=0o711)
        with (data_dir / "postgres.turn.lock").open("w") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)  # as a command does that starts or stops the database
            process = await asyncio.create_subprocess_exec(
                *(*PROGRAM, "serve", "--config", str(config)), stderr=asyncio.subprocess.PIPE, cwd=ROOT
            )
            waiting = Gateway(url, admin_url, config, data_dir, process, tmp_path / "none", 2)

            async def is_alive() -> bool:
                return await waiting.status("/healthz", admin=True) == 200

            await until(is_alive)
            assert await waiting.status("/readyz", admin=True) == 503
            process.terminate()
            _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0
        assert [json.loads(line)["event"] for line in said.splitlines()] == ["stopping", "stopped"]
