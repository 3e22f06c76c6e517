"""The schema that is committed for readers is the one that the migrations make."""

from tests.store.schema import COMMAND, FILE, schema


async def test_the_committed_schema_is_what_the_migrations_make(database: str) -> None:
    assert FILE.read_text(encoding="utf-8") == await schema(database), f"write it anew: {COMMAND}"
