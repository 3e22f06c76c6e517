"""The authorization endpoint: from a client's request to a code, through sign-in and consent.

          GET authorize?client_id=…  ◀──────────────────────────────────────────────────────────────┐
                 │ client or redirect URI unproven ─────▶ 400 page, never a redirect                │
                 │ any other fault ─────────────────────▶ 303 to the client: error, state, iss      │
                 ▼                                                                                  │
      signed in? ──no, or prompt=login──▶ SIGN-IN (nothing is written)                              │
          │                                  │ POST decision=deny ──────▶ 303 error=access_denied   │
          │ prompt=select_account            │ POST username, password   wrong: the same form       │
          ├───▶ SIGN-IN, or “Continue as” ───┴──▶ 303 ──────────────────────────────────────────────┤
          ▼                                                                                         │
      consent stands? ──no──▶ CONSENT (nothing is written; the form is bound to the person)         │
          │ yes                  │ POST select=…, or nothing ticked: the form again                 │
          │                      │ POST decision=deny ───▶ Denied ──────▶ 303 error=access_denied   │
          ▼                      │ POST decision=allow                                              │
        code ◀────────── Granted(scopes) ─────────────────▶ 303 code, state, iss                    │
                                 │ signed out, or another person, or too late: 303 ─────────────────┘

The request stays in the address all the way, byte for byte as it came; only the address's path says how far the person
has come with it (`authorize.Progress`). Every form posts to the address that shows it, and opening that address goes on
with the request: by Enter, reload or Back, in a second tab, or when the session was lost. Sessions may change
meanwhile: the flow is the person's, and the form's token the browser's. For another person consent is asked anew.

Each arrow out of CONSENT is one statement in the store, which begins the flow's row, so a decision counts once, and
what comes later hears of it:

      the same again, its code unspent     the same redirect
      the same again, its code spent       409: it was allowed already; a client that gets a code twice loses both
      another decision, other scopes       409: what was decided, and the ways on
      the same again, its code expired     303 to the address: asked anew

A request that the client pushed (RFC 9126) stands behind its address: the first browser that opens it keeps it, and its
first answer is the last one.

A form that was not given to this browser, or that differs from what was shown, is 403 and moves nothing. A client that
would rather have JSON gets a page's error as JSON, and `login_required`, `account_selection_required` or
`consent_required` (OpenID Connect Core, section 3.1.2.6) for a page that a person would have to see.
"""

from collections.abc import Mapping
from typing import Final

from aiohttp import web
from msgspec.structs import replace

from gateway.errors import OAuthError, Refused
from gateway.model import Session
from gateway.oauth import authorize, forms, pushed
from gateway.oauth.authorize import Asked, Progress, Step
from gateway.oauth.forms import Form
from gateway.store import Flow
from gateway.store.pushed import Pushed
from gateway.store.visits import Visit
from gateway.web import answers, clients, consent, legacy, openid_connect, pages, sign_in
from gateway.web.browser import FormRefused
from gateway.web.consent import Choice
from gateway.web.pages import Link
from gateway.web.plane import Plane, asked_by, claimed_by, plane_of, prefers_json, query_of, recognised, target_of
from gateway.web.sign_in import NotSignedIn, To

_PAGE: Final = answers.AUTHORIZE


async def show(request: web.Request) -> web.Response:
    """GET: a client's request, and whatever its next step is."""
    plane = plane_of(request)
    asked, visit = await _unanswered(request)
    session = recognised(request, visit.session)
    granted = frozenset[str]() if session is None else visit.granted_at(asked.request.resource)
    theirs = await consent.may_use(plane, asked.client, session)
    if session is not None and not theirs and "none" in asked.prompt:
        return _not_theirs(request, asked, session)
    step = await _next_step(plane, asked, session, granted)
    if session is not None and not theirs and step in (Step.ASK, Step.ISSUE):
        return _not_theirs(request, asked, session)
    if session is not None and step is Step.ISSUE:
        return await _issue(request, asked, session)
    if prefers_json(request):
        raise _person_needed(step)
    if session is not None and step is Step.ASK:
        await clients.keep(request, asked.client)
        flow = plane.store.flows.start(session.user.subject, asked.request, granted)
        ticked = flow.granted & asked.request.scopes if flow.granted else asked.request.scopes
        return _consent_page(request, flow, asked, visit, session, ticked=ticked)
    return _sign_in_page(request, asked, session, step)


