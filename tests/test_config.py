"""What a good configuration gives: values, defaults, secrets, compiled routes, and the example that shows every key."""

import json
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import config
from gateway.config import Config, Tokens, reference
from gateway.config.tables import Issuer, Table, table_within
from gateway.crypto import new_master_key
from gateway.proxy.dispatch import Terms
from gateway.proxy.limits import DEFAULT as UNLESS_STATED
from gateway.routing import HealthCheck, Origin
from tests.serving import ROOT, write_key

EXAMPLE = ROOT / "config.example.toml"

SMALLEST: dict[str, Any] = {"server": {"public_url": "https://api.example.com"}}


def _with_route(**route: Any) -> Config:
    usual = {"name": "r", "path": "/r", "upstreams": ["http://127.0.0.1:9000"], "auth": "none"}
    return config.parse(SMALLEST | {"routes": [usual | route]})


# -- values and defaults -------------------------------------------------------------------------------------


def test_smallest_file_gives_the_documented_defaults() -> None:
    read = config.parse(SMALLEST)
    assert (read.server.address, read.admin.address) == (("127.0.0.1", 8080), ("127.0.0.1", 9901))
    assert (read.server.workers, read.server.oauth_prefix, read.server.trusted_proxies) == (2, "/oauth2", ())
    assert (read.database.embedded, read.database.data_dir) == (True, "gateway-data")
    assert (read.keys.master.file, read.keys.previous) == ("gateway-data/master.key", ())
    assert (read.tokens.type, read.tokens.access_ttl, read.tokens.refresh_ttl) == ("bearer", 3600, 14 * 86400)
    assert (read.tokens.code_ttl, read.tokens.refresh_grace, read.tokens.stale_for) == (60, 0, 0)
    assert (read.mac.skew, read.mac.algorithms, read.mac.drafts) == (60, ("hmac-sha-256",), ("01",))
    assert (read.scopes, read.routes, read.branding.name) == ({}, (), "Gateway")
    assert read.tokens == Tokens()
    assert read.passwords.min_length == 8


@pytest.mark.parametrize(
    ("written", "seconds"), [("1s", 1), ("90s", 90), ("15m", 900), ("2h", 7200), ("14d", 1209600), ("3650d", 315360000)]
)
def test_duration_is_read_in_seconds(written: str, seconds: float) -> None:
    assert config.parse(SMALLEST | {"tokens": {"access_ttl": written}}).tokens.access_ttl == seconds


