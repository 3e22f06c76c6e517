"""`gateway demo`: everything at once, in one folder, ready to be tried with a browser and curl.

It is `serve` with a written configuration, a sample API in a thread, and clients, a user and tokens that are made
once the gateway is ready. A second run in the same folder finds its database again; secrets and tokens are new each
time, and those of the run before have ended.
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

import click
from msgspec import Struct
from msgspec.structs import replace

from gateway.cli.common import in_store, note, takes_config, value
from gateway.cli.usage import Verb
from gateway.cli.user import generated_password
from gateway.config import Settings
from gateway.config.addresses import split_listen
from gateway.config.values import ListenAddress
from gateway.crypto import hash_password
from gateway.faults import OperatorError
from gateway.model import GrantType, TokenType
from gateway.store import NewClient, Store
from gateway.supervisor import embedded
from gateway.supervisor.listening import listen as listen_at
from gateway.supervisor.users import SystemUser, give, make_folder, system_user_for

_LISTEN: Final = "127.0.0.1:8080"
_ADMIN: Final = ("127.0.0.1", 9901)
_FOLDER: Final = "gateway-demo"
_FOLDER_OF_ROOT: Final = Path("/var/lib/gateway-demo")
_MARK: Final = "# Written by `gateway demo`, and again whenever it starts: copy it to keep your changes.\n"
_NOTE: Final = '{"text": "hello"}'
_USERNAME: Final = "demo"
_SCOPES: Final = frozenset({"notes:read", "notes:write"})
_READ: Final = frozenset({"notes:read"})
_TOKEN_TTL: Final = 86400.0  # seconds: a day of trying

_CONFIG: Final = (
    _MARK
    + """
[server]
listen = "{listen}"
public_url = "{issuer}"
workers = 2

[admin]
listen = "{admin}"

[scopes]
"notes:read" = "Read your notes"
"notes:write" = "Write and change notes for you"

[[routes]]
name = "notes"
path = "/api/notes"
upstreams = ["{upstream}"]
strip_prefix = "/api"
auth = ["bearer"]
scopes = {{ GET = ["notes:read"], "*" = ["notes:write"] }}

[[routes]]
name = "echo"
path = "/api/echo"
upstreams = ["{upstream}"]
strip_prefix = "/api"
auth = ["bearer", "mac"]
scopes = ["notes:read"]

[[routes]]
name = "signed"
path = "/api/signed"
upstreams = ["{upstream}"]
strip_prefix = "/api"
auth = ["mac"]
scopes = {{ GET = ["notes:read"], "*" = ["notes:write"] }}

[[routes]]
name = "callback"
path = "/callback"
upstreams = ["{upstream}"]
auth = "none"

