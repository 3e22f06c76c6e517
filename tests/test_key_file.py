"""The file of the master keys: what it says, and that each step of a rotation keeps every key that is needed."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.key_file import KeyFile, RetiredKey
from gateway.crypto import new_master_key, parse_master_key

OLD, NEW, THIRD = (new_master_key() for _ in range(3))
NOW = datetime(2026, 11, 28, 14, 31, 7, tzinfo=UTC)
retired = st.builds(
    lambda end: RetiredKey(new_master_key(), end),
    st.none() | st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)),
)
files = st.builds(
    lambda fresh, gone: KeyFile(new_master_key(), new_master_key() if fresh else None, tuple(gone)),
    st.booleans(),
    st.lists(retired, max_size=3),
)


@given(files)
def test_a_file_reads_back_as_it_was_written(file: KeyFile) -> None:
    assert KeyFile.parse(file.render()) == file
    assert KeyFile.parse(file.render().replace("\n", "\r\n\n")) == file
    assert file.current not in repr(file)


def test_one_key_is_a_file_of_one_line() -> None:
    assert KeyFile.parse(OLD) == KeyFile(OLD)
    assert KeyFile(OLD).render() == f"{OLD}\n"


def test_steps_of_a_rotation_lose_no_key_before_the_last() -> None:
    one = KeyFile(OLD)
    two = one.with_next(NEW)
    three = two.promoted()
    four = three.settled(NOW)
    assert [parse_master_key(key) for key in (OLD, NEW)] == [*two.keys]
    assert [parse_master_key(key) for key in (NEW, OLD)] == [*three.keys] == [*four.keys]
    assert (three.retired[0].until, four.retired[0].until) == (None, NOW)
    assert four.settled(NOW.replace(year=2030)) == four
    assert four.without([four.retired[0].key_id]) == KeyFile(NEW)
    assert four.without([b"none"]) == four
    with pytest.raises(ValueError, match="no next key"):
        one.promoted()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "base64 of 32 bytes"),
        ("# only a word\n", "base64 of 32 bytes"),
        (f"{OLD} next", "base64 of 32 bytes"),
        (f"{OLD}\n{NEW}", "behind key 2 stands neither"),
        (f"{OLD}\n{NEW} next\n{THIRD} next", "behind key 3"),
        (f"{OLD}\n{NEW} until", "behind key 2"),
        (f"{OLD}\n{NEW} until tomorrow", "a time in it is not like"),
        (f"{OLD}\n{NEW} until 2026-11-28T14:31:07Z x", "behind key 2"),
        (f"{OLD}\n{OLD} next", "given twice"),
        (f"{OLD}\nconfidential next", "base64 of 32 bytes"),
    ],
    ids=range(10),  # the keys are others each time
)
def test_a_file_that_says_anything_else_is_refused_without_showing_a_key(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        KeyFile.parse(text)
    assert not any(word in str(refused.value) for word in (OLD, NEW, "confidential"))
