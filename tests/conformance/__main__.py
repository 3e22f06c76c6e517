"""Play every module, print the table, and write it into docs/standards.md; ends with 1 where one failed."""

import asyncio
import shutil
import sys
from pathlib import Path

from gateway.crypto import Keyring
from gateway.store import Store
from gateway.store.migrations import migrate
from gateway.supervisor import embedded
from tests.conformance.rig import Outcome, provider
from tests.conformance.table import all_played, table, write
from tests.conftest import new_data_dir


async def _play(folder: Path) -> list[Outcome]:
    async with embedded.Server(folder / "data") as server:
        await migrate(server.dsn)
        store = await Store.open(server.dsn, Keyring(b"obviously-a-fake-key-for-tests!!"), size=2, name="conformance")
        try:
            async with provider(server.dsn, store, folder, pace=1.0) as op:
                return await all_played(op)
        finally:
            await store.close()


def main() -> int:
    folder = new_data_dir()
    try:
        outcomes = asyncio.run(_play(folder))
    finally:
        shutil.rmtree(folder)
    write(outcomes)
    print(table(outcomes))
    return int(any(one.result == "failed" for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
