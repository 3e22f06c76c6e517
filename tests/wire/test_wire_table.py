"""The wire table against the gateway: each row whole, byte by byte, behind a good request, and second."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.wire.answers import Answer
from tests.wire.judge import WAYS, judge, play
from tests.wire.judge_answers import hear, judge_answer
from tests.wire.rig import WireRig, wire_rig
from tests.wire.rows import Row
from tests.wire.table import ANSWERS, REQUESTS


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WireRig]:
    """One gateway for all rows of a process."""
    async with wire_rig(tmp_path_factory.mktemp("wire")) as running:
        yield running


def test_the_table_has_distinct_rows() -> None:
    assert len(REQUESTS) >= 400
    assert len({row.name for row in REQUESTS}) == len(REQUESTS)
    assert len({(row.data, row.ends) for row in REQUESTS}) == len(REQUESTS)
    assert len({answer.name for answer in ANSWERS}) == len(ANSWERS)
    assert len({(answer.data, answer.request) for answer in ANSWERS}) == len(ANSWERS)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("row", REQUESTS, ids=[row.name for row in REQUESTS])
async def test_a_request_means_the_same_on_both_sides(row: Row, wire: WireRig) -> None:
    for way in WAYS:
        assert judge(row, await play(row, way, wire.port, wire.recorder)) == [], way


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("answer", ANSWERS, ids=[answer.name for answer in ANSWERS])
async def test_an_answer_is_relayed_whole_or_not_at_all(answer: Answer, wire: WireRig) -> None:
    for way in WAYS:
        assert judge_answer(answer, await hear(answer, way, wire.port, wire.recorder)) == [], way
