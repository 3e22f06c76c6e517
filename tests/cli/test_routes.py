"""`gateway routes test`: what would become of a call that was never made."""

import json
from typing import Any

import pytest

from tests.cli.conftest import Terminal, matches

APP = "https://app.example.com"
UPSTREAM = {"upstreams": ["http://127.0.0.1:9"]}
ROUTES: list[dict[str, Any]] = [
    {**UPSTREAM, "name": "notes", "path": "/api/notes", "auth": ["bearer", "mac"], "strip_prefix": "/api"},
    {**UPSTREAM, "name": "write", "path": "/api/write", "auth": ["bearer"], "scopes": ["notes:write"]},
    {**UPSTREAM, "name": "public", "path": "/public", "auth": "none", "methods": ["GET", "PUT"], "max_body": "1KiB"},
    {
        "name": "spread",
        "path": "/spread",
        "auth": "none",
        "upstreams": ["http://127.0.0.1:9", {"url": "http://127.0.0.1:10", "weight": 2}],
    },
    {**UPSTREAM, "name": "wiki", "path": "/wiki", "auth": ["session"], "groups": ["staff"], "max_age": "1h"},
    {**UPSTREAM, "name": "hosted", "path": "/public", "auth": "none", "hosts": ["other.example.com"]},
    {**UPSTREAM, "name": "inner", "path": "/inner", "auth": "none", "allow": ["10.0.0.0/8"]},
    {
        **UPSTREAM,
        "name": "pages",
        "path": "/pages",
        "auth": ["bearer"],
        "cors": {"origins": [APP]},
        "websocket": {"origins": [APP]},
        "identity_jwt": True,
        "hold": "64KiB",
    },
    {"name": "moved", "path": "/moved", "auth": "none", "redirect": "/elsewhere"},
    {"name": "closed", "path": "/closed", "auth": "none", "respond": {"status": 503}},
]
PREFLIGHT = ("--header", "Access-Control-Request-Method: PUT")
HANDSHAKE = ("--header", "Connection: Upgrade", "--header", "Upgrade: websocket")
SESSION = f"Cookie: __Host-gateway_session=gwb_{'a' * 40}"
SCOPES = {"notes:read": "Read your notes", "notes:write": "Write notes"}


@pytest.fixture
def routed(gateway: Terminal) -> Terminal:
    """A terminal with routes; the database is only asked for tokens."""
    gateway.rewrite({"scopes": SCOPES, "routes": ROUTES})
    return gateway


def judged(terminal: Terminal, *arguments: str, text: str = "") -> tuple[int, Any]:
    """The exit code and what would become of the call."""
    answer = terminal("routes", "test", *arguments, "--json", text=text)
    assert answer.err == ""
    return answer.code, json.loads(answer.out)


def stopped(told: Any) -> str | None:
    """The step at which it would be refused."""
    return next((step["step"] for step in told["steps"] if step["outcome"] in ("refused", "failed")), None)


