"""docs/openid-connect.md, followed but for its addresses: applications that nobody here wrote sign people in."""

import configparser
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser as Chromium
from playwright.async_api import async_playwright, expect

from gateway.crypto import Keyring
from tests.browser import chromium as a_chromium
from tests.clients.rig import PACKAGES
from tests.clients.sites import (
    ISSUER,
    Person,
    Sites,
    blocks,
    echoing,
    has_mod_auth_openidc,
    listening,
    new_site,
    pages,
    sites_of,
)
from tests.serving import until
from tests.web.pages import sign_in

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sites(
    server: str, template: str, tmp_path_factory: pytest.TempPathFactory, keyring: Keyring
) -> AsyncIterator[Sites]:
    """One gateway for all of them."""
    async with sites_of(server, template, tmp_path_factory.mktemp("sites"), keyring) as found:
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def ada(sites: Sites) -> AsyncIterator[Person]:
    person = Person(sites.tls.url, sites.tls.asking())
    yield person
    await person.close()


@pytest_asyncio.fixture(loop_scope="module")
async def chromium() -> AsyncIterator[Chromium]:
    async with async_playwright() as playwright, a_chromium(playwright) as browser:
        yield browser


async def is_signed_in(person: Person) -> bool:
    return (await person.get("/oauth2/account")).status == 200


async def test_mod_auth_openidc(sites: Sites, chromium: Chromium) -> None:
    """Sign-in, claims, what ends when the operator ends the session, and sign-out from the site."""
    if not has_mod_auth_openidc():
        pytest.skip("mod_auth_openidc is not installed: make programs")
    port, site = new_site()
    settings = await sites.registered("mod_auth_openidc", site)
    async with echoing() as upstream:
        argv = sites.apache(port, settings["apache"], upstream)
        async with listening(argv, port, sites.folder / "apache.log", {}):
            page = await (await chromium.new_context(ignore_https_errors=True)).new_page()

            async def told() -> dict[str, str]:
                await page.wait_for_url(f"{site}/notes")
                return dict(json.loads(await page.inner_text("body")))

            await page.goto(f"{site}/notes")
            await sign_in(page)
            await page.get_by_role("button", name="Allow", exact=True).click()
            known = await told()
            assert known["OIDC_CLAIM_preferred_username"] == "ada"
            assert known["OIDC_CLAIM_email"] == "ada@example.org"
            assert known["OIDC_CLAIM_iss"] == sites.tls.url

            # Back-channel: the site is told of a session that the operator ends, and asks again.
            await sites.gateway.run("session", "revoke", "--user", "ada")

            async def is_asked() -> bool:
                await page.goto(f"{site}/notes")
                return page.url.startswith(sites.tls.url)

            await until(is_asked)
            await sign_in(page)
            assert (await told())["OIDC_CLAIM_preferred_username"] == "ada"

            await page.goto(f"{site}/oidc?logout={site.replace(':', '%3A').replace('/', '%2F')}%2Fbye")
            await page.wait_for_url(f"{site}/bye")
            await page.goto(f"{sites.tls.url}/oauth2/account")
            await expect(page.get_by_label("Password")).to_be_visible()


async def test_auth_js(sites: Sites, ada: Person) -> None:
    port, site = new_site()
    settings = await sites.registered("Auth.js", site)
    async with sites.program("auth_js.mjs", port, settings["js"]):
        page = await ada.visits(f"{site}/auth/signin")
        await ada.presses(page, 0, site)
        session = (await ada.get(f"{site}/auth/session")).json
    assert session["user"] == {"name": "Ada Lovelace", "email": "ada@example.org"}


async def test_openid_client(sites: Sites, ada: Person) -> None:
    port, site = new_site()
    settings = await sites.registered("openid-client", site)
    async with sites.program("openid_client_site.mjs", port, settings["js"]):
        assert (await ada.visits(f"{site}/login")).json["preferred_username"] == "ada"
        assert (await ada.visits(f"{site}/logout")).json is None
    assert not await is_signed_in(ada)


async def test_express_openid_connect(sites: Sites, ada: Person) -> None:
    """The code comes as a form, which is why its cookie is one that other sites may send."""
    port, site = new_site()
    create = ["--redirect-uri", f"{site}/callback", "--backchannel-logout-uri", f"{site}/backchannel-logout"]
    after = ["--post-logout-redirect-uri", site, "--scope", "openid", "--scope", "profile", "--scope", "email"]
    made = await sites.gateway.run("client", "create", "--name", "Express", *create, *after)
    known = {"CLIENT_ID": made["client_id"], "CLIENT_SECRET": made["client_secret"]}
    async with sites.program("express_openid_connect.mjs", port, **known):
        assert (await ada.visits(f"{site}/login")).json is True
        assert (await ada.get(f"{site}/me")).json["email"] == "ada@example.org"
        await sites.gateway.run("session", "revoke", "--user", "ada")

        async def is_out() -> bool:
            return (await ada.get(f"{site}/")).json is False

        await until(is_out)
        assert (await ada.visits(f"{site}/login")).json is True
        assert (await ada.visits(f"{site}/logout")).json is False
    assert not await is_signed_in(ada)


