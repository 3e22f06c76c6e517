"""The consent form: what it shows, which of it is ticked, and what comes back.

    button                            field                       does
    Don’t allow, Allow                decision=deny, allow        answers, with the ticked `scope` fields
    Select all, Select none           select=all, none            ticks, and shows the form again
    those of one group                select=all:notes, …         likewise

Until it is answered, the form alone holds what is asked (`store/flows.py`): its token names the flow, the person, when
it is over and what the request was, and nothing else is answered by it.

A scope that the person allowed this client before, at the same resources, is ticked; what goes beyond is marked as new
and left to the person. Where nothing was allowed before, everything is ticked. `openid` has no box: to allow
anything is to sign in.
"""

import base64
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Final

from aiohttp import web
from msgspec import Struct
from msgspec.structs import replace

from gateway.crypto import digest
from gateway.errors import Refused
from gateway.model import Client, Session
from gateway.oauth import client_documents, openid, redirect_uris
from gateway.oauth.authorize import AuthorizationRequest
from gateway.oauth.forms import Form
from gateway.store import Flow
from gateway.web import answers, browser, pages
from gateway.web.browser import FormRefused
from gateway.web.pages import Link
from gateway.web.plane import Plane, plane_of, target_of, tell_refusal

FORM: Final = "consent"  # what its token is for
_FIELDS: Final = frozenset({"csrf_token", "decision", "select", "scope"})
_MANY: Final = 7  # permissions that a person can take in as one list
_OTHERS: Final = "other"
_IMPLIED: Final = frozenset({"openid"})


class Choice(Struct, frozen=True):
    """A form that came back: a decision, or a button that ticks (`select`), and the scopes that were ticked."""

    decision: str | None
    select: str | None
    scopes: frozenset[str]


class Permission(Struct, frozen=True):
    """One scope, in plain words."""

    name: str
    words: str
    ticked: bool
    new: bool


class Group(Struct, frozen=True):
    """The scopes whose names begin alike, up to the colon; `open` where the person should see each of them."""

    name: str
    permissions: tuple[Permission, ...]
    open: bool

    @property
    def title(self) -> str:
        return self.name[0].upper() + self.name[1:]

    @property
    def new(self) -> int:
        return sum(permission.new for permission in self.permissions)


class Ticket(Struct, frozen=True):
    """What the token of a consent form says of the flow that it asks about."""

    flow_id: str
    subject: str
    expires_at: datetime
    request: str  # a digest

    @classmethod
    def of(cls, flow: Flow) -> "Ticket":
        return cls(flow.flow_id, flow.subject, flow.expires_at, _digest(flow.request))

    def flow(
        self, session: Session, request: AuthorizationRequest, now: datetime, granted: frozenset[str] = frozenset()
    ) -> Flow | None:
        """The flow, if it is this person's and not over. Raises FormRefused where the form was about another one."""
        if self.subject != session.user.subject or self.expires_at <= now:
            return None
        if self.request != _digest(request):
            raise FormRefused("another request than the one that was shown")
        return Flow(
            flow_id=self.flow_id, subject=self.subject, request=request, expires_at=self.expires_at, granted=granted
        )


def _digest(request: AuthorizationRequest) -> str:
    return base64.urlsafe_b64encode(digest(request.to_json())).decode()


def _token(plane: Plane, secret: str, flow: Flow) -> str:
    ticket = Ticket.of(flow)
    row = (ticket.flow_id, ticket.subject, ticket.expires_at.isoformat(), ticket.request)
    return browser.form_token(plane.keyring, FORM, secret, "~".join(row))


def ticket_of(request: web.Request, form: Form) -> Ticket | None:
    """The ticket of a form that comes back; None for one that another release has made, which is shown anew.

    Raises FormRefused unless it was given to this browser.
    """
    plane = plane_of(request)
    row = browser.open_form(plane.keyring, FORM, plane.cookies.form_secret(request), form.get("csrf_token"))
    match row.split("~"):
        case [flow_id, subject, expires_at, asked]:
            return Ticket(flow_id, subject, datetime.fromisoformat(expires_at), asked)
        case _:
            return None


def choosable(scopes: frozenset[str]) -> frozenset[str]:
    """Those of the scopes that a person may tick."""
    return scopes - _IMPLIED


def nothing_ticked(choice: Choice, asked: frozenset[str]) -> bool:
    """Whether a person allows nothing of all that they could tick."""
    return choice.decision == "allow" and bool(choosable(asked)) and not choosable(choice.scopes)


def completed(choice: Choice, asked: frozenset[str]) -> Choice:
    """The choice with what is allowed by allowing anything."""
    return replace(choice, scopes=choice.scopes | (asked & _IMPLIED)) if choice.decision == "allow" else choice


def choice_of(form: Form) -> Choice:
    """The choice that a consent form states. Raises FormRefused for fields that it does not have."""
    decision, select = form.get("decision"), form.get("select")
    if form.names - _FIELDS or form.repeated(but=frozenset({"scope"})) is not None:
        raise FormRefused("fields that the consent form does not have")
    if (decision is None) == (select is None) or decision not in (None, "allow", "deny"):
        raise FormRefused("a decision that was not shown")
    return Choice(decision, select, frozenset(form.all("scope")))


