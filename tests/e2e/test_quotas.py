"""A quota of a day is exact: over all workers and gateways, and whoever is killed meanwhile."""

import asyncio
import os
import random
import signal
from pathlib import Path
from typing import Any, Final

from gateway.crypto import Keyring
from tests.e2e.test_rates import Load, gateways, port_of
from tests.serving import until
from tests.store.rig import fetch

QUOTA: Final = 1500
LIMITS: Final[dict[str, Any]] = {"quota": [{"by": "client", "limit": f"{QUOTA}/day"}]}


async def test_quota_raced_over_two_gateways_lets_exactly_so_many_pass(
    tmp_path: Path, database: str, keyring: Keyring
) -> None:
    async with gateways(tmp_path, database, keyring, 2, **LIMITS) as (made, token):
        load = await Load([port_of(one) for one in made], token).over(4.0, rate=600.0)
        assert (load.statuses[200], set(load.statuses)) == (QUOTA, {200, 429})
    [row] = await fetch(database, "select taken from quotas")
    assert row["taken"] == QUOTA


async def test_worker_that_is_killed_takes_along_what_it_had_and_lets_no_more_pass(
    tmp_path: Path, database: str, keyring: Keyring
) -> None:
    async with gateways(tmp_path, database, keyring, **LIMITS) as ([gateway], token):
        running = asyncio.create_task(Load([port_of(gateway)], token).over(4.5, rate=600.0))
        await until(lambda: fetch(database, "select from quotas where taken > 400"))
        os.kill(random.choice(gateway.workers).pid, signal.SIGKILL)
        load = await running
        lost = QUOTA // 16 + 50  # a block, and answers that were on their way
        assert QUOTA - lost <= load.statuses[200] <= QUOTA
    [row] = await fetch(database, "select taken from quotas")
    assert row["taken"] == QUOTA