_DJANGO = """
SECRET_KEY = "obviously-a-fake-secret-of-this-site"
ALLOWED_HOSTS = ["127.0.0.1"]
ROOT_URLCONF = "wiki.urls"
INSTALLED_APPS = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates"}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": %r}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
"""
_DJANGO_URLS = """
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import include, path

FORM = '<form action="/oidc/logout/" method="post"><input name="csrfmiddlewaretoken" value="%s"></form>'


def home(request):
    return HttpResponse(f"{getattr(request.user, 'email', '')}{FORM % get_token(request)}")


urlpatterns = [path("", home), path("oidc/", include("mozilla_django_oidc.urls"))]
"""


async def test_django_with_mozilla_django_oidc(sites: Sites, ada: Person) -> None:
    port, site = new_site()
    settings = await sites.registered("Django", site)
    project = sites.folder / "wiki"
    project.mkdir()
    (project / "settings.py").write_text(_DJANGO % str(sites.folder / "wiki.db") + settings["python"])
    (project / "urls.py").write_text(_DJANGO_URLS)
    async with sites.program("django_site.py", port, SITE=str(sites.folder)):
        home = await ada.visits(f"{site}/oidc/authenticate/")
        assert home.text.startswith("ada@example.org<form")
        home = await ada.presses(home, 0, site)
        assert home.text.startswith("<form")
    assert not await is_signed_in(ada)


_INDEX = """<!doctype html><title>Wiki</title>
<script type="importmap">{"imports": {"oidc-client-ts": "/oidc-client-ts.js", "jwt-decode": "/jwt-decode.js"}}</script>
<button id="redirect">Sign in</button><button id="popup">Pop up</button>
<button id="renew">Renew</button><button id="frame">Renew in a frame</button><button id="out">Sign out</button>
<p id="who"></p>
<script type="module">
import { manager } from "/settings.js";
const tell = async () => {
  const user = await manager.getUser();
  const words = user ? `${user.profile.preferred_username} ${user.access_token}` : "nobody";
  document.querySelector("#who").textContent = words;
};
const press = (id, act) => document.querySelector(id).addEventListener("click", () =>
  act().then(tell, (error) => { document.querySelector("#who").textContent = `error: ${error}`; }));
press("#redirect", () => manager.signinRedirect());
press("#popup", () => manager.signinPopup());
press("#renew", () => manager.signinSilent());
press("#frame", async () => {
  const user = await manager.getUser();
  delete user.refresh_token;
  await manager.storeUser(user);
  await manager.signinSilent();
});
press("#out", () => manager.signoutRedirect());
await tell();
</script>"""
_CALLBACK = """<!doctype html><title>Back</title>
<script type="importmap">{"imports": {"oidc-client-ts": "/oidc-client-ts.js", "jwt-decode": "/jwt-decode.js"}}</script>
<script type="module">
import { manager } from "/settings.js";
const user = await manager.signinCallback();
if (user && window === window.top && !window.opener) location = "/";
</script>"""


async def test_oidc_client_ts_in_a_browser(sites: Sites, chromium: Chromium) -> None:
    """By a popup and by a redirect, renewed by a refresh token and not in a frame, and signed out."""
    if not PACKAGES.exists():
        pytest.skip("the clients in JavaScript are not installed: make clients")
    script = "text/javascript"
    files: dict[str, tuple[str, str]] = {
        "/": ("text/html", _INDEX),
        "/callback.html": ("text/html", _CALLBACK),
        "/oidc-client-ts.js": (script, (PACKAGES / "oidc-client-ts/dist/esm/oidc-client-ts.js").read_text()),
        "/jwt-decode.js": (script, (PACKAGES / "jwt-decode/build/esm/index.js").read_text()),
        "/settings.js": (script, ""),
    }
    async with pages(files, sites.tls) as site:
        settings = await sites.registered("oidc-client-ts", site)
        files["/settings.js"] = (script, settings["js"])
        page = await (await chromium.new_context(ignore_https_errors=True)).new_page()
        who = page.locator("#who")
        await page.goto(f"{site}/")
        async with page.expect_popup() as opened:
            await page.click("#popup")
        popup = await opened.value
        await sign_in(popup)
        await popup.get_by_role("button", name="Allow", exact=True).click()
        await expect(who).to_contain_text("ada gwa_")

        before = await who.inner_text()
        await page.click("#renew")
        await expect(who).not_to_have_text(before)
        await expect(who).to_contain_text("ada gwa_")
        await page.click("#frame")
        await expect(who).to_contain_text("ErrorResponse: The person has not allowed this yet.")

        await page.click("#out")
        await page.wait_for_url(f"{site}/")
        await expect(who).to_have_text("nobody")
        await page.click("#redirect")
        await sign_in(page)
        await page.get_by_role("button", name="Allow", exact=True).click()
        await page.wait_for_url(f"{site}/")
        await expect(who).to_contain_text("ada gwa_")


async def test_grafanas_settings_name_endpoints_that_there_are(sites: Sites, ada: Person) -> None:
    """Grafana itself is not run; its file can be read, and what it names is what discovery says."""
    ini = configparser.ConfigParser(interpolation=None)
    ini.read_string(blocks("Grafana")["ini"].replace(ISSUER, sites.tls.url))
    said: dict[str, Any] = dict(ini["auth.generic_oauth"])
    found = (await ada.get("/.well-known/openid-configuration")).json
    assert (said["auth_url"], said["token_url"], said["api_url"]) == (
        found["authorization_endpoint"],
        found["token_endpoint"],
        found["userinfo_endpoint"],
    )
    assert said["signout_redirect_url"].partition("?")[0] == found["end_session_endpoint"]
    assert set(said["scopes"].split()) <= set(found["scopes_supported"])
