"""Message components and the signature base (RFC 9421, section 2): vectors, and what no signer can blur."""

import base64
import hmac
from typing import Any

import pytest
from http_sf import Token
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.credentials import MalformedCredential
from gateway.credentials.components import Message, authority, signature_base
from gateway.credentials.structured import InnerList, Item
from tests.credentials.messages import INPUTS, KEY, NAMES, RFC_DIGEST, covering, fields, proven, signed, usual

# -- the signature base --------------------------------------------------------------------------------------

# RFC 9421, appendix B.2: the request of the examples
RFC_REQUEST = Message(
    method="POST",
    target=b"/foo?param=Value&Pet=dog",
    scheme="https",
    authority="example.com",
    fields=fields(
        Host="example.com",
        Date="Tue, 20 Apr 2021 02:07:55 GMT",
        Content_Type="application/json",
        Content_Digest=RFC_DIGEST,
        Content_Length="18",
    ),
    has_body=True,
)
RFC_KEY = base64.b64decode("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")


def test_vector_of_rfc_9421_appendix_b_2_5() -> None:
    stated = covering("date", "@authority", "content-type", created=1618884473, keyid="test-shared-secret")
    base = signature_base(RFC_REQUEST, stated)
    assert base.decode().split("\n") == [
        '"date": Tue, 20 Apr 2021 02:07:55 GMT',
        '"@authority": example.com',
        '"content-type": application/json',
        '"@signature-params": ("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"',
    ]
    mac = base64.b64encode(hmac.digest(RFC_KEY, base, "sha256"))
    assert mac == b"pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8="


def test_base_of_rfc_9421_section_2_5() -> None:
    stated = covering(
        "@method", "@authority", "@path", "content-digest", "content-length", "content-type",
        created=1618884473, keyid="test-key-rsa-pss",
    )  # fmt: skip
    covered = '("@method" "@authority" "@path" "content-digest" "content-length" "content-type")'
    assert signature_base(RFC_REQUEST, stated).decode().split("\n") == [
        '"@method": POST',
        '"@authority": example.com',
        '"@path": /foo',
        f'"content-digest": {RFC_DIGEST}',
        '"content-length": 18',
        '"content-type": application/json',
        f'"@signature-params": {covered};created=1618884473;keyid="test-key-rsa-pss"',
    ]


