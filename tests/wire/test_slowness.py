"""What a stranger's bytes may cost a worker: 5 ms for 8 KiB, in every pattern and every reader, whatever they are."""

import random
import re
from collections import deque

import pytest

from fuzz.parsers import PARSERS
from fuzz.patterns import Found, calls_of_re, modules, patterns
from fuzz.slowness import Climb
from tests.counts import scaled

pytestmark = pytest.mark.measures

PATTERNS = patterns()


@pytest.mark.plain
def test_every_pattern_is_a_constant_of_its_module_so_that_none_is_forgotten() -> None:
    calls = [(name, call) for name, _, text in modules() for call in calls_of_re(text)]
    assert {call for _, call in calls} <= {"compile", "escape"}
    compiled = sum(call == "compile" for _, call in calls)
    assert len(PATTERNS) == compiled > 80


@pytest.mark.parametrize("found", PATTERNS, ids=[found.name for found in PATTERNS])
def test_a_pattern_looks_at_any_8_kib_within_5_ms(found: Found) -> None:
    climb, chance = Climb(found.pieces()), random.Random(found.name)
    for _ in range(scaled(1000)):
        climb.step(found.take, chance)


@pytest.mark.parametrize(
    ("pattern", "use"),
    [
        (r"a+b", "search"),
        (r"://[^\s/:@]*:\S*(?=@)", "sub"),
        (r"\b__(?:Host|Secure)-[\w.-]+=", "sub"),
        (r"([a-z]+)=([^,]*),", "finditer"),
    ],
)
def test_a_pattern_that_goes_back_time_and_again_is_found_out(pattern: str, use: str) -> None:
    found = Found("bad", re.compile(pattern), (use,))
    climb, chance = Climb(found.pieces()), random.Random(1)
    with pytest.raises(AssertionError, match=r"ms for 8192 bytes"):
        deque((climb.step(found.take, chance) for _ in range(200)), maxlen=0)


@pytest.mark.parametrize("name", sorted(PARSERS))
def test_a_parser_takes_any_8_kib_in_within_its_bound(name: str) -> None:
    climb, chance = PARSERS[name].climb(), random.Random(name)
    for _ in range(scaled(1000)):
        climb.step(PARSERS[name].take, chance)
