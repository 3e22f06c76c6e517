"""What a process remembers of its latest decisions: the last hour's, in bounded space, whatever floods in."""

from gateway.recent import KINDS, SECONDS, Recent


class Clock:
    """A time that stands still until it is moved."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_latest_decision_on_an_identifier_comes_first() -> None:
    clock = Clock()
    recent = Recent[str](1000, clock)
    recent.keep("404", b"a", "first", 10)
    clock.now += 1
    recent.keep("401", b"a", "second", 10)
    recent.keep("401", b"b", "other", 10)
    assert recent.find(b"a") == [(1001.0, "second"), (1000.0, "first")]
    assert recent.find(b"c") == []


def test_decision_is_forgotten_after_an_hour_and_then_counts_for_no_space() -> None:
    clock = Clock()
    recent = Recent[str](1000, clock)
    recent.keep("404", b"a", "first", 10)
    clock.now += SECONDS
    assert recent.find(b"a") == []
    assert recent.size == 0
    assert recent.memory == (clock.now - SECONDS, 0)


def test_flood_of_one_kind_forgets_itself_and_no_other() -> None:
    recent = Recent[int](1000, Clock())
    for number in range(10):
        recent.keep("rare", b"rare%d" % number, number, 10)
    for number in range(1000):
        recent.keep("flood", b"%d" % number, number, 10)
    assert recent.size == 1000
    assert all(recent.find(b"rare%d" % number) for number in range(10))
    assert recent.find(b"999")
    assert not recent.find(b"0")
    assert recent.memory.forgotten == 910


def test_rare_kind_that_comes_after_a_flood_finds_room() -> None:
    recent = Recent[int](1000, Clock())
    for number in range(1000):
        recent.keep("flood", b"%d" % number, number, 10)
    for number in range(40):
        recent.keep("rare", b"rare%d" % number, number, 10)
    assert all(recent.find(b"rare%d" % number) for number in range(40))


def test_space_is_bounded_however_many_kinds_there_are() -> None:
    clock = Clock()
    recent = Recent[int](10_000, clock)
    for number in range(20 * KINDS):
        clock.now += 0.01
        recent.keep(f"kind {number}", b"%d" % number, number, 100)
        assert recent.size <= 10_000
    assert recent.find(b"%d" % (20 * KINDS - 1))


def test_decision_that_is_larger_than_all_space_is_not_kept() -> None:
    recent = Recent[int](100, Clock())
    recent.keep("large", b"a", 1, 1000)
    assert (recent.find(b"a"), recent.size, recent.memory.forgotten) == ([], 0, 1)
