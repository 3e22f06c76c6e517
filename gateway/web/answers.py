"""One place where every refusal becomes an answer, and where a request is turned away before any handler.

for people     a page, or JSON where that is preferred; never CORS, never in a frame or fetched by a script, and no form
               that another site had the browser post
for programs   JSON (RFC 6749, section 5.2), CORS `*`
neither        files, and where nothing is: what the request prefers

For whom an address is, `web/app.py` says where it adds it.
"""

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway import observe
from gateway.errors import CODES, OAuthError, Refused, StoreUnavailable, code_of
from gateway.model import CHANGE_PASSWORD, CLIENT_ALGORITHMS, RESOURCE_METADATA
from gateway.oauth import dpop
from gateway.oauth.authorize import PageError, RedirectError
from gateway.oauth.forms import Form
from gateway.refusals import NO_DATABASE
from gateway.store.acting import acting
from gateway.web import dpop_proofs, pages, words
from gateway.web.browser import FormRefused
from gateway.web.pages import Link
from gateway.web.plane import (
    address_of,
    concerned,
    endpoint_of,
    host_of,
    page_of,
    plane_of,
    prefers_json,
    query_of,
    remember,
    request_id_of,
    target_of,
    tell_refusal,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Audience(Enum):
    """For whom an address is, and with it whatever stands behind it in the path."""

    PEOPLE = "people"
    PROGRAMS = "programs"  # of any origin: no page is shown there, and no cookie counts
    NEITHER = "neither"  # what a browser loads beside a page, with nothing in it that is anybody's


AUDIENCES: Final = web.AppKey("audiences", dict[str, Audience])  # by the first part of the path below `oauth_prefix`
WELL_KNOWN: Final = "/.well-known/"
USERINFO: Final = "userinfo"
REGISTER: Final = "register"  # with a client's identifier behind it, where it is managed
AUTHORIZE: Final = "authorize"
LOGOUT: Final = "logout"
_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_TO_PROGRAMS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "DPoP-Nonce, WWW-Authenticate",
    "X-Content-Type-Options": "nosniff",
}
_IN_A_FRAME: Final = "This page can’t be shown inside another page. Open it in a window of its own."
_FROM_ELSEWHERE: Final = "This form was sent from another site. Nothing was changed."
_EXPIRED: Final = "Nothing was changed. Try again; if this keeps happening, allow cookies for this site."
_LONGEST_QUERY: Final = 7 * 1024  # bytes; a target has at most 8 KiB
_SOON: Final = 1  # seconds; the database is back or it is not
_FAULT: Final = "this is a bug in the gateway, and the request was answered 500: report it with this line"
_MENDS: Final = {  # where it is about these pages and endpoints, and no route
    "not_found": "correct the address; the server's metadata lists every endpoint",
    "method_not_allowed": "have the client use a method that Allow lists",
}
_TOO_LONG: Final = "have the client send less: no form or request here is that long"
_MENDS_OF_REQUESTS: Final = {  # by cause, where nobody may be sent back to the client
    "unknown client_id": "`gateway client list` shows all clients",
    "disabled client": "`gateway client enable ID` enables it again",
    "unknown, used or expired request_uri": "have the client push its request anew, and send the person on at once",
    "unregistered post_logout_redirect_uri": "if it belongs to the client, `gateway client update ID "
    "--post-logout-redirect-uri …` with all of its addresses",
    "unregistered redirect_uri": "if it belongs to the client, `gateway client update ID --redirect-uri …` with "
    "all of its addresses; if not, somebody may be fishing for codes",
}
# A credential that comes a second time was copied, by a fault of the client or by a thief.
_ALARMING: Final = ("reused refresh token", "replayed code")

log = observe.get_logger("gateway.web")


@web.middleware
async def every_answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns refusals into answers, and lets nothing else out: aiohttp's own error path logs raw bytes."""
    request_id = request_id_of(request)
    with observe.request(request_id), acting(request_id=request_id, address=address_of(request)):
        try:
            response = _turned_away(request) or await handler(request)
        except web.HTTPException as exc:
            refused = _of_http(exc)
            _tell(request, "request refused", refused)
            response = _plain(request, refused)
        except Exception as exc:  # noqa: BLE001  # see above
            response = _refusal(request, exc)
        response.headers["Server"] = "gateway"  # aiohttp would tell strangers its version, and Python's
        if is_for_programs(request):
            response.headers.update(_TO_PROGRAMS)
        return response


def is_for_programs(request: web.Request) -> bool:
    """Programs of any origin may call these paths."""
    if request.path.startswith(WELL_KNOWN):
        return request.path != CHANGE_PASSWORD
    return request.app[AUDIENCES].get(page_of(request)) is Audience.PROGRAMS


def is_for_people(request: web.Request) -> bool:
    """A person's own navigation leads here, and a person's cookies count: nobody else may have the browser come."""
    return request.app[AUDIENCES].get(page_of(request)) is Audience.PEOPLE