# Sections 2.1 and 2.2: what each component says of its message
_AT = Message(method="POST", target=b"/path?param=value", scheme="https", authority="www.example.com")
_QUERY = replace(_AT, target=b"/path?param=value&foo=bar&baz=batman&qux=")
_SPECIAL = replace(
    _AT,
    target=b"/parameters?var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
)
_FIELDS = replace(
    _AT,
    fields=fields(
        Host="www.example.com",
        X_OWS_Header="Leading and trailing whitespace.",
        Cache_Control=["max-age=60", "must-revalidate"],
        Example_Dict="a=1,    b=2;x=1;y=2,   c=(a   b   c), d",
        Priority="u=1,    i",
        Cache_Status="one;hit ,  two",
        Example_Header=["value, with, lots", "of, commas"],
        X_Empty_Header="",
        X_Bytes=b"caf\xc3\xa9",
    ),
)
COMPONENTS: list[tuple[Message, Item, str]] = [
    (_AT, Item("@method", {}), "POST"),
    (replace(_AT, method="get"), Item("@method", {}), "get"),
    (_AT, Item("@target-uri", {}), "https://www.example.com/path?param=value"),
    (replace(_AT, target=b"http://other/a?b"), Item("@target-uri", {}), "https://www.example.com/a?b"),
    (replace(_AT, target=b"/p?"), Item("@target-uri", {}), "https://www.example.com/p?"),
    (_AT, Item("@authority", {}), "www.example.com"),
    (replace(_AT, authority=authority("https", "[::1]", 8443)), Item("@authority", {}), "[::1]:8443"),
    (replace(_AT, authority=authority("https", "a.test", 443)), Item("@authority", {}), "a.test"),
    (replace(_AT, authority=authority("http", "a.test", 443)), Item("@authority", {}), "a.test:443"),
    (replace(_AT, authority=authority("http", "a.test", 80)), Item("@authority", {}), "a.test"),
    (_AT, Item("@scheme", {}), "https"),
    (_AT, Item("@request-target", {}), "/path?param=value"),
    (replace(_AT, target=b"https://www.example.com/p?q"), Item("@request-target", {}), "https://www.example.com/p?q"),
    (_AT, Item("@path", {}), "/path"),
    (replace(_AT, target=b"/a%2fb/"), Item("@path", {}), "/a%2fb/"),
    (replace(_AT, target=b"https://www.example.com"), Item("@path", {}), "/"),
    (replace(_AT, target=b"https://www.example.com?q"), Item("@path", {}), "/"),
    (replace(_QUERY, target=b"/path?param=value&foo=bar&baz=bat%2Dman"), Item("@query", {}),
     "?param=value&foo=bar&baz=bat%2Dman"),
    (replace(_AT, target=b"/path?queryString"), Item("@query", {}), "?queryString"),
    (replace(_AT, target=b"/path?next=http://a.test/b?c"), Item("@query", {}), "?next=http://a.test/b?c"),
    (replace(_AT, target=b"/path?next=http://a.test/b"), Item("@target-uri", {}),
     "https://www.example.com/path?next=http://a.test/b"),
    (replace(_AT, target=b"http://b.test/path?next=http://a.test/b"), Item("@query", {}), "?next=http://a.test/b"),
    (replace(_AT, target=b"/path/http://a.test/b"), Item("@path", {}), "/path/http://a.test/b"),
    (replace(_AT, target=b"/path?a?b"), Item("@query", {}), "?a?b"),
    (replace(_AT, target=b"/path"), Item("@query", {}), "?"),
    (_QUERY, Item("@query-param", {"name": "baz"}), "batman"),
    (_QUERY, Item("@query-param", {"name": "qux"}), ""),
    (_QUERY, Item("@query-param", {"name": "param"}), "value"),
    (_SPECIAL, Item("@query-param", {"name": "var"}), "this%20is%20a%20big%0Amultiline%20value"),
    (_SPECIAL, Item("@query-param", {"name": "bar"}), "with%20plus%20whitespace"),
    (_SPECIAL, Item("@query-param", {"name": "fa%C3%A7ade%22%3A%20"}), "something"),
    (replace(_AT, target=b"/p?~=*-._~!"), Item("@query-param", {"name": "%7E"}), "*-._%7E%21"),
    (_FIELDS, Item("host", {}), "www.example.com"),
    (_FIELDS, Item("x-ows-header", {}), "Leading and trailing whitespace."),
    (_FIELDS, Item("cache-control", {}), "max-age=60, must-revalidate"),
    (_FIELDS, Item("x-empty-header", {}), ""),
    (_FIELDS, Item("example-dict", {}), "a=1,    b=2;x=1;y=2,   c=(a   b   c), d"),
    (_FIELDS, Item("priority", {"sf": True}), "u=1, i"),
    (_FIELDS, Item("cache-status", {"sf": True}), "one;hit, two"),
    (_FIELDS, Item("example-dict", {"key": "a"}), "1"),
    (_FIELDS, Item("example-dict", {"key": "b"}), "2;x=1;y=2"),
    (_FIELDS, Item("example-dict", {"key": "c"}), "(a b c)"),
    (_FIELDS, Item("example-dict", {"key": "d"}), "?1"),
    (_FIELDS, Item("example-dict", {"sf": True, "key": "a"}), "1"),
    (_FIELDS, Item("example-header", {}), "value, with, lots, of, commas"),
    (_FIELDS, Item("example-header", {"bs": True}), ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:"),
    (_FIELDS, Item("x-bytes", {"bs": True}), ":Y2Fmw6k=:"),
]  # fmt: skip


@pytest.mark.parametrize(("message", "component", "value"), COMPONENTS)
def test_component_has_the_value_of_rfc_9421(message: Message, component: Item, value: str) -> None:
    line = signature_base(message, covering(component)).decode().split("\n")[0]
    assert line.split(": ", 1)[1] == value


UNFIT: list[tuple[Message, Item]] = [
    (_AT, Item("@status", {})),
    (_AT, Item("@signature-params", {})),
    (_AT, Item("@unknown", {})),
    (_AT, Item("@", {})),
    (_AT, Item("@Method", {})),
    (_AT, Item("", {})),
    (_AT, Item(Token("date"), {})),
    (_AT, Item(1, {})),
    (_AT, Item(b"@method", {})),
    *[(_AT, Item("@method", {name: value})) for name, value in (("req", True), ("sf", True), ("x", 1), ("name", "a"))],
    (_AT, Item("@query-param", {})),
    (_AT, Item("@query-param", {"name": "absent"})),
    (_AT, Item("@query-param", {"name": Token("param")})),
    (_AT, Item("@query-param", {"name": True})),
    (_AT, Item("@query-param", {"name": "param", "req": True})),
    (replace(_AT, target=b"/p?a=1&a=1"), Item("@query-param", {"name": "a"})),
    (replace(_AT, target=b"/p?a=1" + b"&b" * 256), Item("@query-param", {"name": "a"})),
    (replace(_AT, target=b"/p?a=1&%61=1"), Item("@query-param", {"name": "a"})),
    (replace(_AT, target=b"/p?"), Item("@query", {})),
    *[(replace(_AT, target=b"/\xc3\xa4?\xff"), Item(f"@{name}", {})) for name in ("path", "query", "target-uri")],
    (_FIELDS, Item("x-absent", {})),
    (_FIELDS, Item("Host", {})),
    (_FIELDS, Item("ho st", {})),
    (_FIELDS, Item("host\r\n", {})),
    (_FIELDS, Item("x-bytes", {})),
    (_FIELDS, Item("example-dict", {"sf": True})),
    (_FIELDS, Item("cache-control", {"sf": True})),
    (_FIELDS, Item("priority", {"sf": False})),
    (_FIELDS, Item("priority", {"sf": "yes"})),
    (_FIELDS, Item("example-header", {"bs": False})),
    (_FIELDS, Item("example-dict", {"bs": True, "sf": True})),
    (_FIELDS, Item("example-dict", {"bs": True, "key": "a"})),
    (_FIELDS, Item("example-dict", {"key": "absent"})),
    (_FIELDS, Item("example-dict", {"key": Token("a")})),
    (_FIELDS, Item("example-dict", {"key": True})),
    (_FIELDS, Item("host", {"key": "www"})),
    (_FIELDS, Item("x-bytes", {"key": "a"})),
    *[(_FIELDS, Item("host", {name: True})) for name in ("req", "tr", "unknown")],
    (replace(_FIELDS, fields=(*_FIELDS.fields, *fields(Connection="close, X-OWS-Header"))), Item("x-ows-header", {})),
    (replace(_AT, fields=fields(Priority=["u=1", "u=2"])), Item("priority", {"sf": True})),
    (replace(_AT, fields=fields(D=["a=1", "a=2"])), Item("d", {"key": "a"})),
]


@pytest.mark.parametrize(("message", "component"), UNFIT)
def test_component_that_cannot_be_signed_is_refused(message: Message, component: Item) -> None:
    with pytest.raises(MalformedCredential) as caught:
        signature_base(message, covering("@method", component))
    assert "value" not in str(caught.value).replace("a flag with a value", "")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Item("@method", {}), Item("@method", {})),
        (Item("host", {}), Item("host", {})),
        (Item("example-dict", {"sf": True, "key": "a"}), Item("example-dict", {"key": "a", "sf": True})),
    ],
)
def test_no_component_is_covered_twice(one: Item, other: Item) -> None:
    with pytest.raises(MalformedCredential, match="covered twice"):
        signature_base(_FIELDS, covering(one, other))


