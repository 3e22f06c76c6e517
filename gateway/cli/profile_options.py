"""Options of `gateway user create` and `user update` for what applications may learn of a person.

They are the claims of OpenID Connect Core, section 5.1, in their own words and spellings.
"""

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any, Final

import click

from gateway.cli.common import value
from gateway.config.values import GroupName
from gateway.faults import OperatorError
from gateway.oauth import client_metadata
from gateway.store.users import Known

Check = Callable[[str], str | None]
"""What is wrong with a value, in words that name the mend; None where nothing is."""

_LONGEST: Final = 100
_LONGEST_ADDRESS: Final = 500
_LOCALE: Final = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z0-9]{2,8}){0,3}")
_ZONE: Final = re.compile(r"[A-Za-z]+(?:[/_+-][A-Za-z0-9]+){0,5}")
_PHONE: Final = re.compile(r"\+[0-9](?:[ ().-]{0,2}[0-9]){3,20}(?:;ext=[0-9]{1,10})?")
_YEAR: Final = re.compile(r"[0-9]{4}")


def _text(value: str) -> str | None:
    good = value.strip() and len(value) <= _LONGEST and value.isprintable()
    return None if good else f"must be text of 1 to {_LONGEST} printable characters on one line"


def _lines(value: str) -> str | None:
    good = value.strip() and len(value) <= _LONGEST_ADDRESS and value.replace("\n", "").isprintable()
    return None if good else f"must be text of 1 to {_LONGEST_ADDRESS} printable characters, on several lines or one"


def _date(value: str) -> str | None:
    """YYYY-MM-DD, with 0000 for a year that is not told, or the year alone."""
    try:
        good = date.fromisoformat(value.replace("0000-", "2000-", 1)) is not None and len(value) == len("YYYY-MM-DD")
    except ValueError:
        good = _YEAR.fullmatch(value) is not None
    return None if good else "must be a date such as 1815-12-10, 0000-12-10 without the year, or the year alone"


def _matches(pattern: re.Pattern[str], wanted: str) -> Check:
    return lambda value: None if pattern.fullmatch(value) else wanted


_CLAIMS: Final[Mapping[str, tuple[Check, str]]] = {
    "given_name": (_text, "Their given name or names."),
    "family_name": (_text, "Their family name."),
    "middle_name": (_text, "Their middle name or names."),
    "nickname": (_text, "What friends call them."),
    "profile": (client_metadata.link_fault, "The URL of a page about them."),
    "picture": (client_metadata.link_fault, "The URL of a picture of them."),
    "website": (client_metadata.link_fault, "The URL of their own page."),
    "gender": (_text, "Their gender, in whatever words."),
    "birthdate": (_date, "YYYY-MM-DD, 0000-MM-DD without the year, or the year."),
    "zoneinfo": (_matches(_ZONE, "must be a time zone's name such as Europe/Paris"), "Their time zone."),
    "locale": (_matches(_LOCALE, "must be a language tag such as en-GB"), "Their language, such as en-GB."),
    "phone_number": (_matches(_PHONE, "must begin with + and the country, such as +44 20 7946 0000"), "With + first."),
    "address": (_lines, "Their postal address, as it is written on a letter."),
}
_SWITCHES: Final = ("email_verified", "phone_verified")


def options(function: Callable[..., None]) -> Callable[..., None]:
    """The options, whose values `known` reads from the command's keywords."""
    function = click.option("--group", "groups", multiple=True, metavar="G", help="A group they are in; repeatable.")(
        function
    )
    for name, what in zip(_SWITCHES, ("email address", "phone number"), strict=True):
        flag = name.replace("_", "-")
        said = f"Whether the {what} is known to be theirs."
        function = click.option(f"--{flag}/--not-{flag}", default=None, help=said)(function)
    for name, (_, words) in reversed(tuple(_CLAIMS.items())):
        function = click.option(f"--{name.replace('_', '-')}", name, metavar="TEXT", help=words)(function)
    return function


def known(given: dict[str, Any]) -> Known:
    """What the options say; those that were not given keep what is there, and empty ones remove it.

    Raises OperatorError for a value that its claim cannot have.
    """
    claims: dict[str, object] = {name: _checked(name, given[name]) for name in _CLAIMS if given[name] is not None}
    if claims.get("address") is not None:
        claims["address"] = {"formatted": claims["address"]}  # section 5.1.1
    if claims.get("phone_number", "") is None or given["phone_verified"] is not None:
        claims["phone_number_verified"] = given["phone_verified"]
    elif "phone_number" in claims:  # another number is not verified unless it is said to be
        claims["phone_number_verified"] = False
    return Known(claims=claims, email_verified=given["email_verified"], groups=_groups(given["groups"]))


def any_given(given: dict[str, Any]) -> bool:
    """Whether one of the options was given."""
    return any(given[name] is not None for name in (*_CLAIMS, *_SWITCHES)) or bool(given["groups"])


def _checked(name: str, text: str) -> str | None:
    if text == "":
        return None
    fault = _CLAIMS[name][0](text)
    if fault is not None:
        raise OperatorError(f"--{name.replace('_', '-')}: {fault}, not {text!r}")
    return text


def _groups(names: tuple[str, ...]) -> tuple[str, ...] | None:
    """The groups that were named; a single empty name stands for none at all."""
    if not names:
        return None
    if names == ("",):
        return ()
    for name in names:
        value("--group", name, GroupName)
    return tuple(sorted(set(names)))
