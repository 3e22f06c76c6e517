"""The admin listener: for probes and the operator, never on the public socket."""

import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from msgspec import Struct

from gateway.config import Admin
from gateway.faults import OperatorError
from gateway.http1 import Malformed, parse_host
from gateway.routing.forwarded import parse_address
from gateway.supervisor.recalling import Answers, Unanswered, calls_of, require_request_id

_PROBES: Final = ("/healthz", "/readyz")
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Health(Struct, frozen=True):
    """Whether this gateway can serve now, and why not."""

    workers: int
    workers_ready: int
    authorization_workers: int
    authorization_workers_ready: int
    database: bool
    draining: bool

    @property
    def ready(self) -> bool:
        return (
            self.database
            and not self.draining
            and self.workers_ready == self.workers > 0
            and self.authorization_workers_ready == self.authorization_workers > 0
        )

    def body(self) -> dict[str, object]:
        return {
            "ready": self.ready,
            "workers": self.workers,
            "workers_ready": self.workers_ready,
            "authorization_workers": self.authorization_workers,
            "authorization_workers_ready": self.authorization_workers_ready,
            "database": "answers" if self.database else "does not answer",
            "draining": self.draining,
        }


def create_app(
    admin: Callable[[], Admin],
    health: Callable[[], Awaitable[Health]],
    metrics: Callable[[str], tuple[bytes, str]],
    recall: Callable[[str], Awaitable[Answers]],
) -> web.Application:
    """The listener's paths; `admin` gives the settings as they are now.

    `/healthz` is 200 while the process lives; `/readyz` is 200 when it can serve, else 503, with the reason; `/metrics`
    is what `metrics` makes of an Accept field. `/explain/REQUEST-ID` is what `gateway explain --json` says, or with the
    reason 404, or 503 where a worker did not answer; it is 403 unless `admin.explain` is set.
    """

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True})

    async def readyz(_request: web.Request) -> web.Response:
        found = await health()
        status = 200 if found.ready else 503
        return web.json_response(found.body(), status=status)

    async def figures(request: web.Request) -> web.Response:
        body, content_type = metrics(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    async def explain(request: web.Request) -> web.Response:
        if not admin().explain:
            return _refused(403, "Set admin.explain to ask here, or run gateway explain on the gateway's machine.")
        request_id = request.match_info["request_id"]
        try:
            require_request_id(request_id)
            calls = calls_of(request_id, await recall(request_id))
        except OperatorError as exc:
            return _refused(503 if isinstance(exc, Unanswered) else 404, str(exc))
        return web.json_response({"request_id": request_id, "calls": calls})

    app = web.Application(middlewares=[_for_operators(admin)])
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", figures)
    app.router.add_get("/explain/{request_id}", explain)
    return app


def _for_operators(admin: Callable[[], Admin]) -> Middleware:
    """Keeps pages in an operator's browser out of all but the probes, whose answers are nothing to them.

    A page of another origin says so by fields that it cannot leave out. One whose own name was made to lead here (DNS
    rebinding) is of the same origin to the browser; it is told by that name, which is none of ours.
    """
    ours = {"localhost", socket.gethostname().lower()}

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path not in _PROBES:
            if not _is_ours(request.headers.get("Host", ""), ours.union(admin().hosts)):
                return _refused(421, "This name is not one of admin.hosts.")
            if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
                return _refused(403, "Pages in a browser are not answered here.")
        try:
            response = await handler(request)
        except web.HTTPException as exc:  # another path or method
            exc.headers.update(_HEADERS)
            raise
        response.headers.update(_HEADERS)
        return response

    return middleware


def _is_ours(authority: str, ours: set[str]) -> bool:
    """Whether a Host field names an address, or a name that nobody else can give to an address of ours."""
    try:
        host, _ = parse_host(authority.encode("utf-8", "surrogateescape"))
    except Malformed:
        return False
    name = host.decode("latin-1").lower()
    return parse_address(name.strip("[]")) is not None or name in ours or "." not in name


def _refused(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status, headers=_HEADERS)
