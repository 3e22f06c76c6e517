"""The settings and services that every handler of the authorization plane shares, and how it reads a request."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from aiohttp import web

from gateway import observe
from gateway.accept import prefers
from gateway.config import Settings, compile_routes
from gateway.config.tables import claim_rules
from gateway.crypto import Keyring, random_text
from gateway.fetching import Fetcher
from gateway.figures import REFUSALS
from gateway.model import Client, Session
from gateway.oauth import forms
from gateway.oauth.authorize import is_identifier
from gateway.oauth.forms import Form
from gateway.oauth.openid import Mapped
from gateway.recent import Recent
from gateway.refusals import Refusals
from gateway.routing import Route, RouteTable
from gateway.schemes import IN_BROWSERS
from gateway.store import Store
from gateway.store.acting import acts
from gateway.store.scopes import defined
from gateway.store.visits import Visit
from gateway.web.announced import Announced
from gateway.web.branding import Branding
from gateway.web.browser import BrowserCookies, is_session_token
from gateway.web.client_keys import ClientKeys
from gateway.web.documents import ClientDocuments
from gateway.web.passwords import PasswordChecks
from gateway.web.sectors import Sectors
from gateway.web.turns import Allowance, Turns


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plane:
    """The configuration, the store and what was made of them at the start."""

    settings: Settings
    store: Store
    keyring: Keyring
    cookies: BrowserCookies
    branding: Branding
    passwords: PasswordChecks
    authentications: Turns  # of clients
    registrations: Turns
    announced: Announced
    documents: ClientDocuments
    client_keys: ClientKeys
    requests: Allowance  # that strangers leave with us until a person comes for them
    sectors: Sectors
    routes: tuple[Route, ...]  # those that take tokens
    opened: RouteTable  # those that people open in a browser
    resources: frozenset[str]
    claims: tuple[Mapped, ...]  # of the operator's own
    refusals: Refusals
    recent: Recent[dict[str, object]]  # what was refused, or failed

    def recall(self, request_id: str) -> dict[str, object]:
        """What is remembered of the refusals of a request, and how far that reaches, as something that JSON has."""
        found = self.recent.find(request_id.encode("utf-8", "surrogateescape"))
        return {"notes": [{"at": at, **fields} for at, fields in found], **self.recent.memory._asdict()}

    @property
    def issuer(self) -> str:
        return self.settings.config.server.issuer

    @property
    def prefix(self) -> str:
        return self.settings.config.server.oauth_prefix

    async def scopes(self) -> dict[str, str]:
        """Every scope and its plain words."""
        return await self.store.scopes.defined(self.settings.config.scopes)

    def words(self, visit: Visit) -> dict[str, str]:
        """Every scope and its plain words, where the database was asked on this visit for those that were made by
        command."""
        return defined(visit.made, self.settings.config.scopes)

    async def session(self, request: web.Request) -> Session | None:
        """The session of this browser, None if nobody is signed in."""
        token = self.session_token(request)
        return recognised(request, None if token is None else await self.store.sessions.find(token))

    def session_token(self, request: web.Request) -> str | None:
        token = self.cookies.session(request)
        return token if token is not None and is_session_token(self.keyring, token) else None


# Fewer than the connections to the database, so that a flood of wrong secrets leaves some to what others do.
_AUTHENTICATIONS: Final = 4
_REQUESTS_BY_PLACE: Final = 120  # in a minute: an office full of people behind one address
_REQUESTS_BY_SITE: Final = 1200  # a /48 of IPv6
_REQUESTS_BY_CLIENT: Final = 3000
_REMEMBERED: Final = 500_000  # bytes of refusals
_NOTE: Final = 1000  # of one of them, but for its texts
_NOTED: Final = ("error", "client_id", "subject")  # of what else is known of a refusal
_LONGEST: Final = 300  # characters of each
_KIND: Final = 20  # characters by which causes are told apart
_PRINTABLE: Final = "".join(map(chr, range(0x21, 0x7F)))

PLANE: web.AppKey[Plane] = web.AppKey("plane", Plane)
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
_CLIENT_ID: web.RequestKey[str] = web.RequestKey("client_id", str)
_ASKING: web.RequestKey[str] = web.RequestKey("asking", str)
_SUBJECT: web.RequestKey[str] = web.RequestKey("subject", str)


def build(settings: Settings, store: Store, fetcher: Fetcher | None = None) -> Plane:
    """The plane for a configuration whose keys are there; `fetcher` is another one than ours, for tests.

    Raises ValueError before the first master key is made.
    """
    if settings.keyring is None:
        raise ValueError("the master key is made before the authorization plane is built")
    compiled = compile_routes(settings.config)
    routes = tuple(route for route in compiled if {*route.schemes} - IN_BROWSERS)
    sectors = Sectors(lambda: fetcher or Fetcher())
    store.tokens.serve(_needs(routes))
    return Plane(
        settings=settings,
        store=store,
        keyring=settings.keyring,
        cookies=BrowserCookies(settings.keyring, secure=settings.config.server.secure),
        branding=Branding.load(settings),
        passwords=PasswordChecks(),
        authentications=Turns(_AUTHENTICATIONS),
        registrations=Turns(1),
        requests=Allowance(by_place=_REQUESTS_BY_PLACE, by_site=_REQUESTS_BY_SITE, by_name=_REQUESTS_BY_CLIENT),
        announced=Announced(store, settings.config.scopes),
        client_keys=ClientKeys(lambda: fetcher or Fetcher()),
        documents=ClientDocuments(
            (fetcher or Fetcher()) if settings.config.client_metadata_documents.enabled else None,
            settings.config.server.host,
            sectors,
        ),
        sectors=sectors,
        routes=routes,
        opened=RouteTable(route for route in compiled if route.sign_in_page),
        claims=tuple(
            Mapped(
                name=name,
                value=rule.value,
                scope=rule.scope,
                clients=frozenset(rule.clients),
                id_token=rule.id_token,
            )
            for name, rule in claim_rules(settings.config.claims).items()
        ),
        resources=frozenset(route.resource for route in routes),
        refusals=Refusals(observe.get_logger("gateway.web")),
        recent=Recent(_REMEMBERED),
    )


def _needs(routes: Iterable[Route]) -> dict[str, frozenset[str]]:
    """The scopes that calls of each resource ask for; several routes may be one."""
    needs = dict[str, frozenset[str]]()
    for route in routes:
        needs[route.resource] = needs.get(route.resource, frozenset()).union(*route.scopes.values())
    return needs


def plane_of(request: web.Request) -> Plane:
    """The plane that answers the request."""
    return request.app[PLANE]


def request_id_of(request: web.Request) -> str:
    """The engine's identifier of this request; one of our own where none came."""
    given = request.headers.get("X-Request-Id", "")
    if REQUEST_ID not in request:
        good = 0 < len(given) <= 128 and given.isascii() and given.isprintable()
        request[REQUEST_ID] = given if good else random_text(12)
    return request[REQUEST_ID]


