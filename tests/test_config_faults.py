"""What is wrong with a configuration: every fault at once, each with its path, the value and the mend."""

import datetime as dt
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from gateway import config
from gateway.config import ConfigError, rules
from gateway.config import tables as written

SERVER: dict[str, Any] = {"public_url": "https://api.example.com"}
ROUTE: dict[str, Any] = {"name": "r", "path": "/r", "upstreams": ["http://127.0.0.1:9000"], "auth": ["bearer"]}

# Words that a person who writes TOML should never read.
_JARGON = re.compile(
    r"[Ii]nput|validat|instance|tuple|dict|str_type|NoneType|Reference|Literal|Error|Traceback|\bNone\b|'|\n|\x1b"
)


def _faults(tables: dict[str, Any]) -> dict[str, str]:
    """The faults of tables, by path; the server's table is added where it is absent."""
    with pytest.raises(ConfigError) as raised:
        config.parse({"server": SERVER} | tables)
    found = {fault.path: fault.message for fault in raised.value.faults}
    assert len(found) == len(raised.value.faults), "a path has one fault"
    return found


def _route(**changes: Any) -> dict[str, Any]:
    return {"routes": [{key: value for key, value in (ROUTE | changes).items() if value is not ...}]}


_SINGLE: list[tuple[dict[str, Any], str, str]] = [
    # unknown keys, with what was meant
    ({"bogus": 1}, "bogus", "not a known key; the keys here are server, admin"),
    ({"route": []}, "route", "did you mean routes?"),
    ({"admin": {"listn": "x"}}, "admin.listn", "did you mean listen?"),
    ({"keys": {"master": {"fil": "confidential"}}}, "keys.master.fil", "did you mean file?"),
    (_route(upstream=["http://x"]), "routes[0].upstream", "did you mean upstreams?"),
    (_route(**{"a b\n": 1}), 'routes[0]."a b\\n"', "not a known key"),
    # absent keys, with how they look
    ({"server": {}}, "server.public_url", 'must be set, such as "https://api.example.com"'),
    (_route(auth=...), "routes[0].auth", 'must be set, such as ["bearer"], or "none" for a public route'),
    (_route(name=...), "routes[0].name", 'must be set, such as "notes"'),
    (_route(path=...), "routes[0].path", 'must be set, such as "/api/notes"'),
    (_route(upstreams=...), "routes[0].upstreams", 'must be set, such as ["http://127.0.0.1:9000"]'),
    # tables and arrays of the wrong kind
    ({"admin": 3}, "admin", "must be a table, not 3"),
    ({"tokens": "x"}, "tokens", 'must be a table, not "x"'),
    ({"scopes": ["a"]}, "scopes", "must be a table, not an array"),
    ({"routes": ROUTE}, "routes", "write [[routes]], not [routes]"),
    ({"routes": 1}, "routes", "must be an array in [ ], not 1"),
    ({"routes": [1]}, "routes[0]", "must be a table, not 1"),
    (_route(upstreams="http://x"), "routes[0].upstreams", 'must be an array in [ ], not "http://x"'),
    (_route(upstreams=[]), "routes[0].upstreams", 'must be set, such as ["http://127.0.0.1:9000"]'),
    (_route(hosts={"a": 1}), "routes[0].hosts", "must be an array in [ ], not a table"),
    # scalars
    ({"server": SERVER | {"workers": True}}, "server.workers", "must be a whole number, without quotes, not true"),
    ({"server": SERVER | {"workers": "2"}}, "server.workers", 'must be a whole number, without quotes, not "2"'),
    ({"server": SERVER | {"workers": 2.0}}, "server.workers", "must be a whole number, without quotes, not 2.0"),
    ({"server": SERVER | {"workers": 0}}, "server.workers", "must be at least 1, not 0"),
    ({"server": SERVER | {"workers": 1000}}, "server.workers", "must be at most 256, not 1000"),
    (_route(forward_authorization="yes"), "routes[0].forward_authorization", "must be true or false, without quotes"),
    (_route(dpop="optional", auth=["mac"]), "routes[0].dpop", 'is for bearer tokens; add "bearer" to auth'),
    (_route(dpop=True), "routes[0].dpop", "must be"),
    (_route(auth=["dpop"]), "routes[0].auth[0]", 'must be "bearer", "mac", "signature" or "session"'),
    (_route(identity_jwt=True, auth="none"), "routes[0].identity_jwt", 'auth = "none" asks nobody'),
    ({"tokens": {"type": "mac", "format": "jwt"}}, "tokens.format", "is for bearer tokens"),
    (_route(mac_body_hash="yes"), "routes[0].mac_body_hash", "must be true or false, without quotes"),
    (_route(encoded_slashes="pass"), "routes[0].encoded_slashes", 'must be "refuse" or "keep", not "pass"'),
    (_route(encoded_slashes=True), "routes[0].encoded_slashes", 'must be "refuse" or "keep"'),
    (_route(trust_request_id="yes"), "routes[0].trust_request_id", "must be true or false, without quotes"),
    ({"tokens": {"type": "jwt"}}, "tokens.type", 'must be "bearer" or "mac", not "jwt"'),
    ({"mac": {"drafts": ["03"]}}, "mac.drafts[0]", 'must be "00" or "01", not "03"'),
    ({"mac": {"algorithms": ["md5"]}}, "mac.algorithms[0]", 'must be "hmac-sha-256" or "hmac-sha-1", not "md5"'),
    ({"mac": {"algorithms": []}}, "mac.algorithms", "needs at least one entry"),
    *[
        ({"tokens": {"access_ttl": value}}, "tokens.access_ttl", f"not {shown}")
        for value, shown in [
            ("0s", '"0s"'), ("1", '"1"'), (3600, "3600"), ("1.5h", '"1.5h"'), ("-1s", '"-1s"'), ("3651d", '"3651d"'),
            ("1w", '"1w"'), ("", '""'), ("\uff11s", '"\\uff11s"'), (dt.date(2020, 1, 1), "a date or a time"),
        ]
    ],
    ({"tokens": {"code_ttl": "11m"}}, "tokens.code_ttl", 'from "1s" to "10m"'),
    ({"tokens": {"refresh_grace": "61s"}}, "tokens.refresh_grace", 'from "0s" to "60s"'),
    ({"tokens": {"stale_for": "2d"}}, "tokens.stale_for", 'from "0s" to "1d"'),
    ({"mac": {"skew": "601s"}}, "mac.skew", 'from "1s" to "10m"'),
    *[(_route(max_body=v), "routes[0].max_body", "a size such as") for v in (1024, "1MB", "1 MiB", "-1B", "1mib")],
    *[
        ({"server": SERVER | {"listen": value}}, "server.listen", "HOST:PORT")
        for value in (
            8080, "8080", ":8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:65536", "::1:8080",
            "[::1]", "999.1.1.1:80", "[127.0.0.1]:80", "[fe80::1%eth0]:80", "http://x:80", "*:80", "a b:80",
            "127.0.0.1:٨٠",
        )
    ],
    *[
        ({"server": {"public_url": value}}, "server.public_url", "must be ")
        for value in (
            "", "api.example.com", "ftp://x", "HTTPS://x", "https://", "https://x/y", "https://x?", "https://x#",
            "https://x:0", "https://x:65536", "https://x:", "https://x:80:90", "https://ä.example", "https://a b",
            "https://[::g]", "https://x/\n", "//x", 3, "http://127.1", "http://1.2.3.04", "http://x.5",
        )
    ],
    ({"server": {"public_url": "https://u:confidential@x"}}, "server.public_url", "not contain a user or a password"),
    *[
        ({"server": SERVER | {"trusted_proxies": [value]}}, "server.trusted_proxies[0]", said)
        for value, said in [
            ("10.0.0.5/8", 'write "10.0.0.0/8", not "10.0.0.5/8"'), ("proxy", "network such as"), (3, "such as"),
            ("10.0.0.0/33", "network such as"), ("", "network such as"), ("10.0.0.1:80", "network such as"),
            ("::ffff:10.0.0.0/104", 'write "10.0.0.0/8"'), ("::ffff:192.0.2.1", 'write "192.0.2.1/32"'),
        ]
    ],
    *[
        (_route(path=value), "routes[0].path", "a path of whole, plain")
        for value in ("", "a", "/a/", "//", "/a//b", "/a/../b", "/.", "/a%20b", "/a b", "/ä", "/a?b", "/a#b", "/\\b", 1)
    ],
    *[
        (_route(hosts=[value]), "routes[0].hosts[0]", "a host name such as")
        for value in ("", "http://x", "x:80", "x/y", "*.x", "-x", "x..y", "a" * 254, "[x]", "[fe80::1%eth0]", "x\n", 3)
    ],
    (_route(methods=["get"]), "routes[0].methods[0]", 'methods must be in upper case: write "GET", not "get"'),
    (_route(methods=["purge"]), "routes[0].methods[0]", 'methods must be in upper case: write "PURGE"'),
    (_route(methods=["CONNECT"]), "routes[0].methods[0]", "CONNECT is never forwarded"),
    (_route(methods=["G T"]), "routes[0].methods[0]", 'must be a method such as "GET"'),
    *[
        (_route(upstreams=[value]), "routes[0].upstreams[0]", "must be ")
        for value in ("127.0.0.1:9000", "http://x/path", "http://x?q", "unix:/x", "http://", "http://x:0", 9000)
    ],
    (_route(upstreams=[{"weight": 2}]), "routes[0].upstreams[0].url", 'must be set, such as "http://10.0.0.2:9000"'),
    (_route(upstreams=[{"url": "x"}]), "routes[0].upstreams[0].url", "must be "),
    *[
        (_route(upstreams=[{"url": "http://x", "weight": value}]), "routes[0].upstreams[0].weight", said)
        for value, said in [(0, "at least 1"), (1001, "at most 1000"), (1.5, "whole number"), ("2", "whole number")]
    ],
    (_route(upstreams=[{"url": "http://x", "weigh": 2}]), "routes[0].upstreams[0].weigh", "did you mean weight?"),
    (_route(upstreams=["http://a", {"url": "http://a/"}]), "routes[0].upstreams[1]", "already; give it a weight"),
    *[
        (_route(health={"path": value}), "routes[0].health.path", 'must be a path such as "/healthz"')
        for value in ("", "healthz", "http://x/y", "/a b", "/ä", "/a#b", "/a\r\nX: y", 1)
    ],
    (_route(health={}), "routes[0].health.path", 'must be set, such as "/healthz"'),
    (_route(health="/healthz"), "routes[0].health", 'must be a table, not "/healthz"'),
    (_route(health={"path": "/", "interval": "0s"}), "routes[0].health.interval", 'from "1s"'),
    (_route(health={"path": "/", "unhealthy": 0}), "routes[0].health.unhealthy", "at least 1"),
    (_route(health={"path": "/"}, upstreams=[], redirect="/y"), "routes[0].health", "has nobody to ask"),
    *[(_route(retries=value), "routes[0].retries", said) for value, said in [(-1, "at least 0"), (11, "at most 10")]],
    (_route(connections=0), "routes[0].connections", "at least 1"),
    (_route(upstreams=["http://1.2.3.256"]), "routes[0].upstreams[0]", 'not "http://1.2.3.256"'),
    *[(_route(hosts=[v]), "routes[0].hosts[0]", "a host name such as") for v in ("a" * 64 + ".example", "300.1.1.1")],
    (_route(upstreams=["http://u:confidential@x"]), "routes[0].upstreams[0]", "must not contain a user or a password"),
    *[
        (_route(upstream_host=value), "routes[0].upstream_host", "HOST or HOST:PORT")
        for value in ("", "a b", "x\r\ny", "http://x", "x:99999", "x:0", "x/y", 1)
    ],
    *[(_route(name=v), "routes[0].name", "a name of up to 64") for v in ("", " a", "a b", "-a", "a" * 65, "ä", 1)],
    (_route(auth="bearer"), "routes[0].auth", 'write ["bearer"]'),
    (_route(auth="basic"), "routes[0].auth", 'must be "none", or an array such as ["bearer"], not "basic"'),
    (_route(auth=True), "routes[0].auth", 'must be "none" or an array such as ["bearer", "mac"], not true'),
    (_route(auth=[]), "routes[0].auth", "needs at least one entry"),
    (_route(auth=["none"]), "routes[0].auth[0]", 'write auth = "none", without brackets'),
    (_route(auth=["bearer", "Basic"]), "routes[0].auth[1]", '"signature" or "session", not "Basic"'),
    (_route(scopes="read"), "routes[0].scopes", 'an array such as ["notes:read"], or a table of them by method'),
    (_route(scopes=["a b"]), "routes[0].scopes[0]", "a scope name of printable ASCII"),
    (_route(scopes={"GET": "read"}), "routes[0].scopes.GET", 'must be an array in [ ], not "read"'),
    (_route(scopes={"GET": [3]}), "routes[0].scopes.GET[0]", "a scope name of printable ASCII"),
    (_route(scopes={"*": [""]}), 'routes[0].scopes."*"[0]', "a scope name of printable ASCII"),
    (_route(scopes={"get": []}), "routes[0].scopes.get", 'write "GET", not "get"'),
    ({"scopes": {"a b": "Text"}}, 'scopes."a b"', "a scope name of printable ASCII"),
    ({"scopes": {"(as text)": "Text"}}, "scopes", 'not "(as text)"'),
    ({"scopes": {"a": ""}}, "scopes.a", "text of 1 to 200 printable characters"),
    ({"scopes": {"a": 3}}, "scopes.a", "not 3"),
    ({"passwords": {"min_length": 7}}, "passwords.min_length", "8"),
    ({"passwords": {"min_length": 129}}, "passwords.min_length", "128"),
    ({"passwords": {"min_length": "8"}}, "passwords.min_length", "must be a whole number, without quotes"),
    ({"passwords": {"minimum": 8}}, "passwords.minimum", "the keys here are min_length"),
    *[({"branding": {"name": v}}, "branding.name", "text of 1 to") for v in ("", " ", "a\nb", "\x1b[1m", "a" * 101)],
    *[({"branding": {"accent": v}}, "branding.accent", "a colour such as") for v in ("red", "#12345", "#gggggg", 1)],
    *[({"branding": {key: ""}}, f"branding.{key}", "the name of a file") for key in ("logo", "stylesheet")],
    ({"branding": {"help": "a\tb"}}, "branding.help", "text of 1 to 500"),
    ({"database": {"data_dir": "a\0b"}}, "database.data_dir", "must be the name of a file"),
    ({"database": {"data_dir": f"a/{'b' * 256}"}}, "database.data_dir", "of at most 255 bytes a part, not"),
    ({"keys": {"master": {"file": "\u00e4" * 128}}}, "keys.master.file", "of at most 255 bytes a part, not text"),
    ({"database": {"url": 3}}, "database.url", 'must be "embedded", "postgresql://…" or a reference, not a number'),
    ({"database": {"url": {}}}, "database.url", 'name one place: { file = "…" } or { env = "…" }'),
    ({"keys": {"master": {"file": "a", "env": "B"}}}, "keys.master", "name one place"),
    ({"keys": {"master": {"env": "A=B"}}}, "keys.master.env", "the name of an environment variable"),
    ({"keys": {"previous": {"file": "a"}}}, "keys.previous", "must be an array in [ ], not a table"),
]  # fmt: skip


