"""What a process counts is read by another one, whole and while it counts, and does not end with it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from gateway import figures
from gateway.figures import CALLS, CHANGE_LOG_AGE, PASSWORD_CHECKS_WAITING, REFUSALS, Sum, Value


@pytest.fixture
def memory() -> Iterator[int]:
    """Memory that another process may count in."""
    opened = figures.memory_for_one()
    yield opened
    os.close(opened)


def counted(memory: int, program: str) -> dict[tuple[str, ...], tuple[float, ...]]:
    """What a process that runs this and is killed then has counted, by the name and the labels."""
    code = f"import os, signal; from gateway import figures; figures.share({memory}); {program}"
    command = [sys.executable, "-c", f"{code}; os.kill(os.getpid(), signal.SIGKILL)"]
    ended = subprocess.run(command, pass_fds=[memory], capture_output=True, check=False)
    assert ended.returncode == -9, ended.stderr.decode()
    return {(value.figure.name, *value.labels): value.cells for value in figures.read(memory)}


def test_killed_process_leaves_what_it_has_counted(memory: int) -> None:
    found = counted(memory, "[figures.REFUSALS.add(1.0, 'notes', 'lacks') for _ in range(1000)]")
    assert found == {("gateway_refusals", "notes", "lacks"): (1000.0,)}


def test_histogram_counts_each_value_in_its_bucket_and_in_those_above_it(memory: int) -> None:
    (cells,) = counted(memory, "[figures.CALLS.observe(s, 'a', 'GET', '2xx') for s in (0.001, 0.002, 60.0)]").values()
    value = Value(CALLS, ("a", "GET", "2xx"), cells)
    assert value.running[:2] == [1.0, 2.0]
    assert value.running[-2:] == [2.0, 3.0]
    assert value.cells[-1] == pytest.approx(60.003)


def test_whatever_stands_for_a_label_is_read_as_it_was(memory: int) -> None:
    odd = "".join(map(chr, range(256))) + "☃"
    assert counted(memory, f"figures.REFUSALS.add(2.0, {odd!r}, '')") == {("gateway_refusals", odd, ""): (2.0,)}


def test_what_finds_no_place_is_not_counted_and_costs_nothing_else(memory: int) -> None:
    found = counted(memory, "[figures.CALLS.observe(1.0, str(n), 'x' * 9000, '') for n in range(2000)]")
    assert 800 < len(found) < 1000
    assert all(sum(cells[:-1]) == 1.0 for cells in found.values())


def test_sum_adds_counts_and_keeps_the_largest_of_ages_and_nothing_of_what_an_ended_one_was() -> None:
    first = [
        Value(REFUSALS, ("a", ""), (1.0,)),
        Value(CHANGE_LOG_AGE, (), (3.0,)),
        Value(PASSWORD_CHECKS_WAITING, (), (4.0,)),
    ]
    total = Sum()
    total.add(first)
    total.add(first)
    total.add(first, ended=True)
    assert {value.figure.name: value.cells for value in total.values()} == {
        "gateway_refusals": (3.0,),
        "gateway_change_log_age_seconds": (3.0,),
        "gateway_password_checks_waiting": (8.0,),
    }


def test_every_figure_is_declared_once_and_says_what_it_is() -> None:
    assert len(figures.FIGURES) == sum(isinstance(each, figures.Figure) for each in vars(figures).values())
    for figure in figures.FIGURES.values():
        assert figure.name.startswith("gateway_")
        assert figure.text.endswith(".")
        assert bool(figure.buckets) == (figure.kind == "histogram")
        assert list(figure.buckets) == sorted(figure.buckets)


def test_memory_that_nobody_counted_in_says_nothing(memory: int) -> None:
    assert list(figures.read(memory)) == []
