"""The client that the options of `gateway client` make, or the reason why there can be none, with the mend."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from gateway.cli import client_about
from gateway.cli.client_options import DECIDED, ClientOptions
from gateway.cli.common import require_scopes, value
from gateway.config import Mac, Settings
from gateway.config.values import Name
from gateway.faults import OperatorError
from gateway.model import DEVICE_CODE, OFFLINE_ACCESS, Client, GrantType, OpenID
from gateway.oauth import client_metadata, jwk, redirect_uris
from gateway.store import Store
from gateway.store.records import NewClient


async def new_client(asked: ClientOptions, store: Store, settings: Settings) -> NewClient:
    """The client that the options describe. Raises OperatorError that names the option and the mend."""
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


async def changed(asked: ClientOptions, client: Client, store: Store, settings: Settings) -> NewClient:
    """The client with everything that the options mention, which its own word about itself does not undo. Raises
    OperatorError that names the option and the mend."""
    changed = await _checked(_merged(asked, NewClient.like(client)), asked, store, settings)
    named = (name for option, name in DECIDED.items() if getattr(asked, option) not in (None, ()))
    return replace(changed, decided=client.decided.union(named))


def _merged(asked: ClientOptions, start: NewClient) -> NewClient:
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


def _openid(asked: ClientOptions, start: OpenID) -> OpenID:
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


def _require_logout_addresses(asked: ClientOptions) -> None:
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


async def _checked(client: NewClient, asked: ClientOptions, store: Store, settings: Settings) -> NewClient:
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


def _require_mac(asked: ClientOptions, client: NewClient, mac: Mac) -> None:
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
    if "implicit" in grants and client.dpop_required:
        return "--require-dpop: by the implicit grant comes no proof of a key; leave out one of the two"
    if not client.confidential and "client_credentials" in grants:
        return "--grant-type client_credentials: a public client has no credentials; leave out one of the two"
    if "authorization_code" in grants and not client.redirect_uris:
        return "--redirect-uri: authorization_code needs at least one, such as https://app.example.com/callback"
    if "implicit" in grants and not client.redirect_uris:
        return "--redirect-uri: implicit needs at least one, such as https://app.example.com/callback"
    if "refresh_token" in grants and not grants & {"authorization_code", DEVICE_CODE, "password"}:
        return "--grant-type refresh_token: nothing gives it refresh tokens; add --grant-type authorization_code"
    return None


def _listed(names: Sequence[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"
