"""What the image and its composition run beside the gateway itself: the health check, and the script for Postgres.

The image as such was built and run by hand: docs/deploying.md says how.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import asyncpg

from gateway.supervisor.programs import find_binaries
from tests.databases import in_database
from tests.doctor.conftest import run
from tests.serving import ROOT, serving

CONTAINER = ROOT / "ops" / "container"


async def test_health_check_passes_while_the_gateway_answers_and_fails_while_it_does_not(
    tmp_path: Path, database: str
) -> None:
    text = (CONTAINER / "Containerfile").read_text(encoding="utf-8")
    found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", text, re.MULTILINE)
    assert found is not None
    _, *arguments = json.loads(found[1])

    async with serving(tmp_path, dsn=database) as gateway:
        address = gateway.admin_url.removeprefix("http://")
        command = [sys.executable, *(argument.replace("127.0.0.1:9901", address) for argument in arguments)]

        async def outcome() -> int:
            process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.DEVNULL)
            return await process.wait()

        assert await outcome() == 0
        gateway.process.send_signal(signal.SIGSTOP)
        try:
            assert await outcome() == 1
        finally:
            gateway.process.send_signal(signal.SIGCONT)
        assert await outcome() == 0
        await gateway.stop()
        assert await outcome() == 1


async def test_the_role_of_the_gateway_is_made_with_the_password_that_postgres_was_given(
    server_of_ones_own: str, tmp_path: Path
) -> None:
    """The image of Postgres reads the secret as root, and runs scripts as a user that may not: it passes it on."""
    text = (CONTAINER / "database.sh").read_text(encoding="utf-8")
    # The embedded server's own role and database have these names already.
    script = tmp_path / "database.sh"
    script.write_text(re.sub(r"\b(ROLE|DATABASE|OWNER) gateway\b", r"\1 serving", text), encoding="utf-8")
    query = parse_qs(urlsplit(server_of_ones_own).query)
    environment = {
        "PATH": f"{find_binaries()}:{os.environ['PATH']}",
        "POSTGRES_USER": "gateway",
        "POSTGRES_PASSWORD": "it's obviously-fake",
        "PGHOST": query["host"][0],
        "PGPORT": query["port"][0],
        "PGDATABASE": "postgres",
    }
    done = subprocess.run(["sh", str(script)], env=environment, capture_output=True, text=True, check=False)  # noqa: ASYNC221
    assert (done.returncode, done.stderr) == (0, "")
    await run(in_database(server_of_ones_own, "serving"), "set role serving", "create table made ()")
    [(verifier,)] = await rows(server_of_ones_own, "select rolpassword from pg_authid where rolname = 'serving'")
    assert verifier.startswith("SCRAM-SHA-256$")


async def rows(dsn: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(dsn)
    try:
        found: list[asyncpg.Record] = await connection.fetch(statement)
        return found
    finally:
        await connection.close()
