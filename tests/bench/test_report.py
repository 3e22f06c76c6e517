"""How measures become figures."""

from pathlib import Path

import pytest

from bench import report
from bench.loads import LOADS, Outcome
from bench.machine import Memory
from bench.peers import BASELINE, PEERS
from bench.report import Results, spread


def _results(**outcomes: list[Outcome]) -> Results:
    return Results([], {}, {("get", name): found for name, found in outcomes.items()})


def test_ratios_compare_within_a_round() -> None:
    results = _results(
        nginx=[Outcome(requests=100, cpu=1.0), Outcome(requests=100, cpu=4.0)],
        gateway=[Outcome(requests=100, cpu=2.0), Outcome(requests=50, cpu=4.0)],
    )
    assert results.ratios("get", "gateway") == [0.5, 0.5]


def test_ratios_leave_out_a_round_that_went_wrong_on_either_side() -> None:
    results = _results(
        nginx=[Outcome(fault="wrong"), Outcome(requests=100, cpu=1.0), Outcome(requests=100, cpu=1.0)],
        gateway=[Outcome(requests=100, cpu=2.0), Outcome(fault="wrong"), Outcome(requests=100, cpu=4.0)],
    )
    assert results.ratios("get", "gateway") == [0.25]
    assert results.faults() == ["get, nginx, 1 of 3 rounds: wrong", "get, gateway, 1 of 3 rounds: wrong"]


def test_what_the_database_does_for_a_request_counts() -> None:
    results = _results(
        nginx=[Outcome(requests=100, cpu=1.0)], gateway=[Outcome(requests=100, cpu=2.0, database_cpu=2.0)]
    )
    assert results.ratios("get", "gateway") == [0.25]


@pytest.mark.parametrize(
    ("values", "text"), [([], "-"), ([0.5], "0.50"), ([0.7, 0.5, 0.61], "0.61 (0.50 to 0.70)"), ([0.5, 0.5], "0.50")]
)
def test_spread_is_the_median_and_the_range(values: list[float], text: str) -> None:
    assert spread(values) == text


def test_figures_stand_between_their_marks_and_leave_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    report.write(path, "first")
    path.write_text("before\n" + path.read_text() + "after\n")
    report.write(path, "second \\1")
    text = path.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "second \\1" in text
    assert "first" not in text


def test_every_goal_is_a_load_and_every_peer_has_its_name() -> None:
    assert set(report.GOALS) | set(report.BESIDES) == {load.name for load in LOADS if load.kind in ("wrk", "transfer")}
    assert [peer.name for peer in PEERS].count(BASELINE) == 1
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_what_a_route_uses_besides_is_held_against_the_same_peers_own_call_without() -> None:
    results = Results([], {})
    results.outcomes["lifelike", "gateway"] = [Outcome(requests=100, cpu=0.004), Outcome(requests=100, cpu=0.005)]
    results.outcomes["lifelike-two", "gateway"] = [Outcome(requests=100, cpu=0.005), Outcome(requests=50, cpu=0.0025)]
    assert results.beside("lifelike-two", "lifelike", "gateway") == pytest.approx([0.8, 1.0])


def test_memory_is_held_against_the_tokens_that_one_start_brought() -> None:
    peak = Memory(total=120_000_000, worker=60_000_000)
    results = Results([], {}, {("mac", "gateway"): [Outcome(requests=1, peak=peak)]}, rounds=2)
    results.outcomes["cold", "gateway"] = [Outcome(requests=count) for count in (4000, 3000, 5000, 1000)]
    row, *_ = report._memory_goals(results)
    assert row[0].startswith("peak RSS of a worker with 7,000 tokens")


@pytest.mark.parametrize(("largest", "said"), [(78, "met"), (79, "missed")])
def test_memory_that_counts_is_the_largest_workers_with_its_connections(largest: int, said: str) -> None:
    peaks = [Memory(total=120_000_000, worker=size * 1_000_000) for size in (41, largest, 45)]
    results = Results([], {}, {("mac", "gateway"): [Outcome(requests=1, peak=peak) for peak in peaks]})
    results.outcomes["idle", "gateway"] = [Outcome(requests=2000, per_connection=3900)]
    row, _ = report._memory_goals(results)
    title = "peak RSS of a worker with 0 tokens and after 2,000 connections, MB"
    assert row == [title, "≤ 78", "", str(largest), said]
