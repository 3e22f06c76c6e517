"""Gateway: an OAuth 2 authorization server and an async reverse proxy in one program."""

__version__ = "0.1.0"