def recognised(request: web.Request, session: Session | None) -> Session | None:
    """The session of the browser that a request came from: what is done from here on, its person does."""
    if session is not None:
        request[_SUBJECT] = session.user.subject
        acts(f"user:{session.user.subject}")
    return session


def claimed_by(request: web.Request, client_id: str | None) -> None:
    """Keep which client a request says that it is of, proven or not, for the log."""
    if client_id is not None and is_identifier(client_id):
        request[_CLIENT_ID] = client_id


def asked_by(request: web.Request, client: Client) -> None:
    """Keep which client a request is of, once it is found: pages name it that lead back to it."""
    request[_ASKING] = client.name


def asking(request: web.Request) -> str | None:
    """The name of the client whose request this is, as far as it is known."""
    return request.get(_ASKING)


def concerned(request: web.Request, **more: object) -> dict[str, object]:
    """Whom a line of the log concerns: what was asked for, from which address, of which client, if it said so, and who
    is signed in, if that was looked at. `more` wins over it. The names are those of the access plane's lines."""
    found: dict[str, object] = {
        "method": request.method,
        "host": host_of(request),
        "path": request.path,
        "route": "authorization",
        "address": address_of(request),
    }
    known = {"client_id": request.get(_CLIENT_ID), "subject": request.get(_SUBJECT)}
    return found | {name: value for name, value in known.items() if value is not None} | more


def tell_refusal(
    request: web.Request,
    event: str,
    status: int,
    cause: str,
    *,
    mend: str | None,
    alarming: bool = False,
    **more: object,
) -> None:
    """The operator's line on a refusal, unless it is one of a flood, which is counted."""
    REFUSALS.add(1.0, "authorization", str(more.get("error") or event))
    refusals = plane_of(request).refusals
    remember(request, event, status, cause, mend, more)
    if refusals.admits(status, cause):
        refusals.write(event, status, concerned(request, cause=cause, mend=mend, **more), alarming=alarming)


def remember(
    request: web.Request,
    event: str,
    status: int,
    cause: str,
    mend: str | None,
    more: Mapping[str, object] | None = None,
) -> None:
    """Keep why a request was refused, or failed, for whoever asks for it by its identifier."""
    known = concerned(request, **(more or {}))
    note = {"event": event, "status": status, "cause": observe.scrub(cause[:_LONGEST]), "mend": mend}
    note |= {name: str(known[name])[:_LONGEST] for name in _NOTED if known.get(name) is not None}
    size = _NOTE + sum(len(text) for text in note.values() if isinstance(text, str))
    plane_of(request).recent.keep(
        f"{status} {event} {cause[:_KIND]}", request_id_of(request).encode("utf-8", "surrogateescape"), note, size
    )


def address_of(request: web.Request) -> str:
    """The client's address. The engine has cut X-Forwarded-For where trust ends, so that it begins with it."""
    return request.headers.get("X-Forwarded-For", "").partition(",")[0] or request.remote or "unknown"


def query_of(request: web.Request) -> Form:
    """The query's parameters, from the bytes as they came: a URL type would decode and encode them anew."""
    return forms.parse(request.raw_path.partition("?")[2].encode("utf-8", "surrogateescape"))


def target_of(request: web.Request) -> str:
    """The request's own path and query, in ASCII: where a form posts back to, and a link opens the page again."""
    return quote(request.raw_path.encode("utf-8", "surrogateescape"), safe=_PRINTABLE)


def prefers_json(request: web.Request) -> bool:
    """Whether the request names JSON in its Accept fields, and would rather have it than a page."""
    accepted = (value.encode("utf-8", "surrogateescape") for value in request.headers.getall("Accept", []))
    return prefers(accepted, b"application/json", over=b"text/html")


def endpoint_of(request: web.Request) -> str:
    """The request's path below `oauth_prefix`; nothing outside of it."""
    prefix = f"{plane_of(request).prefix}/"
    return request.path.removeprefix(prefix) if request.path.startswith(prefix) else ""


def page_of(request: web.Request) -> str:
    """The page that a request is for, whatever stands behind it in the path."""
    return endpoint_of(request).partition("/")[0]


def host_of(request: web.Request) -> str:
    """The host that the request is for, in lower case and without a port; the engine has checked its form."""
    host = request.headers.get("Host", "").lower()
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host
