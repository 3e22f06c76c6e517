"""Requirements of the standards that no other test holds; docs/standards.md cites each."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import pytest_asyncio

from gateway.crypto import Keyring
from gateway.model import ACR, DEVICE_CODE, Client
from tests.conftest import cloned_store
from tests.web.rig import (
    CHALLENGE,
    PASSWORD,
    Browser,
    Plane,
    authorize_path,
    basic,
    code_fields,
    code_for,
    serving,
)

TOKEN = "/oauth2/token"
FOR_PROGRAMS = ("token", "revoke", "introspect", "par", "device_authorization")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Site:
    """A plane that the tests share, ada's browser, a client with a secret and one without."""

    plane: Plane
    browser: Browser
    client: Client
    secret: str
    public: Client

    @property
    def headers(self) -> dict[str, str]:
        return basic(self.client.client_id, self.secret)

    async def tokens(self, client: Client, headers: dict[str, str]) -> dict[str, Any]:
        fields = code_fields(await code_for(self.browser, client), client, client_id=client.client_id)
        answer: dict[str, Any] = (await self.browser.send("POST", TOKEN, fields, headers)).json
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(
    server: str, template: str, keyring: Keyring, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("requirements")
    async with cloned_store(server, template, keyring) as (_, store), serving(store, keyring, folder) as plane:
        await plane.user()
        client, secret = await plane.client()
        public, _ = await plane.client(name="Pocket Notes", confidential=False)
        browser = Browser(plane.url)
        try:
            await browser.sign_in()
            yield Site(plane, browser, client, secret, public)
        finally:
            await browser.close()


async def test_parameters_that_nobody_knows_are_ignored(site: Site) -> None:
    """RFC 6749, sections 3.1 and 3.2."""
    unknown = [("colour", "blue"), ("état", "é"), ("code_challenge_", "x")]
    page = await site.browser.get(authorize_path(site.public, colour="blue", audience="x"))
    assert page.status == 200
    answer = await site.browser.send("POST", TOKEN, [("grant_type", "client_credentials"), *unknown], site.headers)
    assert answer.status == 200
    for path, fields in (("revoke", [("token", "x")]), ("introspect", [("token", "x")]), ("device_authorization", [])):
        answer = await site.browser.send("POST", f"/oauth2/{path}", [*fields, *unknown], site.headers)
        assert answer.status == 200, path
    asked = parse_qsl(urlsplit(authorize_path(site.client)).query)
    assert (await site.browser.send("POST", "/oauth2/par", [*asked, *unknown], site.headers)).status == 201


@pytest.mark.parametrize("response_type", ["token", "code token"])
async def test_no_token_goes_to_an_address_that_is_not_registered(site: Site, response_type: str) -> None:
    """RFC 6749, section 4.2.1."""
    client, _ = await site.plane.client(first_party=True, grant_types=frozenset({"implicit", "authorization_code"}))
    asked = {"response_type": response_type}
    assert "access_token=" in (await site.browser.get(authorize_path(client, **asked))).location
    for uri in ("https://evil.example/", "https://app.example/cb/", "http://127.0.0.1/cb"):
        answer = await site.browser.get(authorize_path(client, **asked, redirect_uri=uri))
        assert (answer.status, "Location" in answer.headers) == (400, False)


@pytest.mark.parametrize("path", FOR_PROGRAMS)
async def test_a_challenge_is_of_the_scheme_that_was_used(site: Site, path: str) -> None:
    """RFC 6749, section 5.2."""
    for headers in (basic(site.client.client_id, "wrong"), {}):
        answer = await site.browser.send("POST", f"/oauth2/{path}", [("token", "x")], headers)
        assert (answer.status, answer.json["error"]) == (401, "invalid_client")
        assert answer.headers["WWW-Authenticate"].startswith(f'Basic realm="{site.plane.url}"')


async def test_a_refresh_token_alone_is_worth_nothing(site: Site) -> None:
    """RFC 6749, section 6: who has credentials authenticates, and whoever has none names itself."""
    held = await site.tokens(site.client, site.headers)
    fields = [("grant_type", "refresh_token"), ("refresh_token", held["refresh_token"])]
    for named in ([], [("client_id", site.client.client_id)], [("client_id", site.public.client_id)]):
        answer = await site.browser.send("POST", TOKEN, [*fields, *named])
        assert answer.json["error"] in ("invalid_client", "invalid_grant")
        assert "access_token" not in answer.json
    assert (await site.browser.send("POST", TOKEN, fields, site.headers)).status == 200, "nothing was spent"


@pytest.mark.parametrize("path", FOR_PROGRAMS)
async def test_endpoints_for_programs_take_post_alone(site: Site, path: str) -> None:
    """RFC 6749, section 3.2; RFC 7009, section 2.1; RFC 7662, section 2.1; RFC 8628, section 3.1; RFC 9126, 2.3."""
    for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH"):
        assert (await site.browser.send(method, f"/oauth2/{path}")).status == 405


@pytest.mark.parametrize(
    "path", ["oauth-authorization-server", "openid-configuration", "oauth-protected-resource/api/notes", "jwks.json"]
)
async def test_metadata_is_json_without_empty_lists(site: Site, path: str) -> None:
    """RFC 8414, section 3.2; RFC 9728, section 3.2."""
    answer = await site.browser.get(f"/.well-known/{path}")
    assert answer.status == 200
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert [] not in answer.json.values()


async def test_the_metadata_say_that_answers_name_their_issuer(site: Site) -> None:
    """RFC 9207, section 2.3 and 3."""
    for name in ("oauth-authorization-server", "openid-configuration"):
        document = (await site.browser.get(f"/.well-known/{name}")).json
        assert document["authorization_response_iss_parameter_supported"] is True


async def test_people_are_told_that_they_let_a_device_in(site: Site) -> None:
    """RFC 8628, section 5.4: before they type a code, and before they allow anything."""
    begun = await site.browser.send("POST", "/oauth2/device_authorization", [], site.headers)
    assert begun.status == 200
    page = await site.browser.get("/oauth2/device")
    assert "if the device is in front of you" in page.text
    consent = await site.browser.follow(await site.browser.submit(page.form, user_code=begun.json["user_code"]))
    assert "in front of you" in consent.text
    assert site.client.name in consent.text
    assert begun.json["user_code"] in consent.text
    fields = [("grant_type", DEVICE_CODE), ("device_code", begun.json["device_code"])]
    assert (await site.browser.send("POST", TOKEN, fields, site.headers)).json["error"] == "authorization_pending"


async def test_a_form_is_answered_by_303_and_never_by_307(site: Site) -> None:
    """RFC 9700, section 4.12: a browser would post the password, or the decision, to wherever it is led."""
    stranger = Browser(site.plane.url)
    try:
        page = await stranger.get(authorize_path(site.client, prompt="consent"))
        answer = await stranger.submit(page.form, username="ada", password=PASSWORD)
        assert answer.status == 303
        consent = await stranger.follow(answer)
        for decision in ("deny", "allow"):
            assert (await stranger.submit(consent.form, decision=decision)).status == 303
            consent = await stranger.get(authorize_path(site.client, prompt="consent"))
    finally:
        await stranger.close()


async def test_an_answer_never_holds_the_challenge(site: Site) -> None:
    """OAuth 2.1, section 4.1.2; RFC 7636, section 4.4."""
    page = await site.browser.get(authorize_path(site.public))
    answer = await site.browser.submit(page.form, decision="allow")
    assert CHALLENGE not in answer.location
    assert "code_challenge" not in answer.location
    posted = await site.browser.get(authorize_path(site.public, response_mode="form_post"))
    form = await site.browser.submit(posted.form, decision="allow")
    assert CHALLENGE not in form.text


async def test_what_is_wrong_with_a_challenge_is_said(site: Site) -> None:
    """RFC 7636, section 4.4.1."""
    for changes in (
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": "S512"},
    ):
        answer = await site.browser.get(authorize_path(site.public, **changes))
        told = dict(parse_qsl(urlsplit(answer.location).query))
        assert told["error"] == "invalid_request"
        assert "code_challenge" in told["error_description"], changes


async def test_introspection_answers_with_registered_names(site: Site) -> None:
    """RFC 7662, section 2.2: those of the registry "OAuth Token Introspection Response"."""
    registered = {"active", "username", "client_id", "scope", "token_type", "exp", "iat", "nbf", "sub", "aud", "iss"}
    registered |= {"jti", "cnf", "acr", "auth_time"}  # RFC 7662, RFC 8705, RFC 9470
    held = await site.tokens(site.client, site.headers)
    for token in (held["access_token"], held["refresh_token"], "x"):
        answer = await site.browser.send("POST", "/oauth2/introspect", [("token", token)], site.headers)
        assert set(answer.json) <= registered


async def test_the_address_that_people_type_has_no_code_in_it(site: Site) -> None:
    """RFC 8628, section 3.3."""
    begun = (await site.browser.send("POST", "/oauth2/device_authorization", [], site.headers)).json
    assert begun["verification_uri"] == f"{site.plane.url}/oauth2/device"
    assert begun["user_code"] in begun["verification_uri_complete"]


async def test_the_metadata_say_how_people_sign_in(site: Site) -> None:
    """RFC 9470, section 7: that `acr_values` and `max_age` are understood."""
    for name in ("oauth-authorization-server", "openid-configuration"):
        document = (await site.browser.get(f"/.well-known/{name}")).json
        assert document["acr_values_supported"] == [ACR]
