"""Refusals as bytes: the same whichever way they are made, and always with their own identifier and time."""

import json

import h11
import pytest

from gateway.errors import Refused
from gateway.proxy.answers import render
from tests.proxy.rig import Rig

CHALLENGES = (("WWW-Authenticate", "Bearer"), ("WWW-Authenticate", "MAC"))
REFUSED = Refused("invalid_token", 'It is "dead".', fields=CHALLENGES)
DATES = (b"Thu, 01 Jan 2026 00:00:00 GMT", b"Thu, 01 Jan 2026 00:00:01 GMT")


def read(answer: bytes) -> tuple[h11.Response, bytes]:
    """The answer as h11 reads it: exactly one, with nothing behind it."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(answer)
    head, body = client.next_event(), b""
    assert isinstance(head, h11.Response)
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return head, body


@pytest.mark.parametrize("date", DATES)
@pytest.mark.parametrize("request_id", [b"a", b"0123456789abcdef000001", b"0123456789abcdef000002", b"x" * 64])
def test_a_refusal_that_recurs_is_told_with_its_own_identifier_and_time(request_id: bytes, date: bytes) -> None:
    for _ in range(2):
        head, body = read(b"".join(render(REFUSED, request_id, date)))
        fields = [(bytes(name), bytes(value)) for name, value in head.headers]
        assert (b"date", date) in fields
        assert (b"x-request-id", request_id) in fields
        assert [value for name, value in fields if name == b"www-authenticate"] == [b"Bearer", b"MAC"]
        assert json.loads(body) == {
            "error": "invalid_token",
            "error_description": 'It is "dead".',
            "request_id": request_id.decode(),
        }
        closing, same = read(b"".join(render(REFUSED.also(), request_id, date, b"Connection: close\r\n")))
        assert same == body
        assert {*map(tuple, closing.headers)} - {*map(tuple, head.headers)} == {(b"connection", b"close")}


def test_a_refusal_of_head_states_the_length_and_has_no_body() -> None:
    assert render(REFUSED, b"a", DATES[0], bodiless=True) == (render(REFUSED, b"a", DATES[0])[0], b"")


async def test_no_two_requests_have_one_identifier(public: Rig) -> None:
    made = [public.proxy.new_request_id() for _ in range(1000)]
    assert len(set(made)) == len(made)
    assert {len(one) for one in made} == {22}
