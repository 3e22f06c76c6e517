"""X-Forwarded-For is read from the right, as far as trust goes."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.forwarded import hops, is_trusted, neighbourhood, parse_address, site

TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32"))
OURS = "10.9.9.9"


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([], ()),
        ([b""], ()),
        ([b"203.0.113.9"], ("203.0.113.9",)),
        ([b"6.6.6.6, 203.0.113.9"], ("203.0.113.9",)),
        ([b"6.6.6.6, 203.0.113.9, 10.0.0.1"], ("203.0.113.9", "10.0.0.1")),
        ([b"6.6.6.6", b"203.0.113.9", b"10.0.0.1,10.0.0.2"], ("203.0.113.9", "10.0.0.1", "10.0.0.2")),
        ([b"10.0.0.3,10.0.0.1"], ("10.0.0.3", "10.0.0.1")),
        ([b" \t203.0.113.9\t "], ("203.0.113.9",)),
        ([b"2001:DB8::0001, ::ffff:10.0.0.1"], ("2001:db8::1", "10.0.0.1")),
        ([b"6.6.6.6, 2001:db9::1, 2001:db8::1"], ("2001:db9::1", "2001:db8::1")),
        ([b"::ffff:203.0.113.9"], ("203.0.113.9",)),
        *(
            ([b"203.0.113.9, %b, 10.0.0.1" % bad], ("10.0.0.1",))
            for bad in (
                b"", b"unknown", b"_hidden", b"localhost", b"10.0.0.256", b"10.0.0.01", b"10.0.0", b"1", b"10.0.0.1:80",
                b"[2001:db8::1]", b"[2001:db8::1]:80", b"fe80::1%eth0", b"2001:db8::1%a", b"10.0.0.1/8",
                b"10.0.0.1 10.0.0.2",
                b"for=10.0.0.1", b'"10.0.0.1"', b"\xb21.0.0.1", b"10.0.0.1\x00", "\u0661.0.0.1".encode(), b"a" * 8000,
            )
        ),
    ],
)  # fmt: skip
def test_the_chain_is_cut_at_the_first_address_that_is_not_trusted_and_at_what_is_no_address(
    values: list[bytes], found: tuple[str, ...]
) -> None:
    assert hops(values, TRUSTED) == found


ENTRIES = st.sampled_from([b"10.0.0.1", b"203.0.113.9", b"2001:db8::1", b"::1", b"", b"x", b"10.0.0.1:1"]) | st.binary()


@given(st.lists(ENTRIES), st.lists(ENTRIES))
def test_nothing_that_a_client_wrote_stands_left_of_the_client(theirs: list[bytes], proxies: list[bytes]) -> None:
    """What the client sent changes nothing once a trusted proxy has put the client's own address behind it."""
    own = b"198.51.100.7"
    alone = hops([own, *proxies], TRUSTED)
    assert hops([b",".join([*theirs, own]), *proxies], TRUSTED) == alone
    assert hops([*theirs, own, *proxies], TRUSTED) == alone
    assert all(is_trusted(parse_address(hop) or pytest.fail(hop), TRUSTED) for hop in alone[1:])


def test_a_chain_of_trusted_addresses_is_read_so_far_only() -> None:
    assert len(hops([b",".join([b"10.0.0.1"] * 800)], TRUSTED)) == 32


@pytest.mark.parametrize(
    ("address", "whose"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::3", "2001:db8:1::/48"),
        ("2001:db8:2:2::3", "2001:db8:2::/48"),
        ("unknown", "unknown"),
    ],
)
def test_a_site_is_what_one_customer_is_given(address: str, whose: str) -> None:
    """RFC 6177, section 2."""
    assert site(neighbourhood(address)) == whose