def selected(choice: Choice, asked: Iterable[str]) -> frozenset[str]:
    """The scopes that are ticked after the button was pressed. Raises FormRefused for a button that was not shown."""
    verb, _, group = (choice.select or "").partition(":")
    meant = choosable(frozenset(name for name in asked if not group or group_of(name) == group))
    if verb not in ("all", "none") or not meant:
        raise FormRefused("a selection that was not shown")
    return choice.scopes | meant if verb == "all" else choice.scopes - meant


def group_of(scope: str) -> str:
    """The part of a scope's name before its first colon."""
    group, colon, _ = scope.partition(":")
    return group if colon and group else _OTHERS


def permissions_of(
    words: Mapping[str, str], asked: frozenset[str], ticked: frozenset[str], granted: frozenset[str]
) -> list[Permission]:
    """The scopes that are asked for, in the configuration's order."""
    ordered = [name for name in words if name in choosable(asked)]
    new = asked - granted if granted else frozenset[str]()
    return [Permission(name, words[name], name in ticked, name in new) for name in ordered]


def groups_of(permissions: Collection[Permission], touched: str | None) -> list[Group]:
    """More permissions than one list can hold, in groups; none where they are few.

    A group is open where its ticks differ, so that no tick that matters is out of sight, and where it was `touched`.
    """
    if len(permissions) <= _MANY:
        return []
    names = list(dict.fromkeys(group_of(permission.name) for permission in permissions))
    groups = list[Group]()
    for name in names:
        members = tuple(permission for permission in permissions if group_of(permission.name) == name)
        mixed = 0 < sum(permission.ticked for permission in members) < len(members)
        groups.append(Group(name, members, mixed or name == touched))
    return groups


def places_of(plane: Plane, request: AuthorizationRequest) -> list[tuple[str, str]]:
    """The resources that the client limits itself to: each route's name, and its address (RFC 8707)."""
    names = {route.resource: route.name for route in plane.routes}
    return [(names.get(resource, resource), resource) for resource in request.resource]


async def may_use(plane: Plane, client: Client, session: Session | None) -> bool:
    """Whether whoever is signed in, if anybody is, may use the application at all."""
    if session is None or not client.allow_groups:
        return True
    profile = await plane.store.users.profile_of(session.user.subject)
    return profile is not None and openid.may_use(profile, client)


def not_theirs(request: web.Request, client: Client, session: Session, *, other_account: str) -> web.Response:
    """The page for somebody who may not use the application at all; `other_account` is where somebody else may."""
    user, brand = session.user, plane_of(request).branding.name
    tell_refusal(
        request,
        "authorization refused",
        403,
        "a person who is in none of the client's groups",
        mend="if they may: `gateway user update USERNAME --group …`, or `gateway client update ID --allow-group …`",
    )
    text = (
        f"You’re signed in as {user.name or user.username}, whose account doesn’t have access to it. "
        f"Ask your {brand} administrator, or use another account."
    )
    other = Link("Use another account", other_account)
    return answers.failure(request, Refused("access_denied", text), f"You can’t use {client.name}", (other,))


def page(
    request: web.Request,
    flow: Flow,
    client: Client,
    session: Session,
    words: Mapping[str, str],
    *,
    other_account: str,
    ticked: frozenset[str],
    pressed: str | None = None,
    empty: bool = False,
    user_code: str | None = None,
) -> web.Response:
    """The form, which posts to the address that shows it.

    `words` are those of every scope, `other_account` is where somebody else may sign in for it, `pressed` the button
    that ticks, `empty` whether the person allowed nothing, and `user_code` what the device shows that the access is
    for.
    """
    plane, uri = plane_of(request), flow.request.redirect_uri
    permissions = permissions_of(words, flow.request.scopes, ticked, flow.granted)
    touched = None if pressed is None else pressed.partition(":")[2]
    secret = plane.cookies.secret_of(request)
    host, loopback = redirect_uris.shown_host(uri), redirect_uris.is_loopback(uri)
    private = bool(uri) and redirect_uris.is_private(uri)
    context = {
        "client": client,
        "client_host": host,
        "run_by": client_documents.host_of(client.client_id) or (None if loopback or private else host),
        "loopback": loopback,
        "private": private,
        "user_code": user_code,
        "session": session,
        "permissions": permissions,
        "signs_in": "openid" in flow.request.scopes and not permissions,
        "groups": groups_of(permissions, touched),
        "pressed": pressed,
        "places": places_of(plane, flow.request),
        "nothing_ticked": empty,
        "action": target_of(request),
        "other_account": other_account,
        "csrf_token": _token(plane, secret, flow),
    }
    status = 400 if empty else 200
    response = pages.page(request, "consent.html", context, status=status, redirect_uri=uri or None)
    plane.cookies.keep_form_secret(request, response, secret)
    return response
