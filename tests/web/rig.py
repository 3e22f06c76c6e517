"""The authorization plane on a real socket over the real store, and a browser's behaviour towards it."""

import base64
import hashlib
import html
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp
import argon2
import asyncpg
from aiohttp import web
from yarl import URL

from gateway.config import Settings, parse
from gateway.crypto import Keyring
from gateway.fetching import Fetcher
from gateway.model import GRANT_TYPES, Client
from gateway.store import NewClient, Store
from gateway.web.app import create_app, create_runner

SCOPES = {"notes:read": "Read your notes", "notes:write": "Change your notes"}
REDIRECT = "https://app.example/cb"
PASSWORD = "obviously-fake-password"
PASSWORD_HASH = argon2.PasswordHasher(time_cost=1, memory_cost=8, parallelism=1).hash(PASSWORD)  # checked in no time
VERIFIER = "obviously-a-fake-verifier-of-43-characters-x"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ROUTES = [
    {
        "name": "notes",
        "path": "/api/notes",
        "upstreams": ["http://127.0.0.1:1"],
        "auth": ["bearer", "mac"],
        "scopes": {"GET": ["notes:read"], "*": ["notes:write"]},
    },
    {"name": "public", "path": "/public", "upstreams": ["http://127.0.0.1:1"], "auth": "none"},
    {
        "name": "other-host",
        "path": "/other",
        "hosts": ["other.example"],
        "upstreams": ["http://127.0.0.1:1"],
        "auth": ["mac"],
    },
]


@dataclass
class Form:
    """A form as a browser sees it: where it goes, its fields as they stand, and its buttons."""

    action: str
    method: str
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str]] = field(default_factory=list)

    def filled(self, **changes: str | Sequence[str] | None) -> list[tuple[str, str]]:
        """The fields with some set, set several times, or left out (None)."""
        kept = [(name, value) for name, value in self.fields if name not in changes]
        for name, value in changes.items():
            if value is not None:
                kept += [(name, item) for item in ([value] if isinstance(value, str) else value)]
        return kept

    def value(self, name: str) -> str:
        return dict(self.fields)[name]


class Forms(HTMLParser):
    """The forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        of = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.inside = True
            self.forms.append(Form(of.get("action", ""), of.get("method", "get").lower()))
        elif tag == "input" and self.inside and (of.get("type") != "checkbox" or "checked" in of):
            self.forms[-1].fields.append((of["name"], of.get("value", "")))
        elif tag == "button" and self.inside and "name" in of:
            self.forms[-1].buttons.append((of["name"], of.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self.inside = False


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    set_cookies: list[str]

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def members(self) -> dict[str, str]:
        """The parameters that a redirect carries."""
        return dict(parse_qsl(urlsplit(self.location).query, strict_parsing=True))

    @property
    def ways(self) -> dict[str, list[str]]:
        """Where the links lead, by their words."""
        found = dict[str, list[str]]()
        for href, words in re.findall(r'<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>', self.text, re.DOTALL):
            text = html.unescape(re.sub(r"<[^>]*>", "", words)).strip()
            found.setdefault(text, []).append(html.unescape(href))
        return found

    @property
    def forms(self) -> list[Form]:
        parser = Forms()
        parser.feed(self.text)
        return parser.forms

    @property
    def form(self) -> Form:
        (form,) = self.forms
        return form


class Browser:
    """One browser: it keeps cookies and follows nothing by itself."""

    def __init__(self, url: str, tls: ssl.SSLContext | None = None) -> None:
        self.url = url
        connector = None if tls is None else aiohttp.TCPConnector(ssl=tls)
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True), connector=connector)

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        body: Sequence[tuple[str, str]] | bytes | None = None,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    ) -> Answer:
        data = body if isinstance(body, bytes) or body is None else urlencode(body).encode()
        sent = [*(headers.items() if isinstance(headers, Mapping) else headers)]
        if data is not None and not any(name == "Content-Type" for name, _ in sent):
            sent.append(("Content-Type", "application/x-www-form-urlencoded"))
        url = URL(path if path.startswith("http") else self.url + path, encoded=True)
        async with self._session.request(method, url, data=data, headers=sent, allow_redirects=False) as answer:
            found = await answer.read()
            return Answer(answer.status, answer.headers.copy(), found, answer.headers.getall("Set-Cookie", []))

    async def get(self, path: str, headers: Mapping[str, str] | Sequence[tuple[str, str]] = ()) -> Answer:
        return await self.send("GET", path, None, headers)

    async def submit(self, form: Form, /, **changes: str | Sequence[str] | None) -> Answer:
        return await self.send(form.method.upper(), form.action, form.filled(**changes))

    async def follow(self, answer: Answer) -> Answer:
        assert answer.status == 303, (answer.status, answer.text)
        return await self.get(answer.location)

    async def sign_in(self, username: str = "ada", password: str = PASSWORD) -> Answer:
        """Through the login page."""
        page = await self.get("/oauth2/login")
        return await self.submit(page.form, username=username, password=password)

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.key: cookie.value for cookie in self._session.cookie_jar}

    def set_cookie(self, name: str, value: str) -> None:
        self._session.cookie_jar.update_cookies({name: value}, URL(self.url))

    def forget(self, name: str) -> None:
        self._session.cookie_jar.clear(lambda cookie: cookie.key == name)


@dataclass
class Plane:
    """A served authorization plane."""

    url: str
    store: Store
    settings: Settings
    app: web.Application

    async def user(self, username: str = "ada", name: str | None = "Ada Lovelace") -> str:
        """A new user's subject."""
        user = await self.store.users.create(username, f"{username}@example.org", name, PASSWORD_HASH)
        return user.subject

    async def client(self, **changes: Any) -> tuple[Client, str]:
        """A new client and its secret; a public one has none ("")."""
        return await new_client(self.store, **changes)


