"""`gateway registration`: initial access tokens for clients that register themselves (RFC 7591, section 3)."""

from pathlib import Path
from typing import cast

import click

from gateway.cli.common import done, in_store, note, show, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.store import Store


@click.group(cls=Noun, epilog="Example: gateway registration create-token --uses 5")
def command() -> None:
    """Let clients register themselves."""


@command.command("create-token", epilog="Example: gateway registration create-token --ttl 7d --uses 5")
@click.option("--ttl", metavar="DURATION", default="1d", show_default=True, help="How long it can be used.")
@click.option(
    "--uses",
    type=click.IntRange(1, 10_000),
    default=1,
    show_default=True,
    help="How many clients can be registered with it.",
)
@with_config
@with_json
def create_token(ttl: str, uses: int, path: Path, as_json: bool) -> None:
    """Make an initial access token, and print it this once.

    A client that presents it at the registration endpoint (Authorization: Bearer …) may register itself.
    """
    seconds = cast("float", value("--ttl", ttl, Duration))

    async def act(store: Store, settings: Settings) -> tuple[str, str]:
        return await store.registrations.create_token(seconds, uses), settings.config.registration.policy

    token, policy = in_store(path, act)
    if policy == "closed":
        note('warning: registration.policy is "closed", so nobody can use it; set it to "token"')
    show({"initial_access_token": token, "expires_in": round(seconds), "uses": uses}, as_json=as_json)


@command.command("revoke-tokens", epilog="Example: gateway registration revoke-tokens")
@with_config
@with_json
def revoke_tokens(path: Path, as_json: bool) -> None:
    """End every initial access token at once; clients that were registered with one stay."""
    count = in_store(path, lambda store, _: store.registrations.revoke_tokens())
    done({"revoked": count}, f"{count} revoked", as_json=as_json)
