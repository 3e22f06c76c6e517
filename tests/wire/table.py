"""The wire table: what requests and answers may look like, and what becomes of each."""

from collections.abc import Sequence

from tests.wire import (
    answer_bodies,
    answer_heads,
    chunks,
    exchanges,
    fields,
    framing,
    hygiene,
    request_lines,
    targets,
)
from tests.wire.answers import Answer
from tests.wire.rows import Row

TOPICS: dict[str, Sequence[Row] | Sequence[Answer]] = {
    "request lines": request_lines.ROWS,
    "Host and fields": fields.ROWS,
    "framing": framing.ROWS,
    "chunks": chunks.ROWS,
    "targets": targets.ROWS,
    "fields upwards": hygiene.ROWS,
    "limits, upgrades, HTTP/1.0": exchanges.ROWS,
    "heads of answers": answer_heads.ROWS,
    "bodies of answers": answer_bodies.ROWS,
}
REQUESTS: list[Row] = [row for rows in TOPICS.values() for row in rows if isinstance(row, Row)]
ANSWERS: list[Answer] = [row for rows in TOPICS.values() for row in rows if isinstance(row, Answer)]
