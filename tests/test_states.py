"""States by their tables: what may follow what, and that nothing else does."""

from collections.abc import Mapping
from enum import IntEnum
from itertools import product
from typing import Any

import pytest

from gateway.http1.body import CHUNKS, Awaited
from gateway.http1.reader import Stage
from gateway.http1.request import REQUESTS
from gateway.http1.response import ANSWERS
from gateway.proxy.states import PHASES, STANDINGS, Phase, Standing
from gateway.states import State, changed

TABLES: list[tuple[Mapping[Any, frozenset[Any]], set[IntEnum]]] = [  # and their last states
    (STANDINGS, {Standing.CLOSED}),
    (PHASES, {Phase.OVER}),
    (REQUESTS, {Stage.FAULTY}),
    (ANSWERS, {Stage.UPGRADED, Stage.FAULTY}),
    (CHUNKS, {Awaited.TRAILERS}),
]


@pytest.mark.parametrize(
    ("table", "now", "then"), [(table, *pair) for table, _ in TABLES for pair in product(table, table)]
)
def test_state_changes_as_its_table_says_and_no_other_way(
    table: Mapping[State, frozenset[State]], now: State, then: State
) -> None:
    if then in table[now]:
        assert changed(table, now, then) is then
    else:
        with pytest.raises(RuntimeError, match=f"{now.name} cannot become {then.name}"):
            changed(table, now, then)


@pytest.mark.parametrize(("table", "last"), TABLES)
def test_every_state_is_reached_and_only_the_last_ones_lead_nowhere(
    table: Mapping[State, frozenset[State]], last: set[State]
) -> None:
    assert {min(table)} | {then for leads in table.values() for then in leads} == set(table)
    assert {now for now, leads in table.items() if not leads} == last
