"""The access plane's own refusals as a page: whole in itself, since it may stand on a route's host.

A few blanks are all there is to fill, so that the process that checks tokens needs no template engine. It looks as the
authorization plane's pages do: their style sheet, the operator's own one and the logo all stand inside it.
"""

import base64
import hashlib
from html import escape
from string import Template
from typing import Final

from gateway.config import Settings
from gateway.refusals import RefusalPage, RefusedVisit
from gateway.resources import folder
from gateway.routing.sign_in import as_parameter
from gateway.web import policy, words
from gateway.web.branding import Asset, Branding

_TOO_MANY: Final = 429
_WORTH_ANOTHER_TRY: Final = frozenset({_TOO_MANY, 502, 503, 504})


def refusal_page(settings: Settings) -> RefusalPage:
    """The maker of refusals' pages for these settings.

    The style sheets are let through by their hashes; the page asks for nothing else, from nowhere. Its links lead to
    the person's account and to help. Raises OperatorError for a branding file that cannot be used.
    """
    brand, server = Branding.load(settings), settings.config.server
    sheets = (asset.content for asset in (brand.stylesheet, brand.own_stylesheet) if asset is not None)
    styles = [sheet.decode("utf-8", "replace").replace("</", r"<\/") for sheet in sheets]
    csp = policy.policy(style=" ".join(map(_hash_source, styles)), image="data:")
    fixed = {**policy.headers(csp), "Content-Type": "text/html; charset=utf-8"}
    blank = Template((folder("templates") / "refusal.html").read_text(encoding="utf-8"))
    always = {
        "styles": "".join(f"<style>{style}</style>" for style in styles),
        "brand_name": escape(brand.name),
        "icon": _data(brand.icon),
        "mark": _mark(brand),
        "help": _help(brand),
    }

    base, home = f"{server.origin}{server.oauth_prefix}", server.origin.partition("://")[2].lower()

    def page(visit: RefusedVisit) -> tuple[dict[str, str], bytes]:
        refused = visit.refused
        message, seconds = words.of(refused.status, refused.error), refused.retry_after
        text = message.text.replace("{brand}", brand.name)
        if refused.status == _TOO_MANY and seconds:
            text = f"Try again in {words.within(seconds)}."
        back = as_parameter(visit.again) if visit.host.lower() == home else ""
        blanks = {
            "title": escape(message.title),
            "text": escape(text),
            "again": _again(visit.again) if refused.status in _WORTH_ANOTHER_TRY else "",
            "link": _way_on(base, refused.error, back),
            "request_id": escape(visit.request_id),
        }
        return dict(fixed), blank.substitute(always, **blanks).encode("utf-8", "replace")

    return page


def _way_on(base: str, error: str, back: str) -> str:
    """The link that helps whoever is refused so: to sign in, and from there `back`, or else to their account."""
    login = escape(f"{base}/login?next={back}" if back else f"{base}/login")
    if error in ("login_required", "insufficient_user_authentication"):
        return f'<a href="{login}">Sign in</a>'
    if error == "access_denied":
        return f'<a href="{login}">Use another account</a>'
    return f'<a href="{escape(base)}/account">Go to your account</a>'


def _again(address: str) -> str:
    if not address:
        return ""
    return f'<div class="actions one"><a class="button primary" href="{escape(address)}">Try again</a></div>'


def _hash_source(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def _mark(brand: Branding) -> str:
    if brand.logo is None:
        return f'<span class="mark" aria-hidden="true">{escape(brand.name[0].upper())}</span>'
    return f'<img src="{_data(brand.logo)}" alt="">'


def _data(asset: Asset) -> str:
    return f"data:{asset.content_type};base64,{base64.b64encode(asset.content).decode()}"


def _help(brand: Branding) -> str:
    if brand.help_url is not None:
        return f'<p><a href="{escape(brand.help_url)}">Need help?</a></p>'
    return f"<p>Need help? {escape(brand.help or f'Contact your {brand.name} administrator.')}</p>"
