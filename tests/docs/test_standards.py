"""docs/standards.md cites tests that there are, and its sums are those of its rows."""

from tests.docs.standards import PAGE, cited, functions, standards, sums, written

TEXT = PAGE.read_text(encoding="utf-8")
ROWS = [(heading, row) for heading, rows in standards(TEXT).items() for row in rows]
CITED = sorted(cited(TEXT))


def test_every_test_that_is_cited_is_there() -> None:
    assert len(CITED) > 100
    assert not [f"{path}::{name}" for path, name in CITED if name not in functions(path)]


def test_a_test_that_is_not_there_is_none() -> None:
    assert not functions("oauth/test_nothing.py")
    assert "test_nothing" not in functions("docs/test_standards.py")


def test_sums_are_those_of_the_rows() -> None:
    """`python -m tests.docs.standards` writes them."""
    assert written(TEXT) == TEXT
    assert sums(TEXT) in TEXT


def test_every_requirement_has_a_test_or_a_reason() -> None:
    """A citation of another form, which nothing would look at, counts as none."""
    assert len(ROWS) > 200
    for heading, row in ROWS:
        assert row.text, heading
        assert row.tests or len(row.proof.split()) > len(("a", "reason")), (heading, row.text)
        assert row.proof.count(".py") == len(row.tests), (heading, row.proof)


def test_what_was_written_for_a_row_alone_is_cited() -> None:
    path = "web/test_requirements.py"
    assert {name for name in functions(path) if name.startswith("test_")} == {name for of, name in CITED if of == path}