async def answer(request: web.Request) -> web.Response:
    """POST: the sign-in form or the consent form comes back, or a client's request comes as a form."""
    form = await posted(request)
    if _begins(request, form):
        return answers.as_link(request, _PAGE, form)
    if (refusal := answers.from_elsewhere(request)) is not None:
        return refusal
    decides = form.names & {"decision", "select"} and "password" not in form.names
    return await (_decide(request, form) if decides else _sign_in(request, form))


def _begins(request: web.Request, form: Form) -> bool:
    """Whether a form is a client's request (OpenID Connect Core, section 3.1.2.1)."""
    return "csrf_token" not in form.names and "client_id" in form.names and not request.match_info.get("progress")


async def posted(request: web.Request) -> Form:
    """The fields of a form of ours. Raises FormRefused for a body of another type."""
    if not forms.is_form(request.headers.get("Content-Type", "")):
        raise FormRefused("a body that no form of ours sends")
    return forms.parse(await request.read())


async def _sign_in(request: web.Request, form: Form) -> web.Response:
    plane = plane_of(request)
    sign_in.require_ours(request, _PAGE, form)
    asked, visit = await _unanswered(request)
    if form.get("decision") == "deny":
        if asked.pushed is not None and not await plane.store.pushed.spend(asked.pushed):
            raise pushed.unusable()
        raise asked.request.denial()
    outcome = await sign_in.attempt(request, form)
    if isinstance(outcome, NotSignedIn):
        session = recognised(request, visit.session)
        step = await _next_step(plane, asked, session, frozenset())
        return _sign_in_page(request, asked, session, step, refused=outcome, username=form.get("username"))
    asked = asked.identified()
    if not await consent.may_use(plane, asked.client, outcome.session):
        return outcome.tell(plane, _not_theirs(request, asked, outcome.session))
    granted = await _granted(plane, asked, outcome.session)
    if await _next_step(plane, asked, outcome.session, granted) is Step.ISSUE:
        return outcome.tell(plane, await _issue(request, asked, outcome.session))
    return outcome.tell(plane, pages.redirect(_address(request, asked.progress)))


async def _decide(request: web.Request, form: Form) -> web.Response:
    plane, choice = plane_of(request), consent.choice_of(form)
    ticket = consent.ticket_of(request, form)
    asked, visit = await _validated(request)  # anew: an operator may have taken from the client what it asks for
    session = recognised(request, visit.session)
    if session is None or ticket is None:
        return _ask(request)
    flow = ticket.flow(session, asked.request, plane.store.now(), visit.granted_at(asked.request.resource))
    if flow is None:
        return _ask(request)
    if not choice.scopes <= asked.request.scopes:
        raise FormRefused("scopes that were not shown")
    choice = consent.completed(choice, asked.request.scopes)
    if not await consent.may_use(plane, asked.client, session):
        return _not_theirs(request, asked, session)
    nothing = consent.nothing_ticked(choice, asked.request.scopes)
    if choice.select is not None or nothing:
        if (decided := await plane.store.flows.find(flow.flow_id, session.session_id)) is not None:
            return _answered(request, decided, choice, asked)
        ticked = frozenset[str]() if nothing else consent.selected(choice, asked.request.scopes)
        return _consent_page(request, flow, asked, visit, session, ticked=ticked, pressed=choice.select, empty=nothing)
    return await _decided(request, flow, choice, asked, session)


async def _decided(request: web.Request, flow: Flow, choice: Choice, asked: Asked, session: Session) -> web.Response:
    """The answer to a decision: its own if it is the first, else that of the one before."""
    plane = plane_of(request)
    if choice.decision == "deny":
        if await plane.store.flows.deny(flow, session.session_id, asked.pushed):
            raise asked.request.denial()
    else:
        ttl = plane.settings.config.tokens.code_ttl
        code = await plane.store.flows.allow(flow, session.session_id, choice.scopes, ttl, asked.pushed)
        if code is not None:
            return await _succeeded(request, asked, session, code, choice.scopes)
    decided = await plane.store.flows.find(flow.flow_id, session.session_id)
    if decided is None:  # signed out, switched off or over, a moment ago
        return _ask(request)
    return _answered(request, decided, choice, asked)


