"""Structured fields: what counts as well-formed, in the terms of RFC 9651 and stricter where a signature rests on it.

The rows follow the sections of RFC 9651 and the cases of the HTTP working group's structured-field-tests; the library
that reads them runs that whole suite itself, so here stands what signatures and digests depend on.
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from http_sf import Token
from hypothesis import given
from hypothesis import strategies as st

from gateway.credentials import MalformedCredential, structured
from gateway.credentials.structured import InnerList, Item

LONG = 4096


def _read(*lines: str) -> dict[str, structured.Member]:
    return structured.dictionary([line.encode("latin-1") for line in lines], field="Test", longest=LONG)


def _item(value: object, **parameters: object) -> Item:
    return Item(value, dict(parameters))


GOOD: list[tuple[tuple[str, ...], dict[str, structured.Member]]] = [
    # dictionaries, section 3.2
    (("",), {}),
    (("a=1",), {"a": _item(1)}),
    (("a=1,b=2",), {"a": _item(1), "b": _item(2)}),
    (("a=1 ,  b=2",), {"a": _item(1), "b": _item(2)}),
    (("a=1\t,\tb=2",), {"a": _item(1), "b": _item(2)}),
    (("    a=1  ",), {"a": _item(1)}),
    (("a=1", "b=2"), {"a": _item(1), "b": _item(2)}),
    (("a, b;x, c=?0",), {"a": _item(True), "b": _item(True, x=True), "c": _item(False)}),
    (("*a.b-c_1=1",), {"*a.b-c_1": _item(1)}),
    # parameters, section 3.1.2
    (("a=3;c;d=5",), {"a": _item(3, c=True, d=5)}),
    (("a=b; q=1.0",), {"a": _item(Token("b"), q=Decimal("1.0"))}),
    (('a=1;q="+w"',), {"a": _item(1, q="+w")}),
    # inner lists, section 3.1.1
    (("a=()",), {"a": InnerList((), {})}),
    (("a=( 1  42 )",), {"a": InnerList((_item(1), _item(42)), {})}),
    (('a=("x";k "y");z=1',), {"a": InnerList((_item("x", k=True), _item("y")), {"z": 1})}),
    # integers and decimals, sections 3.3.1 and 3.3.2
    (("a=-0, b=00, c=042",), {"a": _item(0), "b": _item(0), "c": _item(42)}),
    (("a=999999999999999, b=-999999999999999",), {"a": _item(10**15 - 1), "b": _item(1 - 10**15)}),
    (("a=1.23, b=-999999999999.999",), {"a": _item(Decimal("1.23")), "b": _item(Decimal("-999999999999.999"))}),
    # strings, section 3.3.3
    (('a="", b="a b,;=()"',), {"a": _item(""), "b": _item("a b,;=()")}),
    (('a="\\"\\\\"',), {"a": _item('"\\')}),
    # tokens, section 3.3.4
    (("a=a_b-c.d3:f%00/*",), {"a": _item(Token("a_b-c.d3:f%00/*"))}),
    # byte sequences, section 3.3.5: parsers SHOULD NOT fail on missing padding, or pad bits that are not zero
    (("a=:aGVsbG8=:, b=::",), {"a": _item(b"hello"), "b": _item(b"")}),
    (("a=:aGVsbG8:, b=:iZ==:",), {"a": _item(b"hello"), "b": _item(b"\x89")}),
    # dates and display strings, sections 3.3.7 and 3.3.8
    (("a=@1659578233",), {"a": _item(datetime(2022, 8, 4, 1, 57, 13, tzinfo=UTC))}),
]

BAD: list[tuple[str, ...]] = [
    # dictionaries
    ("a=1,",), ("a=1,,b=2",), (",a=1",), ("a=1 b=2",), ("a=",), ("a= 1",), ("a =1",), ("A=1",), ("1=1",), ("=1",),
    ("a=1", ""), ("a=1;",), ("a=1\x00",), ("a=1\x0b",), ("\xe4=1",), ("a=1\n",),
    # stricter than RFC 9651: no key twice
    ("a=1,b=2,a=1",), ("a=1", "a=1"), ("a, a",), ("a=1;b;b",), ("a=(1;b=1;b=2)",), ("a=();x=1;x=1",),
    # parameters
    ("a=b;q =0.5",), ("a=b;q= 0.5",), ("a=b ;q=0.5",), ("a=b;Q=1",), ("a;",), ("a=1;b=(1)",),
    # inner lists
    ("a=(1 42",), ("a=(1,42)",), ("a=(1\t2)",), ("a=)",), ("a=((1))",), ("a=(1)2",), ('a=("x""y")',),
    # numbers
    ("a=--1",), ("a=-",), ("a=- 1",), ("a=-a23",), ("a=4-2",), ("a=1.5.4",), ("a=1..4",), ("a=1.",), ("a=.1",),
    ("a=1000000000000000",), ("a=1.2345",), ("a=1234567890123.1",), ("a=1e3",), ("a=+1",), ("a=" + "9" * 20,),
    # strings
    ("a='foo'",), ('a="foo',), ('a="foo \\,"',), ('a="foo \\',), ('a="\xe4"',), ('a="\t"',), ('a="\x7f"',), ('a="',),
    ('a="a\x00b"',), ('a="a\nb"',), ('a="a\rb"',),
    # byte sequences
    ("a=:aGVsbG8=",), ("a=:aGVsb G8=:",), ("a=:aGVsbG!8=:",), ("a=:aGVsbG8=!:",), ("a=:_-Ah:",), ("a=:a:",),
    ("a=:====:",), ("a=:=:",), ("a=:aGVsbG8==: :",), ("a=*aGVsbG8=*",),
    # booleans, dates, display strings
    ("a=?2",), ("a=?",), ("a=?true",), ("a=@1.5",), ("a=@",), ('a=%"%F6"',), ('a=%"%zz"',), ('a=%"\xf6"',), ("a=%x",),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "expected"), GOOD)
def test_well_formed_field_is_read(lines: tuple[str, ...], expected: dict[str, structured.Member]) -> None:
    found = _read(*lines)
    assert list(found.items()) == list(expected.items())
    assert [type(member) for member in found.values()] == [type(member) for member in expected.values()]


@pytest.mark.parametrize("lines", BAD)
def test_field_that_is_not_well_formed_is_refused(lines: tuple[str, ...]) -> None:
    said = r"The field Test (is not a well-formed structured field|has a \w+ twice)"
    with pytest.raises(MalformedCredential, match=said):
        _read(*lines)


def test_error_holds_nothing_of_the_value() -> None:
    for lines in BAD:
        with pytest.raises(MalformedCredential) as caught:
            _read("secretly=secretly", *lines)
        assert "secretly" not in str(caught.value)


def test_field_beyond_its_length_is_refused() -> None:
    assert len(_read('a="' + "x" * (LONG - 4) + '"')) == 1
    with pytest.raises(MalformedCredential, match="longer than 4096 bytes"):
        _read('a="' + "x" * (LONG - 3) + '"')


@pytest.mark.parametrize(
    ("kind", "lines", "strict"),
    [
        ("dictionary", ["a=1,    b=2;x=1;y=2,   c=(a   b   c), d"], "a=1, b=2;x=1;y=2, c=(a b c), d"),
        ("dictionary", ["a=1", "b=?1;x"], "a=1, b;x"),
        ("list", ["1 ,  (2  3)", '"x"; y=?1'], '1, (2 3), "x";y'),
        ("item", ["  0042 "], "42"),
        ("item", ["-1.50"], "-1.5"),
        ("item", [":aGVsbG8:"], ":aGVsbG8=:"),
    ],
)
def test_strict_spelling_is_the_one_of_rfc_9651_section_4_1(
    kind: structured.Kind, lines: list[str], strict: str
) -> None:
    values = [line.encode() for line in lines]
    assert structured.strict(values, kind, field="Test", longest=LONG) == strict


def test_empty_field_has_no_strict_spelling() -> None:
    for kind in ("dictionary", "list"):
        with pytest.raises(MalformedCredential):
            structured.strict([b""], kind, field="Test", longest=LONG)


@given(st.binary(max_size=60) | st.text(alphabet='ab1=,;()" \t:?@%\\*.-', max_size=40).map(str.encode))
def test_reader_raises_its_own_error_only(field: bytes) -> None:
    try:
        found = structured.dictionary([field], field="Test", longest=LONG)
    except MalformedCredential:
        return
    for member in found.values():
        structured.serialised(member)


_KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,5}", fullmatch=True)
_TEXTS = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
_BARE = (
    st.integers(1 - 10**15, 10**15 - 1)
    | st.booleans()
    | st.binary(max_size=8)
    | _TEXTS
    | st.decimals(-(10**11), 10**11, places=3)
)
_PARAMETERS = st.dictionaries(_KEYS, _BARE, max_size=3)
_ITEMS = st.builds(Item, _BARE, _PARAMETERS)
_MEMBERS = _ITEMS | st.builds(InnerList, st.lists(_ITEMS, max_size=3).map(tuple), _PARAMETERS)


@given(_MEMBERS)
def test_member_is_read_back_as_it_was_written(member: structured.Member) -> None:
    assert _read(f"a={structured.serialised(member)}") == {"a": member}
