"""The options of `gateway client` that say to people what a client is: its description, owner, links and logo.

An empty value removes what was there.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import click
from msgspec.structs import replace

from gateway.cli.common import value
from gateway.config.values import Description
from gateway.faults import OperatorError
from gateway.model import About, Owner
from gateway.oauth import client_metadata
from gateway.store import Store
from gateway.store.records import Logo


def options(function: Callable[..., None]) -> Callable[..., None]:
    """The options that `create` and `update` share."""
    shown = [
        click.option("--description", metavar="TEXT", help="What it is for, as the consent page says it."),
        click.option("--owner", metavar="USER", help="The user who is responsible for it; pages show the name."),
        click.option("--homepage", metavar="URL", help="Its website."),
        click.option("--privacy", "--privacy-policy", "privacy", metavar="URL", help="Its privacy policy."),
        click.option("--terms", metavar="URL", help="Its terms of service."),
        click.option(
            "--logo",
            metavar="FILE",
            help=f"Its logo: PNG, JPEG, GIF, WebP or SVG, at most {client_metadata.LARGEST_LOGO // 1024} KiB.",
        ),
    ]
    for option in reversed(shown):
        function = option(function)
    return function


async def changed(
    before: About,
    store: Store,
    *,
    description: str | None,
    owner: str | None,
    links: Mapping[str, str | None],
    logo_file: str | None,
) -> tuple[About, Logo | None]:
    """`before` with what the options mention, and the logo if it is a new one.

    Raises OperatorError that names the option and the mend.
    """
    about, logo = before, None
    for name, url in links.items():
        if url and (fault := client_metadata.link_fault(url)) is not None:
            raise OperatorError(f"--{name} {url!r}: {fault}")
        if url is not None:
            about = replace(about, **cast("Any", {name: url or None}))
    if description is not None:
        text = value("--description", description, Description) if description else None
        about = replace(about, description=text)
    if owner is not None:
        about = replace(about, owner=await _owner(owner, store) if owner else None)
    if logo_file is not None:
        logo = _logo(logo_file) if logo_file else None
        about = replace(about, logo=None if logo is None else logo.name)
    return about, logo


def _logo(file: str) -> Logo:
    """The logo in a file. Raises OperatorError for what cannot be read or shown."""
    largest = client_metadata.LARGEST_LOGO
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(largest + 1)
    except OSError as exc:
        raise OperatorError(f"--logo {file!r}: cannot be read ({exc.strerror}); name a picture file") from exc
    if len(content) > largest:
        raise OperatorError(f"--logo {file!r}: is larger than {largest // 1024} KiB; make it smaller")
    name = client_metadata.logo_name(content)
    if name is None:
        raise OperatorError(f"--logo {file!r}: is not a picture that browsers show; use PNG, JPEG, GIF, WebP or SVG")
    return Logo(name, content)


async def _owner(username: str, store: Store) -> Owner:
    user = await store.users.find(username)
    if user is None:
        raise OperatorError(f"--owner {username!r}: no such user; `gateway user list` shows all")
    return Owner(subject=user.subject, username=user.username, name=user.name)


def record(about: About) -> dict[str, object]:
    """What is known about a client, as the commands print it; `logo` is the name that it is served by."""
    return {
        "description": about.description,
        "owner": None if about.owner is None else about.owner.username,
        "homepage": about.homepage,
        "privacy": about.privacy,
        "terms": about.terms,
        "logo": about.logo,
    }