[branding]
name = "Gateway demo"
"""
)


class Place(Struct, frozen=True):
    """The configuration file and the addresses of a demo."""

    config: Path
    listen: str
    admin: str
    issuer: str

    @property
    def redirect_uri(self) -> str:
        return f"{self.issuer}/callback"


@click.command(cls=Verb, epilog="Example: gateway demo --listen 127.0.0.1:8080 --dir /tmp/gateway-demo")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help=f"The address to listen on.  [default: {_LISTEN}, or a free port if that is taken]",
)
@click.option(
    "--dir", "folder", type=click.Path(path_type=Path, file_okay=False),
    help=f"The folder for everything.  [default: ./{_FOLDER}; {_FOLDER_OF_ROOT} for root, where need be]",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object when it is ready, then stay up.")
@takes_config
def command(listen: str | None, folder: Path | None, as_json: bool) -> None:
    """Try everything: a database, a sample API, a client, a user, routes. Ctrl-C ends it all."""
    from gateway import config
    from gateway.cli import sample_api
    from gateway.supervisor.supervisor import serve

    started = time.monotonic()
    address = _address(listen)
    folder = _usable_folder(folder)
    if not as_json:
        click.echo(f"Starting in {folder} …", err=True)
    with (
        _alone_in(folder),
        sample_api.serving() as port,
        _listening(address, asked_for=listen is not None) as (public, admin),
    ):
        place = _write(folder, (address[0], _port_of(public)), _port_of(admin), f"http://127.0.0.1:{port}")
        announcement = _Announcement(place, started, as_json=as_json)
        settings = config.load(place.config)
        serve(settings, level="error", on_ready=announcement.begin, listeners=(public, admin))
        announcement.end()
    if not as_json:
        click.echo("Stopped.", err=True)


class _Announcement:
    """Makes the clients and the user beside the running gateway, and prints them; a fault ends the gateway."""

    def __init__(self, place: Place, started: float, *, as_json: bool) -> None:
        self._place, self._started, self._as_json = place, started, as_json
        self._thread = threading.Thread(target=self._run, name="demo", daemon=True)
        self._fault: BaseException | None = None

    def begin(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            made = provision(self._place)
            lines = [json.dumps(made)] if self._as_json else _instructions(made, time.monotonic() - self._started)
            click.echo("\n".join(lines))
        except BaseException as exc:  # noqa: BLE001  # raised by `end`, in the main thread
            self._fault = exc
            os.kill(os.getpid(), signal.SIGTERM)

    def end(self) -> None:
        """Raises what went wrong."""
        if self._thread.ident is not None:
            self._thread.join()
        if self._fault is not None:
            raise self._fault


# -- the place -------------------------------------------------------------------------------------------------


def _address(listen: str | None) -> tuple[str, int]:
    """The address to listen at: the one asked for, else the default."""
    return split_listen(value("--listen", listen or _LISTEN, ListenAddress))


@contextmanager
def _listening(address: tuple[str, int], *, asked_for: bool) -> Iterator[tuple[socket.socket, socket.socket]]:
    """The sockets of both listeners, each at its usual place or at a free port beside it, the first as asked for.

    They are open from here on, so that nobody else, such as another demo, gets what was free a moment ago.
    """
    [public] = listen_at({"--listen": address}) if asked_for else [_beside("--listen", *address)]
    with public, _beside("admin.listen", *_ADMIN) as admin:
        yield public, admin


def _beside(key: str, host: str, port: int) -> socket.socket:
    try:
        [sock] = listen_at({key: (host, port)})
    except OperatorError:
        [sock] = listen_at({key: (host, 0)})
    return sock


def _usable_folder(asked: Path | None) -> Path:
    """The demo's folder, made if need be; for root one that the database's system user can reach."""
    folder = (asked or Path(_FOLDER)).absolute()
    if asked is None and not embedded.is_reachable(folder):
        note(f"the database's system user cannot reach {folder}; the demo lives in {_FOLDER_OF_ROOT}")
        folder = _FOLDER_OF_ROOT
    if folder.exists():
        return folder
    try:
        make_folder(folder, _user_of(folder))
    except OSError as exc:
        raise OperatorError(f"--dir {str(folder)!r}: cannot be made ({exc.strerror}); choose another") from exc
    return folder


def _user_of(folder: Path) -> SystemUser:
    """The owner of the demo: ourselves, or for root the system user that the database and the workers run as."""
    return system_user_for(folder / "gateway-data")


def _opened(path: Path, flags: int) -> int:
    """A file of the demo, made if need be; never one that a link leads to, since root may be the caller."""
    opened = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    give(path, _user_of(path.parent))
    return opened


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: a second demo there would give the first another configuration."""
    try:
        lock = _opened(folder / ".demo.lock", os.O_RDWR)
    except OSError as exc:
        raise OperatorError(f"--dir {str(folder)!r}: cannot be written ({exc.strerror}); choose another") from exc
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise OperatorError(
                f"--dir {str(folder)!r}: another demo is running there; stop it or choose another folder"
            ) from exc
        yield
    finally:
        os.close(lock)


def _port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def _write(folder: Path, address: tuple[str, int], admin_port: int, upstream: str) -> Place:
    """The configuration of this run. Raises OperatorError rather than overwrite a file that is not the demo's."""
    host, port = address
    bare = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # what a browser can open
    issuer = f"http://{_bracketed(bare)}:{port}"
    admin = f"{_ADMIN[0]}:{admin_port}"
    place = Place(folder / "config.toml", f"{_bracketed(host)}:{port}", admin, issuer)
    try:
        if place.config.exists() and not place.config.read_text(errors="replace").startswith(_MARK):
            raise OperatorError(f"--dir {str(folder)!r}: its config.toml is not the demo's; choose another folder")
        text = _CONFIG.format(listen=place.listen, issuer=issuer, admin=admin, upstream=upstream)
        with os.fdopen(_opened(place.config, os.O_WRONLY | os.O_TRUNC), "w") as file:
            file.write(text)
    except OSError as exc:
        raise OperatorError(f"--dir {str(folder)!r}: cannot be written ({exc.strerror}); choose another") from exc
    return place


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# -- what is made ----------------------------------------------------------------------------------------------


def provision(place: Place) -> dict[str, Any]:
    """Make, or find again, the clients, the user and tokens; all that is needed to try it, as JSON."""

    async def act(store: Store, settings: Settings) -> dict[str, Any]:
        password = await _user(store)
        app = _wanted(settings, "Demo notes app", "bearer", ("authorization_code", "refresh_token"))
        signer = _wanted(settings, "Demo signing client", "mac", ("client_credentials",))
        client = await _client(store, replace(app, redirect_uris=(place.redirect_uri,)))
        mac_client = await _client(store, signer)
        bearer = await store.tokens.issue(client["client_id"], _USERNAME, _READ, _TOKEN_TTL, None)
        signed = await store.tokens.issue(mac_client["client_id"], _USERNAME, _SCOPES, _TOKEN_TTL, None)
        return {
            "issuer": place.issuer,
            "routes": _routes(settings),
            "client": {**client, "redirect_uri": place.redirect_uri},
            "user": {"username": _USERNAME, "password": password},
            "mac_client": mac_client,
            "token": bearer.body(),
            "mac_token": signed.body(),
            "authorization_request": _authorization_request(place, client["client_id"]),
            "admin": f"http://{place.admin}",
            "config": str(place.config),
        }

    return in_store(place.config, act)


