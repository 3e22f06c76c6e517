"""Response fields that say what a page may do in a browser, and who may frame or keep it."""

from typing import Final

from gateway.oauth import redirect_uris

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def policy(style: str = "'self'", image: str = "'self'", redirect_uri: str | None = None) -> str:
    """The pages' Content-Security-Policy.

    `form-action` names where the answer to a form may redirect to, since Chromium applies it to the whole chain:
    without the client's origin the way back to the client would be blocked.
    """
    targets = "'self'" if redirect_uri is None else f"'self' {redirect_uris.form_action_source(redirect_uri)}"
    return (
        f"default-src 'none'; style-src {style}; img-src {image}; form-action {targets}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def headers(content_security_policy: str, *, has_opener: bool = False) -> dict[str, str]:
    """A page's header fields.

    Cross-Origin-Opener-Policy parts a page from the window that opened it, which, if it showed something on our own
    host, could press its buttons. `has_opener` is for the authorization pages alone: a client may open them in a popup,
    and the popup comes back to its window with the code. There a host of its own for the sign-in pages does the same.
    """
    opener = {} if has_opener else {"Cross-Origin-Opener-Policy": "same-origin"}
    return {**_HEADERS, **opener, "Content-Security-Policy": content_security_policy}
