"""The time by which everything lives and dies: a leap of a clock neither ends what lives nor revives what is dead."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from gateway.store import Clock
from gateway.store.clock import LEAP

DAY = 86400.0
START = 1_800_000_000.0


class Machine:
    """A machine whose clock a test sets, and a database with a clock of its own."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.passed, self.ahead, self.server_ahead = 0.0, ahead, 0.0
        self.clock = Clock(system=lambda: START + self.passed + self.ahead, elapsed=lambda: self.passed)

    def after(self, seconds: float, *, compared: bool = True) -> float:
        """How far the time is from what it should be, so much later."""
        self.passed += seconds
        if compared:
            self.clock.compare(START + self.passed + self.server_ahead)
        return round(self.clock.seconds() - START - self.passed, 6)


@pytest.mark.parametrize("leap", [100 * DAY, -100 * DAY, 2 * LEAP, -2 * LEAP])
@pytest.mark.parametrize("compared", [True, False])
def test_leap_of_the_machine_s_clock_is_not_followed_and_is_said_once(leap: float, compared: bool) -> None:
    machine = Machine()
    assert machine.after(1) == 0
    machine.ahead = leap
    with capture_logs() as lines:
        assert [machine.after(1, compared=compared) for _ in range(3)] == [0, 0, 0]
    (line,) = lines
    assert (line["log_level"], line["seconds"]) == ("warning", leap)
    assert "clock has jumped" in line["event"]
    assert "NTP" in line["mend"]


@pytest.mark.parametrize("leap", [100 * DAY, -100 * DAY])
def test_clock_that_was_put_right_counts_again(leap: float) -> None:
    machine = Machine()
    machine.after(1)
    machine.ahead = leap
    machine.after(1)
    with capture_logs() as lines:
        machine.ahead = 0
        assert [machine.after(1), machine.after(DAY), machine.after(1)] == [0, 0, 0]
    assert [line["event"] for line in lines] == ["this machine's clock is right again"]
    machine.ahead = 10.0
    assert machine.after(1) == 10  # it is followed again


def test_clock_is_followed_where_it_differs_a_little_and_never_goes_back() -> None:
    machine = Machine()
    machine.after(1)
    machine.ahead = 30
    assert machine.after(1) == 30
    machine.ahead = 10
    assert [machine.after(seconds) for seconds in (0, 5, 5, 10, 5)] == [30, 25, 20, 10, 10]


@pytest.mark.parametrize("ahead", [100 * DAY, 2 * LEAP])
def test_worker_that_begins_ahead_is_put_right_by_the_database(ahead: float) -> None:
    machine = Machine(ahead)
    assert machine.after(1, compared=False) == ahead
    with capture_logs() as lines:
        assert [machine.after(1), machine.after(1)] == [0, 0]
    assert [line["log_level"] for line in lines] == ["warning"]
    machine.ahead = 0
    assert machine.after(1) == 0


def test_leap_that_the_database_confirms_is_followed() -> None:
    machine = Machine(-3600)  # it was behind, and so was the database
    machine.server_ahead = -3600
    assert machine.after(1) == -3600
    machine.ahead = machine.server_ahead = 0
    assert [machine.after(1), machine.after(1)] == [0, 0]


def test_leap_ahead_of_both_is_undone_with_them() -> None:
    machine = Machine()
    machine.after(1)
    machine.ahead = machine.server_ahead = 100 * DAY
    assert machine.after(1) == 100 * DAY
    machine.ahead = machine.server_ahead = 0
    assert [machine.after(1), machine.after(1)] == [0, 0]


def test_clocks_that_are_both_set_back_revive_nothing() -> None:
    machine = Machine()
    machine.after(1)
    machine.ahead = machine.server_ahead = -DAY
    with capture_logs() as lines:
        assert [machine.after(1), machine.after(10), machine.after(DAY)] == [0, 0, 0]
    assert len(lines) == 2  # the machine's clock leapt, and the database's is another
    machine.ahead = machine.server_ahead = 0
    assert machine.after(1) == 0


@pytest.mark.parametrize("leap", [100 * DAY, -100 * DAY])
def test_database_whose_clock_leaps_alone_is_not_followed(leap: float) -> None:
    machine = Machine()
    machine.after(1)
    machine.server_ahead = leap
    with capture_logs() as lines:
        assert [machine.after(1), machine.after(1)] == [0, 0]
        machine.server_ahead = 0
        assert machine.after(1) == 0
    assert [line["log_level"] for line in lines] == ["warning", "info"]


_STEPS = st.tuples(st.floats(0, 500), st.sampled_from([0.0, 30.0, -30.0, DAY, -DAY, 100 * DAY]), st.booleans())


# Small differences add up, and look like a leap that is undone.
@example(steps=[(0, DAY, False), (0, -30.0, False), (0, 30.0, True), (0, DAY, False), (0, 0.0, False), (0, 30.0, True)])
@given(steps=st.lists(_STEPS, max_size=20))
def test_time_goes_on_by_the_second_whatever_the_machine_s_clock_does(steps: list[tuple[float, float, bool]]) -> None:
    machine = Machine()
    machine.after(0)
    latest: Callable[[], float] = machine.clock.seconds
    before = latest()
    for seconds, ahead, compared in steps:
        machine.ahead = ahead
        assert abs(machine.after(seconds, compared=compared)) <= 2 * LEAP
        assert latest() >= before
        before = latest()
