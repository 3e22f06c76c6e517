"""The authorization plane as one aiohttp application, and how it is served."""

import logging
from typing import Final

import aiohttp_jinja2
from aiohttp import web

from gateway.config import Settings
from gateway.fetching import Fetcher
from gateway.model import CHANGE_PASSWORD
from gateway.oauth import client_metadata
from gateway.oauth.authorize import Progress
from gateway.store import Store
from gateway.web import (
    account,
    answers,
    arrival,
    device_code,
    endpoints,
    flow,
    logout,
    new_password,
    openid_connect,
    pages,
    registration,
    signed_in_browsers,
    templates,
)
from gateway.web.answers import Audience
from gateway.web.plane import PLANE, build, plane_of

_LARGEST_BODY: Final = 64 * 1024
_FOR_GOOD: Final = "public, max-age=31536000, immutable"
# A file that is not of our making (an SVG logo) and is opened by itself must not run as a page of ours.
_ASSET_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"

_PAGES: Final[dict[str, tuple[answers.Handler, answers.Handler]]] = {
    "authorize": (flow.show, flow.answer),
    f"authorize/{{progress:{'|'.join(step.value for step in Progress if step.value)}}}": (flow.show, flow.answer),
    "login": (account.show_login, account.login),
    answers.LOGOUT: (logout.show, logout.answer),
    "account": (account.show_account, account.withdraw),
    "account/sessions": (signed_in_browsers.show, signed_in_browsers.sign_out),
    "account/password": (new_password.show, new_password.change),
    "device": (device_code.show, device_code.enter),
    "device/consent": (device_code.ask, device_code.decide),
}
_ENDPOINTS: Final[dict[str, answers.Handler]] = {
    "token": endpoints.token,
    "revoke": endpoints.revoke,
    "introspect": endpoints.introspect,
    "par": endpoints.pushed_authorization_request,
    "device_authorization": endpoints.device_authorization,
}
_DOCUMENTS: Final[dict[str, answers.Handler]] = {
    "oauth-authorization-server": endpoints.authorization_server,
    "openid-configuration": endpoints.authorization_server,
    "jwks.json": endpoints.jwks,
    "oauth-protected-resource{inserted:(?:/.*)?}": endpoints.protected_resource,
}


def create_app(settings: Settings, store: Store, fetcher: Fetcher | None = None) -> web.Application:
    """The authorization plane over a store; `fetcher` is another one than ours, for tests.

    Raises OperatorError for a branding file that cannot be used.
    """
    app = web.Application(middlewares=[answers.every_answer], client_max_size=_LARGEST_BODY)
    app[PLANE] = plane = build(settings, store, fetcher)
    pages.share(aiohttp_jinja2.setup(app, default_helpers=False, **templates.environment_options()), plane)
    app[answers.AUDIENCES] = {}
    for path, (shown, posted) in _PAGES.items():
        _add(app, path, GET=shown, POST=posted)
    for path, endpoint in _ENDPOINTS.items():
        _add(app, path, Audience.PROGRAMS, POST=endpoint)
    userinfo = openid_connect.userinfo
    _add(app, answers.USERINFO, Audience.PROGRAMS, GET=userinfo, POST=userinfo)
    if settings.config.registration.policy != "closed":
        _add(app, answers.REGISTER, Audience.PROGRAMS, POST=registration.register)
    _add(
        app,
        f"{answers.REGISTER}/{{client_id}}",
        Audience.PROGRAMS,
        GET=registration.read,
        PUT=registration.update,
        DELETE=registration.delete,
    )
    for path, document in _DOCUMENTS.items():
        _route(app, f"{answers.WELL_KNOWN}{path}", GET=document)
    _route(app, CHANGE_PASSWORD, GET=account.change_password)
    app.router.add_get(f"{plane.prefix}/{arrival.PATH}", arrival.arrival, allow_head=False)
    _add(app, "static/{name}", Audience.NEITHER, GET=_asset)
    _add(app, "logo/{name}", Audience.NEITHER, GET=_logo)
    app.on_cleanup.append(_close)
    return app


def _add(app: web.Application, path: str, audience: Audience = Audience.PEOPLE, **handlers: answers.Handler) -> None:
    """A resource below `oauth_prefix`. One that is not said to be for others is a page, and guarded as a page is."""
    if app[answers.AUDIENCES].setdefault(path.partition("/")[0], audience) is not audience:
        raise ValueError(f"{path}: what stands behind an address is for those whom the address is for")
    _route(app, f"{app[PLANE].prefix}/{path}", **handlers)


def _route(app: web.Application, path: str, **handlers: answers.Handler) -> None:
    """What a resource does by method. HEAD is answered as GET is, but for the body (RFC 9110, section 9.3.2)."""
    if "GET" in handlers:
        handlers["HEAD"] = handlers["GET"]
    handlers["OPTIONS"] = answers.options(sorted((*handlers, "OPTIONS")))
    for method, handler in handlers.items():
        app.router.add_route(method, path, handler)


def load(app: web.Application) -> None:
    """Do now what the first pages would do: load the templates, and load what seals a code.

    Nobody waits for it then, and what it leaves behind goes when the process gives back what its start took.
    """
    environment = aiohttp_jinja2.get_env(app)
    for name in environment.list_templates(extensions=["html"]):
        environment.get_template(name)
    app[PLANE].keyring.seal("nothing", "", b"")


def create_runner(app: web.Application) -> web.AppRunner:
    """A runner that writes no access log and none of aiohttp's error lines, which hold what the client sent.

    Bodies stay as they came: an encoded form is no form, so nothing inflates beyond the limit.
    """
    silent = logging.getLogger("gateway.web.aiohttp")
    silent.disabled = True
    return web.AppRunner(app, access_log=None, logger=silent, auto_decompress=False, handler_cancellation=False)


async def _asset(request: web.Request) -> web.Response:
    asset = plane_of(request).branding.assets.get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound
    return _file(asset.content, asset.content_type)


async def _logo(request: web.Request) -> web.Response:
    """A client's logo, from here and never from the client's own host, which would learn who looks at it."""
    name = request.match_info["name"]
    content_type = client_metadata.logo_type(name)
    content = None if content_type is None else await plane_of(request).store.clients.logo(name)
    if content is None or content_type is None:
        raise web.HTTPNotFound
    return _file(content, content_type)


def _file(content: bytes, content_type: str) -> web.Response:
    headers = {
        "Cache-Control": _FOR_GOOD,
        "Content-Security-Policy": _ASSET_POLICY,
        "Cross-Origin-Resource-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }
    return web.Response(body=content, content_type=content_type, headers=headers)


async def _close(app: web.Application) -> None:
    app[PLANE].passwords.close()
    app[PLANE].documents.close()
    app[PLANE].client_keys.close()
    app[PLANE].sectors.close()
    app[PLANE].refusals.tell()
