"""The states of connections and exchanges: what may follow what, and that nothing else does."""

from collections.abc import Mapping
from itertools import product

import pytest

from gateway.proxy.states import PHASES, STANDINGS, Phase, Standing, State, changed


@pytest.mark.parametrize(
    ("table", "now", "then"),
    [(STANDINGS, *pair) for pair in product(Standing, Standing)] + [(PHASES, *pair) for pair in product(Phase, Phase)],
)
def test_state_changes_as_its_table_says_and_no_other_way(
    table: Mapping[State, frozenset[State]], now: State, then: State
) -> None:
    if then in table[now]:
        assert changed(table, now, then) is then
    else:
        with pytest.raises(RuntimeError, match=f"{now.name} cannot become {then.name}"):
            changed(table, now, then)


def test_every_state_is_reached_and_only_the_last_ones_lead_nowhere() -> None:
    for table, first in ((STANDINGS, Standing.READING), (PHASES, Phase.JUDGING)):
        assert {first} | {then for leads in table.values() for then in leads} == set(table)
        assert [now for now, leads in table.items() if not leads] == [max(table)]