ISSUER = {"name": "corp", "url": "https://login.example.com", "audience": ["https://api.example.com"]}


def _issuer(**keys: Any) -> dict[str, Any]:
    """A table of an issuer with some keys changed; `...` leaves one out."""
    made = {name: value for name, value in {**ISSUER, **keys}.items() if value is not ...}
    return {"issuers": [made]}


_SINGLE += [
    ({"issuers": ISSUER}, "issuers", "write [[issuers]], not [issuers]"),
    ({"issuers": "corp"}, "issuers", "must be an array"),
    (_issuer(name=...), "issuers[0].name", "must be set, such as"),
    (_issuer(name="a|b"), "issuers[0].name", "must be a name of up to 64 letters"),
    (_issuer(name="https:"), "issuers[0].name", "must be a name of up to 64 letters"),
    (_issuer(url=...), "issuers[0].url", "must be set, such as"),
    (_issuer(url="login.example.com"), "issuers[0].url", "must be the issuer as its tokens name it"),
    (_issuer(url="http://login.example.com"), "issuers[0].url", "http is for this machine alone"),
    (_issuer(url="http://127.0.0.1.example.com"), "issuers[0].url", "http is for this machine alone"),
    (_issuer(url="http://localhost.example.com"), "issuers[0].url", "http is for this machine alone"),
    (_issuer(url="https://login.example.com?x=1"), "issuers[0].url", "without a query"),
    (_issuer(url="https://login.example.com/?x=1"), "issuers[0].url", "without a query"),
    (_issuer(url="https://login.example.com/#x"), "issuers[0].url", "must be the issuer"),
    (_issuer(url="https://ada:confidential@login.example.com"), "issuers[0].url", "must not contain a user"),
    (_issuer(url="https://-.example.com"), "issuers[0].url", "must be the issuer"),
    (_issuer(jwks_uri="ftp://x.example/jwks"), "issuers[0].jwks_uri", "must be where the keys are"),
    (_issuer(audience=...), "issuers[0].audience", "must be set, such as"),
    (_issuer(audience=[]), "issuers[0].audience", "needs at least one entry"),
    (_issuer(audience="https://api.example.com"), "issuers[0].audience", "must be an array"),
    (_issuer(audience=[""]), "issuers[0].audience[0]", "must be text of 1 to 255"),
    (_issuer(algorithms=[]), "issuers[0].algorithms", "needs at least one entry"),
    (_issuer(algorithms=["none"]), "issuers[0].algorithms[0]", "must be"),
    (_issuer(algorithms=["HS256"]), "issuers[0].algorithms[0]", "must be"),
    (_issuer(token_types=["id_token"]), "issuers[0].token_types[0]", "must be"),
    (_issuer(leeway="1h"), "issuers[0].leeway", 'from "0s" to "5m"'),
    (_issuer(scopes={"api.read": "notes:read"}), 'issuers[0].scopes."api.read"', "must be an array"),
    (_issuer(scopes=["notes:read"]), "issuers[0].scopes", "must be a table"),
    (_issuer(subject_claim=""), "issuers[0].subject_claim", "must be text of 1 to 100"),
    (_issuer(secret="confidential"), "issuers[0].secret", "is not a known key"),
    (_route(issuers="corp"), "routes[0].issuers", "must be an array"),
]