def json(content: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """An answer that nobody keeps, unless `headers` say otherwise (RFC 6749, section 5.1)."""
    return web.json_response(content, status=status, headers=_NO_STORE | (headers or {}))


def options(methods: Sequence[str]) -> Handler:
    """What OPTIONS answers where there are `methods` (RFC 9110, section 9.3.7).

    Where programs call, it is a preflight's answer too: scripts of any site may send these, never with cookies (Fetch,
    section 3.3).
    """
    allow = ", ".join(methods)
    to_scripts = {
        "Access-Control-Allow-Methods": allow,
        "Access-Control-Allow-Headers": "Authorization, Content-Type, DPoP",
        "Access-Control-Max-Age": "7200",
    }

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": allow, **(to_scripts if is_for_programs(request) else {})})

    return answer


def _turned_away(request: web.Request) -> web.Response | None:
    server = plane_of(request).settings.config.server
    if host_of(request) != server.host and not request.path.startswith(RESOURCE_METADATA):
        mend = f"have the client call {server.host}; a proxy in front of the gateway must pass Host on unchanged"
        cause = "a host other than that of server.public_url"
        refused = Refused("misdirected_request", "Misdirected Request.", cause, mend=mend)
        _tell(request, "request refused", refused)
        return _plain(request, refused)
    if not is_for_people(request):
        return None
    # A script of the same origin could fetch a page and post its form; a person's own navigation is a document.
    if request.headers.get("Sec-Fetch-Dest", "document") != "document" and not _renews_in_a_frame(request):
        refused = Refused("access_denied", _IN_A_FRAME, "a page in a frame, or fetched by a script")
        _tell(request, "request refused", refused)
        return _page(request, refused)
    # A client's request may be a form on its own site; the handler asks once it is known to be none.
    if request.method == "POST" and endpoint_of(request) not in (AUTHORIZE, LOGOUT):
        return from_elsewhere(request)
    return None


def _renews_in_a_frame(request: web.Request) -> bool:
    """Whether an application in a browser asks, in a frame, if somebody is still signed in: `prompt=none` shows no page
    (OpenID Connect Core, section 3.1.2.1), and what tells of a fault instead is one that no frame shows."""
    if (
        request.headers.get("Sec-Fetch-Dest") != "iframe"
        or request.method != "GET"
        or endpoint_of(request) != AUTHORIZE
    ):
        return False
    query = query_of(request)
    return query.all("prompt") == ("none",) and query.get("request_uri") is None


def as_link(request: web.Request, page: str, form: Form) -> web.Response:
    """A client's request that came as a form, opened as a link is: a browser that another site has post brings none of
    our cookies (SameSite=Lax), and following a redirect it does.

    Raises OAuthError, with status 413, for one that no address can hold.
    """
    query = form.encoded()
    if len(query) > _LONGEST_QUERY:
        raise OAuthError(Refused("invalid_request", f"The request is longer than {_LONGEST_QUERY} bytes.", status=413))
    return pages.redirect(f"{plane_of(request).prefix}/{page}?{query}")


def from_elsewhere(request: web.Request) -> web.Response | None:
    """The refusal of a form that another site had the browser post; None for one of ours."""
    if not _comes_from_elsewhere(request, plane_of(request).settings.config.server.origin):
        return None
    refused = Refused("access_denied", _FROM_ELSEWHERE, "sent from another site")
    _tell(request, "form refused", refused, alarming=True)
    return _page(request, refused)


def _tell(
    request: web.Request, event: str, refused: Refused, *, coded: bool = False, alarming: bool = False, **more: object
) -> None:
    """The operator's line; a refusal of the protocol's own is `coded`, and known by its code."""
    error, mend = refused.error if coded else None, refused.mend or None
    tell_refusal(request, event, refused.status, refused.why, mend=mend, alarming=alarming, error=error, **more)


def _comes_from_elsewhere(request: web.Request, own_origin: str) -> bool:
    # Our Referrer-Policy makes browsers send "null" for our own forms (Fetch, section 3.2).
    origin = request.headers.get("Origin", "null")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site != "same-origin" or origin.lower() not in ("null", own_origin.lower())


def _refusal(request: web.Request, exc: Exception) -> web.Response:
    match exc:
        case RedirectError(refused=refused):
            _tell(request, "authorization refused", refused.also(status=303), coded=True)
            return pages.to_client(request, exc.response(plane_of(request).issuer))
        case PageError(redirect_uri=uri):
            mend = _MENDS_OF_REQUESTS.get(str(exc), CODES["invalid_request"].mend)
            refused = Refused(exc.error, exc.text, str(exc), status=400, mend=mend)
            _tell(request, "authorization request refused", refused, redirect_uri=uri)
            return _oauth(request, refused)
        case FormRefused():
            refused = Refused("access_denied", _EXPIRED, str(exc))
            _tell(request, "form refused", refused, alarming=True)
            return _page(request, refused, title="This page has expired", retry=True)
        case OAuthError(refused=refused):
            if refused.error != "authorization_pending":  # as it should be, every few seconds
                alarming = refused.why.startswith(_ALARMING)
                _tell(request, "request refused", refused, coded=True, alarming=alarming)
            return _oauth(request, refused)
        case StoreUnavailable():
            remember(request, "database unavailable", 503, str(exc), NO_DATABASE)
            log.error("database unavailable", **concerned(request, status=503, cause=str(exc), mend=NO_DATABASE))
            return _plain(
                request, Refused("temporarily_unavailable", "This cannot be answered at the moment; try again.")
            )
        case ConnectionResetError():  # the store's are StoreUnavailable, so this is the client's
            refused = Refused("invalid_request", "Bad Request.", "the client left before its request was complete")
            _tell(request, "request refused", refused)
            return _plain(request, refused)
        case _:
            remember(request, "unexpected failure", 500, repr(exc), _FAULT)
            log.error("unexpected failure", **concerned(request, status=500, mend=_FAULT), exc_info=exc)
            return _plain(request, Refused("server_error", "Internal Server Error."))


def _of_http(exc: web.HTTPException) -> Refused:
    """What aiohttp refuses, in words that say what happened, or what to do about it."""
    allow = exc.headers.get("Allow", "")
    text = f"Send {allow.replace(',', ' or ')}." if allow else f"{HTTPStatus(exc.status).phrase}."
    if exc.status == 413:
        return Refused("invalid_request", text, exc.reason, status=413, mend=_TOO_LONG)
    error, fields = code_of(exc.status), (("Allow", allow),) if allow else ()
    return Refused(error, text, exc.reason, status=exc.status, mend=_MENDS.get(error, ""), fields=fields)


def _oauth(request: web.Request, refused: Refused) -> web.Response:
    """The answer to a refusal of the protocol's own."""
    if not (is_for_programs(request) or prefers_json(request)):
        return _page(request, refused)
    if refused.status == 401 or page_of(request) == USERINFO:
        refused = refused.also(("WWW-Authenticate", _challenge(request, refused)))
    if refused.error == dpop.USE_NONCE:
        refused = refused.also(*dpop_proofs.fresh(request).items())
    return as_json(request, refused)


def _challenge(request: web.Request, refused: Refused) -> str:
    """The challenge of an endpoint: registration and UserInfo ask for a token, all others for a client's secret."""
    realm = plane_of(request).issuer
    page = page_of(request)
    if page not in (REGISTER, USERINFO):
        return f'Basic realm="{realm}", charset="UTF-8"'
    presented = "Authorization" in request.headers or (page == USERINFO and request.body_exists)
    code = f', error="{refused.error}"' if presented else ""  # RFC 6750, section 3.1
    scope = ', scope="openid"' if refused.error == "insufficient_scope" else ""
    if request.headers.get("Authorization", "")[:5].lower() == "dpop ":  # RFC 9449, section 7.1
        return f'DPoP realm="{realm}"{code}{scope}, algs="{" ".join(CLIENT_ALGORITHMS)}"'
    return f'Bearer realm="{realm}"{code}{scope}'


def _plain(request: web.Request, refused: Refused) -> web.Response:
    """The answer to a refusal that is not of the protocol."""
    if not _wants_page(request):
        return as_json(request, refused)
    response = _page(request, refused, text=words.of(refused.status).text, retry=refused.status >= 500)
    response.headers.update(refused.head(_SOON))
    return response


def as_json(request: web.Request, refused: Refused) -> web.Response:
    """A refusal for programs."""
    headers = dict(refused.head(_SOON))  # of which none is there twice
    return json(refused.body(request_id_of(request)), status=refused.status, headers=headers)


def failure(request: web.Request, refused: Refused, title: str, links: Sequence[Link]) -> web.Response:
    """A failure as a page with the ways on from it, or as JSON for a client that would rather have that."""
    if prefers_json(request):
        return as_json(request, Refused(refused.error, f"{title}. {refused.description}", status=refused.status))
    return pages.error_page(request, refused.status, title, refused.description, links)


def _page(
    request: web.Request, refused: Refused, *, title: str = "", text: str = "", retry: bool = False
) -> web.Response:
    """A page for people; with `retry` it leads to the address that it has, where every form of ours begins anew."""
    again = (Link("Try again", target_of(request)),) if retry else ()
    account = Link("Go to your account", f"{plane_of(request).prefix}/account")
    shown = Refused(refused.error, text or refused.description, status=refused.status)
    return failure(request, shown, title or words.of(refused.status).title, (*again, account))


def _wants_page(request: web.Request) -> bool:
    if is_for_programs(request) or prefers_json(request):
        return False
    return is_for_people(request) or "text/html" in request.headers.get("Accept", "")
