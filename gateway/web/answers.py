"""One place where every refusal becomes an answer, and where a request is turned away before any handler.

for people     a page, or JSON where that is preferred; never CORS, never in a frame or fetched by a script, and no form
               that another site had the browser post
for programs   JSON (RFC 6749, section 5.2), CORS `*`
neither        files, and where nothing is: what the request prefers

For whom an address is, `web/app.py` says where it adds it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import Enum
from http import HTTPStatus
from typing import Final

from aiohttp import web

from gateway import observe
from gateway.errors import OAuthError, StoreUnavailable
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
_ERRORS: Final = {403: "access_denied", 413: "invalid_request", 500: "server_error", 503: "temporarily_unavailable"}
_EXPIRED: Final = "Nothing was changed. Try again; if this keeps happening, allow cookies for this site."
_LONGEST_QUERY: Final = 7 * 1024  # bytes; a target has at most 8 KiB
_RETRY_AFTER: Final = 1  # seconds; the database is back or it is not
_RETRIES: Final = {429: 3600, 503: _RETRY_AFTER}
_FAULT: Final = "this is a bug in the gateway, and the request was answered 500: report it with this line"
_REQUEST: Final = "ask the client's developer to correct the request: the cause says what is wrong with it"
_MENDS: Final = {  # by status or error code, for the operator
    400: _REQUEST,
    404: "correct the address; the server's metadata lists every endpoint",
    405: "have the client use a method that Allow lists",
    413: "have the client send less: no form or request here is that long",
    "invalid_request": _REQUEST,
    "invalid_client": "correct the client's secret: `gateway client rotate-secret ID` makes a new one; "
    "`gateway client show ID` says whether the client exists",
    "invalid_dpop_proof": "ask the client's developer to correct its DPoP proofs: the cause says what is wrong",
    "use_dpop_nonce": "nothing, if the client then comes with the nonce that it was given",
    "invalid_grant": "have the client start over: it sends the person to authorize again",
    "invalid_token": "`gateway registration create-token` makes an initial access token; a client manages what it "
    "registered by the registration access token that it got then",
    "invalid_client_metadata": "have the client's developer correct what it registers: the cause says what is wrong",
    "invalid_redirect_uri": "have the client's developer correct the redirect URIs that it registers",
    "invalid_scope": "`gateway client show ID` says what it may ask for, `client update ID --scope …` changes it",
    "invalid_target": "have the client ask for a resource that is a route of this gateway (RFC 8707)",
    "unauthorized_client": "`gateway client update ID --grant-type …` says what the client may use",
}
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
            _tell(request, "request refused", exc.status, exc.reason)
            response = _plain(request, exc.status, dict(_kept(exc)))
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
        _tell(request, "request refused", 421, "a host other than that of server.public_url", mend=mend)
        return _plain(request, 421)
    if not is_for_people(request):
        return None
    # A script of the same origin could fetch a page and post its form; a person's own navigation is a document.
    if request.headers.get("Sec-Fetch-Dest", "document") != "document" and not _renews_in_a_frame(request):
        _tell(request, "request refused", 403, "a page in a frame, or fetched by a script")
        return _page(request, 403, "This page can’t be shown inside another page. Open it in a window of its own.")
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
        raise OAuthError("invalid_request", f"The request is longer than {_LONGEST_QUERY} bytes.", 413)
    return pages.redirect(f"{plane_of(request).prefix}/{page}?{query}")


def from_elsewhere(request: web.Request) -> web.Response | None:
    """The refusal of a form that another site had the browser post; None for one of ours."""
    if not _comes_from_elsewhere(request, plane_of(request).settings.config.server.origin):
        return None
    _tell(request, "form refused", 403, "sent from another site", alarming=True)
    return _page(request, 403, "This form was sent from another site. Nothing was changed.")


def _tell(
    request: web.Request,
    event: str,
    status: int,
    cause: str,
    *,
    error: str | None = None,
    mend: str | None = None,
    alarming: bool = False,
    **more: object,
) -> None:
    """The operator's line, with what is usually to be done about such a refusal."""
    mend = mend or _MENDS.get(error or status)
    tell_refusal(request, event, status, cause, mend=mend, alarming=alarming, error=error, **more)


def _comes_from_elsewhere(request: web.Request, own_origin: str) -> bool:
    # Our Referrer-Policy makes browsers send "null" for our own forms (Fetch, section 3.2).
    origin = request.headers.get("Origin", "null")
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    return site != "same-origin" or origin.lower() not in ("null", own_origin.lower())


