"""`gateway client`: register and manage OAuth clients (RFC 6749, section 2)."""

import json
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import click

from gateway.cli import client_about
from gateway.cli.mac import ALGORITHM, DRAFT
from gateway.cli.session import (
    done,
    in_store,
    note,
    require_scopes,
    show,
    show_all,
    value,
    with_config,
    with_json,
)
from gateway.cli.usage import Noun
from gateway.config import Mac, Settings
from gateway.config.values import Duration, Name
from gateway.errors import OperatorError
from gateway.model import (
    DEVICE_CODE,
    GRANT_TYPES,
    LEGACY_GRANT_TYPES,
    OFFLINE_ACCESS,
    SIGNING_ALGORITHMS,
    Client,
    GrantType,
    MacAlgorithm,
    MacDraft,
    OpenID,
    SigningAlgorithm,
    TokenFormat,
    TokenType,
)
from gateway.oauth import client_metadata, jwk, redirect_uris
from gateway.store import Store
from gateway.store.records import NewClient

_CREATE_EXAMPLE = (
    "Example: gateway client create --name 'Notes app' --redirect-uri https://app.example.com/callback "
    "--scope notes:read"
)
_COLUMNS = ("client_id", "name", "type", "token_type", "legacy_grants", "scopes", "disabled_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the options say about a client; None or empty is what they do not mention."""

    name: str | None
    redirect_uri: tuple[str, ...]
    grant_type: tuple[GrantType, ...]
    scope: tuple[str, ...]
    token_type: TokenType | None
    token_format: TokenFormat | None
    mac_draft: tuple[MacDraft, ...]
    mac_algorithm: MacAlgorithm | None
    public: bool | None
    pkce: bool | None
    par: bool | None
    dpop: bool | None
    jwks: str | None
    jwks_uri: str | None
    id_token_alg: SigningAlgorithm | None
    userinfo_alg: Literal["none"] | SigningAlgorithm | None
    subject_type: Literal["public", "pairwise"] | None
    sector: str | None
    allow_group: tuple[str, ...]
    post_logout_redirect_uri: tuple[str, ...]
    backchannel_logout_uri: str | None
    frontchannel_logout_uri: str | None
    first_party: bool | None
    description: str | None
    owner: str | None
    homepage: str | None
    privacy: str | None
    terms: str | None
    logo: str | None

    @property
    def is_empty(self) -> bool:
        given: Sequence[object] = [getattr(self, name) for name in self.__slots__]
        return all(item is None or item == () for item in given)


_DECIDED: Final = {  # what a client that describes itself says otherwise no more, by the option that decides it
    "scope": "scopes",
    "grant_type": "grant_types",
    "token_type": "token_type",
    "token_format": "token_format",
    "mac_draft": "mac_drafts",
    "mac_algorithm": "mac_algorithm",
    "public": "confidential",
    "dpop": "dpop_required",
    "jwks": "jwks",
    "jwks_uri": "jwks",
    "subject_type": "sector",
}
_SHORT: Final = {DEVICE_CODE: "device_code"}  # what RFC 8628 calls it is long to type


def _in_full(_context: click.Context, _option: click.Parameter, given: Sequence[str]) -> tuple[str, ...]:
    """The grant types by the names that requests have for them."""
    full = {short: name for name, short in _SHORT.items()}
    return tuple(full.get(name, name) for name in given)


def _properties(function: Callable[..., None]) -> Callable[..., None]:
    """The options that `create` and `update` share."""
    options = [
        click.option(
            "--redirect-uri", multiple=True, metavar="URI", help="An address that people may return to; repeatable."
        ),
        click.option(
            "--grant-type",
            multiple=True,
            type=click.Choice([*(_SHORT.get(name, name) for name in (*GRANT_TYPES, *LEGACY_GRANT_TYPES)), *_SHORT]),
            callback=_in_full,
            help="A grant type that it may use; repeatable.",
        ),
        click.option("--scope", multiple=True, metavar="SCOPE", help="A scope that it may ask for; repeatable."),
        click.option(
            "--jwks", metavar="FILE", help="Its public keys (a JWK Set), which it authenticates by instead of a secret."
        ),
        click.option(
            "--jwks-uri", metavar="URL", help="The https address of its public keys, which are fetched there."
        ),
        click.option("--id-token-alg", type=click.Choice(SIGNING_ALGORITHMS), help="What signs its ID tokens."),
        click.option(
            "--userinfo-alg",
            type=click.Choice(["none", *SIGNING_ALGORITHMS]),
            help="What signs its UserInfo answers, if anything is to.",
        ),
        click.option(
            "--subject-type",
            type=click.Choice(["public", "pairwise"]),
            help="Whether it knows people by their own subject, or by one that only clients at its host share.",
        ),
        click.option(
            "--sector", metavar="HOST", help="The host whose clients share these, where its own are on several hosts."
        ),
        click.option(
            "--allow-group",
            multiple=True,
            metavar="G",
            help="A group whose people may use it; repeatable, and only those then.",
        ),
        click.option(
            "--post-logout-redirect-uri",
            multiple=True,
            metavar="URI",
            help="An address that people may return to after it signed them out; repeatable.",
        ),
        click.option("--backchannel-logout-uri", metavar="URL", help="Where we tell it that a session is over."),
        click.option("--frontchannel-logout-uri", metavar="URL", help="Where a browser tells it that, in a frame."),
        click.option("--token-type", type=click.Choice(["bearer", "mac"]), help="The kind of its access tokens."),
        click.option(
            "--token-format",
            type=click.Choice(["opaque", "jwt"]),
            help="The form of its bearer tokens: jwt is for APIs that verify them by themselves (RFC 9068).",
        ),
        click.option("--mac-draft", multiple=True, type=DRAFT, help="The MAC draft that it signs by; repeatable."),
        click.option("--mac-algorithm", type=ALGORITHM, help="What its MAC tokens sign with."),
    ]
    for option in reversed(options):
        function = option(function)
    return client_about.options(function)


@click.group(cls=Noun, epilog="Example: gateway client list")
def command() -> None:
    """Register and manage OAuth clients."""


@command.command(epilog=_CREATE_EXAMPLE)
@click.option("--name", required=True, help="Its name on the consent page.")
@_properties
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
    asked = Asked(public=public, pkce=not no_pkce, par=require_par, dpop=require_dpop, first_party=first_party, **given)

    async def act(store: Store, settings: Settings) -> tuple[Client, str | None]:
        return await store.clients.create(await _new_client(asked, store, settings))

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
@_properties
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
    asked = Asked(**given)
    if asked.is_empty:
        raise click.UsageError("nothing to change: give an option, such as --name NAME")

    async def act(store: Store, settings: Settings) -> tuple[Client | None, str | None]:
        before = _known(client_id, await store.clients.find(client_id))
        after = await store.clients.update(client_id, await _changed(asked, before, store, settings))
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


# -- checking --------------------------------------------------------------------------------------------------


async def _new_client(asked: Asked, store: Store, settings: Settings) -> NewClient:
    mac, scopes = settings.config.mac, frozenset(asked.scope)
    if not scopes:
        scopes = frozenset(await store.scopes.defined(settings.config.scopes)) - {OFFLINE_ACCESS}
    by_redirect: tuple[GrantType, ...] = ("authorization_code", "refresh_token") if asked.redirect_uri else ()
    start = NewClient(
        name="",
        confidential=not asked.public,
        redirect_uris=(),
        grant_types=frozenset(by_redirect),
        scopes=scopes,
        token_type=settings.config.tokens.type,
        token_format="opaque" if asked.token_type == "mac" else settings.config.tokens.format,  # noqa: S105  # kinds
        mac_drafts=mac.drafts[:1],
        mac_algorithm=mac.algorithms[0],
    )
    return await _checked(_merged(asked, start), asked, store, settings)


async def _changed(asked: Asked, client: Client, store: Store, settings: Settings) -> NewClient:
    changed = await _checked(_merged(asked, NewClient.like(client)), asked, store, settings)
    named = (name for option, name in _DECIDED.items() if getattr(asked, option) not in (None, ()))
    return replace(changed, decided=client.decided.union(named))


def _merged(asked: Asked, start: NewClient) -> NewClient:
    """`start` with everything that the options mention."""
    changes: Mapping[str, object] = {
        "name": asked.name,
        "redirect_uris": tuple(dict.fromkeys(asked.redirect_uri)),
        "grant_types": frozenset(asked.grant_type),
        "scopes": frozenset(asked.scope),
        "token_type": asked.token_type,
        "token_format": asked.token_format,
        "mac_drafts": tuple(dict.fromkeys(asked.mac_draft)),
        "mac_algorithm": asked.mac_algorithm,
        "confidential": None if asked.public is None else not asked.public,
        "pkce_required": asked.pkce,
        "par_required": asked.par,
        "dpop_required": asked.dpop,
        "first_party": asked.first_party,
    }
    mentioned: dict[str, Any] = {name: item for name, item in changes.items() if item is not None and item != ()}
    for name in ("grant_types", "scopes"):
        if not mentioned[name]:
            del mentioned[name]
    return replace(start, **mentioned, openid=_openid(asked, start.openid))


def _openid(asked: Asked, start: OpenID) -> OpenID:
    """How the client learns of people, with everything that the options mention."""
    changed = start
    if asked.id_token_alg is not None:
        changed = replace(changed, id_token_alg=asked.id_token_alg)
    if asked.userinfo_alg is not None:
        changed = replace(changed, userinfo_alg=None if asked.userinfo_alg == "none" else asked.userinfo_alg)
    if asked.post_logout_redirect_uri:
        uris = tuple(uri for uri in dict.fromkeys(asked.post_logout_redirect_uri) if uri)
        changed = replace(changed, post_logout_redirect_uris=uris)
    if asked.backchannel_logout_uri is not None:
        changed = replace(changed, backchannel_logout_uri=asked.backchannel_logout_uri or None)
    if asked.frontchannel_logout_uri is not None:
        changed = replace(changed, frontchannel_logout_uri=asked.frontchannel_logout_uri or None)
    return changed


def _require_logout_addresses(asked: Asked) -> None:
    """Raises OperatorError for an address that no browser may be sent to, or that we could not call."""
    for uri in filter(None, asked.post_logout_redirect_uri):
        if (fault := redirect_uris.registration_fault(uri)) is not None:
            raise OperatorError(f"--post-logout-redirect-uri {uri!r}: {fault}")
    for option in ("backchannel", "frontchannel"):
        url = getattr(asked, f"{option}_logout_uri")
        if url and (fault := client_metadata.link_fault(url)) is not None:
            raise OperatorError(f"--{option}-logout-uri {url!r}: {fault}")


def _with_subjects(client: NewClient, subject_type: str | None, host: str | None) -> NewClient:
    """The client with subjects of that kind, of the sector of `host` (else of its redirect URIs).

    Raises OperatorError where that is no host, or its redirect URIs are on several.
    """
    if host is not None and subject_type != "pairwise":
        raise OperatorError("--sector: only clients with --subject-type pairwise have one; add that, or leave it out")
    if subject_type is None:
        return client
    if subject_type == "public":
        return replace(client, openid=replace(client.openid, sector=None))
    if host is not None and redirect_uris.sector((f"https://{host}/",)) != host.lower():
        raise OperatorError(f"--sector {host!r}: write a host alone, such as app.example.com")
    sector = redirect_uris.sector(client.redirect_uris) if host is None else host.lower()
    if sector is None:
        raise OperatorError("--subject-type pairwise: --redirect-uri addresses on several hosts need --sector HOST")
    return replace(client, openid=replace(client.openid, sector=sector))


async def _checked(client: NewClient, asked: Asked, store: Store, settings: Settings) -> NewClient:
    """The client, if it may be so. Raises OperatorError that names the option and the mend."""
    if asked.name is not None:
        value("--name", asked.name, Name)
    for uri in asked.redirect_uri:
        if (fault := redirect_uris.registration_fault(uri)) is not None:
            raise OperatorError(f"--redirect-uri {uri!r}: {fault}")
    about, logo = await client_about.changed(
        client.about,
        store,
        description=asked.description,
        owner=asked.owner,
        links={"homepage": asked.homepage, "privacy": asked.privacy, "terms": asked.terms},
        logo_file=asked.logo,
    )
    if asked.jwks and asked.jwks_uri:
        raise OperatorError("--jwks-uri: the client's keys are in a file or at an address; leave out one of the two")
    if asked.jwks is not None or asked.jwks_uri is not None:
        keys = _jwks(asked.jwks) if asked.jwks else _jwks_at(asked.jwks_uri) if asked.jwks_uri else None
        client = replace(client, jwks=keys)
    client = _with_subjects(client, asked.subject_type, asked.sector)
    if asked.allow_group:  # a single empty one stands for everybody
        client = replace(client, allow_groups=frozenset(filter(None, asked.allow_group)))
    _require_logout_addresses(asked)
    await require_scopes("--scope", asked.scope, store, settings)
    _require_mac(asked, client, settings.config.mac)
    if (fault := _conflict(client)) is not None:
        raise OperatorError(fault)
    return replace(client, about=about, logo=logo)


def _jwks(file: str) -> str:
    """The public keys in a file, as JSON. Raises OperatorError for what cannot be read or verifies nothing."""
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(jwk.LARGEST_SET + 1)
    except OSError as exc:
        raise OperatorError(f"--jwks {file!r}: cannot be read ({exc.strerror}); name a file with a JWK Set") from exc
    try:
        return json.dumps(jwk.parse_set(content))
    except ValueError as exc:
        raise OperatorError(f"--jwks {file!r}: {exc}") from exc


def _jwks_at(uri: str) -> str:
    """Where the keys stand, as JSON. Raises OperatorError for what can be no such address."""
    if not uri.startswith("https://") or "#" in uri or client_metadata.link_fault(uri) is not None:
        raise OperatorError(f"--jwks-uri {uri!r}: write it as https://HOST/PATH, in plain ASCII, without a fragment")
    return json.dumps({"jwks_uri": uri})


def _require_mac(asked: Asked, client: NewClient, mac: Mac) -> None:
    """Nothing that the configuration does not allow, and no tokens that would be refused from the first call on."""
    for draft in asked.mac_draft:
        if draft not in mac.drafts:
            raise OperatorError(
                f"--mac-draft {draft}: is not among [mac] drafts = {_listed(mac.drafts)}; "
                "add it there or choose another"
            )
    if asked.mac_algorithm is not None and asked.mac_algorithm not in mac.algorithms:
        raise OperatorError(
            f"--mac-algorithm {asked.mac_algorithm}: is not among [mac] algorithms = {_listed(mac.algorithms)}; "
            "add it there or choose another"
        )
    if asked.token_type != "mac":  # noqa: S105  # a kind, no token
        return
    if client.mac_algorithm not in mac.algorithms:
        raise OperatorError(
            f"--token-type mac: the client signs with {client.mac_algorithm}, which is not among [mac] algorithms = "
            f"{_listed(mac.algorithms)}; add it there or choose another by --mac-algorithm"
        )
    if not set(client.mac_drafts) & set(mac.drafts):
        raise OperatorError(
            f"--token-type mac: the client signs by {_listed(client.mac_drafts)}, none of which is among "
            f"[mac] drafts = {_listed(mac.drafts)}; add one there or choose another by --mac-draft"
        )


def _conflict(client: NewClient) -> str | None:
    """The reason why these properties do not go together, None if they do."""
    grants = client.grant_types
    if not client.confidential and client.first_party:
        return "--first-party: only a confidential client may skip consent, since anybody can pose as a public one"
    if not client.confidential and not client.pkce_required:
        return "--no-pkce: a public client always needs PKCE; leave out --no-pkce or --public"
    if not client.confidential and client.jwks is not None:
        return "--jwks: a public client does not authenticate; leave out --public, or remove its keys by --jwks ''"
    if client.token_type == "mac" and client.token_format == "jwt":  # noqa: S105  # kinds, no tokens
        return "--token-format jwt: is for bearer tokens; add --token-type bearer, or choose --token-format opaque"
    if client.token_type == "mac" and client.dpop_required:  # noqa: S105  # a kind, no token
        return "--require-dpop: is for bearer tokens, MAC tokens have a key already; add --token-type bearer"
    if not client.confidential and "client_credentials" in grants:
        return "--grant-type client_credentials: a public client has no credentials; leave out one of the two"
    if "authorization_code" in grants and not client.redirect_uris:
        return "--redirect-uri: authorization_code needs at least one, such as https://app.example.com/callback"
    if "implicit" in grants and not client.redirect_uris:
        return "--redirect-uri: implicit needs at least one, such as https://app.example.com/callback"
    if "refresh_token" in grants and not grants & {"authorization_code", DEVICE_CODE, "password"}:
        return "--grant-type refresh_token: nothing gives it refresh tokens; add --grant-type authorization_code"
    return None


def _legacy(grant_types: Collection[GrantType]) -> list[GrantType]:
    """Those that OAuth 2.1 has given up."""
    return [name for name in LEGACY_GRANT_TYPES if name in grant_types]


def _warn_of_legacy(client: Client) -> None:
    if legacy := _legacy(client.grant_types):
        note(
            f"warning: {' and '.join(legacy)} shows tokens or passwords to what need not see them; OAuth 2.1 has it no "
            "more, and `gateway client list` marks who may still use it"
        )


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


# -- answers ---------------------------------------------------------------------------------------------------


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


def _unknown(client_id: str) -> OperatorError:
    return OperatorError(f"no client {client_id!r}; `gateway client list` shows all")


def _known(client_id: str, found: Client | None) -> Client:
    if found is None:
        raise _unknown(client_id)
    return found
