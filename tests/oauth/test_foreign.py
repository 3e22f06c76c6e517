"""Where another issuer's metadata is, and which URLs are asked at all."""

import pytest

from gateway.oauth import foreign

BESIDE = ".well-known/openid-configuration"
INSERTED = ".well-known/oauth-authorization-server"


@pytest.mark.parametrize(
    ("issuer", "beside", "inserted"),
    [
        ("https://a.example", f"https://a.example/{BESIDE}", f"https://a.example/{INSERTED}"),
        ("https://a.example/", f"https://a.example/{BESIDE}", f"https://a.example/{INSERTED}"),
        (
            "https://a.example:8443/x/y",
            f"https://a.example:8443/x/y/{BESIDE}",
            f"https://a.example:8443/{INSERTED}/x/y",
        ),
        ("http://127.0.0.1:1/x/", f"http://127.0.0.1:1/x/{BESIDE}", f"http://127.0.0.1:1/{INSERTED}/x"),
    ],
)
def test_metadata_stands_below_the_issuer_or_at_the_inserted_path(issuer: str, beside: str, inserted: str) -> None:
    """OpenID Connect Discovery 1.0, section 4; RFC 8414, section 3.1."""
    assert foreign.metadata_urls(issuer) == (beside, inserted)


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://a.example", True),
        ("https://10.0.0.1:8443/keys?x=1", True),
        ("http://localhost:8080/keys", True),
        ("http://127.1.2.3", True),
        ("http://a.example", False),
        ("http://127.0.0.1.example", False),
        ("http://localhost.example", False),
        ("http://[::1]/", False),
        ("https://a.example:0/", False),
        ("https://ada@a.example", False),
        ("https://a.example/#x", False),
        ("https://a.example/ x", False),
        ("https://a.example\n", False),
        ("ftp://a.example", False),
        ("//a.example", False),
        ("", False),
    ],
)
def test_only_https_is_asked_but_on_this_machine(url: str, asked: bool) -> None:
    assert foreign.is_url(url) == asked


def test_host_is_that_of_the_authority() -> None:
    assert foreign.host_of("https://a.example:8443/b:c/d") == "a.example"
    assert foreign.host_of("http://127.0.0.1") == "127.0.0.1"
