"""`sql/schema.sql`: what the migrations make, as Postgres itself tells it, for readers and reviews.

    python -m tests.store.schema        writes it anew

Of the partitions of `nonces`, which differ by their number alone, the first stands for all.
"""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Final

from gateway.resources import folder
from gateway.store.migrations import migrate
from gateway.supervisor import embedded
from gateway.supervisor.programs import find_binaries
from tests.conftest import new_data_dir

FILE: Final = folder("sql") / "schema.sql"
COMMAND: Final = "python -m tests.store.schema"
_HEAD: Final = f"""\
-- The schema that sql/migrations/ makes, told by pg_dump. Do not edit: `{COMMAND}` writes it.
-- Of the 32 partitions of `nonces` the first stands for all.
"""
# What pg_dump says for psql, of the session and in headings; a function's body has none of it at a line's beginning.
_NOISE: Final = re.compile(r"^(?:--|SET |SELECT pg_catalog\.set_config|\\(?:un)?restrict ).*\n", re.MULTILINE)


async def schema(dsn: str) -> str:
    """The schema of a migrated database."""
    command = (find_binaries() / "pg_dump", "--schema-only", "--no-owner", "--exclude-table=nonces_[1-9]*", dsn)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    text, _ = await process.communicate()
    assert process.returncode == 0
    return _HEAD + re.sub(r"\n{3,}", "\n\n", "\n" + _NOISE.sub("", text.decode()).strip() + "\n")


async def _write(data_dir: Path) -> None:
    async with embedded.Server(data_dir) as server:
        await migrate(server.dsn)
        FILE.write_text(await schema(server.dsn), encoding="utf-8")


if __name__ == "__main__":
    parent = new_data_dir()
    try:
        asyncio.run(_write(parent / "data"))
    finally:
        shutil.rmtree(parent)