@pytest.mark.parametrize(("tables", "path", "said"), _SINGLE)
def test_fault_is_one_plain_line_at_its_path(tables: dict[str, Any], path: str, said: str) -> None:
    faults = _faults(tables)
    assert faults.keys() == {path}
    assert said in faults[path]
    assert not _JARGON.search(f"{path} {faults[path]}")
    assert "confidential" not in faults[path]


def test_absent_server_is_one_fault() -> None:
    with pytest.raises(ConfigError, match=r"\Aserver: must be set, such as a table \[server\] with public_url\Z"):
        config.parse({})


_CONFLICTS: list[tuple[dict[str, Any], str, str]] = [
    ({"routes": [ROUTE, ROUTE | {"path": "/s"}]}, "routes[1].name", '"r" is the name of routes[0] (route "r") too'),
    ({"routes": [ROUTE, ROUTE | {"name": "s"}]}, "routes[1]", 'duplicates routes[0] (route "r"): hosts, path "/r" and'),
    (
        {
            "routes": [
                ROUTE | {"hosts": ["A.example", "b.example"], "methods": ["GET", "PUT"]},
                ROUTE | {"name": "s", "hosts": ["b.example.", "a.example"], "methods": ["PUT", "GET"]},
            ]
        },
        "routes[1]",
        "duplicates routes[0]",
    ),
    (_route(path="/oauth2"), "routes[0].path", "is under server.oauth_prefix"),
    (_route(path="/oauth2/token"), "routes[0].path", "is under server.oauth_prefix"),
    *[
        (_route(path=f"/.well-known/{name}"), "routes[0].path", "the gateway's own metadata")
        for name in (
            "oauth-authorization-server",
            "openid-configuration",
            "oauth-protected-resource",
            "oauth-protected-resource/api",
            "jwks.json",
        )
    ],
    *[
        (_route(path="/.well-known/change-password", hosts=hosts), "routes[0].path", "leads to the gateway's own page")
        for hosts in ([], ["other.example", "api.example.com"])
    ],
    *[
        ({"server": SERVER | {"oauth_prefix": prefix}}, "server.oauth_prefix", "a folder of its own")
        for prefix in ("/", "/.well-known", "/.well-known/oauth")
    ],
    (
        {"server": {"public_url": "http://[0:0::1]"}},
        "server.public_url",
        'clients write its host as "[::1]"; write that',
    ),
    *[
        (
            _route(auth=auth) | {"mac": {"algorithms": ["hmac-sha-1"]}},
            "routes[0].auth",
            '"signature" needs "hmac-sha-256", which is not among mac.algorithms',
        )
        for auth in (["signature"], ["bearer", "mac", "signature"])
    ],
    *[
        (
            {"routes": [ROUTE | first, ROUTE | {"name": "s"} | first | second, ROUTE | {"name": "t"} | third]},
            "routes[2]",
            'is never reached: routes[0] (route "r"), routes[1] (route "s") before it',
        )
        for first, second, third in [
            ({"hosts": ["a.example"]}, {"hosts": ["b.example"]}, {"hosts": ["b.example", "a.example"]}),
            ({"methods": ["GET"]}, {"methods": ["PUT"]}, {"methods": ["PUT", "GET"]}),
            (
                {"hosts": ["a.example"], "methods": ["GET", "PUT"]},
                {"hosts": ["b.example"]},
                {"hosts": ["a.example", "b.example"], "methods": ["GET"]},
            ),
        ]
    ],
    (
        {"routes": [ROUTE | {"hosts": ["a.example", "b.example"]}, ROUTE | {"name": "s", "hosts": ["a.example"]}]},
        "routes[1]",
        'is never reached: routes[0] (route "r") before it, with path "/r" too, takes all its hosts and methods',
    ),
    (
        {"routes": [ROUTE | {"hosts": ["[::1]"]}, ROUTE | {"name": "s", "hosts": ["[0:0::1]"]}]},
        "routes[1]",
        "duplicates routes[0]",
    ),
    (_route(path="/a;b"), "routes[0].path", 'not "/a;b"'),
    *[
        (
            _route(mac_body_hash=True, auth=auth),
            "routes[0].mac_body_hash",
            'is for signed calls only; add "mac" to auth',
        )
        for auth in ("none", ["bearer"])
    ],
    (_route(path="/a/b", strip_prefix="/b"), "routes[0].strip_prefix", 'is not the beginning of path = "/a/b"'),
    (_route(path="/apiary", strip_prefix="/api"), "routes[0].strip_prefix", "is not the beginning"),
    (_route(path="/a", strip_prefix="/a/b"), "routes[0].strip_prefix", "is not the beginning"),
    (_route(auth="none", scopes=["read"]), "routes[0].scopes", 'a route with auth = "none" cannot require scopes'),
    (_route(methods=["GET"], scopes={"PUT": []}), "routes[0].scopes.PUT", "PUT is not among the route's methods"),
    (
        _route(scopes={"GET": ["read", "write"]}) | {"scopes": {"read": "Read"}},
        "routes[0].scopes",
        '"write" is not a known scope; describe it under [scopes]',
    ),
    (_route(scopes=["offline_access"]), "routes[0].scopes", "asks for a refresh token and opens no route"),
    *[
        ({"server": SERVER | {"listen": one}, "admin": {"listen": two}}, "admin.listen", "choose another port")
        for one, two in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "127.0.0.1:8080"),
            ("[::1]:8080", "[::]:8080"),
            ("localhost:8080", "localhost:8080"),
            ("localhost:8080", "127.0.0.1:8080"),
            ("0.0.0.0:8080", "LOCALHOST:8080"),
            ("[::1]:8080", "[0:0:0:0:0:0:0:1]:8080"),
            ("0.0.0.0:8080", "[::]:8080"),
            ("[::]:8080", "127.0.0.1:8080"),
        ]
    ],
]


