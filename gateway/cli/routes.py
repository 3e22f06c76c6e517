"""`gateway routes`."""

import asyncio
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlsplit

import click

from gateway import config
from gateway.cli.common import in_store, printable, show, standard_input, with_config, with_json
from gateway.cli.explain import lines
from gateway.cli.usage import Noun
from gateway.config import Settings, compile_routes
from gateway.crypto import Keyring
from gateway.errors import Refused
from gateway.faults import OperatorError
from gateway.guard import Allowed, BodyAwaited, Guard, Verdict, settled
from gateway.http1 import Malformed, RequestHead, RequestReader
from gateway.observe import scrub
from gateway.proxy.answers import malformed, too_large, wrong_handshake
from gateway.proxy.decisions import Asked
from gateway.proxy.dispatch import Destination, Dispatcher, Peer
from gateway.proxy.edge import OwnAnswer
from gateway.proxy.explaining import Case, limits_that_apply, routes_looked_at, steps
from gateway.routing.forwarded import parse_address
from gateway.schemes import BESIDE_AUTHORIZATION, IN_BROWSERS
from gateway.store import Store

_NOWHERE: Final = "postgresql://nowhere"  # never asked: the call names no token


@click.group(cls=Noun, epilog="Example: gateway routes test GET https://api.example.com/api/notes")
def command() -> None:
    """Tell what would become of a call that was never made."""


@command.command(epilog="Example: gateway routes test POST /api/notes --header 'Content-Length: 12' --token -")
@click.argument("method")
@click.argument("url")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A field of the call; repeatable.")
@click.option(
    "--token", metavar="T", help="A bearer token that the call would carry; `-` reads it from standard input."
)
@click.option("--address", default="127.0.0.1", metavar="IP", help="Where the call would come from [127.0.0.1].")
@with_config
@with_json
@click.pass_context
def test(
    ctx: click.Context,
    method: str,
    url: str,
    headers: tuple[str, ...],
    token: str | None,
    address: str,
    path: Path,
    as_json: bool,
) -> None:
    """Tell what would become of a call, step by step, and what to do where it would be refused; exit 1 then.

    URL may be a path of server.public_url. The file alone decides, unless the call carries a token or a signature:
    then the database does too. No upstream is asked, no nonce is spent, and nothing is counted by the limits that
    would apply.
    """
    settings = config.load(path)
    if token is not None:
        given = standard_input("token").strip() if token == "-" else token  # noqa: S105  # the sign for stdin
        headers = (*headers, f"Authorization: Bearer {given}")
    head = _head(method, url, headers, settings)
    dispatcher = Dispatcher(settings.config, compile_routes(settings.config), "authorization")
    if parse_address(address) is None:
        raise OperatorError(f"--address {address!r}: is not an IP address; write one such as 192.0.2.1")
    case = _judged(head, dispatcher.peer(address), dispatcher, settings, path)
    refused = case.refused
    found: dict[str, Any] = {
        "outcome": _outcome(refused),
        "status": None if refused is None else refused.status,
        "cause": None if refused is None else refused.why,
        "mend": None if refused is None else refused.mend,
        "told": None if refused is None else refused.description,
        "route": None if case.route is None else case.route.name,
        "auth": [] if case.route is None else list(case.route.schemes) or ["none"],
        "scopes": [] if case.route is None else sorted(case.route.scopes_for(method)),
        "limits": [] if case.route is None else [one._asdict() for one in limits_that_apply(case.route, case)],
        "routes": routes_looked_at(case.asked, dispatcher),
        "steps": [step._asdict() for step in steps(case, dispatcher)],
    }
    if as_json:
        show(found, as_json=True)
    else:
        for line in lines(found):
            click.echo(printable(line))
    ctx.exit(0 if refused is None else 1)


def _outcome(refused: Refused | None) -> str:
    if refused is None:
        return "would pass"
    return "would be sent to sign in" if refused.location else "would be refused"


