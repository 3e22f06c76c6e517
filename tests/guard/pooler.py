"""A real PgBouncer in transaction mode, between a gateway and the server of the tests."""

import asyncio
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from tests.folders import SHORT
from tests.serving import free_ports, until

PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

_SETTINGS = """
[databases]
* = host={socket} port={port} user=gateway
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 4
max_client_conn = 200
max_prepared_statements = {prepared}
ignore_startup_parameters = {swallowed}
server_fast_close = 1
{user}
"""


@asynccontextmanager
async def pooling(
    dsn: str, *, prepared: int = 200, swallowed: str = "", mode: str = "transaction"
) -> AsyncIterator[str]:
    """The DSN of a database that leads through a PgBouncer.

    It keeps `prepared` statements for each connection, and takes the settings `swallowed` without passing them on.
    """
    found = re.search(r"/([^/?]+)\?host=([^&]*)&port=(\d+)", dsn)
    assert found is not None
    assert PROGRAM is not None
    name, socket, port = found.groups()
    folder = Path(tempfile.mkdtemp(prefix="gwp-", dir=SHORT))
    owner = Path(socket).stat().st_uid  # whom the server lets in, and whom PgBouncer becomes when root starts it
    os.chown(folder, owner, -1)
    (listen,) = free_ports(1)
    user = f"user = {_name_of(owner)}" if os.geteuid() == 0 else ""
    config = folder / "pgbouncer.ini"
    config.write_text(
        _SETTINGS.format(
            socket=socket, port=port, listen=listen, prepared=prepared, swallowed=swallowed, user=user, mode=mode
        )
    )
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(PROGRAM, str(config), stdout=log, stderr=log)
    try:
        await until(lambda: _listens(listen))
        yield f"postgresql://gateway@127.0.0.1:{listen}/{name}"
    finally:
        process.kill()  # asked to end, it would wait for its clients
        await process.wait()
        shutil.rmtree(folder)


def _name_of(uid: int) -> str:
    import pwd

    return pwd.getpwuid(uid).pw_name


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True
