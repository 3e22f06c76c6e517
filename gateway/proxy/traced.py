"""The place of a call in a trace (W3C Trace Context), as the head for the upstream has it; nothing is loaded for it."""

from typing import NamedTuple


class Trace(NamedTuple):
    """Identifiers in hexadecimal: the trace's, the caller's span (empty where the trace begins here), the call's, and
    that of the upstream's part."""

    trace_id: str
    parent_id: str
    span_id: str
    upstream_id: str
    recorded: bool

    @property
    def line(self) -> bytes:
        """The field that the upstream gets."""
        return f"traceparent: 00-{self.trace_id}-{self.upstream_id}-{self.recorded:02x}\r\n".encode()