_CONFLICTS += [
    ({"issuers": [ISSUER, ISSUER | {"url": "https://b.example"}]}, "issuers[1].name", "is that of issuers[0] too"),
    ({"issuers": [ISSUER, ISSUER | {"name": "b"}]}, "issuers[1].url", "is that of issuers[0] too"),
    (_issuer(url=SERVER["public_url"]), "issuers[0].url", "is this gateway"),
    (_route(issuers=["corp"]), "routes[0].issuers", "is the name of none of the [[issuers]]"),
    (_issuer() | _route(issuers=["corp"], auth=["mac"]), "routes[0].issuers", 'add "bearer" to auth'),
    (_issuer() | _route(issuers=["corp"], auth="none"), "routes[0].issuers", 'add "bearer" to auth'),
    (
        _issuer(scopes={"a": ["read", "other"]}) | {"scopes": {"read": "Read"}},
        "issuers[0].scopes",
        "is not a known scope",
    ),
]


@pytest.mark.parametrize(("tables", "path", "said"), _CONFLICTS)
def test_conflict_between_keys_is_one_plain_line(tables: dict[str, Any], path: str, said: str) -> None:
    faults = _faults(tables)
    assert faults.keys() == {path}
    assert said in faults[path]


@pytest.mark.parametrize(
    ("tables", "line"),
    [
        (_route(timeout="0s"), 'routes[0].timeout (route "r"): '),
        (_route(scopes={"GET": ["a b"]}), 'routes[0].scopes.GET[0] (route "r"): '),
        ({"routes": [ROUTE, ROUTE | {"name": "s", "path": "s"}]}, 'routes[1].path (route "s"): '),
        (_route(name=7), "routes[0].name: "),
        (_route(name=...), "routes[0].name: "),
    ],
)
def test_a_fault_in_a_route_names_the_route(tables: dict[str, Any], line: str) -> None:
    with pytest.raises(config.ConfigError) as raised:
        config.parse({"server": SERVER} | tables)
    assert str(raised.value).startswith(line)
    assert len(raised.value.faults) == 1


