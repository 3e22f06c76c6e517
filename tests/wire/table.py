"""The wire table: what requests and answers may look like, and what becomes of each."""

from tests.wire import answer_bodies, answer_heads, chunks, exchanges, fields, framing, hygiene, request_lines, targets
from tests.wire.answers import Answer
from tests.wire.rows import Row

REQUESTS: list[Row] = [
    *request_lines.ROWS,
    *fields.ROWS,
    *framing.ROWS,
    *chunks.ROWS,
    *targets.ROWS,
    *hygiene.ROWS,
    *exchanges.ROWS,
]

ANSWERS: list[Answer] = [*answer_heads.ROWS, *answer_bodies.ROWS]