@pytest.mark.parametrize(
    ("arguments", "route", "status", "step", "cause"),
    [
        (("GET", "/public/1?x=1"), "public", None, None, ""),
        (("GET", "https://other.example.com/public"), "hosted", None, None, ""),
        (("PUT", "/public", "--header", "Content-Length: 1024"), "public", None, None, ""),
        (("PUT", "/public", "--header", "Content-Length: 1025"), "public", 413, "body", "larger than 1024"),
        (("POST", "/public"), None, 405, "route", "does not support that method"),
        (("GET", "/nothing"), None, 404, "route", "Nothing is served"),
        (("GET", "/public/../api"), None, 400, "route", "dot segment"),
        (("GET", "https://evil.test/oauth2/token"), None, 421, "route", "api.example.com"),
        (("GET", "/api/notes"), "notes", 401, "credential", "no credential"),
        (("GET", "/api/notes?access_token=x"), "notes", 400, "credential", "token in the query"),
        (("GET", "/api/notes", "--token", "gwa_abc"), "notes", 401, "token", "invented token"),
        (("GET", "/api/notes", "--header", "Authorization: Basic YTpi"), "notes", 401, "credential", "a scheme"),
        (("GET", "/wiki"), "wiki", 401, "credential", "no session"),
        (("GET", "/wiki", "--header", "Accept: text/html"), "wiki", 303, "credential", "no session"),
        (("GET", "/wiki", "--header", SESSION), "wiki", 401, "token", "invented session"),
        (("POST", "/wiki", "--header", SESSION), "wiki", 403, "credential", "a call of another site"),
        (("GET", "https://other.example.com/wiki"), "wiki", 421, "credential", "a session at another host"),
        (("GET", "/public", "--header", "Host: a b"), None, 400, "head", "Host"),
        (("GET", "/public", "--header", "X_Y: 1"), None, 400, "head", "underscore"),
        (("G ET", "/public"), None, 400, "head", "request line"),
        (("GET", "/inner"), "inner", 403, "address", "127.0.0.1"),
        (("GET", "/inner", "--address", "10.1.2.3"), "inner", None, None, ""),
        (("OPTIONS", "/pages", *PREFLIGHT, "--header", f"Origin: {APP}"), "pages", None, None, ""),
        (
            ("OPTIONS", "/pages", *PREFLIGHT, "--header", "Origin: https://evil.test"),
            "pages",
            403,
            "cors",
            "cors.origins",
        ),
        (
            ("GET", "/pages", *HANDSHAKE, "--header", "Origin: https://evil.test"),
            "pages",
            403,
            "cors",
            "websocket.origins",
        ),
        (("GET", "/pages", *HANDSHAKE, "--header", f"Origin: {APP}"), "pages", 401, "credential", "no credential"),
        (("GET", "/public", *HANDSHAKE), "public", 426, "head", "version of WebSocket"),
        (("GET", "/moved/1"), "moved", None, None, ""),
        (("GET", "/closed"), "closed", None, None, ""),
        (("", "/public"), None, 400, "head", "request line"),
    ],
)
def test_call_is_judged_as_the_gateway_would(
    routed: Terminal, arguments: tuple[str, ...], route: str | None, status: int | None, step: str | None, cause: str
) -> None:
    code, told = judged(routed, *arguments)
    assert (code, told["route"], told["status"], stopped(told)) == (0 if step is None else 1, route, status, step)
    assert cause in (told["cause"] or "")
    assert bool(told["mend"]) == (step is not None)


LIMITED: dict[str, Any] = {
    "rate": [{"by": "client", "limit": "100/s", "burst": 2}, {"by": "address", "limit": "10/m"}],
    "quota": [{"by": "user", "limit": "2/day"}],
    "concurrency": 1,
}


def test_limits_that_would_apply_are_told_with_whose_calls_they_count_and_count_nothing(gateway: Terminal) -> None:
    route = {**UPSTREAM, **LIMITED, "name": "notes", "path": "/notes", "auth": ["bearer"]}
    open_route = {**UPSTREAM, "name": "open", "path": "/open", "auth": "none"}
    gateway.rewrite({"scopes": SCOPES, "routes": [route, open_route]})
    client_id = gateway.client()["client_id"]
    token = gateway("token", "issue", "--client", client_id, "--json").json["access_token"]
    for _ in range(4):  # more often than the quota, the burst and the concurrency let pass
        code, told = judged(gateway, "GET", "/notes", "--token", token, "--address", "2001:db8::7")
        assert code == 0
    [step] = [step for step in told["steps"] if step["step"] == "limit"]
    assert step["text"] == (
        f"10/minute by address (10 at once, 2001:db8::/64); 100/second by client (2 at once, client {client_id}); "
        f"2/day by user (user {client_id}); 1 under way (all calls of notes); not counted by this"
    )
    assert told["limits"][1] == {"limit": "100/second by client", "whose": f"client {client_id}", "at_once": 2}
    assert "100/second by client (2 at once" in gateway("routes", "test", "GET", "/notes", "--token", token).out
    code, told = judged(gateway, "GET", "/notes")  # nobody's, so that only the address is known
    assert (code, [limit["whose"] for limit in told["limits"]]) == (1, ["127.0.0.1", None, None, "all calls of notes"])
    assert judged(gateway, "GET", "/open")[1]["limits"] == []


