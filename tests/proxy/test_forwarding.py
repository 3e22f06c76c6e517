"""In no spelling does a client's field speak for us, for a proxy, or for another connection than its own."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import config
from gateway.guard import Allowed
from gateway.http1 import Malformed, RequestHead, RequestReader
from gateway.proxy.dispatch import Destination, Terms
from gateway.proxy.forwarding import arrival, upstream_head
from gateway.routing import Origin, Route
from tests.counts import scaled

# Fields that are ours, a proxy's, or this connection's to say, as servers name them in variables (RFC 3875, 4.1.18).
OURS = [
    b"host", b"content-length", b"transfer-encoding", b"connection", b"keep-alive", b"upgrade", b"expect", b"te",
    b"proxy-connection", b"proxy-authorization", b"proxy-authenticate", b"authorization", b"forwarded", b"x-forwarded",
    b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-prefix",
    b"x-forwarded-user", b"x-forwarded-email", b"x-forwarded-groups", b"x-forwarded-anything", b"x-auth-subject",
    b"x-auth-client-id", b"x-auth-scope", b"x-auth-token-type", b"x-auth-user", b"x-request-id", b"x-real-ip",
    b"x-client-ip", b"client-ip", b"x-cluster-client-ip", b"true-client-ip", b"cf-connecting-ip", b"forwarded-for",
    b"x-original-forwarded-for", b"x-original-url", b"x-original-uri", b"x-original-host", b"x-original-method",
    b"x-rewrite-url", b"x-script-name", b"x-http-method", b"x-http-method-override", b"x-method-override",
    b"remote-user", b"x-remote-user", b"proxy",
]  # fmt: skip
VARIABLES = {name.replace(b"-", b"_") for name in OURS}
SEPARATORS = b"-_!#$%&'*+.^`|~"  # whatever may stand in a name and is no letter and no digit
SPACES = [b"", b" ", b"\t", b" \t "]
EVIL = b"evil"

ROUTE = Route(
    name="a",
    path=b"/",
    host=None,
    methods=frozenset(),
    upstreams=(Origin("localhost", 80),),
    upstream_host=None,
    strip_prefix=b"",
    schemes=("bearer", "signature"),
    scopes={},
    resource="",
)
TERMS = Terms.of(
    config.parse(
        {
            "server": {"public_url": "https://a"},
            "routes": [{"name": "a", "path": "/", "upstreams": ["http://localhost"], "auth": "none"}],
        }
    ).routes[0]
)
ALICE = Allowed(
    subject="1",
    client_id="app",
    username="alice",
    email="alice@a.test",
    scopes=frozenset(("notes",)),
    scheme="bearer",
)
PUBLIC = Allowed()
ARRIVAL = arrival(("203.0.113.9",), b"https", b"a", 1, b"")
SAID_BY_US = {
    b"x_forwarded_for": b"203.0.113.9", b"x_forwarded_proto": b"https", b"x_forwarded_host": b"a",
    b"x_forwarded_port": b"443", b"x_request_id": b"0123", b"host": b"a",
}  # fmt: skip
SAID_OF_ALICE = {
    b"x_auth_subject": b"1", b"x_auth_client_id": b"app", b"x_auth_scope": b"notes", b"x_auth_token_type": b"bearer",
    b"x_forwarded_user": b"alice", b"x_forwarded_email": b"alice@a.test",
}  # fmt: skip


def forwarded(lines: list[bytes], allowed: Allowed, method: bytes = b"GET") -> list[bytes] | None:
    """The lines that the upstream receives; None where the request is refused."""
    reader = RequestReader()
    reader.receive(method + b" / HTTP/1.1\r\n" + b"".join(part + b"\r\n" for part in lines) + b"\r\n")
    try:
        head = reader.next_event()
    except Malformed:
        return None
    assert isinstance(head, RequestHead)
    hops_left = 3 if method == b"TRACE" else None
    to = Destination(ROUTE, TERMS, False, b"/", head.host, hops_left)
    return upstream_head(head, to, ARRIVAL, b"0123", allowed, expects=True).split(b"\r\n")


def as_variables(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Each field as a server reads it that makes variables of their names."""
    fields = [part.partition(b":") for part in lines[1:-2]]
    read = [(name.decode().lower(), value.strip(b" \t")) for name, _, value in fields]
    return [("".join(c if c.isalnum() else "_" for c in name).encode(), value) for name, value in read]


