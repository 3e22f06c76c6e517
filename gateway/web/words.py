"""Words that several pages share: the texts of error pages, the same on either plane's, and spans of time."""

import math
from datetime import timedelta
from typing import Final, NamedTuple


class Words(NamedTuple):
    """A heading that says what happened, and a text that says what to do about it."""

    title: str
    text: str


_WORDS: Final = {
    400: Words("This link doesn’t work", "Go back to where you came from and try again."),
    401: Words("This page isn’t for browsers", "Nothing is wrong. Go back to the application you were using."),
    403: Words("This page can’t be used here", "You don’t have access to this address."),
    404: Words("Page not found", "Check the address, or go back to where you came from."),
    405: Words("This page can’t be opened this way", "Go back and follow the link or press the button again."),
    413: Words("That’s too large", "What you sent is larger than this address accepts."),
    421: Words("Wrong address", "The service isn’t at this address. Check the first part of the address."),
    429: Words("Too many requests", "Try again in a moment."),
    500: Words("Something went wrong", "This is our fault, not yours. Try again."),
    502: Words("The service isn’t responding", "Try again shortly."),
    503: Words("The service isn’t available", "Try again in a moment."),
    504: Words("The service isn’t responding", "It took too long to answer. Try again shortly."),
}


_A_MOMENT: Final = 2  # minutes
_HOURS: Final = 90  # minutes from which on they are told in hours
_FEW: Final = 10  # seconds


_OF_PEOPLE: Final = {
    "login_required": Words("You’re not signed in", "Sign in, then go back and try again."),
    "insufficient_user_authentication": Words("Sign in again", "This needs a recent sign-in. Sign in, then try again."),
    "access_denied": Words(
        "You can’t use this page",
        "Your account doesn’t have access to this page. Ask your {brand} administrator, or use another account.",
    ),
    "forbidden": Words(
        "You don’t have access", "This page isn’t available from your network. Ask your {brand} administrator."
    ),
    "cross_site_request": Words("This came from another site", "Open the page here, and try again from there."),
}


def of(status: int, error: str = "") -> Words:
    """The words for what people are refused by its error's code, else for a status, or its class.

    `{brand}` stands for the operator's name in the words for a code.
    """
    return _OF_PEOPLE.get(error) or _WORDS.get(status) or _WORDS[400 if status < 500 else 500]


def within(seconds: int) -> str:
    """How long it takes, such as “5 minutes”, rounded up."""
    if seconds <= _FEW:
        return "a few seconds"
    minutes = math.ceil(seconds / 60)
    if minutes > _HOURS:
        return f"{math.ceil(minutes / 60)} hours"
    return "a minute" if minutes <= 1 else f"{minutes} minutes"


def since(span: timedelta) -> str:
    """How long ago something was, such as “3 hours ago”: it needs no time zone, as a clock's time would."""
    minutes = math.floor(span.total_seconds() / 60)
    if minutes < _A_MOMENT:
        return "a moment ago"
    for size, unit in ((60 * 24, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            count = minutes // size
            return f"{count} {unit}{'' if count == 1 else 's'} ago"
    raise AssertionError("every span is at least one unit")
