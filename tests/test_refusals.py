"""The bound on lines of refusals: by cause and minute, and nothing is lost."""

import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import observe
from gateway.refusals import CAUSES, LINES, Refusals

LOG = observe.get_logger("gateway.test")


class _Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def _counts(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if "count" in line]


async def test_each_cause_has_its_own_lines_in_each_minute() -> None:
    time = _Time()
    refusals = Refusals(LOG, time)
    for _ in range(2):
        assert [refusals.admits(401, "a") for _ in range(LINES + 1)] == [*[True] * LINES, False]
        assert refusals.admits(401, "b")
        assert refusals.admits(403, "a")
        time.now += 60
    refusals.tell()


async def test_what_is_ours_is_never_held_back() -> None:
    refusals = Refusals(LOG)
    assert all(refusals.admits(503, "a") for _ in range(10 * LINES))


async def test_more_causes_than_anybody_needs_share_one_count(capsys: pytest.CaptureFixture[str]) -> None:
    refusals = Refusals(LOG)
    admitted = [refusals.admits(400, f"cause {number}") for number in range(CAUSES + LINES + 7)]
    assert sum(admitted) == CAUSES + LINES
    refusals.tell()
    (line,) = _counts(capsys)
    assert (line["cause"], line["count"]) == ("other causes", 7)


@given(st.lists(st.tuples(st.sampled_from((400, 401, 503)), st.sampled_from("abc"), st.integers(1, 80)), max_size=12))
async def test_lines_and_counts_add_up_to_all_refusals(floods: list[tuple[int, str, int]]) -> None:
    refusals, admitted, all_ = Refusals(LOG, _Time()), Counter[tuple[int, str]](), Counter[tuple[int, str]]()
    for status, cause, times in floods:
        for _ in range(times):
            all_[status, cause] += 1
            admitted[status, cause] += refusals.admits(status, cause)
    assert admitted + Counter(refusals.held) == all_
    refusals.tell()
    assert not refusals.held