def assert_only_we_speak(lines: list[bytes], allowed: Allowed) -> None:
    passed = forwarded(lines, allowed)
    if passed is None:
        return
    ours = SAID_BY_US | (SAID_OF_ALICE if allowed is ALICE else {})
    read = [
        (name, value) for name, value in as_variables(passed) if name in VARIABLES or name.startswith(b"x_forwarded")
    ]
    assert not [value for _, value in read if EVIL in value], (lines, passed)
    assert {name: value for name, value in read if name in ours} == ours, (lines, passed)
    said = [name for name, _ in read]
    assert len(said) == len(set(said)), (lines, passed)
    assert set(said) - set(ours) <= {b"te", b"connection", b"transfer_encoding", b"content_length", b"expect"}


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("allowed", [ALICE, PUBLIC])
def test_no_field_that_is_ours_to_say_passes_in_any_spelling(name: bytes, allowed: Allowed) -> None:
    near = {name.replace(b"-", bytes((separator,))) for separator in SEPARATORS}
    for spelt, space in itertools.product((*near, *map(bytes.upper, near), *map(bytes.title, near)), SPACES[::3]):
        field = spelt + b":" + space + EVIL + space
        assert_only_we_speak([b"Host: a", field], allowed)
        assert_only_we_speak([field, b"X-A: 1", b"Host: a", field.swapcase(), spelt + b":"], allowed)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("space", [b" ", b"\t", b"  "])
def test_white_space_before_the_colon_is_refused_in_every_field(name: bytes, space: bytes) -> None:
    assert forwarded([b"Host: a", name + space + b": evil"], PUBLIC) is None


@st.composite
def spelling(draw: st.DrawFn) -> bytes:
    """A field that is ours to say, spelt anyhow."""
    letters = [
        draw(st.sampled_from(SEPARATORS)) if letter == ord("-") else draw(st.sampled_from((letter, letter & ~0x20)))
        for letter in draw(st.sampled_from(OURS))
    ]
    space = st.sampled_from(SPACES)
    return bytes(letters) + draw(st.sampled_from([b":"] * 9 + [b" :"])) + draw(space) + EVIL + draw(space)


HARMLESS = [b"X-A: 1", b"Cookie: a=1", b"TE: trailers", b"Connection: close", b"Connection: x-auth-subject, host, via"]


@settings(max_examples=scaled(1500))
@given(
    st.lists(st.one_of(spelling(), st.sampled_from(HARMLESS)), max_size=8).flatmap(
        lambda lines: st.permutations([*lines, b"Host: a"])
    ),
    st.sampled_from([ALICE, PUBLIC]),
)
def test_no_mixture_of_fields_lets_a_client_speak_for_us(lines: list[bytes], allowed: Allowed) -> None:
    assert_only_we_speak(lines, allowed)


@pytest.mark.parametrize("name", [b"Cookie", b"COOKIE", b"cookie", b"cOOKIE"])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_no_cookie_of_ours_passes_in_any_of_several_fields(name: bytes, space: bytes, count: int) -> None:
    ours = [b"gateway_session=evil", b"a=1;__Host-gateway_session=evil", b"gateway_form = evil ; b=2"]
    passed = forwarded([b"Host: a", *(name + b":" + space + value + space for value in ours[:count])], PUBLIC)
    assert passed is not None
    assert not [part for part in passed if EVIL in part]


@pytest.mark.parametrize("name", [b"Max-Forwards", b"MAX-FORWARDS", b"max-forwards"])
def test_max_forwards_is_counted_down_once_however_it_is_spelt(name: bytes) -> None:
    passed = forwarded([b"Host: a", name + b": \t4 "], PUBLIC, b"TRACE")
    assert passed is not None
    assert [value for read, value in as_variables(passed) if read == b"max_forwards"] == [b"3"]


@pytest.mark.parametrize("name", [b"Signature", b"signature-INPUT", b"Authorization", b"AUTHORIZATION"])
def test_credential_never_passes_in_any_spelling(name: bytes) -> None:
    passed = forwarded([b"Host: a", name + b": evil", b"X-A: 1", name.swapcase() + b":evil"], ALICE)
    assert passed is not None
    assert not [part for part in passed if EVIL in part]