@given(st.integers(1, 3650 * 86400 // 60), st.sampled_from("smhd"))
def test_duration_is_read_or_refused_by_its_bounds(count: int, unit: str) -> None:
    seconds = count * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    tables = SMALLEST | {"tokens": {"refresh_ttl": f"{count}{unit}"}}
    if seconds <= 3650 * 86400:
        assert config.parse(tables).tokens.refresh_ttl == seconds
    else:
        with pytest.raises(config.ConfigError, match=r"tokens\.refresh_ttl"):
            config.parse(tables)


@pytest.mark.parametrize(("written", "count"), [("0B", 0), ("64KiB", 65536), ("1MiB", 1048576), ("2GiB", 2**31)])
def test_size_is_read_in_bytes(written: str, count: int) -> None:
    assert _with_route(max_body=written).routes[0].max_body == count


@pytest.mark.parametrize(
    "bound",
    [("code_ttl", "10m"), ("refresh_grace", "60s"), ("refresh_grace", "0s"), ("stale_for", "0s"), ("stale_for", "1d")],
)
def test_lifetimes_reach_their_bounds(bound: tuple[str, str]) -> None:
    config.parse(SMALLEST | {"tokens": dict([bound])})


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("localhost:65535", ("localhost", 65535)),
        ("[::1]:8080", ("::1", 8080)),
        ("[::]:80", ("::", 80)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
    ],
)
def test_listen_address_is_split(written: str, address: tuple[str, int]) -> None:
    read = config.parse({"server": SMALLEST["server"] | {"listen": written}})
    assert read.server.address == address


@pytest.mark.parametrize(
    ("url", "host", "port", "secure"),
    [
        ("https://api.example.com", "api.example.com", 443, True),
        ("https://API.Example.com/", "api.example.com", 443, True),
        ("http://127.0.0.1:8080", "127.0.0.1", 8080, False),
        ("http://[::1]:8080", "[::1]", 8080, False),
        ("http://my_host", "my_host", 80, False),
    ],
)
def test_public_url_is_kept_and_taken_apart(url: str, host: str, port: int, secure: bool) -> None:
    server = config.parse({"server": {"public_url": url}}).server
    assert (server.issuer, server.origin) == (url, url.rstrip("/"))
    assert (server.host, server.port, server.secure) == (host, port, secure)


def test_trusted_proxies_are_networks() -> None:
    tables = {"server": SMALLEST["server"] | {"trusted_proxies": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"]}}
    assert config.parse(tables).server.trusted_proxies == (
        ip_network("10.0.0.0/8"),
        ip_network("192.0.2.1/32"),
        ip_network("2001:db8::/32"),
    )


def test_hosts_are_kept_in_lower_case_and_once() -> None:
    assert _with_route(hosts=["A.example.", "a.example", "b.example"]).routes[0].hosts == ("a.example", "b.example")


def test_scopes_of_all_methods_are_gathered() -> None:
    route = _with_route(auth=["bearer"], scopes={"GET": ["a", "b"], "*": ["c"]}).routes[0]
    assert route.all_scopes == {"a", "b", "c"}
    assert route.schemes == ("bearer",)


def test_routes_may_differ_in_hosts_or_methods_alone() -> None:
    usual = {"path": "/r", "upstreams": ["http://127.0.0.1:9000"], "auth": "none"}
    routes = [
        usual | {"name": "a"},
        usual | {"name": "b", "hosts": ["x"]},
        usual | {"name": "c", "methods": ["GET"]},
        usual | {"name": "d", "methods": ["GET"], "hosts": ["x"]},
    ]
    assert len(config.parse(SMALLEST | {"routes": routes}).routes) == 4


def test_route_may_stand_beside_the_metadata() -> None:
    _with_route(path="/.well-known/acme-challenge")
    _with_route(path="/")
    _with_route(path="/.well-known/oauth-authorization-server/elsewhere")
    _with_route(path="/oauth2x")


# -- files and secrets ---------------------------------------------------------------------------------------


def _file(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


MINIMAL = '[server]\npublic_url = "https://api.example.com"\n'


def test_first_start_of_an_embedded_database_has_no_keyring(tmp_path: Path) -> None:
    settings = config.load(_file(tmp_path, MINIMAL))
    assert settings.keyring is None
    assert settings.database_url is None
    assert settings.data_dir == tmp_path / "gateway-data"
    assert settings.master_key_file == tmp_path / "gateway-data" / "master.key"
    assert not settings.data_dir.exists()


def test_secrets_are_found_beside_the_file_and_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_key(tmp_path / "old.key", f"\ufeff{new_master_key()}\r\n")
    monkeypatch.setenv("TEST_MASTER_KEY", new_master_key())
    monkeypatch.setenv("TEST_DATABASE_URL", "postgresql://gateway@db.example/gateway")
    text = (
        '[database]\nurl = { env = "TEST_DATABASE_URL" }\n'
        '[keys]\nmaster = { env = "TEST_MASTER_KEY" }\nprevious = [{ file = "old.key" }]\n'
    )
    settings = config.load(_file(tmp_path, MINIMAL + text))
    assert settings.database_url == "postgresql://gateway@db.example/gateway"
    assert settings.keyring is not None
    assert len(settings.keyring.key_ids) == 2
    assert settings.master_key_file is None
    assert "postgresql://" not in repr(settings)


def test_plain_database_url_stays_out_of_representations() -> None:
    read = config.parse(SMALLEST | {"database": {"url": "postgresql://gateway:confidential@db/gateway"}})
    assert "confidential" not in repr(read)
    assert not read.database.embedded


def test_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert config.load(path).config.server.public_url == "https://api.example.com"


def test_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _file(tmp_path, MINIMAL)
    monkeypatch.chdir(tmp_path)
    assert config.load(Path("config.toml")).base == tmp_path


def test_parsed_configuration_is_resolved_like_a_file(tmp_path: Path) -> None:
    path = _file(tmp_path, MINIMAL)
    assert config.resolve(config.parse(SMALLEST), path) == config.load(path)


_NOTES = (
    '[[routes]]\nname = "notes"\npath = "/notes"\nhosts = ["notes.example"]\nauth = {}\n'
    'upstreams = ["http://127.0.0.1:9000"]\n'
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[server]\npublic_url = "http://api.example.com"', "travel in the clear"),
        (MINIMAL + '[database]\nurl = "postgresql://a:b@h/d"', "password in plain text"),
        (MINIMAL + '[database]\nreplicas = ["postgresql://a:b@h/d"]', "database.replicas[0]: contains a password"),
        (
            MINIMAL + '[[routes]]\nname = "r"\npath = "/"\nauth = "none"\nupstreams = ["http://127.0.0.1:1"]',
            "shares the host api.example.com",
        ),
        ('[server]\npublic_url = "https://0.0.0.0"', "server.public_url: 0.0.0.0 is an address to listen on"),
        ('[server]\npublic_url = "https://[::]"', "server.public_url: [::] is an address to listen on"),
        (MINIMAL + 'trusted_proxies = ["0.0.0.0/0"]', "server.trusted_proxies: 0.0.0.0/0 lets everybody claim"),
        (MINIMAL + 'trusted_proxies = ["::/0", "10.0.0.0/8"]', "server.trusted_proxies: ::/0 lets everybody claim"),
        (
            MINIMAL + _NOTES.format('"none"') + "trust_request_id = true",
            '_id (route "notes"): has no effect',
        ),
        (MINIMAL + '[tokens]\naccess_ttl = "1h"\nrefresh_ttl = "1h"', "tokens.refresh_ttl: is no longer than"),
        *[
            (
                MINIMAL + '[tokens]\ntype = "mac"\n' + _NOTES.format('["bearer"]') + more,
                'takes "bearer" only; add "mac"',
            )
            for more in ("", 'dpop = "optional"', 'dpop = "required"')
        ],
        (
            MINIMAL + '[mac]\nalgorithms = ["hmac-sha-1", "hmac-sha-256"]\n' + _NOTES.format('["signature"]'),
            'clients get "hmac-sha-1", the first, unless created with another',
        ),
        *[
            (MINIMAL + f'listen = "{listen}"\n' + _NOTES.format('["bearer"]'), "leads back to server.listen")
            for listen in ("127.0.0.1:9000", "0.0.0.0:9000", "localhost:9000", "[::]:9000")
        ],
    ],
)
def test_what_works_but_should_be_known_is_a_warning(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "gateway-data").mkdir()
    write_key(tmp_path / "gateway-data" / "master.key", new_master_key())
    (warning,) = config.load(_file(tmp_path, text)).warnings
    assert words in warning


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "127.0.0.2", "demo.localhost"])
def test_plain_http_on_loopback_is_no_warning(tmp_path: Path, host: str) -> None:
    assert config.load(_file(tmp_path, f'[server]\npublic_url = "http://{host}"')).warnings == ()


# -- compiled routes -----------------------------------------------------------------------------------------


def test_route_is_compiled_for_the_access_plane() -> None:
    parsed = _with_route(
        path="/api/notes",
        hosts=["Notes.example"],
        methods=["GET", "POST"],
        upstreams=["http://127.0.0.1:9000", {"url": "https://[::1]", "weight": 3}, {"url": "http://Backend"}],
        health={"path": "/healthz?full=1", "interval": "10s"},
        connections=7,
        upstream_host="internal.example:8000",
        strip_prefix="/api",
        auth=["bearer", "mac"],
        scopes={"GET": ["read"], "*": ["write"]},
    )
    (route,), terms = config.compile_routes(parsed), Terms.of(parsed.routes[0])
    assert (route.path, route.strip_prefix) == (b"/api/notes", b"/api")
    assert route.host == b"notes.example"
    assert route.methods == {b"GET", b"POST"}
    assert route.upstreams == (Origin("127.0.0.1", 9000), Origin("::1", 443, tls=True), Origin("backend", 80))
    assert [origin.authority for origin in route.upstreams] == [b"127.0.0.1:9000", b"[::1]", b"backend"]
    assert (terms.weights, terms.connections) == ((1, 3, 1), 7)
    assert terms.health == HealthCheck(b"/healthz?full=1", 10.0, 2.0, healthy=2, unhealthy=3)
    assert (route.upstream_host, route.schemes) == (b"internal.example:8000", ("bearer", "mac"))
    assert route.scopes_for("GET") == route.scopes_for("HEAD") == {"read"}
    assert route.scopes_for("DELETE") == {"write"}


def test_what_a_route_leaves_unsaid_is_as_its_texts_say() -> None:
    texts = {name: key["description"] for name, key in reference.schema()["$defs"]["Route"]["properties"].items()}
    terms = Terms.of(_with_route().routes[0])
    assert (terms.connections, terms.connect_timeout, terms.idle_timeout) == (None, None, None)
    assert f"{UNLESS_STATED.upstream_connections} unless stated" in texts["connections"]
    assert f"{UNLESS_STATED.connect:g} seconds unless stated" in texts["connect_timeout"]
    assert f"{UNLESS_STATED.stream_idle / 60:g} minutes unless stated" in texts["idle_timeout"]
    assert f"{terms.max_message // 1024**2} MiB unless stated" in texts["websocket"]
    assert terms.max_message == Terms.of(_with_route(websocket={}).routes[0]).max_message


@pytest.mark.parametrize(
    ("public_url", "hosts", "path", "resources"),
    [
        ("https://api.example.com", [], "/api/notes", ["https://api.example.com/api/notes"]),
        ("https://api.example.com/", [], "/api/notes", ["https://api.example.com/api/notes"]),
        ("https://api.example.com", [], "/", ["https://api.example.com"]),
        ("https://api.example.com", ["b.example", "a.example"], "/", ["https://b.example", "https://a.example"]),
        ("https://api.example.com:8443", ["b.example"], "/x", ["https://b.example:8443/x"]),
        ("https://api.example.com:443", ["b.example"], "/x", ["https://b.example/x"]),
        ("http://127.0.0.1:8080", ["notes.localhost"], "/x", ["http://notes.localhost:8080/x"]),
        ("http://api.example.com", ["[::1]"], "/x", ["http://[::1]/x"]),
    ],
)
def test_resource_is_where_clients_reach_the_route(
    public_url: str, hosts: list[str], path: str, resources: list[str]
) -> None:
    route = {"name": "r", "path": path, "hosts": hosts, "upstreams": ["http://127.0.0.1:9000"], "auth": "none"}
    compiled = config.compile_routes(config.parse({"server": {"public_url": public_url}, "routes": [route]}))
    assert [one.resource for one in compiled] == resources


def test_one_list_of_scopes_counts_for_all_methods() -> None:
    (route,) = config.compile_routes(_with_route(auth=["mac"], scopes=["a", "b"]))
    assert route.scopes_for("GET") == route.scopes_for("BREW") == {"a", "b"}


def test_root_prefix_strips_nothing() -> None:
    assert config.compile_routes(_with_route(strip_prefix="/"))[0].strip_prefix == b""


# -- the example and the schema ------------------------------------------------------------------------------


ISSUER = Issuer(name="x", url="https://x.example", audience=("x",))
_TABLES = {
    name: table
    for name, field in Config.model_fields.items()
    if (table := table_within(field.annotation)) and get_origin(field.annotation) is not dict
}


def _uncommented(*but: str) -> str:
    """The example with every key but these."""
    left = "".join(rf"(?!{key} = )" for key in but)
    return re.sub(rf"^#(?={left}[a-z_]+ = |\[\[)", "", EXAMPLE.read_text(encoding="utf-8"), flags=re.MULTILINE)


def test_example_is_a_good_file(tmp_path: Path) -> None:
    settings = config.load(_file(tmp_path, EXAMPLE.read_text(encoding="utf-8")))
    assert [route.name for route in settings.config.routes] == ["notes"]


def test_example_shows_every_key(tmp_path: Path) -> None:
    tables = tomllib.loads(_uncommented())
    for name in ("logo.svg", "brand.css"):
        (tmp_path / name).touch()
    config.load(_file(tmp_path, _uncommented("respond", "upstream_tls")))  # for other upstreams
    assert tables.pop("scopes")
    assert tables.pop("claims")
    for name in ("routes", "issuers"):
        [tables[name]] = tables[name]
    assert {name: [*shown] for name, shown in tables.items()} == {
        name: [*table.model_fields] for name, table in _TABLES.items()
    }


def test_example_shows_the_defaults() -> None:
    """Uncommented but for what it states, it is the file that states no more."""
    stated = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    small, whole = config.parse(stated), config.parse(tomllib.loads(_uncommented("respond", "upstream_tls")))
    one: Any
    other: Any
    given: Any
    for name, table in _TABLES.items():
        if name == "issuers":  # of which a small installation has none
            one, other, given = ISSUER, whole.issuers[0], ("name", "url", "audience")
        elif name == "routes":
            one, other, given = small.routes[0], whole.routes[0], stated[name][0]
        else:
            one, other, given = getattr(small, name), getattr(whole, name), stated[name]
        for key, field in table.model_fields.items():
            assert key in given or field.default is None or getattr(one, key) == getattr(other, key), f"{name}.{key}"


@pytest.mark.parametrize(
    ("option", "file"), [("--example", "config.example.toml"), ("--reference", "docs/configuration.md")]
)
def test_file_is_what_the_declarations_say(option: str, file: str) -> None:
    told = {"--example": reference.example, "--reference": reference.page}[option]()
    kept = (ROOT / file).read_text(encoding="utf-8")
    assert kept == told, f"make it anew: gateway check-config {option} > {file}"


@pytest.mark.parametrize("table", _TABLES.values(), ids=lambda table: table.__name__)
def test_declaration_has_a_text_and_shows_what_may_stand_there(table: type[Table]) -> None:
    reference.schema()  # where the texts are read
    assert not [key for key, field in table.model_fields.items() if not field.description]
    assert not [key for key, field in table.model_fields.items() if field.get_default() is None and not field.examples]


def test_schema_describes_every_key_as_it_is_written() -> None:
    schema = json.loads(json.dumps(reference.schema()))
    assert schema["required"] == ["server"]
    assert schema["additionalProperties"] is False
    assert [*schema["properties"]] == [*Config.model_fields]
    tokens = schema["$defs"]["Tokens"]["properties"]
    assert [*tokens] == [*Tokens.model_fields]
    assert tokens["code_ttl"] == {
        "type": "string",
        "title": 'duration, "1s" to "10m"',
        "pattern": "^(?:([0-9]{1,9})(s|m|h|d))$",
        "default": "60s",
        "description": "How long an authorization code lives.",
    }
    pattern = schema["$defs"]["Server"]["properties"]["public_url"]["pattern"]
    assert re.search(pattern, "https://api.example.com")
    assert not re.search(pattern, "https://api.example.com/path")