@pytest.mark.parametrize(
    ("one", "two"), [("127.0.0.1:8080", "127.0.0.1:8081"), ("127.0.0.1:0", "127.0.0.1:0"), ("0.0.0.0:80", "[::1]:80")]
)
def test_listeners_apart_are_no_conflict(one: str, two: str) -> None:
    config.parse({"server": SERVER | {"listen": one}, "admin": {"listen": two}})


_APART = [
    ({"hosts": ["a.example", "b.example"]}, {"hosts": ["b.example", "c.example"]}),
    ({"hosts": ["a.example"]}, {}),
    ({}, {"hosts": ["a.example"]}),
    ({}, {"methods": ["GET"]}),
    ({"hosts": ["a.example"]}, {"hosts": ["a.example"], "methods": ["GET"]}),
    ({"methods": ["GET", "PUT"]}, {"methods": ["GET", "POST"]}),
    ({"methods": ["GET"]}, {"methods": ["GET"], "path": "/r/s"}),
]


@pytest.mark.parametrize(("one", "two"), _APART)
def test_routes_that_some_request_tells_apart_are_no_conflict(one: dict[str, Any], two: dict[str, Any]) -> None:
    config.parse({"server": SERVER, "routes": [ROUTE | one, ROUTE | {"name": "s"} | two]})


