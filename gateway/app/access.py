"""The access plane as a process: the proxy with its guard on the public socket."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from gateway.app.process import Service, give_up_root, later_for, store_of
from gateway.config import Config, compile_routes
from gateway.config.tls import Certified, upstream_context
from gateway.guard import Guard
from gateway.log_sink import Lines, target_of
from gateway.proxy import Handover, Proxy
from gateway.proxy.access_log import AccessLog
from gateway.proxy.arriving import Arrivals
from gateway.proxy.asserting import Assertions
from gateway.proxy.certificates import Certificates
from gateway.supervisor.channel import Drain, Start
from gateway.supervisor.connections import ACCESS_POOL
from gateway.supervisor.listening import BACKLOG
from gateway.web.refusal import refusal_page

if TYPE_CHECKING:
    from gateway.proxy.tracing import Traces


@asynccontextmanager
async def serving(start: Start, listener: socket.socket) -> AsyncIterator[Service]:
    """Serve the routes, and lead our own paths to the authorization plane."""
    config = start.settings.config
    async with AsyncExitStack() as stack:
        store = store_of(start, ACCESS_POOL)
        stack.push_async_callback(store.close)
        guard = Guard(store, start.settings, place=start.place)
        page = refusal_page(start.settings)
        traces = _traces(config)
        routes = compile_routes(config)
        for origin in {origin for route in routes for origin in route.upstreams if origin.tls}:
            upstream_context(origin.secured)  # which may read a key that is root's
        give_up_root(start, later_for(config))
        await guard.start()
        stack.push_async_callback(guard.close)
        handover = None if start.handover is None else Handover.inherited(*start.handover)
        if handover is not None:
            stack.callback(handover.close)
        lines = None if config.log.access == "off" else Lines(target_of(config.log.access_file, start.settings.base))
        if lines is not None:
            stack.callback(lines.close)
        assertions = None
        if any(route.identity_jwt for route in config.routes):
            assertions = Assertions(config.server.issuer, store.seconds)
            keeping = asyncio.create_task(assertions.keep(store.signing_keys), name="assertions")
            stack.callback(keeping.cancel)
        proxy = Proxy(
            routes=routes,
            config=config,
            guard=guard,
            authorization_socket=start.authorization_socket,
            refusal_page=page,
            out=start.out,
            assertions=assertions,
            begin_trace=None if traces is None else traces.begin,
        )
        if traces is not None:
            stack.callback(traces.close)
            proxy.listen(traces.hear)
        if config.log.access != "off" and lines is not None:
            log = AccessLog(lines.add, config.log.access, config.log.sample, soon=lines.soon)
            proxy.listen(log.hear)
        stack.push_async_callback(proxy.end)
        shown = Certificates(start.settings.certificates) if start.settings.certificates else None
        server = await _server(proxy, listener, shown, introduced=config.server.proxy_protocol)

        async def accept() -> None:
            await server.start_serving()
            if handover is not None:
                handover.begin_taking(proxy.take, proxy.upstreams.adopt)

        async def drain(how: Drain) -> None:
            if how.successors and handover is not None:
                handover.end_taking()
                await proxy.drain(how.seconds, handover)
            else:  # what others left is still taken: nobody else may be there
                await proxy.drain(how.seconds)

        def report() -> None:
            proxy.report()
            store.report()

        reopen = lines.reopen if lines is not None else _nothing
        yield Service(accept, server.close, drain, report, reopen, proxy.recall, proxy.mirror, _certifying(shown))


async def _server(
    proxy: Proxy, listener: socket.socket, shown: Certificates | None, *, introduced: bool
) -> asyncio.Server | Arrivals:
    """What takes connections from the listener, by TLS where there are certificates; `introduced` by the PROXY protocol
    where they come from a trusted proxy."""
    if introduced or shown is not None:
        return Arrivals(proxy, listener, shown, introduced=introduced)
    loop = asyncio.get_running_loop()
    return await loop.create_server(proxy.front, sock=listener, backlog=BACKLOG, start_serving=False)


def _certifying(shown: Certificates | None) -> Callable[[tuple[Certified, ...]], None]:
    return _nothing_shown if shown is None else shown.renew


def _nothing_shown(_certificates: tuple[Certified, ...]) -> None:
    """The listener speaks plain HTTP."""


def _traces(config: Config) -> "Traces | None":
    """Where traces are wanted, what makes them; the packages of the extra are loaded for nobody else."""
    if config.traces.endpoint is None:
        return None
    from gateway.proxy.otlp import traces_to

    return traces_to(config.traces.endpoint, config.traces.sample)


def _nothing() -> None:
    """There is no access log to open again."""
