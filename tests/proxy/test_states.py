"""The states of connections and exchanges: what may follow what, and that nothing else does."""

from itertools import product
from typing import Any, cast

import pytest

from gateway.proxy.exchange import Exchange
from gateway.proxy.front import Front
from gateway.proxy.states import PHASES, STANDINGS, Phase, Standing


@pytest.mark.parametrize(("now", "then"), list(product(Standing, Standing)))
def test_connection_changes_as_its_table_says_and_no_other_way(now: Standing, then: Standing) -> None:
    front = Front(cast("Any", None), cast("Any", None))
    front.standing = now
    if then in STANDINGS[now]:
        front._go(then)
        assert front.standing is then
    else:
        with pytest.raises(RuntimeError, match=f"{now.name} cannot become {then.name}"):
            front._go(then)
        assert front.standing is now


@pytest.mark.parametrize(("now", "then"), list(product(Phase, Phase)))
def test_exchange_changes_as_its_table_says_and_no_other_way(now: Phase, then: Phase) -> None:
    exchange = Exchange.__new__(Exchange)
    exchange.phase = now
    if then in PHASES[now] or then is now:
        exchange._go(then)
        assert exchange.phase is then
    else:
        with pytest.raises(RuntimeError, match=f"{now.name} cannot become {then.name}"):
            exchange._go(then)
        assert exchange.phase is now


def test_every_state_is_reached_and_only_the_last_ones_lead_nowhere() -> None:
    for table, first in ((STANDINGS, Standing.READING), (PHASES, Phase.JUDGING)):
        assert {first} | {then for leads in table.values() for then in leads} == set(table)
        assert [now for now, leads in table.items() if not leads] == [max(table)]
