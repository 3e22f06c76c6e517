"""`gateway client`: register and manage OAuth clients (RFC 6749, section 2)."""

import json
from collections.abc import Awaitable, Collection
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import click

from gateway.cli import client_about, client_checks, client_options
from gateway.cli.client_options import ClientOptions
from gateway.cli.common import done, in_store, note, show, show_all, value, with_config, with_json
from gateway.cli.usage import Noun
from gateway.config import Settings
from gateway.config.values import Duration
from gateway.faults import OperatorError
from gateway.model import LEGACY_GRANT_TYPES, Client, GrantType
from gateway.store import Store

_CREATE_EXAMPLE = (
    "Example: gateway client create --name 'Notes app' --redirect-uri https://app.example.com/callback "
    "--scope notes:read"
)
_COLUMNS = ("client_id", "name", "type", "token_type", "legacy_grants", "scopes", "disabled_at")


@click.group(cls=Noun, epilog="Example: gateway client list")
def command() -> None:
    """Register and manage OAuth clients."""


@command.command(epilog=_CREATE_EXAMPLE)
@click.option("--name", required=True, help="Its name on the consent page.")
@client_options.shared
@click.option("--public", is_flag=True, help="For apps that cannot keep a secret: mobile, desktop or browser.")
@click.option("--no-pkce", is_flag=True, help="Do not require PKCE (confidential clients only).")
@click.option(
    "--require-par", is_flag=True, help="Accept its authorization requests only if it pushed them (RFC 9126)."
)
@click.option("--require-dpop", is_flag=True, help="Give it tokens only that are bound to a key of its own (RFC 9449).")
@click.option("--first-party", is_flag=True, help="Do not ask people for consent (confidential clients only).")
@with_config
@with_json
def create(
    *,
    path: Path,
    as_json: bool,
    no_pkce: bool,
    require_par: bool,
    require_dpop: bool,
    public: bool,
    first_party: bool,
    **given: Any,
) -> None:
    """Register a client, and print its client_id and, this once, its client_secret.

    \b
    Without --grant-type: authorization_code and refresh_token, where there is a redirect URI.
    Without --scope: every scope that is defined now.
    """
    asked = ClientOptions(
        public=public, pkce=not no_pkce, par=require_par, dpop=require_dpop, first_party=first_party, **given
    )

    async def act(store: Store, settings: Settings) -> tuple[Client, str | None]:
        return await store.clients.create(await client_checks.new_client(asked, store, settings))

    made, secret = in_store(path, act)
    _warn_of_legacy(made)
    if not made.grant_types:
        note("warning: without --redirect-uri or --grant-type, it can only use tokens from `gateway token issue`")
    shown = record(made)
    if secret is not None:
        shown = {"client_id": made.client_id, "client_secret": secret} | shown
    show(shown, as_json=as_json)


@command.command("list", epilog="Example: gateway client list")
@with_config
@with_json
def list_(path: Path, as_json: bool) -> None:
    """List all clients."""
    show_all([record(one) for one in in_store(path, lambda store, _: store.clients.all())], _COLUMNS, as_json=as_json)


@command.command("show", epilog="Example: gateway client show c4jzq2mkd7xw5a3b")
@click.argument("client_id")
@with_config
@with_json
def show_(client_id: str, path: Path, as_json: bool) -> None:
    """Show everything about a client except its secret, which is not stored.

    After `rotate-secret --overlap` also until when the one before still counts.
    """

    async def act(store: Store, _: Settings) -> tuple[Client | None, list[tuple[datetime, datetime | None]]]:
        return await store.clients.find(client_id), await store.clients.secrets(client_id)

    found, secrets = in_store(path, act)
    overlapping = [until for _, until in secrets if until is not None]
    more = {"old_secret_expires_at": max(overlapping)} if overlapping else {}
    show(record(_known(client_id, found)) | more, as_json=as_json)


@command.command(epilog="Example: gateway client update c4jzq2mkd7xw5a3b --redirect-uri https://app.example.com/new")
@click.argument("client_id")
@click.option("--name", help="Its name on the consent page.")
@client_options.shared
@click.option("--public/--confidential", default=None, help="Whether the client can keep a secret.")
@click.option("--pkce/--no-pkce", default=None, help="Whether PKCE is required.")
@click.option("--require-par/--no-require-par", "par", default=None, help="Whether it must push its requests.")
@click.option(
    "--require-dpop/--no-require-dpop", "dpop", default=None, help="Whether its tokens must be bound to a key."
)
@click.option("--first-party/--third-party", default=None, help="Whether people are asked for consent.")
@with_config
@with_json
def update(*, client_id: str, path: Path, as_json: bool, **given: Any) -> None:
    """Change a client; what no option mentions stays. A repeatable option replaces the whole list, and an empty
    --description, --owner, --homepage, --privacy, --terms, --logo or --jwks removes what was there.

    One that is to have a client_secret and had none gets it, which is printed this once. Tokens that it has keep their
    kind and the MAC algorithm that they came with; --mac-draft holds for them too, at once.
    """
    asked = ClientOptions(**given)
    if asked.is_empty:
        raise click.UsageError("nothing to change: give an option, such as --name NAME")

    async def act(store: Store, settings: Settings) -> tuple[Client | None, str | None]:
        before = _known(client_id, await store.clients.find(client_id))
        after = await store.clients.update(client_id, await client_checks.changed(asked, before, store, settings))
        first_secret = after is not None and after.has_secret and not before.has_secret
        return after, await store.clients.rotate_secret(client_id) if first_secret else None

    changed, secret = in_store(path, act)
    after = _known(client_id, changed)
    if asked.grant_type:
        _warn_of_legacy(after)
    shown = record(after)
    if asked.mac_algorithm is not None or asked.token_type is not None or asked.token_format is not None:
        note(f"its existing tokens stay as they were issued; `gateway token revoke --client {client_id}` ends them")
    show(shown if secret is None else {"client_id": client_id, "client_secret": secret} | shown, as_json=as_json)


