"""A provider that is played against, on TLS, with two confidential clients; and what every module checks first."""

import asyncio
import base64
import hashlib
import html
import json
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.model import Client, OpenID
from gateway.oauth import openid
from gateway.store import Store
from gateway.store.users import Known
from tests.certificates import https
from tests.serving import serving, until
from tests.web.rig import PASSWORD, PASSWORD_HASH, Answer, Browser, new_client

CALLBACK = "https://rp.example/test/a/gateway/callback"
BACK = "https://rp.example/test/a/gateway/post_logout_redirect"
CLAIMS: dict[str, object] = {
    **{name: name.title() for name in ("given_name", "family_name", "middle_name", "nickname", "gender")},
    **{name: f"https://ada.example/{name}" for name in ("profile", "picture", "website")},
    "birthdate": "1815-12-10",
    "zoneinfo": "Europe/London",
    "locale": "en-GB",
    "phone_number": "+44 20 7946 0000",
    "phone_number_verified": True,
    "address": {"formatted": "12 St James’s Square\nLondon"},
}
_SIGN_IN = frozenset({"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "sid", "at_hash"})
_DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5b\x5d-\x7e]*")  # RFC 6749, section 4.1.2.1
_FRAME = re.compile(r'<iframe [^>]*src="([^"]+)"')
_BIRTHDATE = re.compile(r"(?:\d{4}-\d{2}-\d{2}|\d{4})")
_ENOUGH = 22  # characters of base64url that hold 128 bits
_YEAR = 365 * 86400


class Skipped(Exception):
    """The module does not apply; the text says why."""


@dataclass(frozen=True)
class Module:
    """One module: its name, the plans that it belongs to, and how it is played."""

    name: str
    plans: tuple[str, ...]
    play: Callable[["Play"], Awaitable[None]]


MODULES: list[Module] = []


def module(
    name: str, *plans: str
) -> Callable[[Callable[["Play"], Awaitable[None]]], Callable[["Play"], Awaitable[None]]]:
    """Name a function as the module that it plays."""

    def named(play: Callable[["Play"], Awaitable[None]]) -> Callable[["Play"], Awaitable[None]]:
        MODULES.append(Module(name, plans, play))
        return play

    return named


@dataclass(frozen=True)
class Credentials:
    """A client as it knows itself."""

    client: Client
    secret: str

    @property
    def client_id(self) -> str:
        return self.client.client_id


@dataclass
class Listener:
    """The client's own site, by https: what it was sent, and over which version of TLS."""

    url: str = ""
    told: list[dict[str, str]] = field(default_factory=list)
    versions: list[str | None] = field(default_factory=list)
    loaded: list[dict[str, str]] = field(default_factory=list)

    async def logout(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.told.append({name: str(value) for name, value in form.items()})
        tls = None if request.transport is None else request.transport.get_extra_info("ssl_object")
        self.versions.append(None if tls is None else tls.version())
        return web.Response()

    async def frame(self, request: web.Request) -> web.Response:
        self.loaded.append(dict(parse_qsl(request.query_string)))
        return web.Response(text="bye", content_type="text/html")


@dataclass(frozen=True)
class Provider:
    """The provider with its clients: two plain ones, one that is told by us of a logout, one that the browser tells."""

    url: str
    tls: ssl.SSLContext
    clients: tuple[Credentials, ...]
    listener: Listener
    pace: float  # by which long waits are shorter


@asynccontextmanager
async def provider(dsn: str, store: Store, folder: Path, *, pace: float) -> AsyncIterator[Provider]:
    """A gateway that speaks TLS as `localhost`, on a certificate that it also trusts in others."""
    async with AsyncExitStack() as stack:
        tls = stack.enter_context(https())
        listener = await stack.enter_async_context(_listening(tls.answering()))
        trusting = {"SSL_CERT_FILE": str(tls.certificate)}
        await stack.enter_async_context(serving(folder, dsn=dsn, workers=1, environment=trusting, server=tls.server))
        await store.users.create("ada", "ada@example.org", "Ada Lovelace", PASSWORD_HASH)
        await store.users.update("ada", None, None, None, Known(claims=CLAIMS, email_verified=True))
        told: list[dict[str, Any]] = [
            {},
            {},
            {"backchannel_logout_uri": f"{listener.url}/logout"},
            {"frontchannel_logout_uri": f"{listener.url}/frame"},
        ]
        clients = [
            Credentials(
                *await new_client(
                    store,
                    redirect_uris=(CALLBACK,),
                    grant_types=frozenset({"authorization_code", "refresh_token"}),
                    scopes=frozenset(openid.SCOPES),
                    pkce_required=False,
                    openid=OpenID(post_logout_redirect_uris=(BACK,), **addresses),
                )
            )
            for addresses in told
        ]
        yield Provider(tls.url, tls.asking(), tuple(clients), listener, pace)


@asynccontextmanager
async def _listening(tls: ssl.SSLContext) -> AsyncIterator[Listener]:
    app, listener = web.Application(), Listener()
    app.router.add_post("/logout", listener.logout)
    app.router.add_get("/frame", listener.frame)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    listener.url = f"https://localhost:{runner.addresses[0][1]}"
    try:
        yield listener
    finally:
        await runner.cleanup()


@dataclass(frozen=True)
class Callback:
    """What came back to the client."""

    members: dict[str, str]
    asked: Mapping[str, str]


@dataclass(frozen=True)
class Login:
    """A person who signed in at the client, with all that it was told of them."""

    callback: Callback
    response: dict[str, Any]
    claims: dict[str, Any]
    userinfo: dict[str, Any]

    @property
    def id_token(self) -> str:
        return str(self.response["id_token"])

    @property
    def access_token(self) -> str:
        return str(self.response["access_token"])


@dataclass
class Play:
    """One module as it is played: a browser that nobody is signed in in, and what the client sees and does."""

    provider: Provider
    browser: Browser
    form_post: bool = False
    warnings: list[str] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)  # that the person saw
    shown: Answer | None = None  # the last of them
    credentials: Credentials | None = None

    @property
    def client(self) -> Credentials:
        return self.credentials or self.provider.clients[0]

    def warn(self, unless: object, reason: str) -> None:
        """What the suite warns of."""
        if not unless:
            self.warnings.append(reason)

    # -- what the client reads

    async def discovery(self) -> dict[str, Any]:
        answer = await self.browser.get("/.well-known/openid-configuration")
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        document: dict[str, Any] = answer.json
        return document

    async def keys(self) -> dict[str, dict[str, str]]:
        """The provider's keys, each with an identifier of its own."""
        keys = (await self.browser.get((await self.discovery())["jwks_uri"])).json["keys"]
        assert all(key.get("kid") for key in keys), "a key without kid"
        assert len({key["kid"] for key in keys}) == len(keys), "two keys with one kid"
        return {key["kid"]: key for key in keys}

    async def supports(self, scope: str) -> bool:
        return scope in (await self.discovery()).get("scopes_supported", [])

    # -- the authorization endpoint

    def request(self, **changes: str | None) -> dict[str, str]:
        """The parameters of an authorization request, some set or left out (None)."""
        members: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client.client_id,
            "redirect_uri": CALLBACK,
            "scope": "openid",
            "state": secrets.token_urlsafe(8),
            "nonce": secrets.token_urlsafe(8),
            "response_mode": "form_post" if self.form_post else None,
        }
        return {name: value for name, value in (members | changes).items() if value is not None}

    async def sent(self, asked: Mapping[str, str], method: str = "GET") -> Callback | None:
        """Send the browser there, where a person signs in and allows what is asked for: None ends on a page."""
        self.pages.clear()
        path = urlsplit((await self.discovery())["authorization_endpoint"]).path
        if method == "POST":
            fields = {"Origin": "https://rp.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Dest": "document"}
            answer = await self.browser.send("POST", path, [*asked.items()], fields)
        else:
            answer = await self.browser.get(f"{path}?{urlencode(asked)}")
        while True:
            self.shown = answer
            if answer.status == 303:
                if answer.location.startswith(CALLBACK):
                    assert not self.form_post or "response_mode" not in asked, "an answer in the address"
                    return self._called_back(answer.members, asked)
                assert answer.location.startswith(("/", self.provider.url)), f"sent to {answer.location}"
                answer = await self.browser.get(answer.location)
            elif answer.status == 200 and 'type="password"' in answer.text:
                self.pages.append("sign-in")
                answer = await self.browser.submit(answer.form, username="ada", password=PASSWORD)
            elif answer.status == 200 and 'name="decision"' in answer.text:
                self.pages.append("consent")
                scopes = sorted(set(asked.get("scope", "").split()) - {"openid"})
                answer = await self.browser.submit(answer.form, decision="allow", scope=scopes)
            elif answer.status == 200 and f'action="{CALLBACK}"' in answer.text:
                assert answer.form.method == "post"
                return self._called_back(dict(answer.form.fields), asked)
            else:
                return None

    async def asked(self, method: str = "GET", **changes: str | None) -> Callback | None:
        return await self.sent(self.request(**changes), method)

    def _called_back(self, members: dict[str, str], asked: Mapping[str, str]) -> Callback:
        """What every module checks of a callback."""
        expected = {"error", "error_description", "error_uri"} if "error" in members else {"code"}
        extra = members.keys() - expected - {"state", "iss", "session_state"}
        self.warn(not extra, f"unexpected parameters came back: {sorted(extra)}")
        assert members.get("iss", self.provider.url) == self.provider.url
        assert members.get("state") == asked.get("state")
        return Callback(members, asked)

    def refused(self, callback: Callback | None, *errors: str) -> None:
        """The request was refused with one of these errors: at the client, or where it is None on a page."""
        if callback is None:
            assert self.shown is not None
            assert self.shown.status >= 400
            return
        assert "code" not in callback.members
        assert callback.members.get("error") in errors, callback.members
        assert _DESCRIPTION.fullmatch(callback.members.get("error_description", ""))
        assert urlsplit(callback.members.get("error_uri", "https://e.example/")).scheme

    # -- the token endpoint and UserInfo

    async def token(self, fields: Mapping[str, str], *, post: bool = False, by: Credentials | None = None) -> Answer:
        """What the token endpoint answers a client."""
        credentials = by or self.client
        both = f"{credentials.client_id}:{credentials.secret}".encode()
        basic = {"Authorization": f"Basic {base64.b64encode(both).decode()}"}
        posted = {"client_id": credentials.client_id, "client_secret": credentials.secret}
        path = urlsplit((await self.discovery())["token_endpoint"]).path
        return await self.browser.send(
            "POST", path, [*{**fields, **(posted if post else {})}.items()], () if post else basic
        )

    async def redeemed(self, callback: Callback | None, *, post: bool = False, **more: str) -> Answer:
        assert callback is not None, "no callback"
        assert "code" in callback.members, callback.members
        fields = {"grant_type": "authorization_code", "code": callback.members["code"], "redirect_uri": CALLBACK}
        return await self.token({**fields, **more}, post=post)

    async def signed_in(self, *, post: bool = False, method: str = "GET", **changes: str | None) -> Login:
        """A whole sign-in, with every check that each module makes."""
        return await self.logged_in(await self.asked(method, **changes), post=post)

    async def logged_in(self, callback: Callback | None, *, post: bool = False, **more: str) -> Login:
        answer = await self.redeemed(callback, post=post, **more)
        assert callback is not None
        assert answer.status == 200, answer.text
        response: dict[str, Any] = answer.json
        assert response["access_token"]
        assert response.get("expires_in", 1) > 0
        claims = await self.verified(response["id_token"])
        self._check_id_token(claims, callback.asked.get("nonce"))
        if "at_hash" in claims:
            assert claims["at_hash"] == _half_hash(response["access_token"])
        userinfo = await self.userinfo(response["access_token"])
        assert userinfo["sub"] == claims["sub"]
        return Login(callback, response, claims, userinfo)

    async def userinfo(self, token: str) -> dict[str, Any]:
        answer = await self.userinfo_answer(token)
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("application/json")
        claims: dict[str, Any] = answer.json
        _check_types(claims)
        return claims

    async def userinfo_answer(self, token: str, method: str = "GET", *, body: bool = False) -> Answer:
        path = urlsplit((await self.discovery())["userinfo_endpoint"]).path
        if body:
            return await self.browser.send(method, path, [("access_token", token)])
        return await self.browser.send(method, path, None, {"Authorization": f"Bearer {token}"})

    async def verified(self, token: str) -> dict[str, Any]:
        """The claims of a token that an RSA key of the provider signed, by RS256."""
        signed, _, signature = token.rpartition(".")
        header, payload = (json.loads(_decoded(part)) for part in signed.split("."))
        assert header["alg"] == "RS256"
        key = (await self.keys())[header["kid"]]
        modulus, exponent = (int.from_bytes(_decoded(key[name]), "big") for name in ("n", "e"))
        public = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        try:
            public.verify(_decoded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise AssertionError("the signature is not that key's") from None
        return dict(payload)

    def _check_id_token(self, claims: Mapping[str, Any], nonce: str | None) -> None:
        now = time.time()
        assert claims["iss"] == self.provider.url
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        assert self.client.client_id in audience
        assert now < claims["exp"] < now + 50 * _YEAR
        assert abs(claims["iat"] - now) < 300
        assert now - _YEAR < claims.get("auth_time", now) <= now + 1
        assert claims.get("acr", "1")
        assert claims.get("nonce") == nonce
        assert claims["sub"]
        assert not any(value in (None, "", "null") for value in claims.values())
        extra = claims.keys() - _SIGN_IN
        self.warn(not extra, f"the ID token has claims that were not requested: {sorted(extra)}")
        _check_types(claims)

    # -- logout

    async def logged_out(self, **members: str) -> Answer:
        """Where the browser is after a request for a logout, whose question the person answers."""
        path = urlsplit((await self.discovery())["end_session_endpoint"]).path
        answer = await self.browser.get(f"{path}?{urlencode(members)}")
        self.pages.clear()
        while True:
            if answer.status == 303 and answer.location.startswith(("/", self.provider.url)):
                answer = await self.browser.get(answer.location)
            elif answer.status == 200 and "csrf_token" in answer.text:
                self.pages.append("question")
                answer = await self.browser.submit(answer.form)
            else:
                return answer

    async def frames_loaded(self, page: Answer) -> None:
        """Load the frames of a page, as a browser does."""
        for address in map(html.unescape, _FRAME.findall(page.text)):
            assert (await self.browser.get(address)).status == 200

    async def is_signed_in(self) -> bool:
        """Whether prompt=none gets a code; it gets an error that says why not otherwise."""
        callback = await self.asked(prompt="none")
        if callback is not None and "code" in callback.members:
            return True
        self.refused(callback, *NOBODY)
        assert callback is not None
        return False

    # -- time

    async def second_after(self, moment: float) -> None:
        """Wait until a later second than that one has begun."""
        await until(lambda: time.time() >= int(moment) + 1)

    async def waited(self, seconds: float) -> None:
        """Wait as long as the suite does; shorter where it changes nothing that is checked."""
        await asyncio.sleep(seconds * self.provider.pace)


NOBODY = ("login_required", "interaction_required", "account_selection_required", "consent_required")


def random_enough(text: str) -> bool:
    """Whether a code or a token is long enough to hold 128 bits, and of many characters."""
    return len(text) >= _ENOUGH and len(set(text)) >= _ENOUGH // 2


def _check_types(claims: Mapping[str, Any]) -> None:
    """Core, section 5.1."""
    for name in ("email_verified", "phone_number_verified"):
        assert isinstance(claims.get(name, True), bool)
    assert isinstance(claims.get("updated_at", 0), int)
    assert isinstance(claims.get("address", {}), dict)
    assert _BIRTHDATE.fullmatch(claims.get("birthdate", "1815"))
    assert not any(value in (None, "", "null") for value in claims.values())


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _half_hash(token: str) -> str:
    half = hashlib.sha256(token.encode()).digest()[:16]
    return base64.urlsafe_b64encode(half).decode().rstrip("=")


# -- playing -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What came of a module in a plan: how it ended, and why, unless it passed."""

    plan: str
    module: str
    result: str  # passed, warned, skipped, failed
    reason: str = ""


async def played(op: Provider, one: Module, plan: str) -> Outcome:
    """Play one module."""
    browser = Browser(op.url, op.tls)
    play = Play(op, browser, form_post=plan == "Form Post")
    try:
        await one.play(play)
    except Skipped as reason:
        return Outcome(plan, one.name, "skipped", str(reason))
    except AssertionError as failure:
        return Outcome(plan, one.name, "failed", str(failure).partition("\n")[0] or "see the module")
    finally:
        await browser.close()
    reasons = "; ".join(dict.fromkeys(play.warnings))
    return Outcome(plan, one.name, "warned" if reasons else "passed", reasons)


def all_of(modules: Sequence[Module]) -> list[tuple[str, Module]]:
    """Every module by plan, in the order of the plans."""
    plans = dict.fromkeys(plan for one in modules for plan in one.plans)
    return [(plan, one) for plan in plans for one in modules if plan in one.plans]