def _refusal(request: web.Request, exc: Exception) -> web.Response:
    match exc:
        case RedirectError(error=error):
            _tell(request, "authorization refused", 303, error.cause or error.description, error=error.error)
            return pages.to_client(request, exc.response(plane_of(request).issuer))
        case PageError(redirect_uri=uri):
            mend = _MENDS_OF_REQUESTS.get(str(exc))
            _tell(request, "authorization request refused", 400, str(exc), mend=mend, redirect_uri=uri)
            return _oauth(request, OAuthError(exc.error, exc.text))
        case FormRefused():
            _tell(request, "form refused", 403, str(exc), alarming=True)
            return _page(request, 403, _EXPIRED, title="This page has expired", retry=True)
        case OAuthError(error="authorization_pending"):  # as it should be, every few seconds
            return _oauth(request, exc)
        case OAuthError():
            cause = exc.cause or exc.description
            alarming = cause.startswith(_ALARMING)
            _tell(request, "request refused", exc.status, cause, error=exc.error, alarming=alarming)
            return _oauth(request, exc)
        case StoreUnavailable():
            remember(request, "database unavailable", 503, str(exc), NO_DATABASE)
            log.error("database unavailable", **concerned(request, status=503, cause=str(exc), mend=NO_DATABASE))
            return _plain(request, 503)
        case ConnectionResetError():  # the store's are StoreUnavailable, so this is the client's
            _tell(request, "request refused", 400, "the client left before its request was complete")
            return _plain(request, 400)
        case _:
            remember(request, "unexpected failure", 500, repr(exc), _FAULT)
            log.error("unexpected failure", **concerned(request, status=500, mend=_FAULT), exc_info=exc)
            return _plain(request, 500)


def _oauth(request: web.Request, error: OAuthError) -> web.Response:
    if not (is_for_programs(request) or prefers_json(request)):
        return _page(request, error.status, error.description)
    headers = dict[str, str]()
    if error.status == 401 or page_of(request) == USERINFO:
        headers["WWW-Authenticate"] = _challenge(request, error)
    if error.error == dpop.USE_NONCE:
        headers |= dpop_proofs.fresh(request)
    if error.status in _RETRIES:
        headers["Retry-After"] = str(error.retry_after or _RETRIES[error.status])
    return json(error.body() | {"request_id": request_id_of(request)}, status=error.status, headers=headers)


def _challenge(request: web.Request, error: OAuthError) -> str:
    """The challenge of an endpoint: registration and UserInfo ask for a token, all others for a client's secret."""
    realm = plane_of(request).issuer
    page = page_of(request)
    if page not in (REGISTER, USERINFO):
        return f'Basic realm="{realm}", charset="UTF-8"'
    presented = "Authorization" in request.headers or (page == USERINFO and request.body_exists)
    code = f', error="{error.error}"' if presented else ""  # RFC 6750, section 3.1
    scope = ', scope="openid"' if error.error == "insufficient_scope" else ""
    if request.headers.get("Authorization", "")[:5].lower() == "dpop ":  # RFC 9449, section 7.1
        return f'DPoP realm="{realm}"{code}{scope}, algs="{" ".join(CLIENT_ALGORITHMS)}"'
    return f'Bearer realm="{realm}"{code}{scope}'


def _plain(request: web.Request, status: int, headers: dict[str, str] | None = None) -> web.Response:
    """A refusal that has no protocol error of its own."""
    headers = headers or {}
    if status == 503:
        headers["Retry-After"] = str(_RETRY_AFTER)
    if _wants_page(request):
        response = _page(request, status, words.of(status).text, retry=status >= 500)
        response.headers.update(headers)
        return response
    return _json(request, status, _to_programs(status, headers), headers)


def _to_programs(status: int, headers: Mapping[str, str]) -> str:
    """What happened, or what to do about it."""
    if status == 503:
        return "This cannot be answered at the moment; try again."
    if status == 405 and "Allow" in headers:
        return f"Send {headers['Allow'].replace(',', ' or ')}."
    return f"{HTTPStatus(status).phrase}."


def _json(request: web.Request, status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    phrase = HTTPStatus(status).phrase
    members = {
        "error": _ERRORS.get(status, phrase.lower().replace(" ", "_")),
        "error_description": text,
        "request_id": request_id_of(request),
    }
    return json(members, status=status, headers=headers)


def failure(request: web.Request, status: int, title: str, text: str, links: Sequence[Link]) -> web.Response:
    """A failure as a page with the ways on from it, or as JSON for a client that would rather have that."""
    if prefers_json(request):
        return _json(request, status, f"{title}. {text}")
    return pages.error_page(request, status, title, text, links)


def _page(request: web.Request, status: int, text: str, *, title: str = "", retry: bool = False) -> web.Response:
    """A page for people; with `retry` it leads to the address that it has, where every form of ours begins anew."""
    again = (Link("Try again", target_of(request)),) if retry else ()
    account = Link("Go to your account", f"{plane_of(request).prefix}/account")
    return failure(request, status, title or words.of(status).title, text, (*again, account))


def _wants_page(request: web.Request) -> bool:
    if is_for_programs(request) or prefers_json(request):
        return False
    return is_for_people(request) or "text/html" in request.headers.get("Accept", "")


def _kept(exc: web.HTTPException) -> list[tuple[str, str]]:
    return [("Allow", exc.headers["Allow"])] if "Allow" in exc.headers else []