def test_members_of_one_field_are_covered_side_by_side() -> None:
    keys = [Item("example-dict", {"key": key}) for key in ("b", "a", "d")]
    assert len(signature_base(_FIELDS, covering(*keys, "example-dict")).split(b"\n")) == 5


def test_structured_fields_of_one_request_are_parsed_up_to_a_bound() -> None:
    long = ",".join(f"a{index}" for index in range(500))
    message = replace(_AT, fields=fields(One=long, Priority=long, Two="a0"))
    many = [Item("one", {"key": f"a{index}"}) for index in range(30)]
    assert signature_base(message, covering(*many, Item("two", {"key": "a0"})))  # each field is parsed once
    with pytest.raises(MalformedCredential, match="beyond the 4096 bytes"):
        signature_base(message, covering(*many, Item("priority", {"sf": True}), Item("two", {"key": "a0"})))


# -- properties ----------------------------------------------------------------------------------------------

_VALUES = st.text(alphabet=st.sampled_from('ab,:;="\\()@ '), max_size=6).map(lambda text: text.strip(" "))
_PATHS = st.sampled_from([b"/", b"/a", b"/a/b", b"/%61", b"/a;b"])
_QUERIES = st.sampled_from(
    [b"", b"?", b"?a", b"?a=1&b", b"?b&a=1", b"?a=1&b&", b"?x:%20y", b"?u=http://a/x", b"?u=http://b/x", b"?u=/x"]
)
_MESSAGES = st.builds(
    lambda method, path, query, scheme, host, lines: Message(
        method=method, target=path + query, scheme=scheme, authority=host,
        fields=tuple((name.encode(), name.encode(), value.encode()) for name, value in lines),
    ),
    st.sampled_from(["GET", "POST", "get"]), _PATHS, _QUERIES, st.sampled_from(["http", "https"]),
    st.sampled_from(["a.test", "b.test", "a.test:8080"]),
    st.lists(st.tuples(st.sampled_from(NAMES), _VALUES), max_size=4),
)  # fmt: skip