def test_issuer_that_no_route_names_is_a_warning() -> None:
    read = config.parse({"server": SERVER} | _issuer())
    assert any("no route names" in line and line.startswith("issuers[0]") for line in rules.warnings(read))
    assert read.trusted_issuers == ()


def test_scopes_without_a_table_are_left_to_the_database() -> None:
    config.parse({"server": SERVER} | _route(scopes=["read"]))


# -- invariants ----------------------------------------------------------------------------------------------

_SCALARS = st.one_of(
    st.booleans(), st.integers(), st.floats(), st.text(max_size=12), st.dates(), st.times(),
    st.sampled_from(["none", "embedded", "1s", "/a", "*", "bearer", "https://a.example"]),
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
_FIELDS = {name: field.annotation for name, field in written.Config.model_fields.items()}


@st.composite
def _tables(draw: st.DrawFn) -> dict[str, Any]:
    """Tables with the right names and anything at all behind them."""
    route = st.dictionaries(st.sampled_from(sorted(written.Route.model_fields)), _VALUES, max_size=12)
    kinds = {
        name: st.dictionaries(st.sampled_from(sorted(kind.model_fields)), _VALUES, max_size=5)
        for name, kind in _FIELDS.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    shapes = st.fixed_dictionaries(
        {}, optional=kinds | {"routes": st.lists(route, max_size=3), "scopes": _VALUES, "other": _VALUES}
    )
    return draw(shapes | st.dictionaries(st.sampled_from(sorted(_FIELDS)), _VALUES, max_size=3))


@given(_tables())
def test_any_tables_give_a_configuration_or_plain_faults(tables: dict[str, Any]) -> None:
    try:
        config.parse(tables)
    except ConfigError as exc:
        lines, faults = str(exc).split("\n"), exc.faults
    else:
        return
    assert len(lines) == len(faults) > 0
    assert all(line.isprintable() for line in lines)


@given(_tables(), st.sampled_from(["keys", "database"]))
def test_no_fault_repeats_what_stands_where_secrets_go(tables: dict[str, Any], table: str) -> None:
    key = "master" if table == "keys" else "url"
    hidden = tables | {table: {key: "confidential-value"}}
    with pytest.raises(ConfigError) as raised:
        config.parse(hidden)
    assert "confidential-value" not in str(raised.value)
