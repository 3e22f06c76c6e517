"""Two roles on one server: the owner migrates, another one serves with less (docs/database.md)."""

import asyncio
import json
import sys
from pathlib import Path

from gateway.store.migrations import migrations
from tests.serving import ROOT, serving, write_config
from tests.store.test_privileges import grant_all, serving_role


async def gateway(config: Path, *arguments: str) -> tuple[int, str, list[str]]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gateway", *arguments, "--config", str(config)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=ROOT,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode().splitlines()


def pasteable(err: list[str]) -> list[str]:
    """The statements on stderr: lines of their own from a command, members of a line of the log from the service."""
    found = [line for line in err if line.startswith("GRANT ")]
    for line in err:
        found += json.loads(line).get("statements", []) if line.startswith("{") else []
    return found


async def test_a_role_that_lacks_privileges_is_told_the_grants_and_serves_once_they_are_given(
    tmp_path: Path, database: str
) -> None:
    async with serving_role(database, granted=False) as (role, dsn):
        config, _, _ = write_config(tmp_path, tmp_path / "data", dsn=dsn)
        for arguments in (("migrate", "--status"), ("serve",)):
            code, out, err = await gateway(config, *arguments)
            assert (code, out) == (1, ""), err
            grants = pasteable(err)
            assert any("lacks privileges that serving needs; as gateway run:" in line for line in err)
            assert grants
            assert all(line.endswith(f" TO {role};") for line in grants)
            assert any("TRUNCATE" in line for line in grants)
        await grant_all(database, dsn)
        code, out, err = await gateway(config, "migrate", "--status", "--json")
        assert (code, err) == (0, [])
        assert [row["name"] for row in json.loads(out)] == [one.name for one in migrations()]
        async with serving(tmp_path, dsn=dsn, workers=1) as served:
            assert await served.run("client", "create", "--name", "x")


async def test_the_owner_migrates_and_the_role_that_serves_is_told_to_leave_it_to_the_owner(
    tmp_path: Path, empty_database: str
) -> None:
    async with serving_role(empty_database, granted=False) as (_, dsn):
        served, _, _ = write_config(tmp_path, tmp_path / "data", dsn=dsn)
        code, _, [line] = await gateway(served, "migrate")
        assert code == 1
        assert "may not change the schema (permission denied for schema public); run `gateway migrate` as the" in line
        folder = tmp_path / "owner"
        folder.mkdir()
        owner, _, _ = write_config(folder, folder / "data", dsn=empty_database)
        assert (await gateway(owner, "migrate"))[0] == 0
        await grant_all(empty_database, dsn)
        assert (await gateway(served, "migrate"))[1] == "nothing to apply: the database is up to date\n"