async def new_client(store: Store, **changes: Any) -> tuple[Client, str]:
    """A new client and its secret; a public one has none ("")."""
    values: dict[str, Any] = {
        "name": "Notes Desktop",
        "confidential": True,
        "redirect_uris": (REDIRECT,),
        "grant_types": frozenset(GRANT_TYPES),
        "scopes": frozenset(SCOPES),
        "token_type": "bearer",
        "mac_drafts": ("01",),
        "mac_algorithm": "hmac-sha-256",
    }
    client, secret = await store.clients.create(NewClient(**(values | changes)))
    return client, secret or ""


def settings_for(url: str, keyring: Keyring, folder: Path, **tables: Any) -> Settings:
    """A configuration whose public URL is `url`."""
    tables.setdefault("scopes", SCOPES)
    tables.setdefault("routes", ROUTES)
    tables.setdefault("branding", {"name": "Example"})
    config = parse({"server": {"public_url": url}, **tables})
    return Settings(config, folder / "config.toml", None, keyring, ())


@asynccontextmanager
async def serving(
    store: Store,
    keyring: Keyring,
    folder: Path,
    *,
    public_url: str | None = None,
    fetcher: Fetcher | None = None,
    **tables: Any,
) -> AsyncIterator[Plane]:
    """The plane on a loopback port; `public_url` where people would reach it under another name."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(64)
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        settings = settings_for(public_url or url, keyring, folder, **tables)
        app = create_app(settings, store, fetcher)
        runner = create_runner(app)
        await runner.setup()
        await web.SockSite(runner, sock).start()
        try:
            yield Plane(url, store, settings, app)
        finally:
            await runner.cleanup()


def authorize_path(client: Client, **changes: str | bytes | None) -> str:
    """The path of a good authorization request, with some parameters set or left out (None)."""
    members: dict[str, str | bytes | None] = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uris[0] if client.redirect_uris else REDIRECT,
        "scope": "notes:read notes:write",
        "state": "xyz",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    given = {name: value for name, value in (members | changes).items() if value is not None}
    return "/oauth2/authorize?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in given.items())


def basic(client_id: str, secret: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def code_for(browser: Browser, client: Client, scopes: Sequence[str] = (), **changes: str | None) -> str:
    """A code that somebody who is signed in allows."""
    page = await browser.get(authorize_path(client, **changes))
    if page.status != 303:
        page = await browser.submit(page.form, decision="allow", **({"scope": scopes} if scopes else {}))
    return page.members["code"]


def code_fields(code: str, client: Client, /, **changes: str | None) -> list[tuple[str, str]]:
    """A token request's fields for a code."""
    members: dict[str, str | None] = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": client.redirect_uris[0],
        "code_verifier": VERIFIER,
    }
    return [(name, value) for name, value in (members | changes).items() if value is not None]


def without_secrets(text: str) -> str:
    """A page without what differs from one rendering to the next."""
    return re.sub(r'(name="csrf_token" value=")[^"]*', r"\1", text)


async def row_counts(dsn: str) -> dict[str, int]:
    """How many rows each table of a database has."""
    connection = await asyncpg.connect(dsn)
    try:
        names = await connection.fetch("select tablename from pg_tables where schemaname = 'public'")
        counts = {name: await connection.fetchval(f'select count(*) from "{name}"') for (name,) in names}
    finally:
        await connection.close()
    return counts