def _parts(message: Message, stated: InnerList) -> object:
    """What a signature covers, as a plain value: the components with what they stand for, and the parameters."""
    path, mark, query = message.target.partition(b"?")
    whole: dict[str, Any] = {
        "@method": message.method,
        "@authority": message.authority,
        "@scheme": message.scheme,
        "@path": path,
        "@query": mark + query,
        "@target-uri": (message.scheme, message.authority, message.target),
    }
    for name in NAMES:
        whole[name] = b", ".join(value for lower, _, value in message.fields if lower == name.encode())
    return [(item.value, whole[str(item.value)]) for item in stated.items], list(stated.parameters.items())


def _base(message: Message, stated: InnerList) -> bytes | None:
    try:
        return signature_base(message, stated)
    except MalformedCredential:
        return None


@given(_MESSAGES, _MESSAGES, INPUTS, INPUTS, st.booleans())
def test_equal_bases_mean_equal_parts(
    one: Message, other: Message, stated: InnerList, another: InnerList, same_input: bool
) -> None:
    second = stated if same_input else another
    bases = _base(one, stated), _base(other, second)
    assume(None not in bases)
    assert (bases[0] == bases[1]) == (_parts(one, stated) == _parts(other, second))


@given(_MESSAGES, _MESSAGES, INPUTS)
def test_any_change_of_a_covered_part_is_refused(one: Message, other: Message, stated: InnerList) -> None:
    stated = usual("@method", "@target-uri", *(item for item in stated.items if item.value in NAMES))
    assume(_base(one, stated) is not None)
    sent = signed(one, stated)
    assert proven(sent)
    assert not proven(sent, KEY[:-1])
    credential = sent.fields[len(one.fields) :]
    for part in ("method", "target", "scheme", "authority", "fields"):
        value = getattr(other, part)
        changes: dict[str, Any] = {part: (*value, *credential) if part == "fields" else value}
        changed = replace(sent, **changes)
        kept = _parts(replace(changed, fields=changed.fields[:-2]), stated) == _parts(one, stated)
        absent = {item.value for item in stated.items} - {name.decode() for name, _, _ in changed.fields}
        assert proven(changed) is (kept and not any(str(name).startswith("x-") for name in absent))
