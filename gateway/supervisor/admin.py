"""The admin listener: for probes and the operator, never on the public socket."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web


@dataclass(frozen=True, slots=True)
class Health:
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


def create_app(health: Callable[[], Awaitable[Health]]) -> web.Application:
    """`/healthz` is 200 while the process lives; `/readyz` is 200 when it can serve, else 503, with the reason."""

    async def healthz(_request: web.Request) -> web.Response:
        return web.json_response({"alive": True}, headers={"Cache-Control": "no-store"})

    async def readyz(_request: web.Request) -> web.Response:
        found = await health()
        status = 200 if found.ready else 503
        return web.json_response(found.body(), status=status, headers={"Cache-Control": "no-store"})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    return app
