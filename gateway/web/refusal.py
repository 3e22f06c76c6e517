"""The engine's own refusals as a page: whole in itself, since it may stand on a route's host."""

import base64
import hashlib
from collections.abc import Callable

import jinja2

from gateway.config import Settings
from gateway.web import branding, pages

RefusalPage = Callable[[int, str, str, str], tuple[dict[str, str], bytes]]


def refusal_page(settings: Settings) -> RefusalPage:
    """What makes a page of (status, title, text, request id): its header fields and its body in UTF-8.

    The style sheet stands inside it and is let through by its hash; the page asks for nothing else, from nowhere.
    """
    template = jinja2.Environment(autoescape=True, **pages.environment_options()).get_template("refusal.html")
    config = settings.config.branding
    style = branding.stylesheet(config.accent)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    fixed = {**pages.headers(pages.policy(style=f"'sha256-{digest}'")), "Content-Type": "text/html; charset=utf-8"}

    def page(status: int, title: str, text: str, request_id: str) -> tuple[dict[str, str], bytes]:
        body = template.render(
            brand_name=config.name, style=style, status=status, title=title, text=text, request_id=request_id
        )
        return dict(fixed), body.encode("utf-8", "replace")

    return page
