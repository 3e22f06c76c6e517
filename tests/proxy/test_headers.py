"""Fields that an operator sets, adds and removes, both ways: what reached the upstream, and what the client got."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import ConfigError, parse
from gateway.routing.shaping import Changes
from gateway.store import Store
from tests.proxy.rig import RawUpstream, Rig, rig
from tests.web.rig import new_client

# fmt: off
ROUTES: list[dict[str, Any]] = [
    {"name": "plain", "path": "/plain", "auth": "none",
     "request_headers": {
         "set": {"X-Tenant": "blue", "User-Agent": "gateway", "X-Real-IP": "{address}", "X-Id": "<{request_id}>"},
         "add": {"X-Seen": "here", "X-Braces": "{{a}}"},
         "remove": ["X-Debug", "Cookie"],
     },
     "response_headers": {
         "set": {"Strict-Transport-Security": "max-age=63072000", "Vary": "*"},
         "add": {"X-From": "{address}"},
         "remove": ["Server", "X-Powered-By"],
     }},
    {"name": "known", "path": "/known", "auth": ["bearer"],
     "request_headers": {"set": {
         "X-Tenant": "{client_id}", "X-Who": "{subject}/{scope}", "Remote-User": "{username}", "X-Mail": "<{email}>"}}},
    {"name": "answers", "path": "/answers", "auth": "none", "upstreams": [],
     "respond": {"status": 200, "body": "x", "headers": {"X-A": "1"}},
     "response_headers": {"set": {"X-A": "2", "X-B": "{request_id}"}}},
    {"name": "crossed", "path": "/crossed", "auth": "none", "cors": {"origins": ["https://app.example.com"]},
     "response_headers": {"set": {"Vary": "Accept"}}},
    {"name": "untouched", "path": "/untouched", "auth": "none"},
]
# fmt: on
ANSWER = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: old/1.0\r\nX-Powered-By: perl\r\nX-POWERED-BY: more\r\n"
    b"Vary: Accept\r\nX-Kept: yes\r\n\r\n2\r\nok\r\n0\r\nX-Powered-By: trailer\r\nX-Checksum: 1\r\n\r\n"
)


@pytest.fixture
async def running(tmp_path: Path, no_database: Store) -> AsyncIterator[Rig]:
    async with rig(tmp_path, no_database, routes=ROUTES, upstream=RawUpstream(ANSWER)) as made:
        yield made


def call(target: str, *fields: str, method: str = "GET") -> bytes:
    return "\r\n".join((f"{method} {target} HTTP/1.1", "Host: gateway.test", *fields, "", "")).encode()


async def test_request_gets_what_is_set_and_nothing_that_reads_like_it(running: Rig) -> None:
    spoofed = ["X-Tenant: evil", "x-tenant: worse", "X.Tenant: dotted", "x~TENANT: odd", "X-Real-IP: 6.6.6.6"]
    others = ["User-Agent: curl", "X-Seen: there", "X-Debug: 1", "Cookie: a=b", "X-Tenants: fine"]
    reply = await running.talk(call("/plain", *spoofed, *others))
    [seen] = running.upstream.requests
    assert seen.all("x-tenant") == ["blue"]
    assert [name for name, _ in seen.fields if "tenant" in name] == ["x-tenants", "x-tenant"]
    assert seen.all("user-agent") == ["gateway"]
    assert seen.all("x-real-ip") == ["127.0.0.1"]
    assert seen.one("x-id") == f"<{reply.one('x-request-id')}>"
    assert (seen.all("x-seen"), seen.all("x-braces")) == (["there", "here"], ["{a}"])
    assert (seen.all("x-debug"), seen.all("cookie")) == ([], [])
    assert seen.one("x-request-id") == reply.one("x-request-id")


async def test_trailers_say_nothing_that_is_set_or_removed(running: Rig) -> None:
    body = b"2\r\nab\r\n0\r\nX-Tenant: evil\r\nX.Tenant: evil\r\nX-Debug: 1\r\nX-Fine: 1\r\n\r\n"
    reply = await running.talk(call("/plain", "Transfer-Encoding: chunked", method="POST") + body, method="POST")
    [seen] = running.upstream.requests
    assert (seen.body, seen.trailers) == (b"ab", [("x-fine", "1")])
    assert reply.trailers == [("x-checksum", "1")]


async def test_answer_gets_what_is_set_added_and_removed(running: Rig) -> None:
    reply = await running.talk(call("/plain"))
    assert reply.body == b"ok"
    assert (reply.all("server"), reply.all("x-powered-by"), reply.one("x-kept")) == ([], [], "yes")
    assert reply.all("strict-transport-security") == ["max-age=63072000"]
    assert (reply.all("vary"), reply.all("x-from")) == (["*"], ["127.0.0.1"])
    reply = await running.talk(call("/untouched"))
    assert (reply.all("server"), reply.all("vary"), reply.all("x-from")) == (["old/1.0"], ["Accept"], [])
    assert running.upstream.requests[-1].all("x-tenant") == []
    reply = await running.talk(call("/answers"))
    assert (reply.all("x-a"), reply.one("x-b")) == (["2"], reply.one("x-request-id"))
    reply = await running.talk(call("/crossed", "Origin: https://app.example.com"))
    assert reply.all("vary") == ["Accept", "Origin"]


async def test_values_name_who_calls(tmp_path: Path, store: Store) -> None:
    client, _ = await new_client(store, scopes=frozenset({"notes:read", "notes:write"}))
    ada = await store.users.create("ada", None, None, "$argon2id$fake")
    async with rig(tmp_path, store, routes=ROUTES) as made:
        for user, expected in ((ada, "ada"), (None, None)):
            subject = None if user is None else user.subject
            issued = await store.tokens.issue(client.client_id, expected, frozenset({"notes:read"}), 3600, "bearer")
            spoofed = ("Remote-User: root", "X-Mail: root", "X-Who: root", "X-Tenant: root")
            reply = await made.talk(call("/known", f"Authorization: Bearer {issued.access_token}", *spoofed))
            seen = made.upstream.requests[-1]
            assert reply.status == 200
            assert seen.all("x-tenant") == [client.client_id]
            assert seen.all("x-who") == [f"{subject or client.client_id}/notes:read"]
            assert seen.all("x-mail") == []  # nobody's address is known, the client's word least
            names = [name.encode("latin-1").decode() for name in seen.all("remote-user")]
            assert names == ([] if expected is None else [expected])
            assert seen.all("authorization") == []


@given(st.dictionaries(st.sampled_from(["username", "email"]), st.one_of(st.none(), st.text())))
def test_no_value_ends_its_line(known: dict[str, str | None]) -> None:
    changes = Changes({"X-A": "a{username}b", "X-B": "{email}"}, {"X-C": "{{{username}}}"}, ())
    lines = changes.shape(known).lines
    names = [line.partition(b":")[0] for line in lines.split(b"\r\n")]
    expected = [b"X-A"] if known.get("username") is not None else []
    expected += [b"X-B"] if known.get("email") is not None else []
    expected += [b"X-C"] if known.get("username") is not None else []
    assert names == [*expected, b""]
    assert not [byte for byte in lines.replace(b"\r\n", b"") if byte < 0x20 or byte == 0x7F]


async def test_a_users_name_is_one_line_at_most(tmp_path: Path, store: Store) -> None:
    changes = Changes({"X-Who": "{username}"}, {}, ())
    assert (
        changes.shape({"username": "a\r\nX-Admin: 1\r\n\r\nGET / HTTP/1.1"}).lines
        == b"X-Who: aX-Admin: 1GET / HTTP/1.1\r\n"
    )
    assert changes.shape({"username": "\ud800é"}).lines == "X-Who: ?é\r\n".encode()


# fmt: off
FAULTS: list[tuple[dict[str, Any], str, str]] = [
    *[({"request_headers": {verb: {name: "x"}}}, f"request_headers.{verb}.{name}", said)
      for verb in ("set", "add")
      for name, said in (
          ("Host", "upstream_host"), ("Content-Length", "frames"), ("transfer-encoding", "frames"), ("TE", "frames"),
          ("Connection", "frames"), ("Upgrade", "frames"), ("Expect", "frames"), ("Trailer", "frames"),
          ("Proxy-Authorization", "frames"), ("Max-Forwards", "frames"), ("Authorization", "forward_authorization"),
          ("Signature", "forward_authorization"), ("X-Auth-Subject", "own to say"), ("x-auth-scope", "own to say"),
          ("X-Forwarded-For", "own to say"), ("X-Forwarded-User", "own to say"), ("Forwarded", "own to say"),
          ("X-Request-Id", "own to say"), ("X-Original-URL", "own to say"), ("X-HTTP-Method-Override", "own to say"),
          ("Remote-User", '"{username}" or "{subject}"'), ("X-Real-IP", 'must be "{address}"'),
      )],
    ({"request_headers": {"set": {"Cookie": "gateway_session=1"}}}, "request_headers.set.Cookie", "cookie"),
    ({"request_headers": {"remove": ["X-Forwarded-For"]}}, "request_headers.remove.X-Forwarded-For", "own to say"),
    ({"request_headers": {"remove": ["Content-Length"]}}, "request_headers.remove.Content-Length", "frames"),
    ({"request_headers": {"set": {"X-A": "{client}"}}}, "request_headers.set.X-A", "knows no {client}; there are"),
    ({"request_headers": {"set": {"X-A": "a{"}}}, "request_headers.set.X-A", "knows no {;"),
    ({"request_headers": {"set": {"X-A": "a\r\nb: c"}}}, "request_headers.set.X-A", "printable ASCII"),
    ({"request_headers": {"set": {"X-A": "é"}}}, "request_headers.set.X-A", "printable ASCII"),
    ({"request_headers": {"set": {"X_A": "b"}}}, "request_headers.set.X_A", "name of a header field"),
    ({"request_headers": {"set": {"X A": "b"}}}, 'request_headers.set."X A"', "name of a header field"),
    ({"request_headers": {"set": {"X-A": "1", "x-a": "2"}}}, "request_headers.set.X-A", "stands in set too"),
    ({"request_headers": {"set": {"X-A": "1"}, "remove": ["x-A"]}}, "request_headers.remove.x-A", "stands in set too"),
    ({"request_headers": {"set": {"X-A": "{username}"}}, "auth": "none"}, "request_headers.set.X-A", "nobody knows"),
    ({"response_headers": {"set": {"Content-Length": "1"}}}, "response_headers.set.Content-Length", "frames"),
    ({"response_headers": {"add": {"Connection": "close"}}}, "response_headers.add.Connection", "frames"),
    ({"response_headers": {"remove": ["Transfer-Encoding"]}}, "response_headers.remove.Transfer-Encoding", "frames"),
    ({"response_headers": {"set": {"Date": "now"}}}, "response_headers.set.Date", "frames"),
    ({"response_headers": {"set": {"Clear-Site-Data": "*"}}}, "response_headers.set.Clear-Site-Data", "sign-in pages"),
    ({"response_headers": {"add": {"Set-Cookie": "gateway_session=1"}}}, "response_headers.add.Set-Cookie", "cookie"),
    ({"response_headers": {"set": {"Access-Control-Allow-Origin": "*"}}, "cors": {"origins": ["*"]}},
     "response_headers.set.Access-Control-Allow-Origin", "said by cors"),
]
# fmt: on


@pytest.mark.parametrize(("keys", "path", "message"), FAULTS)
def test_field_that_would_deceive_or_frame_is_a_fault(keys: dict[str, Any], path: str, message: str) -> None:
    route = {"name": "r", "path": "/a", "auth": ["bearer"], "upstreams": ["http://x"], **keys}
    with pytest.raises(ConfigError) as raised:
        parse({"server": {"public_url": "http://gateway.test"}, "routes": [route]})
    fault = raised.value.faults[0]
    assert fault.path == f"routes[0].{path}"
    assert message in fault.message
