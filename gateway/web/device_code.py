"""The pages where a person allows something to a device that has no browser (RFC 8628, section 3.3).

      device?user_code=…             the code, typed or brought by a link, which the person compares with the device's
          │ POST                     none waits with it: the form again; too many such: 429
          ▼
      device/consent?user_code=…     CONSENT, always asked, whatever was allowed before
          │ POST decision=allow, deny
          ▼
      the same address               what was decided

Whoever is not signed in signs in first and comes back to the same address. So every look at a code is somebody's, and
counts for them (`store.guesses`): a code is short, and one that is found may be allowed.

What is allowed here goes to a device that the person must have in front of them. That somebody far away sent them the
code is the danger of this way (section 5.4), and no check of ours sees it: so both pages say it, above the button.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import urlencode

from aiohttp import web
from msgspec import Struct

from gateway.model import DEVICE_CODE, Client, Session
from gateway.oauth import device
from gateway.oauth.authorize import AuthorizationRequest
from gateway.routing.forwarded import neighbourhood
from gateway.store import Flow
from gateway.store.devices import Device
from gateway.web import browser, consent, pages, words
from gateway.web.browser import FormRefused
from gateway.web.flow import posted
from gateway.web.plane import Plane, address_of, claimed_by, plane_of, query_of, tell_refusal

_FORM = "device"
_FIELDS = frozenset({"csrf_token", "user_code"})
_GUESSING = "nothing, if it was once; many such lines of one person or address mean that somebody is guessing"


class _Found(Struct, frozen=True):
    """A device that shows the code, and its client."""

    device: Device
    client: Client
    user_code: str  # as people read it


class _Unknown(Struct, frozen=True):
    """No device with that code is to be had, in words for the person."""

    status: int
    text: str
    retry_after: int | None = None


async def show(request: web.Request) -> web.Response:
    """GET device: the form; a link may have brought the code (section 3.3.1)."""
    session = await plane_of(request).session(request)
    brought = device.user_code_of(query_of(request).get("user_code") or "")
    if session is None:
        return _sign_in_first(request, "device", brought)
    return _form_page(request, session, brought=None if brought is None else device.shown(brought))


async def enter(request: web.Request) -> web.Response:
    """POST device: on to consent, if a device waits with that code."""
    plane, form = plane_of(request), await posted(request)
    session = await plane.session(request)
    typed = form.get("user_code") or ""
    if session is None:
        return _sign_in_first(request, "device", device.user_code_of(typed))
    if form.names - _FIELDS or form.repeated() is not None:
        raise FormRefused("fields that the form for a device's code does not have")
    browser.open_form(plane.keyring, _FORM, session.session_id, form.get("csrf_token"))
    found = await _look(request, session, typed)
    if isinstance(found, _Unknown):
        return _form_page(request, session, typed=typed, refused=found)
    return pages.redirect(_address(request, "device/consent", found.user_code))


async def ask(request: web.Request) -> web.Response:
    """GET device/consent: the question, or what was answered."""
    plane, typed = plane_of(request), query_of(request).get("user_code") or ""
    session = await plane.session(request)
    if session is None:
        return _sign_in_first(request, "device/consent", device.user_code_of(typed))
    found = await _look(request, session, typed)
    if isinstance(found, _Unknown):
        return _form_page(request, session, typed=typed, refused=found)
    if found.device.decision is not None:
        context = {"client": found.client, "granted": found.device.decision == "granted"}
        return pages.page(request, "device_done.html", context)
    if not await consent.may_use(plane, found.client, session):
        return _not_theirs(request, found, session)
    words = await plane.scopes()
    asked = _asked(plane, found, words)
    flow = plane.store.flows.start(session.user.subject, asked)
    return await _consent_page(request, found, flow, session, words, ticked=asked.scopes)


async def decide(request: web.Request) -> web.Response:
    """POST device/consent: the person's answer, once for all who try."""
    plane, form = plane_of(request), await posted(request)
    choice = consent.choice_of(form)
    ticket = consent.ticket_of(request, form)
    typed = query_of(request).get("user_code") or ""
    session = await plane.session(request)
    if session is None:
        return _sign_in_first(request, "device/consent", device.user_code_of(typed))
    found = await _look(request, session, typed)
    if isinstance(found, _Unknown):
        return _form_page(request, session, typed=typed, refused=found)
    here = pages.redirect(_address(request, "device/consent", found.user_code))
    if ticket is None or found.device.decision is not None:
        return here
    words = await plane.scopes()
    asked = _asked(plane, found, words)
    flow = ticket.flow(session, asked, plane.store.now())
    if flow is None:
        return here
    if not choice.scopes <= asked.scopes:
        raise FormRefused("scopes that were not shown")
    if not await consent.may_use(plane, found.client, session):
        return _not_theirs(request, found, session)
    nothing = consent.nothing_ticked(choice, asked.scopes)
    if choice.select is not None or nothing:
        ticked = frozenset[str]() if choice.select is None else consent.selected(choice, asked.scopes)
        return await _consent_page(
            request, found, flow, session, words, ticked=ticked, pressed=choice.select, empty=nothing
        )
    if choice.decision == "allow":
        choice = consent.completed(choice, asked.scopes)
        await plane.store.flows.allow_device(flow, session.session_id, choice.scopes)
    else:
        await plane.store.flows.deny_device(flow, session.session_id)
    return here  # which tells what counts: this answer, or one that came before it


