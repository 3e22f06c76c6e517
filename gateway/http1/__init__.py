"""HTTP/1.1 as pure functions over bytes: heads and framing, read strictly and written plainly."""

from gateway.http1.body import END, End
from gateway.http1.fields import Fields, Names, Selection
from gateway.http1.grammar import Field, Malformed, list_members
from gateway.http1.request import RequestHead, RequestReader, parse_host
from gateway.http1.response import ResponseHead, ResponseReader

__all__ = [
    "END",
    "End",
    "Field",
    "Fields",
    "Malformed",
    "Names",
    "RequestHead",
    "RequestReader",
    "ResponseHead",
    "ResponseReader",
    "Selection",
    "list_members",
    "parse_host",
]
