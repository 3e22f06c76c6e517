"""`gateway mac verify`: what the options say about a request, and what the configuration and the store know of it."""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final, cast

from msgspec.structs import replace

from gateway import config
from gateway.cli.common import in_store, value
from gateway.config import Settings
from gateway.config.tables import Mac
from gateway.config.values import Skew
from gateway.credentials import mac
from gateway.credentials.explaining import Explanation, Request, Rules, explain, token_in
from gateway.credentials.variations import Cause, Hints
from gateway.crypto import as_bytes
from gateway.faults import OperatorError
from gateway.model import MacAlgorithm, MacDraft
from gateway.routing import NoRoute, Route, RouteTable, TargetError, canonical
from gateway.store import Store
from gateway.store.access_tokens import SigningToken

_ESCAPES: Final = {"\\n": "\n", "\\r": "\r", "\\t": "\t", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[nrt\\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions:
    """What the options say, read but not checked; None is what they do not mention."""

    authorization: str
    key: bytes | None = field(repr=False)
    other_keys: tuple[bytes, ...] = field(repr=False)
    called: mac.Covered  # the URL as the client called it
    target: str | None
    public_url: mac.Covered | None
    hosts: tuple[str, ...]
    algorithm: MacAlgorithm | None
    body: bytes | None
    at: float | None
    skew: float | None
    client_string: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """The key and its rules, from the options or from the store."""

    key: bytes | None = field(repr=False)  # None where the credential cannot be read, and the token in it neither
    algorithm: MacAlgorithm
    drafts: tuple[MacDraft, ...] | None = None
    others: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    causes: tuple[Cause, ...] = ()


def verify(asked: VerifyOptions, path: Path, *, with_config: bool) -> Explanation:
    """The explanation of whether a request verifies, and why not.

    The store is asked only where no key is given; the configuration is read only then, or when it is named.
    """
    if asked.key is not None:
        settings = config.load(path) if with_config else None
        given = _Token(key=asked.key, algorithm=asked.algorithm or "hmac-sha-256")
        return _explained(asked, given, settings)
    presented = token_in(asked.authorization)

    async def act(store: Store, settings: Settings) -> Explanation:
        assert settings.keyring is not None  # noqa: S101  # the store is open
        if presented is None:
            return _explained(asked, _Token(key=None, algorithm="hmac-sha-256"), settings)
        if settings.keyring.is_invented(as_bytes(presented), "gwa_"):
            return _no_key("unknown_token", "The id is not a token of this gateway: it was cut, altered or made up.")
        found = await store.access_tokens.signing(presented)
        if found is None:
            return _no_key("unknown_token", "The token is unknown: it expired and was removed, or it never existed.")
        token = _from_store(found, asked)
        return token if isinstance(token, Explanation) else _explained(asked, token, settings)

    return in_store(path, act)


def _no_key(name: str, said: str) -> Explanation:
    return Explanation(causes=(Cause(name=name, said=said),))


def _from_store(found: SigningToken, asked: VerifyOptions) -> _Token | Explanation:
    if found.token_type != "mac":  # noqa: S105  # a kind, no token
        return _no_key("kind", "It is a bearer token, which has no key to sign with.")
    if found.key is None or found.algorithm is None:
        return _no_key("master_key", "The token's key was encrypted with a master key that is gone.")
    return _Token(
        key=found.key,
        algorithm=found.algorithm,
        drafts=found.drafts,
        others={f"the key of another token of this client, issued {_moment(at)}": key for at, key in found.others},
        causes=tuple(_dead(found, time.time() if asked.at is None else asked.at)),
    )


def _dead(found: SigningToken, at: float) -> list[Cause]:
    if found.revoked_at is not None:
        return [Cause(name="revoked_token", said=f"The token was revoked at {_moment(found.revoked_at)}.")]
    if not found.living:
        said = f"The client {found.client_id}, its user or the user's consent was disabled, revoked or deleted."
        return [Cause(name="revoked_token", said=said)]
    if found.expires_at.timestamp() <= at:
        return [Cause(name="expired_token", said=f"The token expired at {_moment(found.expires_at)}.")]
    return []


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _explained(asked: VerifyOptions, token: _Token, settings: Settings | None) -> Explanation:
    called, table = asked.called, Mac() if settings is None else settings.config.mac
    target = called.target if asked.target is None else asked.target.encode("utf-8", "surrogateescape")
    route = None if settings is None else _route(settings, called, target)
    host, port = _address(asked, settings, route)
    covered = mac.Covered(method=called.method, target=target, host=host, port=port)
    every = settings is None  # nothing is known of what may be used
    rules = Rules(
        drafts=_accepted(token.drafts, ("00", "01") if every else table.drafts),
        algorithms=("hmac-sha-256", "hmac-sha-1") if every else table.algorithms,
        skew=asked.skew or table.skew,
        wants_body_hash=isinstance(route, Route) and route.mac_body_hash,
    )
    keys = {f"the other key that was given ({number})": key for number, key in enumerate(asked.other_keys, 1)}
    hints = Hints(
        addresses=tuple(_addresses(asked, settings)),
        targets=(called.target.decode("latin-1"),),
        keys={**keys, **token.others},
    )
    at = time.time() if asked.at is None else asked.at
    explained = explain(
        Request(authorization=asked.authorization, covered=covered, at=at, body=asked.body),
        key=token.key,
        algorithm=token.algorithm,
        rules=rules,
        hints=hints,
        client_string=asked.client_string,
    )
    remarks = (*explained.remarks, *_remarks(asked, explained, settings, route))
    return replace(explained, causes=(*token.causes, *explained.causes), remarks=remarks)


def _accepted(of_client: tuple[MacDraft, ...] | None, configured: tuple[MacDraft, ...]) -> tuple[MacDraft, ...]:
    return configured if of_client is None else tuple(draft for draft in of_client if draft in configured)


def _route(settings: Settings, called: mac.Covered, target: bytes) -> Route | NoRoute | None:
    """The route that takes the request; None where the path can be no route's."""
    try:
        path = canonical(target).path
        table = RouteTable(config.compile_routes(settings.config))
        return table.match(called.host.encode("latin-1"), called.method.encode("utf-8"), path)
    except TargetError:
        return None


def _address(asked: VerifyOptions, settings: Settings | None, route: Route | NoRoute | None) -> tuple[str, int]:
    """The host and port that the gateway covers: those of public_url, or a route's own host."""
    if asked.public_url is not None:
        return asked.public_url.host, asked.public_url.port
    if settings is None:
        return asked.called.host, asked.called.port
    server = settings.config.server
    own = isinstance(route, Route) and route.host is not None
    return asked.called.host if own else server.host, server.port


def _addresses(asked: VerifyOptions, settings: Settings | None) -> list[tuple[str, str]]:
    """The addresses that a client may have called: the URL as given, other names, and what the configuration knows."""
    port = str(asked.called.port)
    known = [(asked.called.host, port)]
    for name in asked.hosts:
        host, _, number = name.rpartition(":")
        known.append((host, number) if host and number.isdecimal() else (name, port))
    if settings is not None:
        server = settings.config.server
        known.append((server.host, str(server.port)))
        if not isinstance(server.address, str):
            host, _, number = server.listen.rpartition(":")
            known.append((host, number))
        known += [(host, str(server.port)) for route in settings.config.routes for host in route.hosts]
    return known


def _remarks(
    asked: VerifyOptions, explained: Explanation, settings: Settings | None, route: Route | NoRoute | None
) -> list[str]:
    remarks = []
    if settings is not None and not isinstance(route, Route):
        remarks.append("No route of the configuration takes this method and path.")
    elif isinstance(route, Route) and "mac" not in route.schemes:
        remarks.append(f"The route {route.name} does not accept MAC tokens.")
    if asked.at is None and any(cause.name == "clock" for cause in explained.causes):
        remarks.append("The time was compared with now; use --at to say when the request came.")
    if any(cause.name == "another_key_or_string" for cause in explained.causes):
        remarks.append("Give what the client signed with --client-string, and other names of the gateway with --host.")
    if explained.verified:
        remarks.append("A nonce works only once; whether this one was used before is not checked here.")
    return remarks


# -- reading options -----------------------------------------------------------------------------------------


def authorization_of(text: str) -> str:
    """The field's value, also from a whole header line."""
    name, colon, rest = text.strip().partition(":")
    return rest.strip() if colon and name.strip().lower() == "authorization" else text.strip()


def moment_of(text: str) -> float:
    """Seconds since 1970 from a number, a Date field or a log line's time. Raises OperatorError."""
    readers: tuple[Callable[[str], float], ...] = (
        float,
        lambda given: parsedate_to_datetime(given).timestamp(),
        lambda given: datetime.fromisoformat(given).timestamp(),
    )
    for reader in readers:
        try:
            read = reader(text)
        except (ValueError, TypeError, OverflowError):
            continue
        if 0 <= read < 10**12:
            return read
    raise OperatorError(f"--at: must be seconds since 1970, or a time as in a Date field or a log line, not {text!r}")


def skew_of(text: str) -> float:
    """Seconds. Raises OperatorError."""
    return cast("float", value("--skew", text, Skew))


def string_of(text: str) -> bytes:
    """A string that was signed; its line ends may be written as in JSON, and the last one may have got lost."""
    if "\n" not in text:
        text = _ESCAPE.sub(lambda found: _ESCAPES[found[0]], text)
    return text.encode("utf-8", "surrogateescape")


def refusal_of(explained: Explanation) -> OperatorError:
    """One line for a command that was not asked to explain."""
    return OperatorError(f"mac verify: {explained.causes[0].said} Add --explain to see more")
