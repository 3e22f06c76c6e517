"""What people are told of an application: on the consent page, on their account, and its logo, which is served here."""

from html import escape

import pytest

from gateway.model import About, Client, Owner
from gateway.oauth.client_metadata import logo_name
from gateway.store.records import Logo
from tests.web.conftest import Registered
from tests.web.rig import Browser, Plane, authorize_path, code_for

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"><script>document.title = "ran"</script></svg>'
LOGO = Logo(logo_name(SVG) or "", SVG)
ABOUT = About(
    description="Notes for <your> desk",
    homepage="https://notes.example/?a=1&b=2#top",
    privacy="https://notes.example/privacy",
    terms="https://notes.example/terms",
    logo=LOGO.name,
)


async def registered(plane: Plane, register: Registered, owner: str = "grace") -> Client:
    subject = await plane.user(owner, "Grace Hopper")
    about = About(
        **{name: getattr(ABOUT, name) for name in ("description", "homepage", "privacy", "terms", "logo")},
        owner=Owner(subject=subject, username=owner, name=None),
    )
    return (await register(about=about, logo=LOGO))[0]


@pytest.mark.parametrize("shown_on", ["consent", "account"])
async def test_people_are_told_who_answers_for_an_application_and_where_to_read_more(
    plane: Plane, signed_in: Browser, register: Registered, shown_on: str
) -> None:
    client = await registered(plane, register)
    if shown_on == "account":
        await code_for(signed_in, client)
    page = await signed_in.get(authorize_path(client) if shown_on == "consent" else "/oauth2/account")
    assert "Notes for &lt;your&gt; desk" in page.text
    assert "Grace Hopper" in page.text
    assert "grace@example.org" not in page.text
    for url in (ABOUT.homepage, ABOUT.privacy, ABOUT.terms):
        assert f'<a href="{escape(url or "")}" target="_blank" rel="noopener noreferrer">' in page.text
    assert f'src="/oauth2/logo/{LOGO.name}"' in page.text


async def test_nothing_is_said_of_an_application_that_says_nothing(signed_in: Browser, client: Client) -> None:
    page = await signed_in.get(authorize_path(client))
    for words in ("Owner", "Website", "Privacy", "Terms", "/logo/"):
        assert words not in page.text


async def test_a_logo_is_served_so_that_nothing_in_it_runs_and_browsers_keep_it(
    plane: Plane, browser: Browser, register: Registered
) -> None:
    await registered(plane, register)
    answer = await browser.get(f"/oauth2/logo/{LOGO.name}")
    assert (answer.status, answer.body) == (200, SVG)
    assert answer.headers["Content-Type"] == "image/svg+xml"
    policy = answer.headers["Content-Security-Policy"]
    assert "sandbox" in policy
    assert "default-src 'none'" in policy
    assert "script" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "immutable" in answer.headers["Cache-Control"]


@pytest.mark.parametrize("name", ["x", "0" * 32 + ".png", "0" * 32 + ".html", "%00", "..%2f", LOGO.name.upper()])
async def test_no_other_logo_is_there(plane: Plane, browser: Browser, register: Registered, name: str) -> None:
    await registered(plane, register)
    assert (await browser.get(f"/oauth2/logo/{name}")).status == 404