def test_file_alone_decides_where_no_token_is_named(routed: Terminal) -> None:
    nowhere = {"url": "postgresql://nobody@127.0.0.1:1/none"}
    routed.rewrite({"scopes": SCOPES, "routes": ROUTES, "database": nowhere})
    assert judged(routed, "GET", "/public")[0] == 0
    assert judged(routed, "GET", "/api/notes")[1]["status"] == 401
    assert "database.url" in routed("routes", "test", "GET", "/api/notes", "--token", "x").err


def test_token_that_fits_passes_and_is_told_by_its_digest_alone(routed: Terminal) -> None:
    client = routed.client("--scope", "notes:read")
    token = routed("token", "issue", "--client", client["client_id"], "--json").json["access_token"]
    code, told = judged(routed, "GET", "/api/notes/1", "--token", "-", text=token + "\n")
    assert (code, told["outcome"]) == (0, "would pass")
    steps = {step["step"]: step["text"] for step in told["steps"]}
    assert client["client_id"] in steps["token"]
    assert steps["upstream"] == "127.0.0.1:9 would get GET /notes/1"
    assert token not in json.dumps(told)
    code, told = judged(routed, "GET", "/api/write", "--token", token)
    assert (code, told["status"], told["cause"], told["scopes"]) == (1, 403, "lacks notes:write", ["notes:write"])
    routed("token", "revoke", token)
    assert judged(routed, "GET", "/api/notes", "--token", token)[1]["cause"] == "revoked token"


def test_signed_call_is_judged_and_its_nonce_stays(routed: Terminal) -> None:
    client = routed.client("--token-type", "mac")
    issued = routed("token", "issue", "--client", client["client_id"], "--json").json
    url = "https://api.example.com/api/notes"
    named = ("--id", issued["access_token"], "--key", issued["mac_key"], "--method", "GET", "--url", url)
    field = f"Authorization: {routed('mac', 'sign', *named, '--json').json['authorization']}"
    for _ in range(2):
        assert judged(routed, "GET", url, "--header", field)[0] == 0
    code, told = judged(routed, "GET", url + "/other", "--header", field)
    assert (code, told["cause"], stopped(told)) == (1, "wrong MAC", "signature")


def test_lines_say_what_would_happen_and_what_to_do(routed: Terminal) -> None:
    answer = routed("routes", "test", "POST", "/public")
    assert (answer.code, answer.err) == (1, "")
    lines = [line.split(maxsplit=1) for line in answer.out.splitlines() if line]
    assert ["outcome", "would be refused"] in lines
    assert ["public", "(/public) does not match: it is for GET, PUT"] in lines
    assert any(line[0] == "mend" for line in lines)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("GET", "api.example.com/x"), "URL 'api.example.com/x': is neither a path"),
        (("GET", "ftp://a/x"), "URL 'ftp://a/x': is neither a path"),
        (("GET", "http:///x"), "URL 'http:///x': needs a host"),
        (("GET", "http://u:hush@a/x"), "needs a host and no credentials"),
        (("GET", "http://[::1/x"), "URL 'http://\\[::1/x': "),
        (("GET", "/x\r\nHost: evil"), "has a line end in it"),
        (("GET", "/x", "--header", "Authorization: Bearer hush\r\nc: d"), "has a line end in it"),
        (("GET", "/x", "--header", "hush"), "--header: has no colon"),
    ],
)
def test_what_is_no_call_is_refused_in_one_line(routed: Terminal, arguments: tuple[str, ...], told: str) -> None:
    fault = routed("routes", "test", *arguments).fault
    assert matches(told, fault)
    assert fault.isprintable()
    assert "hush" not in fault


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("GET", "/moved/1"), "the route leads to /elsewhere/1 (307)"),
        (("GET", "/closed"), "the route answers 503 by itself"),
    ],
)
def test_what_a_route_does_in_the_upstream_s_place_is_told(
    routed: Terminal, arguments: tuple[str, ...], text: str
) -> None:
    steps = {step["step"]: step["text"] for step in judged(routed, *arguments)[1]["steps"]}
    assert steps["upstream"] == text


def test_call_on_a_route_with_several_upstreams_is_told_with_their_weights(routed: Terminal) -> None:
    code, told = judged(routed, "GET", "/spread/1")
    steps = {step["step"]: step["text"] for step in told["steps"]}
    assert code == 0
    assert steps["upstream"] == "one of 127.0.0.1:9 (weight 1), 127.0.0.1:10 (weight 2) would get GET /spread/1"
