"""The access plane's own refusals as a page: whole in itself, since it may stand on a route's host.

A few blanks are all there is to fill, so that the process that checks tokens needs no template engine. It looks as the
authorization plane's pages do: their style sheet, the operator's own one and the logo all stand inside it.
"""

import base64
import hashlib
from html import escape
from string import Template

from gateway.config import Settings
from gateway.refusals import RefusalPage
from gateway.resources import folder
from gateway.web import policy, words
from gateway.web.branding import Branding


def refusal_page(settings: Settings) -> RefusalPage:
    """The maker of refusals' pages for these settings.

    The style sheets are let through by their hashes; the page asks for nothing else, from nowhere. Its links lead to
    the person's account and to help. Raises OperatorError for a branding file that cannot be used.
    """
    brand, server = Branding.load(settings), settings.config.server
    sheets = (asset.content for asset in (brand.stylesheet, brand.own_stylesheet) if asset is not None)
    styles = [sheet.decode("utf-8", "replace").replace("</", r"<\/") for sheet in sheets]
    csp = policy.policy(style=" ".join(map(_hash_source, styles)), image="data:" if brand.logo else "'none'")
    fixed = {**policy.headers(csp), "Content-Type": "text/html; charset=utf-8"}
    blank = Template((folder("templates") / "refusal.html").read_text(encoding="utf-8"))
    always = {
        "styles": "".join(f"<style>{style}</style>" for style in styles),
        "brand_name": escape(brand.name),
        "mark": _mark(brand),
        "help": _help(brand),
    }

    base = escape(f"{server.origin}{server.oauth_prefix}")
    account = f'<a href="{base}/account">Go to your account</a>'
    links = {
        "login_required": f'<a href="{base}/login">Sign in</a>',
        "insufficient_user_authentication": f'<a href="{base}/login">Sign in</a>',
        "access_denied": f'<a href="{base}/login">Use another account</a>',
    }

    def page(status: int, request_id: str, error: str) -> tuple[dict[str, str], bytes]:
        message = words.of(status, error)
        blanks = {"title": escape(message.title), "text": escape(message.text), "request_id": escape(request_id)}
        blanks["link"] = links.get(error, account)
        return dict(fixed), blank.substitute(always, **blanks).encode("utf-8", "replace")

    return page


def _hash_source(style: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()}'"


def _mark(brand: Branding) -> str:
    if brand.logo is None:
        return f'<span class="mark" aria-hidden="true">{escape(brand.name[0].upper())}</span>'
    content = base64.b64encode(brand.logo.content).decode()
    return f'<img src="data:{brand.logo.content_type};base64,{content}" alt="">'


def _help(brand: Branding) -> str:
    if brand.help_url is not None:
        return f'<p><a href="{escape(brand.help_url)}">Get help</a></p>'
    return "" if brand.help is None else f"<p>{escape(brand.help)}</p>"
