"""Every module of the OpenID Foundation's lists ends as docs/standards.md says, and none fails."""

from collections import Counter
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from gateway.crypto import Keyring
from tests.conformance.rig import Module, Provider, Skipped, played, provider
from tests.conformance.table import COMMAND, ORDER, plans, told
from tests.conftest import cloned_store
from tests.counts import LONG

pytestmark = pytest.mark.asyncio(loop_scope="module")
_PACE = 1.0 if LONG else 0.05  # of the half minute in which a code grows old


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def op(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> AsyncIterator[Provider]:
    """One provider for all of them."""
    folder = tmp_path_factory.mktemp("conformance")
    async with (
        cloned_store(server, template, keyring) as (dsn, store),
        provider(dsn, store, folder, pace=_PACE) as found,
    ):
        yield found


@pytest.mark.parametrize(("plan", "one"), plans(), ids=[f"{plan}-{one.name}" for plan, one in plans()])
async def test_module(op: Provider, plan: str, one: Module) -> None:
    outcome = await played(op, one, plan)
    assert outcome.result != "failed", outcome.reason
    assert told().get((plan, one.name)) == (outcome.result, outcome.reason), f"write it anew: {COMMAND}"


async def test_the_page_names_these_modules_and_every_warning_has_its_reason() -> None:
    rows = told()
    assert rows.keys() == {(plan, one.name) for plan, one in plans()}
    assert Counter(plan for plan, _ in rows) == {
        "Basic": 38, "Form Post": 38, "Config": 1, "RP-Initiated": 11, "Back-Channel": 2, "Front-Channel": 2,
    }  # fmt: skip
    assert set(ORDER) == {plan for plan, _ in rows}
    assert all(bool(reason) == (result != "passed") for result, reason in rows.values())


async def test_a_module_that_finds_a_fault_fails_and_says_which(op: Provider) -> None:
    """Else a table without failures would say nothing."""

    async def wrong(_: object) -> None:
        raise AssertionError("a fault")

    async def left_out(_: object) -> None:
        raise Skipped("not here")

    outcomes = [await played(op, Module("one", ("Basic",), play), "Basic") for play in (wrong, left_out)]
    assert [(one.result, one.reason) for one in outcomes] == [("failed", "a fault"), ("skipped", "not here")]
