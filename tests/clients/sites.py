"""Sites that sign people in by the ready settings of docs/openid-connect.md, at one gateway that speaks TLS."""

import asyncio
import os
import re
import shlex
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.crypto import Keyring
from gateway.store import Store
from tests.certificates import Https, https
from tests.clients.rig import beside_packages, command
from tests.conftest import cloned_store
from tests.serving import ROOT, Gateway, free_ports, serving, until
from tests.web.rig import PASSWORD, PASSWORD_HASH, Answer, Browser

PAGE = (ROOT / "docs" / "openid-connect.md").read_text(encoding="utf-8")
ISSUER, SITE = "https://login.example.com", "https://wiki.example.com"
SECRET = "obviously-a-fake-secret-of-this-site"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_APACHE_MODULES = ("mpm_event", "authn_core", "authz_core", "authz_user", "auth_openidc", "proxy", "proxy_http")
_APACHE_FOLDER = Path("/usr/lib/apache2/modules")
_OFFSITE = re.compile(r"https?://")


def blocks(heading: str) -> dict[str, str]:
    """What the page has below a heading, by language."""
    section = re.split(r"^##", PAGE.partition(f"### {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return dict(_FENCE.findall(section))


@dataclass(frozen=True)
class Sites:
    """The gateway, and where sites of a test keep their files."""

    gateway: Gateway
    store: Store
    tls: Https
    folder: Path

    async def registered(self, heading: str, site: str) -> dict[str, str]:
        """The settings of the page for a site there, by language, with the client that the page's command makes."""
        found = blocks(heading)
        create = found.pop("sh").replace("\\\n", " ").replace(SITE, site)
        made = await self.gateway.run(*shlex.split(create)[1:])
        known = {
            ISSUER: self.tls.url,
            SITE: site,
            SITE.replace("://", "%3A%2F%2F"): site.replace(":", "%3A").replace("/", "%2F"),
            "CLIENT_ID": made["client_id"],
            "CLIENT_SECRET": made.get("client_secret") or "",
            "A_LONG_RANDOM_TEXT": SECRET,
        }
        return {language: _replaced(text, known) for language, text in found.items()}

    @asynccontextmanager
    async def program(self, name: str, port: int, settings: str = "", **environment: str) -> AsyncIterator[None]:
        """A program of ours, in Node or Python, that serves a site at that port."""
        argv = command(name, self.folder)  # or the test is skipped
        if settings:
            (beside_packages(self.folder) / "settings.mjs").write_text(settings, encoding="utf-8")
        trusting = dict.fromkeys(("NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE"), str(self.tls.certificate))
        known = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PORT": str(port), "ISSUER": self.tls.url}
        async with listening(argv, port, self.folder / f"{name}.log", {**known, **trusting, **environment}):
            yield

    def apache(self, port: int, settings: str, upstream: int) -> list[str]:
        """How Apache is run there, before a page at `upstream`."""
        folder = self.tls.certificate.parent  # where a user whom root becomes can go
        config = folder / "apache.conf"
        loaded = [f"LoadModule {name}_module {_APACHE_FOLDER}/mod_{name}.so" for name in _APACHE_MODULES]
        config.write_text(
            "\n".join(
                (
                    *loaded,
                    f"Listen 127.0.0.1:{port}",
                    f"ServerName 127.0.0.1:{port}",
                    f"ServerRoot {folder}",
                    f"PidFile {folder}/apache.pid",
                    "ErrorLog /dev/stderr",
                    f"DefaultRuntimeDir {folder}",
                    f"OIDCCABundlePath {self.tls.certificate}",
                    *(("User www-data", "Group www-data") if os.geteuid() == 0 else ()),
                    settings,
                    f"ProxyPass / http://127.0.0.1:{upstream}/",
                )
            ),
            encoding="utf-8",
        )
        return [APACHE or "", "-f", str(config), "-DFOREGROUND"]


APACHE = shutil.which("apache2", path=f"{os.environ['PATH']}:/usr/sbin")


def has_mod_auth_openidc() -> bool:
    """Whether Apache with the module is installed."""
    return APACHE is not None and (_APACHE_FOLDER / "mod_auth_openidc.so").exists()


def _replaced(text: str, known: Mapping[str, str]) -> str:
    """The text with each of these words, which are no part of a longer one, in the place of another."""
    words = re.compile("|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in known))
    return words.sub(lambda found: known[found[0]], text)


@asynccontextmanager
async def listening(argv: Sequence[str], port: int, log: Path, environment: Mapping[str, str]) -> AsyncIterator[None]:
    """A process that listens there until the context ends."""

    async def listens() -> bool:
        assert process.returncode is None, log.read_text()
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(*argv, stdout=output, stderr=output, env=dict(environment))
    try:
        await until(listens)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


@asynccontextmanager
async def sites_of(server: str, template: str, folder: Path, keyring: Keyring) -> AsyncIterator[Sites]:
    """The gateway of all these sites, with Ada, who may sign in."""
    async with AsyncExitStack() as stack:
        tls = stack.enter_context(https())
        dsn, store = await stack.enter_async_context(cloned_store(server, template, keyring))
        gateway = await stack.enter_async_context(serving(folder, dsn=dsn, workers=1, server=tls.server))
        await store.users.create("ada", "ada@example.org", "Ada Lovelace", PASSWORD_HASH)
        yield Sites(gateway, store, tls, folder)


class Person(Browser):
    """Somebody whose browser goes wherever it is sent, and who signs in as Ada and allows what is asked for."""

    async def visits(self, url: str) -> Answer:
        """The page at which they end."""
        return await self.goes_on(await self.get(url), url)

    async def presses(self, answer: Answer, form: int, at: str, **changes: str) -> Answer:
        """The page at which they end who send one of a page's forms."""
        sent = answer.forms[form]
        action = sent.action if _OFFSITE.match(sent.action) else at + sent.action
        headers = {"Referer": f"{at}/", "Origin": at}
        return await self.goes_on(await self.send(sent.method.upper(), action, sent.filled(**changes), headers), action)

    async def goes_on(self, answer: Answer, url: str) -> Answer:
        while True:
            origin = "/".join(url.split("/", 3)[:3])
            if answer.status in (302, 303):
                url = answer.location if _OFFSITE.match(answer.location) else origin + answer.location
                answer = await self.get(url)
            elif origin == self.url and answer.status == 200 and 'type="password"' in answer.text:
                answer = await self.submit(answer.form, username="ada", password=PASSWORD)
            elif origin == self.url and answer.status == 200 and 'name="decision"' in answer.text:
                scopes = [value for name, value in answer.form.fields if name == "scope"]
                answer = await self.submit(answer.form, decision="allow", scope=scopes)
            elif origin == self.url and answer.status == 200 and answer.forms and _OFFSITE.match(answer.form.action):
                form = answer.form  # the code, as a form that the browser posts by itself
                url = form.action
                answer = await self.send("POST", url, form.fields, {"Origin": self.url})
            else:
                return answer


@asynccontextmanager
async def pages(files: Mapping[str, tuple[str, str]], tls: Https) -> AsyncIterator[str]:
    """A site of files by https: for each path its type and its text."""

    async def file(request: web.Request) -> web.Response:
        content_type, text = files[request.path]
        return web.Response(text=text, content_type=content_type)

    app = web.Application()
    for path in files:
        app.router.add_get(path, file)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls.answering()).start()
    try:
        yield f"https://localhost:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def echoing() -> AsyncIterator[int]:
    """A page that says what it is told of who looks at it, and the port that it is at."""

    async def tell(request: web.Request) -> web.Response:
        return web.json_response({name: value for name, value in request.headers.items() if name.startswith("OIDC_")})

    app = web.Application()
    app.router.add_get("/{path:.*}", tell)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def new_site() -> tuple[int, str]:
    """A port for a site, and its address."""
    (port,) = free_ports(1)
    return port, f"http://127.0.0.1:{port}"
