"""What counts of a cached token, whatever order answers and changes come in."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.guard.ledger import LEASE, Ledger
from gateway.model import AccessToken, Identity
from gateway.store.clock import since_boot

TOKEN = AccessToken(
    digest=b"d" * 32,
    identity=Identity(subject="u1", client_id="c1"),
    scopes=frozenset({"read"}),
    token_type="bearer",
    audience=(),
    issued_at=datetime(2026, 1, 1, tzinfo=UTC),
    expires_at=datetime(2026, 1, 2, tzinfo=UTC),
    mac_key=None,
    mac_algorithm=None,
    mac_drafts=(),
    family_id="t1",
    grant_id="g1",
)

ORIGINS = [("token", "64" * 32), ("family", "t1"), ("grant", "g1"), ("client", "c1"), ("user", "u1")]
STRANGERS = [("token", "65" * 32), ("family", "t2"), ("grant", "g2"), ("client", "c2"), ("user", "u2"), ("user", "c1")]


@pytest.mark.parametrize("change", ORIGINS)
def test_change_of_what_a_token_hangs_on_touches_it_from_then_on(change: tuple[str, str]) -> None:
    ledger = Ledger()
    marks = ledger.marks(TOKEN)
    before = ledger.position
    assert ledger.untouched(marks, before)
    ledger.apply([change])
    assert not ledger.untouched(marks, before)
    assert ledger.untouched(marks, ledger.position)  # verified again since
    ledger.apply([("client", "c2")])
    assert not ledger.untouched(marks, before)


@pytest.mark.parametrize("change", STRANGERS)
def test_change_of_something_else_touches_nothing(change: tuple[str, str]) -> None:
    ledger = Ledger()
    marks = ledger.marks(TOKEN)
    ledger.apply([change])
    assert ledger.untouched(marks, 0)  # but for one mark in 65,536 that two things share


def test_token_without_family_grant_or_person_hangs_on_what_it_has() -> None:
    ledger = Ledger()
    lone = replace(TOKEN, family_id=None, grant_id=None, identity=Identity(subject="c1", client_id="c1"))
    marks = ledger.marks(lone)
    ledger.apply([("family", "t1"), ("grant", "g1"), ("user", "u1")])
    assert ledger.untouched(marks, 0)
    ledger.apply([("client", "c1")])
    assert not ledger.untouched(marks, 0)


@pytest.mark.parametrize("kind", ["all", "planet", ""])
def test_change_of_a_kind_that_is_not_known_could_mean_anything(kind: str) -> None:
    ledger = Ledger()
    ledger.apply([(kind, "x")])
    assert not ledger.untouched(ledger.marks(TOKEN), 0)
    assert ledger.untouched(ledger.marks(TOKEN), ledger.position)


def test_nothing_from_before_a_new_beginning_counts() -> None:
    ledger = Ledger()
    before = ledger.position
    ledger.forget(2.0)
    assert ledger.server == 2.0
    assert not ledger.untouched(ledger.marks(TOKEN), before)
    assert ledger.untouched(ledger.marks(TOKEN), ledger.position)


def test_reading_without_changes_moves_nothing() -> None:
    ledger = Ledger()
    ledger.apply([])
    assert ledger.position == 0


@pytest.mark.parametrize(("stale_for", "lasts"), [(0.0, LEASE), (60.0, LEASE + 60)])
def test_lease_counts_from_when_the_reading_was_sent(stale_for: float, lasts: float) -> None:
    ledger = Ledger(stale_for=stale_for, elapsed=lambda: 1000.0)
    assert ledger.elapsed() >= ledger.holds_until  # nothing has been read yet
    ledger.renew(sent_at=999.0)
    assert ledger.holds_until == 999.0 + lasts


def test_elapsed_time_never_goes_back() -> None:
    times = [since_boot() for _ in range(1000)]
    assert times == sorted(times)


CHANGES = st.lists(st.lists(st.sampled_from(ORIGINS + STRANGERS), max_size=4), max_size=12)


@given(readings=CHANGES, asked=st.integers(0, 12))
def test_token_counts_only_if_no_reading_since_its_question_named_it(
    readings: list[list[tuple[str, str]]], asked: int
) -> None:
    ledger = Ledger()
    marks, verified = ledger.marks(TOKEN), None
    named = False
    for number, changes in enumerate(readings):
        if number == asked:
            verified = ledger.position
        ledger.apply(changes)
        named = named or (verified is not None and any(change in ORIGINS for change in changes))
        if verified is not None:
            assert ledger.untouched(marks, verified) is not named


@given(changes=st.lists(st.tuples(st.sampled_from(["family", "grant", "client", "user"]), st.text(max_size=4))))
def test_no_change_is_ever_lost_among_many(changes: list[tuple[str, str]]) -> None:
    ledger = Ledger()
    for kind, key in changes:
        names = {"family": "", "grant": "", "client": "", "user": ""} | {kind: key}
        token = replace(
            TOKEN,
            identity=Identity(subject=names["user"], client_id=names["client"]),
            family_id=names["family"],
            grant_id=names["grant"],
        )
        marks, before = ledger.marks(token), ledger.position
        ledger.apply([(kind, key)])
        assert not ledger.untouched(marks, before)
