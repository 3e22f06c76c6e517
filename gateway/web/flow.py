"""The authorization endpoint: from a client's request to a code, through sign-in and consent.

                 GET authorize?client_id=…
                        │ client or redirect URI unproven ─────────────▶ 400 page, never a redirect
                        │ any other fault ─────────────────────────────▶ 303 to the client: error, state, iss
                        ▼
      signed in? ──no──▶ SIGN-IN (request sealed in the form; nothing is written)
          │                 │ POST username, password      wrong: the same form; too often: 429; busy: 503
          │                 ▼
          │             session begins; the flow's row begins, bound to session and user
          │                 │ 303 to authorize?flow=…
          ▼                 ▼
      consent stands? ──no──▶ AWAITING CONSENT ──POST decision=deny───▶ Denied ──▶ 303 error=access_denied
          │ yes                 │    ▲   │
          │                     │    └───┘ nothing ticked: asked again
          │                     │ POST decision=allow, scope=…
          ▼                     ▼
        code ◀────────────── Granted(scopes)                                     ──▶ 303 code, state, iss

Each arrow out of AWAITING CONSENT is one guarded statement in the store, so a decision counts once. Two tabs are two
flows. A form that is not this session's, or that differs from what was shown, is 403 and moves nothing.
"""

from typing import Final

from aiohttp import web

from gateway.model import Client, Session
from gateway.oauth import authorize, forms, redirect_uris
from gateway.oauth.authorize import AuthorizationRequest, PageError, Step
from gateway.oauth.forms import Form
from gateway.store import Flow, FlowRequest
from gateway.web import browser, pages, sign_in
from gateway.web.browser import FormRefused
from gateway.web.plane import Plane, claimed_by, plane_of, query_of, raw_query
from gateway.web.sign_in import NotSignedIn, SignedIn

_PAGE: Final = "authorize"
_CONSENT_FIELDS: Final = frozenset({"csrf_token", "decision", "scope"})


async def show(request: web.Request) -> web.Response:
    """GET: a client's request, or a flow that goes on."""
    plane, query = plane_of(request), query_of(request)
    claimed_by(request, query.get("client_id"))
    session = await plane.session(request)
    if "flow" in query.names and "client_id" not in query.names:
        return await _resume(request, query, session)
    asked = await _judged(plane, query)
    step = await _next_step(plane, asked, None if authorize.wants_sign_in(asked) else session)
    if session is None or step is Step.SIGN_IN:
        return _sign_in_page(request, asked, raw_query(request), session=session)
    if step is Step.ISSUE:
        return await _issue(plane, asked, session)
    return await _consent_page(request, await _begin(plane, asked, session), asked.client, session)


async def answer(request: web.Request) -> web.Response:
    """POST: the sign-in form or the consent form comes back."""
    form = await posted(request)
    return await (_decide(request, form) if "decision" in form.names else _sign_in(request, form))


async def posted(request: web.Request) -> Form:
    """The fields of a form of ours. Raises FormRefused for a body of another type."""
    if not forms.is_form(request.headers.get("Content-Type", "")):
        raise FormRefused("a body that no form of ours sends")
    return forms.parse(await request.read())


async def _sign_in(request: web.Request, form: Form) -> web.Response:
    plane = plane_of(request)
    pending = sign_in.pending_of(request, _PAGE, form)
    query = forms.parse(pending)
    claimed_by(request, query.get("client_id"))
    asked = await _judged(plane, query)
    outcome = await sign_in.attempt(request, form)
    if isinstance(outcome, NotSignedIn):
        return _sign_in_page(request, asked, pending, refused=outcome, username=form.get("username"))
    return outcome.tell(plane, await _after_sign_in(plane, asked, outcome))


async def _after_sign_in(plane: Plane, asked: AuthorizationRequest, signed_in: SignedIn) -> web.Response:
    session = signed_in.session
    if await _next_step(plane, asked, session) is Step.ISSUE:
        return await _issue(plane, asked, session)
    flow = await _begin(plane, asked, session)
    return pages.redirect(f"{plane.prefix}/{_PAGE}?flow={flow.flow_id}")


async def _decide(request: web.Request, form: Form) -> web.Response:
    plane = plane_of(request)
    session = await plane.session(request)
    if session is None:
        raise FormRefused("consent without a session")
    flow_id = browser.open_form(plane.keyring, _PAGE, session.session_id, form.get("csrf_token"))
    flow, _ = await _open_flow(plane, flow_id, session)
    claimed_by(request, flow.request.client_id)
    decision, scopes = _shown_fields(form, flow.request)
    if decision == "deny":
        return await _deny(plane, flow, session)
    if flow.request.scopes and not scopes:
        return await _resume(request, Form((("flow", flow_id),)), session, nothing_ticked=True)
    code = await plane.store.allow(flow_id, session.session_id, scopes, plane.settings.config.tokens.code_ttl)
    return _code_redirect(plane, flow.request, code)


