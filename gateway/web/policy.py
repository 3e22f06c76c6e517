"""What a page may do in a browser, and who may frame or keep it."""

from typing import Final

from gateway.oauth import redirect_uris

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def policy(style: str = "'self'", redirect_uri: str | None = None) -> str:
    """The pages' Content-Security-Policy.

    `form-action` names where the answer to a form may redirect to, since Chromium applies it to the whole chain:
    without the client's origin the way back to the client would be blocked.
    """
    targets = "'self'" if redirect_uri is None else f"'self' {redirect_uris.form_action_source(redirect_uri)}"
    return (
        f"default-src 'none'; style-src {style}; img-src 'self'; form-action {targets}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )


def headers(content_security_policy: str) -> dict[str, str]:
    return {**_HEADERS, "Content-Security-Policy": content_security_policy}
