"""What a test sees in the database past the commands."""

import asyncpg

from tests.cli.conftest import Terminal


async def in_database(gateway: Terminal, query: str) -> object:
    """The first value that a query gives."""
    connection = await asyncpg.connect(gateway.config.with_name("dsn").read_text())
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
