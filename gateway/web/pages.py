"""Pages as they are sent: rendered, never stored, never framed, and talking to nobody but this host."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final, cast

import aiohttp_jinja2
import jinja2
from aiohttp import web
from msgspec import Struct

from gateway.oauth import redirect_uris
from gateway.oauth.authorize import Response
from gateway.web.plane import Plane, asking, page_of, request_id_of
from gateway.web.policy import headers, policy

if TYPE_CHECKING:
    from markupsafe import Markup

_REDIRECT_HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}


# The macros of all pages, by the file that has them. One of a page's own would refer to what the page is rendered with,
# which refers to it: garbage that only the collector finds.
_PARTS: Final = {
    "application.html": ("mark", "short", "whole", "not_verified", "details"),
    "account_parts.html": ("nav", "whose", "day", "password_field"),
    "consent_parts.html": ("permission_choice", "select_button"),
    "icons.html": ("icon",),
    "parts.html": ("called", "person", "help"),
}


def share(environment: jinja2.Environment, plane: Plane) -> None:
    """Let every page have what none needs to be told: how pages look, and the parts that several are made of.

    An import would find the parts anew for each page that is rendered, and an icon is always the same.
    """
    environment.globals.update(brand=plane.branding, prefix=plane.prefix, static=f"{plane.prefix}/static")
    for file, names in _PARTS.items():
        module = environment.get_template(file).module
        environment.globals.update({name: getattr(module, name) for name in names})
    environment.globals["icon"] = cache(cast("Callable[[str], Markup]", environment.globals["icon"]))


def page(
    request: web.Request,
    template: str,
    context: Mapping[str, object],
    *,
    status: int = 200,
    redirect_uri: str | None = None,
    retry_after: int | None = None,
) -> web.Response:
    """A page; `redirect_uri` is the proven one of the flow that it belongs to."""
    text = aiohttp_jinja2.render_string(template, request, context)
    more = {} if retry_after is None else {"Retry-After": str(retry_after)}
    in_popup = page_of(request) == "authorize"
    return web.Response(
        text=text,
        status=status,
        content_type="text/html",
        charset="utf-8",
        headers={**headers(policy(redirect_uri=redirect_uri), has_opener=in_popup), **more},
    )


class Link(Struct, frozen=True):
    """A way out of a page that says what went wrong."""

    text: str
    href: str


def error_page(request: web.Request, status: int, title: str, text: str, links: Sequence[Link]) -> web.Response:
    """A page that says what went wrong, where to go from here, and the request id that an operator asks for."""
    context = {"title": title, "text": text, "links": links, "request_id": request_id_of(request)}
    return page(request, "error.html", context, status=status)


_SUBMIT: Final = "document.forms[0].submit()"
_SUBMIT_SOURCE: Final = f"'sha256-{b64encode(sha256(_SUBMIT.encode()).digest()).decode()}'"


def to_client(request: web.Request, answer: Response) -> web.Response:
    """Back to the client, with what it asked for or why not.

    In the mode `form_post` the browser posts it by itself, or by the person's button where it runs no scripts. Its one
    script is let through by its hash.

    A browser that hands the address to an app keeps the page that it shows, with buttons that were pressed already. It
    gets a page that leads there instead; a program that plays the browser gets the redirect.
    """
    name = asking(request) or "the application"
    if answer.mode == "form_post":
        text = [(name, value.decode() if isinstance(value, bytes) else value) for name, value in answer.members]
        context = {"action": answer.redirect_uri, "members": text, "submit": _SUBMIT, "name": name}
        response = page(request, "form_post.html", context, redirect_uri=answer.redirect_uri)
        response.headers["Content-Security-Policy"] += f"; script-src {_SUBMIT_SOURCE}"
        return response
    location = answer.location
    if not redirect_uris.is_private(location) or request.headers.get("Sec-Fetch-Dest") != "document":
        return redirect(location)
    error = dict(answer.members).get("error")
    outcome = {"failed": error is not None, "declined": error == "access_denied"}
    response = page(request, "returned.html", {"location": location, "name": name, **outcome})
    response.headers["Refresh"] = f"0; url={location}"
    return response


def redirect(location: str) -> web.Response:
    """303: the browser goes on with GET, so that a password is never posted anywhere else (RFC 9700, section 4.12)."""
    return web.Response(status=303, headers={"Location": location, **_REDIRECT_HEADERS})