def _asked(plane: Plane, found: _Found, words: Mapping[str, str]) -> AuthorizationRequest:
    """What the device asks for, as far as its client may have it today."""
    return AuthorizationRequest(
        client_id=found.client.client_id,
        redirect_uri="",
        scopes=found.device.scopes & found.client.may_have & frozenset(words),
        resource=tuple(name for name in found.device.resource if name in plane.resources),
        device=found.device.digest,
    )


async def _consent_page(
    request: web.Request,
    found: _Found,
    flow: Flow,
    session: Session,
    words: Mapping[str, str],
    *,
    ticked: frozenset[str],
    pressed: str | None = None,
    empty: bool = False,
) -> web.Response:
    asked = flow.request
    granted = await plane_of(request).store.grants.scopes(flow.subject, asked.client_id, asked.resource)
    return consent.page(
        request,
        replace(flow, granted=granted),
        found.client,
        session,
        words,
        other_account=_elsewhere(request, found.user_code),
        ticked=ticked,
        pressed=pressed,
        empty=empty,
        user_code=found.user_code,
    )


def _not_theirs(request: web.Request, found: _Found, session: Session) -> web.Response:
    """The device goes on waiting: somebody else who has it in front of them may use its application."""
    return consent.not_theirs(request, found.client, session, other_account=_elsewhere(request, found.user_code))


async def _look(request: web.Request, session: Session, typed: str) -> _Found | _Unknown:
    """The device that shows this code, unless another person has answered it, or too many wrong ones came before.

    What is wrong counts before it is asked whether too much was: so guesses that run side by side learn no more.
    """
    plane, subject = plane_of(request), session.user.subject
    guess = plane.store.guesses.user_code(subject, neighbourhood(address_of(request)))
    if (wait := await guess.wait()) > 0:
        return _too_many(request, wait)
    user_code = device.user_code_of(typed)
    if user_code is None:  # none has this form: it tells nobody anything
        return _Unknown(400, "That isn’t a code from a device. Codes have 8 letters, such as WDJB-MJHT, and no vowels.")
    found = await plane.store.devices.find(user_code)
    client = None if found is None else await plane.store.clients.find(found.client_id)
    usable = client is not None and client.disabled_at is None and DEVICE_CODE in client.grant_types
    foreign = found is not None and found.subject not in (None, subject)
    if found is None or client is None or not usable or foreign:
        guess.wrong()
        cause = "another person's user code" if foreign else "unknown or expired user code"
        tell_refusal(request, "user code refused", 400, cause, mend=_GUESSING, subject=subject)
    if (wait := await guess.wait()) > 0:
        return _too_many(request, wait)
    if found is None or client is None or not usable or foreign:
        return _Unknown(400, "This code is wrong, or it has expired. Check your device, or ask it for a new one.")
    claimed_by(request, client.client_id)
    return _Found(found, client, device.shown(user_code))


def _too_many(request: web.Request, wait: float) -> _Unknown:
    seconds = math.ceil(wait)
    tell_refusal(
        request, "user code held back", 429, "too many user codes", mend=_GUESSING, alarming=True, retry_after=seconds
    )
    return _Unknown(429, f"Too many attempts. Try again in {words.within(seconds)}.", seconds)


def _form_page(
    request: web.Request,
    session: Session,
    *,
    brought: str | None = None,
    typed: str = "",
    refused: _Unknown | None = None,
) -> web.Response:
    plane = plane_of(request)
    user_code = device.user_code_of(typed)
    context = {
        "session": session,
        "action": f"{plane.prefix}/device",
        "brought": brought,
        "user_code": brought or (typed[:20] if user_code is None else device.shown(user_code)),
        "refused": refused,
        "other_account": _elsewhere(request, brought),
        "csrf_token": browser.form_token(plane.keyring, _FORM, session.session_id),
    }
    status, retry_after = (200, None) if refused is None else (refused.status, refused.retry_after)
    return pages.page(request, "device.html", context, status=status, retry_after=retry_after)


def _address(request: web.Request, page: str, user_code: str | None) -> str:
    query = "" if user_code is None else f"?user_code={user_code}"
    return f"{plane_of(request).prefix}/{page}{query}"


def _sign_in_first(request: web.Request, page: str, user_code: str | None) -> web.Response:
    back = _address(request, page, None if user_code is None else device.shown(user_code))
    return pages.redirect(f"{plane_of(request).prefix}/login?{urlencode({'next': back})}")


def _elsewhere(request: web.Request, user_code: str | None) -> str:
    """Where another person signs in, to enter the same code."""
    back = _address(request, "device", user_code)
    return f"{plane_of(request).prefix}/login?{urlencode({'next': back})}"