def _answered(request: web.Request, flow: Flow, choice: Choice, asked: Asked) -> web.Response:
    """The answer to a decision on a flow that was decided already."""
    denied = flow.decision == "denied"
    same = (choice.decision == "deny") if denied else (choice.decision == "allow" and choice.scopes == flow.allowed)
    if not same or flow.spent or "token" in asked.request.response_types:  # a token is shown once
        return _decided_before(request, asked, denied=denied)
    if denied:
        raise asked.request.denial()
    return _ask(request) if flow.code is None else _to_client(request, asked, {"code": flow.code})


def _decided_before(request: web.Request, asked: Asked, *, denied: bool) -> web.Response:
    name = asked.client.name
    if denied:
        title, text = f"You’ve already declined {name}", "Nothing was shared with it this time."
    else:
        title = f"You’ve already allowed {name}"
        text = "You can return to it. To end its access, remove it from your connected applications."
    again = () if asked.answered else (Link("Decide again", _address(request, Progress.CONSENT)),)
    account = Link("Connected applications", f"{plane_of(request).prefix}/account")
    return answers.failure(request, Refused("conflict", text), title, (*again, account))


def _ask(request: web.Request) -> web.Response:
    """A redirect to the request's address, as if it were opened: whoever is signed in by now is asked."""
    return pages.redirect(_address(request, Progress.CONSENT))


def _address(request: web.Request, progress: Progress) -> str:
    """The address where the request goes on: its parameters as they came, after the path for the person's progress."""
    path = f"{plane_of(request).prefix}/{_PAGE}/{progress.value}".removesuffix("/")
    return f"{path}?{target_of(request).partition('?')[2]}"


async def _validated(request: web.Request) -> tuple[Asked, Visit]:
    """The request, and what was found for it. Raises PageError or RedirectError where it does not hold."""
    plane, query = plane_of(request), query_of(request)
    claimed_by(request, query.get("client_id"))
    client_id = authorize.client_id_of(query)
    visit = await plane.store.visits.find(client_id, plane.session_token(request))
    client = await clients.current(request, client_id, visit.client)
    if client is not None:
        asked_by(request, client)
    found = await _pushed(request, client_id, query)
    asked = authorize.judge(
        authorize.read(query, client) if found is None else found.request,
        client,
        frozenset(plane.words(visit)),
        plane.resources,
        pushed=found is not None,
    )
    asked = replace(
        asked, progress=Progress(request.match_info.get("progress", "")), hinted=await _hinted(plane, asked)
    )
    return asked if found is None else replace(asked, pushed=found.digest, answered=found.answered), visit


async def _pushed(request: web.Request, client_id: str, query: Form) -> Pushed | None:
    """What the client pushed before, if the query refers to that: it stands in place of all that the query says besides
    (RFC 9126, section 4). Raises PageError for a reference that opens nothing."""
    reference = pushed.reference_of(query)
    if reference is None:
        return None
    plane = plane_of(request)
    # Programs open nothing: one that looks at a link before it is followed would take it from the person.
    look = request.method == "HEAD" or prefers_json(request)
    found = await plane.store.pushed.open(reference, client_id, plane.cookies.secret_of(request), look=look)
    if found is None:
        raise pushed.unusable()
    return found


async def _hinted(plane: Plane, asked: Asked) -> str | None:
    """Whom its `id_token_hint` is about, if there is one. Raises RedirectError for a hint that is none of ours."""
    hint = asked.request.id_token_hint
    if hint is None:
        return None
    try:
        return await openid_connect.hinted(plane, asked.client, hint)
    except OAuthError as error:
        raise asked.request.refusal(error.refused.error, error.refused.description) from error


async def _unanswered(request: web.Request) -> tuple[Asked, Visit]:
    """The same for a request that may be answered: one that was pushed has not been."""
    asked, visit = await _validated(request)
    if asked.answered:
        raise pushed.unusable()
    return asked, visit


async def _granted(plane: Plane, asked: Asked, session: Session | None) -> frozenset[str]:
    """The scopes that the person allowed the client before, at the resources that it asks for now, where it hangs on
    them whether they are asked again."""
    if session is None or not asked.may_rest_on_grant:
        return frozenset()
    return await plane.store.grants.scopes(session.user.subject, asked.client.client_id, asked.request.resource)


def _not_theirs(request: web.Request, asked: Asked, session: Session) -> web.Response:
    """The answer to somebody who may not use the application at all.

    With prompt=none the client is told (RFC 6749, section 4.1.2.1).
    """
    if "none" in asked.prompt:
        raise asked.request.refusal("access_denied", "The person may not use this application.")
    return consent.not_theirs(request, asked.client, session, other_account=_address(request, Progress.ACCOUNT))


