"""Form-encoded parameters (RFC 6749, section 3.1 and appendix B)."""

import contextlib
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import OAuthError
from gateway.oauth import forms


@pytest.mark.parametrize(
    ("raw", "fields"),
    [
        (b"", ()),
        (b"a=1&b=2", (("a", "1"), ("b", "2"))),
        (b"a=1&&b", (("a", "1"), ("b", ""))),
        (b"a=x+y%2Bz", (("a", "x y+z"),)),
        (b"a=b=c", (("a", "b=c"),)),
        (b"%61=%", (("a", "%"),)),
        (b"a=%zz", (("a", "%zz"),)),
        (b"a=%ff", (("a", "\udcff"),)),
        ("a=é".encode(), (("a", "é"),)),
    ],
)
def test_parameters_are_read_in_order(raw: bytes, fields: tuple[tuple[str, str], ...]) -> None:
    assert forms.parse(raw).fields == fields


def test_a_parameter_without_a_value_counts_as_omitted() -> None:
    form = forms.parse(b"scope=&state=s")
    assert form.get("scope") is None
    assert form.get("state") == "s"
    assert form.all("scope") == ()


@pytest.mark.parametrize(
    ("raw", "repeated"),
    [
        (b"a=1&b=2", None),
        (b"a=1&a=1", "a"),
        (b"a=&a=1", "a"),
        (b"a=1&%61=2", "a"),
        (b"resource=1&resource=2", None),
        (b"resource=1&resource=2&x&x", "x"),
    ],
)
def test_a_name_that_comes_twice_is_found_however_it_is_written(raw: bytes, repeated: str | None) -> None:
    assert forms.parse(raw).repeated(but=frozenset({"resource"})) == repeated


def test_more_parameters_than_anybody_needs_are_refused() -> None:
    assert len(forms.parse(b"a&" * forms.MAX_FIELDS).fields) == forms.MAX_FIELDS
    with pytest.raises(OAuthError) as refused:
        forms.parse(b"a&" * (forms.MAX_FIELDS + 1))
    assert refused.value.refused.error == "invalid_request"


def test_a_form_shows_no_values() -> None:
    assert "hunter2" not in repr(forms.parse(b"password=hunter2"))


@pytest.mark.parametrize(
    ("content_type", "good"),
    [
        ("application/x-www-form-urlencoded", True),
        ("application/x-www-form-urlencoded;charset=UTF-8", True),
        ("Application/X-WWW-Form-Urlencoded ; charset=utf-8", True),
        ("application/json", False),
        ("multipart/form-data; boundary=x", False),
        ("application/x-www-form-urlencodedx", False),
        ("", False),
    ],
)
def test_only_form_encoded_bodies_are_forms(content_type: str, good: bool) -> None:
    assert forms.is_form(content_type) is good


@given(st.binary())
def test_any_bytes_survive_as_a_value(value: bytes) -> None:
    form = forms.parse(b"state=" + quote_from_bytes(value, safe="").encode())
    assert (form.get("state") or "").encode("utf-8", "surrogateescape") == value


@given(st.binary())
def test_no_bytes_raise_anything_but_a_protocol_error(raw: bytes) -> None:
    with contextlib.suppress(OAuthError):
        forms.parse(raw).repeated()
