"""The authorization plane: thin aiohttp handlers and the pages that people see."""

from gateway.web.app import create_app, create_runner
from gateway.web.refusal import RefusalPage, refusal_page

__all__ = ["RefusalPage", "create_app", "create_runner", "refusal_page"]