async def _next_step(plane: Plane, asked: Asked, session: Session | None, granted: frozenset[str]) -> Step:
    if session is None:
        return authorize.next_step(asked, sign_in_age=None, granted=granted)
    age = (plane.store.now() - session.signed_in_at).total_seconds()
    subject = await plane.store.users.known_as(session.user.subject, asked.client) if asked.subjects else None
    return authorize.next_step(asked, sign_in_age=age, granted=granted, subject=subject)


async def _issue(request: web.Request, asked: Asked, session: Session) -> web.Response:
    plane, client = plane_of(request), asked.client
    ttl = plane.settings.config.tokens.code_ttl
    code = await plane.store.flows.issue_code(
        session.session_id, asked.request, ttl, remember=client.first_party, pushed=asked.pushed
    )
    if code is not None:
        return await _succeeded(request, asked, session, code, asked.request.scopes)
    if "none" in asked.prompt:
        raise asked.request.refusal("interaction_required", "The person's sign-in or consent ended a moment ago.")
    return _ask(request)  # the session, the grant or the client ended a moment ago


async def _succeeded(
    request: web.Request, asked: Asked, session: Session, code: str, scopes: frozenset[str]
) -> web.Response:
    """The answer that was allowed: the code; for a client that may still use the implicit grant a token, or both."""
    types, members = asked.request.response_types, dict[str, str]()
    if "code" in types:
        members["code"] = code
    if "token" in types:
        plane = plane_of(request)
        hidden = await legacy.another_code(plane, asked.request, session, scopes) if "code" in types else code
        if hidden is None:
            raise asked.request.refusal("access_denied", "What was allowed ended a moment ago.")
        try:
            members |= await legacy.token_at_once(plane, asked.client, hidden, asked.request.redirect_uri)
        except OAuthError as error:
            raise asked.request.refusal("access_denied", "What was allowed ended a moment ago.") from error
    return _to_client(request, asked, members)


def _to_client(request: web.Request, asked: Asked, members: Mapping[str, str]) -> web.Response:
    return pages.to_client(request, asked.request.success(members, plane_of(request).issuer))


def _person_needed(step: Step) -> OAuthError:
    """The error for a program where only a person can take the next step."""
    match step:
        case Step.ASK:
            error, what = "consent_required", "allow this"
        case Step.CHOOSE_ACCOUNT:
            error, what = "account_selection_required", "choose an account"
        case _:
            error, what = "login_required", "sign in"
    return OAuthError(Refused(error, f"A person has to {what}: open the address in a browser.", status=400))


def _purpose(asked: Asked, session: Session | None, step: Step) -> To:
    """What somebody signs in for: to confirm it, unless the client means somebody else by its hint."""
    if session is None:
        return To.SIGN_IN
    if asked.progress is Progress.ACCOUNT:
        return To.USE_ANOTHER
    if step is Step.CHOOSE_ACCOUNT:
        return To.CHOOSE
    hint = asked.request.login_hint
    meant = hint is None or hint.casefold() in (session.user.username.casefold(), (session.user.email or "").casefold())
    return To.CONFIRM if step is Step.CONFIRM and meant else To.SIGN_IN


def _sign_in_page(
    request: web.Request,
    asked: Asked,
    session: Session | None,
    step: Step,
    *,
    refused: NotSignedIn | None = None,
    username: str | None = None,
) -> web.Response:
    hint = None if asked.progress is Progress.ACCOUNT else asked.request.login_hint  # which is about another one then
    return sign_in.form_page(
        request,
        _PAGE,
        target_of(request),
        client=asked.client,
        redirect_uri=asked.request.redirect_uri,
        username=username or hint or "",
        session=session,
        to=_purpose(asked, session, step),
        continue_to=_address(request, asked.identified().progress) if step is Step.CHOOSE_ACCOUNT else None,
        other_account=_address(request, Progress.ACCOUNT),
        refused=refused,
    )


def _consent_page(
    request: web.Request,
    flow: Flow,
    asked: Asked,
    visit: Visit,
    session: Session,
    *,
    ticked: frozenset[str],
    pressed: str | None = None,
    empty: bool = False,
) -> web.Response:
    return consent.page(
        request,
        flow,
        asked.client,
        session,
        plane_of(request).words(visit),
        other_account=_address(request, Progress.ACCOUNT),
        ticked=ticked,
        pressed=pressed,
        empty=empty,
    )
