"""The options of `gateway client create` and `client update`: their names, and what they say about a client."""

from collections.abc import Callable, Sequence
from typing import Final, Literal

import click
from msgspec import Struct
from msgspec.structs import astuple

from gateway.cli import client_about
from gateway.cli.mac import ALGORITHM, DRAFT
from gateway.model import (
    DEVICE_CODE,
    GRANT_TYPES,
    LEGACY_GRANT_TYPES,
    SIGNING_ALGORITHMS,
    GrantType,
    MacAlgorithm,
    MacDraft,
    SigningAlgorithm,
    TokenFormat,
    TokenType,
)


class ClientOptions(Struct, frozen=True, kw_only=True):
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
        return all(item is None or item == () for item in astuple(self))


DECIDED: Final = {  # what a client that describes itself says otherwise no more, by the option that decides it
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


def shared(function: Callable[..., None]) -> Callable[..., None]:
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
