"""Contradictions between the other issuers, the routes that name them, and all else."""

from collections.abc import Iterator, Sequence
from typing import Any

from gateway.config.faults import Draft, Fault, shown
from gateway.config.tables import Config
from gateway.model import OFFLINE_ACCESS


def conflicts(draft: Draft) -> Iterator[Fault]:
    """Every fault that lies between keys, as far as they can be read."""
    for key in ("name", "url"):
        yield from _twice(key, [issuer.get(key) for issuer in draft.issuers])
    own = draft.get("server", "public_url")
    for index, issuer in enumerate(draft.issuers):
        if own is not None and issuer.get("url") == own:
            yield Fault(
                f"issuers[{index}].url",
                f"{shown(own)} is this gateway, whose tokens open its routes anyway; leave it out",
            )
        if draft.scopes:
            known = draft.scopes - {OFFLINE_ACCESS}
            named = dict.fromkeys(name for ours in issuer.get("scopes", {}).values() for name in ours)
            for name in sorted(named.keys() - known):
                yield Fault(
                    f"issuers[{index}].scopes", f"{shown(name)} is not a known scope; describe it under [scopes]"
                )
    names = {issuer.get("name") for issuer in draft.issuers}
    broken = None in names
    for index, route in enumerate(draft.routes):
        at, auth = f"routes[{index}].issuers", route.get("auth")
        for name in route.get("issuers", ()):
            if name not in names and not broken:
                yield Fault(at, f"{shown(name)} is the name of none of the [[issuers]]; add it there, or leave it out")
        if route.get("issuers") and auth is not None and "bearer" not in auth:
            yield Fault(at, 'is for bearer tokens; add "bearer" to auth, or leave it out')


def warnings(config: Config) -> Iterator[str]:
    """Settings that work but should be known."""
    named = {name for route in config.routes for name in route.issuers}
    for index, issuer in enumerate(config.issuers):
        if issuer.name not in named:
            yield f"issuers[{index}]: no route names {shown(issuer.name)} in its issuers, so its tokens open nothing"


def _twice(key: str, values: Sequence[Any]) -> Iterator[Fault]:
    first: dict[Any, int] = {}
    for index, value in enumerate(values):
        if value is not None and first.setdefault(value, index) != index:
            yield Fault(
                f"issuers[{index}].{key}", f"{shown(value)} is that of issuers[{first[value]}] too; choose another"
            )