def _judged(head: RequestHead | Malformed, peer: Peer, dispatcher: Dispatcher, settings: Settings, path: Path) -> Case:
    """What would become of a call."""
    if isinstance(head, Malformed):
        return Case(None, None, None, malformed(head), None)
    asked, to = Asked.of(head), dispatcher.destination(head)
    if isinstance(to, Refused):
        return Case(asked, None, None, to, None)
    client, edge = dispatcher.client(head, peer), to.terms.edge
    own = None if edge is None else edge.own_answer(head, client)
    if isinstance(own, OwnAnswer):
        return Case(asked, to.route, None, None, None, to.target, client)
    verdict = own or _verdict(head, to, dispatcher, settings, path)
    if isinstance(verdict, Refused):
        return Case(asked, to.route, None, verdict, None, client=client)
    limit, refused = to.terms.max_body, wrong_handshake(head)
    if refused is None and head.length is not None and head.length > limit:
        refused = too_large(limit)
    return Case(asked, to.route, verdict, refused, None, to.target, client)


def _verdict(head: RequestHead, to: Destination, dispatcher: Dispatcher, settings: Settings, path: Path) -> Verdict:
    """What the guard would say of it; the database is asked only for a credential."""
    call = dispatcher.call(head, to)

    async def judge(store: Store, keyed: Settings) -> Allowed | Refused:
        guard = Guard(store, keyed, spends=False)
        try:
            judged = await settled(guard.check(call))
            return await judged.spend() if isinstance(judged, BodyAwaited) else judged
        finally:
            await guard.close()

    async def alone() -> Allowed | Refused:
        keyring = settings.keyring or Keyring(bytes(32))
        keyed = Settings(settings.config, settings.path, settings.database_url, keyring, settings.warnings)
        store = Store.over(_NOWHERE, keyring)
        try:
            return await judge(store, keyed)
        finally:
            await store.close()

    by_cookie = not IN_BROWSERS.isdisjoint(to.route.schemes) and b"cookie" in head.fields
    if to.route.schemes and (call.authorization or by_cookie or not BESIDE_AUTHORIZATION.isdisjoint(call.names)):
        return in_store(path, judge)
    return asyncio.run(alone())


# -- the call --------------------------------------------------------------------------------------------------------


def _head(method: str, url: str, headers: tuple[str, ...], settings: Settings) -> RequestHead | Malformed:
    """The head of the call, read as if it had come; or what is wrong with it. Raises OperatorError."""
    authority, target = _split(url, settings)
    names = [_named(header).lower() for header in headers]
    given = headers if "host" in names else (f"Host: {authority}", *headers)
    for option, text in (("METHOD", method), ("URL", url), *(("--header", header) for header in headers)):
        if any(mark in text for mark in "\r\n\0"):  # what stands there may be a secret, and is not repeated
            raise OperatorError(f"{option}: has a line end in it, or a zero; give each header an option of its own")
    text = "\r\n".join((f"{method} {target} HTTP/1.1", *given, "", ""))
    reader = RequestReader()
    reader.receive(text.encode("utf-8", "surrogateescape"))
    try:
        return cast("RequestHead", reader.next_event())  # all of it is there
    except Malformed as fault:
        return fault


def _split(url: str, settings: Settings) -> tuple[str, str]:
    """The authority and the target of a URL; those of public_url where it is a path. Raises OperatorError."""
    url = url.partition("#")[0]  # which no client sends
    if url.startswith("/"):
        return settings.config.server.origin.partition("://")[2], url
    scheme, mark, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not mark:
        raise OperatorError(
            f"URL {scrub(url)!r}: is neither a path, such as /api/notes, nor begins with https:// or http://"
        )
    try:
        authority = urlsplit(f"{scheme}://{rest}").netloc
    except ValueError as exc:
        raise OperatorError(f"URL {scrub(url)!r}: {exc}") from exc
    if not authority or "@" in authority:
        raise OperatorError(f"URL {scrub(url)!r}: needs a host and no credentials; clients send those in Authorization")
    behind = rest[len(authority) :]
    return authority, behind if behind.startswith("/") else f"/{behind}"


def _named(header: str) -> str:
    name, colon, _ = header.partition(":")
    if not colon:
        raise OperatorError("--header: has no colon; write it as 'Name: value'")
    return name
