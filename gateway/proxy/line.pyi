from collections.abc import Callable

class Page:
    def __init__(self, begins: Callable[[int], bytes], of_path: bytes, of_name: bytes) -> None: ...
    def taken(self) -> bytes: ...
    def json(
        self,
        now: float,
        request_id: bytes,
        address: str,
        method: bytes,
        target: bytes,
        route: bytes,
        status: int,
        cause: bytes,
        received: int,
        sent: int,
        seconds: float,
        at_upstream: float | None,
        upstream: bytes,
        client: str | None,
        subject: str | None,
        scheme: str | None,
    ) -> bool: ...
    def combined(
        self,
        now: float,
        address: str,
        subject: str | None,
        method: bytes,
        target: bytes,
        minor_version: int,
        status: int,
        sent: int,
        referer: bytes | None,
        agent: bytes,
    ) -> bool: ...