async def _user(store: Store) -> str:
    """The demo's user, with the new password that is given."""
    password = generated_password()
    if not await store.users.set_password(_USERNAME, hash_password(password)):
        await store.users.create(_USERNAME, "demo@example.com", "Demo User", hash_password(password))
    await store.users.enable(_USERNAME)
    return password


def _wanted(settings: Settings, name: str, kind: TokenType, grants: tuple[GrantType, ...]) -> NewClient:
    return NewClient(
        name=name,
        confidential=True,
        redirect_uris=(),
        grant_types=frozenset(grants),
        scopes=_SCOPES,
        token_type=kind,
        mac_drafts=settings.config.mac.drafts,
        mac_algorithm=settings.config.mac.algorithms[0],
    )


async def _client(store: Store, wanted: NewClient) -> dict[str, str]:
    """The client of that name, made now or at an earlier start, with a new secret and none of its former tokens."""
    for found in await store.clients.all():
        if found.name == wanted.name and found.confidential:
            await store.clients.revoke_tokens(found.client_id)
            await store.clients.update(found.client_id, wanted)
            await store.clients.enable(found.client_id)
            return {
                "client_id": found.client_id,
                "client_secret": await store.clients.rotate_secret(found.client_id) or "",
            }
    made, secret = await store.clients.create(wanted)
    return {"client_id": made.client_id, "client_secret": secret or ""}


def _routes(settings: Settings) -> list[dict[str, Any]]:
    return [
        {
            "name": route.name,
            "path": route.path,
            "url": settings.config.server.public_url + route.path,
            "auth": list(route.schemes) or "none",
            "scopes": {method: list(names) for method, names in route.scopes.items()}
            if isinstance(route.scopes, dict)
            else list(route.scopes),
        }
        for route in settings.config.routes
    ]


def _authorization_request(place: Place, client_id: str) -> dict[str, str]:
    """A request to open in a browser, and the verifier that redeems its code (RFC 7636, section 4)."""
    verifier, state = secrets.token_urlsafe(32), secrets.token_urlsafe(12)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    parameters = {
        "response_type": "code",
        "client_id": client_id,
        "redirect_uri": place.redirect_uri,
        "scope": "notes:read notes:write",
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    url = f"{place.issuer}/oauth2/authorize?{urlencode(parameters, quote_via=quote)}"
    return {"url": url, "state": state, "code_verifier": verifier}


# -- what is printed -------------------------------------------------------------------------------------------


def _instructions(made: dict[str, Any], seconds: float) -> Iterator[str]:
    issuer, client, user = made["issuer"], made["client"], made["user"]
    mac, request = made["mac_token"], made["authorization_request"]
    bearer = f"'Authorization: Bearer {made['token']['access_token']}'"
    basic = f"{client['client_id']}:{client['client_secret']}"
    signed = f"{issuer}/api/signed/notes"
    gateway = _this_program()
    yield f"Ready after {seconds:.1f} s at {issuer} (press Ctrl-C to stop)."
    yield "Secrets and tokens are new at each start; those from the previous start no longer work.\n"
    yield "1. Call the API with a token that was made for you; without one it is refused:"
    yield f"   curl -i {issuer}/api/notes"
    yield f"   curl -i -H {bearer} {issuer}/api/notes\n"
    yield "2. See what the API receives:"
    yield f"   curl -s -H {bearer} {issuer}/api/echo\n"
    yield "3. The token may only read, so this is refused (403):"
    yield f"   curl -i -H {bearer} -d '{_NOTE}' {issuer}/api/notes\n"
    yield f"4. Sign in as {user['username']} with the password {user['password']} and allow the demo's client:"
    yield f"   {request['url']}"
    yield "   The page that follows shows a line CODE=…: paste it into this shell within a minute, then"
    yield (
        f"   curl -s -u {basic} -d grant_type=authorization_code -d code=$CODE "
        f"-d redirect_uri={client['redirect_uri']} -d code_verifier={request['code_verifier']} {issuer}/oauth2/token\n"
    )
    yield "5. Sign a request with a MAC token; the same signature is refused when it is sent again:"
    yield (
        f'   curl -i -H "$({gateway} mac sign --id {mac["access_token"]} --key {mac["mac_key"]} --url {signed})" '
        f"{signed}\n"
    )
    yield f"Connected applications: {issuer}/oauth2/account"
    yield f"Health: {made['admin']}/readyz"
    yield f"Commands: {gateway} client list --config {shlex.quote(made['config'])}"


def _this_program() -> str:
    """How to run our commands from any shell."""
    script = Path(sys.executable).with_name("gateway")
    return shlex.quote(str(script)) if os.access(script, os.X_OK) else f"{shlex.quote(sys.executable)} -m gateway"
