"""The access plane's own refusals as a page: whole in itself, since it may stand on a route's host.

Five blanks are all there is to fill, so that the process that checks tokens needs no template engine.
"""

import base64
import hashlib
from collections.abc import Callable
from html import escape
from string import Template

from gateway.config import Settings
from gateway.resources import folder
from gateway.web import branding, policy

RefusalPage = Callable[[int, str, str, str], tuple[dict[str, str], bytes]]


def refusal_page(settings: Settings) -> RefusalPage:
    """What makes a page of (status, title, text, request id): its header fields and its body in UTF-8.

    The style sheet stands inside it and is let through by its hash; the page asks for nothing else, from nowhere.
    """
    brand, style = settings.config.branding, branding.stylesheet(settings.config.branding.accent)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    csp = policy.policy(style=f"'sha256-{digest}'")
    fixed = {**policy.headers(csp), "Content-Type": "text/html; charset=utf-8"}
    blank = Template((folder("templates") / "refusal.html").read_text(encoding="utf-8"))
    always = {"style": style, "brand_name": escape(brand.name), "mark": escape(brand.name[0].upper())}

    def page(status: int, title: str, text: str, request_id: str) -> tuple[dict[str, str], bytes]:
        said = {"title": escape(title), "text": escape(text), "request_id": escape(request_id)}
        return dict(fixed), blank.substitute(always, status=status, **said).encode("utf-8", "replace")

    return page