def _shown_fields(form: Form, shown: FlowRequest) -> tuple[str, frozenset[str]]:
    """The decision and the ticked scopes. Raises FormRefused for fields that differ from what was shown."""
    decision, scopes = form.get("decision"), frozenset(form.all("scope"))
    if form.names - _CONSENT_FIELDS or form.repeated(but=frozenset({"scope"})) is not None:
        raise FormRefused("fields that the consent form does not have")
    if decision not in ("allow", "deny") or not scopes <= shown.scopes:
        raise FormRefused("a decision or scopes that were not shown")
    return decision, scopes


async def _deny(plane: Plane, flow: Flow, session: Session) -> web.Response:
    if not await plane.store.deny(flow.flow_id, session.session_id):
        raise _ended()
    error = authorize.denied(flow.request.redirect_uri, flow.request.state)
    return pages.redirect(error.location(plane.issuer))


async def _resume(
    request: web.Request, query: Form, session: Session | None, *, nothing_ticked: bool = False
) -> web.Response:
    plane = plane_of(request)
    if session is None:
        raise _ended()
    flow, asked = await _open_flow(plane, query.get("flow") or "", session)
    if query.get("prompt") == "login":
        return _sign_in_page(request, asked, _query_of(flow.request), session=session)
    return await _consent_page(request, flow, asked.client, session, nothing_ticked=nothing_ticked)


async def _judged(plane: Plane, query: Form) -> AuthorizationRequest:
    client = await plane.store.client(authorize.client_id_of(query))
    return authorize.judge(query, client, frozenset(await plane.scopes()), plane.resources)


async def _next_step(plane: Plane, asked: AuthorizationRequest, session: Session | None) -> Step:
    granted = frozenset[str]()
    if session is not None and asked.client.confidential:
        granted = await plane.store.granted_scopes(session.user.subject, asked.client.client_id)
    return authorize.next_step(asked, signed_in=session is not None, granted=granted)


async def _begin(plane: Plane, asked: AuthorizationRequest, session: Session) -> Flow:
    flow = await plane.store.start_flow(session.session_id, _flow_request(asked))
    if flow is None:
        raise _ended()
    return flow


async def _open_flow(plane: Plane, flow_id: str, session: Session) -> tuple[Flow, AuthorizationRequest]:
    """A flow that awaits its decision, judged anew: an operator may have taken from the client what it asks for."""
    usable = authorize.is_identifier(flow_id)
    flow = await plane.store.flow(flow_id, session.session_id) if usable else None
    if flow is None:
        raise _ended()
    return flow, await _judged(plane, forms.parse(_query_of(flow.request)))


async def _issue(plane: Plane, asked: AuthorizationRequest, session: Session) -> web.Response:
    request, ttl = _flow_request(asked), plane.settings.config.tokens.code_ttl
    code = await plane.store.issue_code(session.session_id, request, ttl, remember=asked.client.first_party)
    return _code_redirect(plane, request, code)


def _code_redirect(plane: Plane, request: FlowRequest, code: str | None) -> web.Response:
    if code is None:
        raise _ended()
    return pages.redirect(authorize.success_location(request.redirect_uri, code, request.state, plane.issuer))


def _sign_in_page(
    request: web.Request,
    asked: AuthorizationRequest,
    pending: bytes,
    *,
    session: Session | None = None,
    refused: NotSignedIn | None = None,
    username: str | None = None,
) -> web.Response:
    return sign_in.form_page(
        request,
        _PAGE,
        pending,
        client=asked.client,
        redirect_uri=asked.redirect_uri,
        username=username or asked.login_hint or "",
        session=session,
        refused=refused,
    )


async def _consent_page(
    request: web.Request, flow: Flow, client: Client, session: Session, *, nothing_ticked: bool = False
) -> web.Response:
    plane = plane_of(request)
    words, uri = await plane.scopes(), flow.request.redirect_uri
    context = {
        "client": client,
        "client_host": redirect_uris.shown_host(uri),
        "loopback": redirect_uris.is_loopback(uri),
        "private": redirect_uris.is_private(uri),
        "session": session,
        "scopes": [(name, words.get(name, name)) for name in sorted(flow.request.scopes)],
        "nothing_ticked": nothing_ticked,
        "flow_id": flow.flow_id,
        "csrf_token": browser.form_token(plane.keyring, _PAGE, session.session_id, flow.flow_id),
    }
    return pages.page(request, "consent.html", context, status=400 if nothing_ticked else 200, redirect_uri=uri)


def _flow_request(asked: AuthorizationRequest) -> FlowRequest:
    return FlowRequest(
        client_id=asked.client.client_id,
        redirect_uri=asked.redirect_uri,
        scopes=asked.scopes,
        state=asked.state,
        code_challenge=asked.code_challenge,
        resource=asked.resource,
    )


def _query_of(asked: FlowRequest) -> bytes:
    return authorize.query_again(
        asked.client_id, asked.redirect_uri, asked.scopes, asked.state, asked.code_challenge, asked.resource
    )


def _ended() -> PageError:
    return PageError("The application's request has been answered already, or it has waited too long.", "no open flow")