@command.command("rotate-secret", epilog="Example: gateway client rotate-secret c4jzq2mkd7xw5a3b --overlap 1h")
@click.argument("client_id")
@click.option("--overlap", metavar="DURATION", help='How long the old secret still works, such as "1h".  [default: 0]')
@with_config
@with_json
def rotate_secret(client_id: str, overlap: str | None, path: Path, as_json: bool) -> None:
    """Give a confidential client a new secret, and print it this once; the old one ends at once."""
    seconds = 0.0 if overlap is None else cast("float", value("--overlap", overlap, Duration))

    async def act(store: Store, _: Settings) -> str | None:
        found = _known(client_id, await store.clients.find(client_id))
        if not found.confidential:
            raise OperatorError(f"client {client_id!r}: is public and has no secret; it authenticates by PKCE alone")
        if found.jwks is not None:
            raise OperatorError(
                f"client {client_id!r}: authenticates by its keys and has no secret; "
                f"`gateway client update {client_id} --jwks FILE` replaces them"
            )
        return await store.clients.rotate_secret(client_id, seconds)

    secret = in_store(path, act)
    if secret is None:
        raise _unknown(client_id)
    show({"client_id": client_id, "client_secret": secret}, as_json=as_json)


@command.command(epilog="Example: gateway client disable c4jzq2mkd7xw5a3b")
@click.argument("client_id")
@with_config
@with_json
def disable(client_id: str, path: Path, as_json: bool) -> None:
    """Disable a client; its tokens end for good."""
    _switch(client_id, path, as_json=as_json, disabled=True)


@command.command(epilog="Example: gateway client enable c4jzq2mkd7xw5a3b")
@click.argument("client_id")
@with_config
@with_json
def enable(client_id: str, path: Path, as_json: bool) -> None:
    """Enable a disabled client again; it needs new tokens."""
    _switch(client_id, path, as_json=as_json, disabled=False)


@command.command(epilog="Example: gateway client delete c4jzq2mkd7xw5a3b")
@click.argument("client_id")
@with_config
@with_json
def delete(client_id: str, path: Path, as_json: bool) -> None:
    """Delete a client and everything that was issued to it."""
    if not in_store(path, lambda store, _: store.clients.delete(client_id)):
        raise _unknown(client_id)
    done({"client_id": client_id, "deleted": True}, f"client {client_id} deleted", as_json=as_json)


def _switch(client_id: str, path: Path, *, as_json: bool, disabled: bool) -> None:
    def switch(store: Store, _: Settings) -> Awaitable[bool]:
        return store.clients.disable(client_id) if disabled else store.clients.enable(client_id)

    if not in_store(path, switch):
        raise _unknown(client_id)
    state = "disabled" if disabled else "enabled"
    done({"client_id": client_id, "disabled": disabled}, f"client {client_id} {state}", as_json=as_json)


def record(client: Client) -> dict[str, object]:
    """A client as the commands print it."""
    return {
        "client_id": client.client_id,
        "name": client.name,
        "type": "confidential" if client.confidential else "public",
        "redirect_uris": list(client.redirect_uris),
        "grant_types": sorted(client.grant_types),
        "legacy_grants": _legacy(client.grant_types),
        "scopes": sorted(client.scopes),
        "token_type": client.token_type,
        "token_format": client.token_format,
        "mac_drafts": list(client.mac_drafts),
        "mac_algorithm": client.mac_algorithm,
        "pkce_required": client.pkce_required,
        "par_required": client.par_required,
        "dpop_required": client.dpop_required,
        "jwks": None if client.jwks is None or client.jwks_uri else json.loads(client.jwks),
        "jwks_uri": client.jwks_uri,
        "id_token_alg": client.openid.id_token_alg,
        "userinfo_alg": client.openid.userinfo_alg,
        "allow_groups": sorted(client.allow_groups),
        "post_logout_redirect_uris": list(client.openid.post_logout_redirect_uris),
        "backchannel_logout_uri": client.openid.backchannel_logout_uri,
        "frontchannel_logout_uri": client.openid.frontchannel_logout_uri,
        "subject_type": "public" if client.openid.sector is None else "pairwise",
        "sector": client.openid.sector,
        "first_party": client.first_party,
        "verified": client.verified,
        "decided": sorted(client.decided),
        **client_about.record(client.about),
        "created_at": client.created_at,
        "disabled_at": client.disabled_at,
    }


def _legacy(grant_types: Collection[GrantType]) -> list[GrantType]:
    """Those that OAuth 2.1 has given up."""
    return [name for name in LEGACY_GRANT_TYPES if name in grant_types]


def _warn_of_legacy(client: Client) -> None:
    if legacy := _legacy(client.grant_types):
        note(
            f"warning: {' and '.join(legacy)} shows tokens or passwords to what need not see them; OAuth 2.1 has it no "
            "more, and `gateway client list` marks who may still use it"
        )


def _unknown(client_id: str) -> OperatorError:
    return OperatorError(f"no client {client_id!r}; `gateway client list` shows all")


def _known(client_id: str, found: Client | None) -> Client:
    if found is None:
        raise _unknown(client_id)
    return found
