"""TOML → frozen types, every fault at once, each with its path in the file and the mend.

Loading has no side effect: it reads the file and the secrets that it names, and never looks at ports, locks or
the database. The JSON Schema of `Config` is what editors use (`gateway check-config --schema`).
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Final, Literal, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from yarl import URL

from gateway.crypto import Keyring, parse_master_key
from gateway.errors import OperatorError
from gateway.model import MacAlgorithm, MacDraft, TokenType, is_scope_token

AuthScheme = Literal["bearer", "mac"]
Network = IPv4Network | IPv6Network

METHOD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")  # RFC 9110, section 9.1: a token
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?)*")
_IPV6_LITERAL = re.compile(r"\[[0-9a-f:.]+\]")
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+|/")
_DURATION = re.compile(r"(\d{1,9})(s|m|h|d)")
_SIZE = re.compile(r"(\d{1,12})(B|KiB|MiB|GiB)")
_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: where, and what would be right."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}" if self.path else self.message


class ConfigError(OperatorError):
    """The configuration cannot be used; `faults` holds all that is wrong with it."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


# -- values --------------------------------------------------------------------------------------------------


def _seconds(value: object) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'a duration such as "60s", "15m", "1h" or "14d" is wanted, not {value!r}')
    return float(int(found[1]) * _SECONDS[found[2]])


def _duration(value: object) -> float:
    seconds = _seconds(value)
    if seconds < 1:
        raise ValueError('a duration starts at "1s"')
    if seconds > 3650 * 86400:
        raise ValueError('a duration ends at "3650d"')
    return seconds


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError(f'a size such as "64KiB" or "1MiB" is wanted, not {value!r}')
    return int(found[1]) * _BYTES[found[2]]


def _listen_address(value: str) -> tuple[str, int]:
    host, colon, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not host or (":" in bare) != host.startswith("[") or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f'HOST:PORT is wanted, such as "127.0.0.1:8080" or "[::1]:8080", not {value!r}')
    return bare, int(port)


def _checked_listen(value: str) -> str:
    _listen_address(value)
    return value


def _origin(value: str, what: str) -> URL:
    try:
        url = URL(value)
        port = url.port
    except ValueError as exc:
        raise ValueError(f"{what} is not a URL: {value!r}") from exc
    if url.scheme not in ("http", "https") or not url.host or port is None or not 1 <= port <= 65535:
        raise ValueError(f"{what} is http://HOST[:PORT] or https://HOST[:PORT], not {value!r}")
    if url.user or url.password or url.path not in ("", "/") or "?" in value or "#" in value:
        raise ValueError(f"{what} has a scheme, a host and a port only, no path or query: {value!r}")
    return url


def _public_url(value: str) -> str:
    _origin(value, "public_url")
    return value


def _upstream(value: str) -> str:
    _origin(value, "an upstream")
    return value


def _host_name(value: str) -> str:
    lowered = value.lower().removesuffix(".")
    if _HOST_NAME.fullmatch(lowered) is None and _IPV6_LITERAL.fullmatch(lowered) is None:
        raise ValueError(f"a host name without scheme, port or path is wanted, not {value!r}")
    return lowered


def _route_path(value: str) -> str:
    if _PATH.fullmatch(value) is None or any(part in (".", "..") for part in value.split("/")):
        raise ValueError(
            'a path of whole, plain segments such as "/api/notes" is wanted, without escapes or a slash at the end, '
            f"not {value!r}"
        )
    return value


def _method(value: str) -> str:
    if METHOD.fullmatch(value) is None:
        raise ValueError(f"not a method: {value!r}")
    if value == "CONNECT":
        raise ValueError("CONNECT is never forwarded")
    return value


def _scope_name(value: str) -> str:
    if not is_scope_token(value):
        raise ValueError(f"a scope is printable ASCII without spaces, quotes or backslashes, not {value!r}")
    return value


def _network(value: object) -> Network:
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(str(value))
    except ValueError as exc:
        raise ValueError(f"an address or network such as 10.0.0.0/8 is wanted, not {value!r}") from exc


Duration = Annotated[float, BeforeValidator(_duration), WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhd]$"})]
Grace = Annotated[float, BeforeValidator(_seconds), WithJsonSchema({"type": "string", "pattern": "^[0-9]+[smhd]$"})]
Size = Annotated[int, BeforeValidator(_size), WithJsonSchema({"type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)$"})]
ListenAddress = Annotated[str, AfterValidator(_checked_listen)]
PublicURL = Annotated[str, AfterValidator(_public_url)]
HostName = Annotated[str, AfterValidator(_host_name)]
Upstream = Annotated[str, AfterValidator(_upstream)]
RoutePath = Annotated[str, AfterValidator(_route_path)]
Method = Annotated[str, AfterValidator(_method)]
ScopeName = Annotated[str, AfterValidator(_scope_name)]
TrustedNetwork = Annotated[Network, BeforeValidator(_network), WithJsonSchema({"type": "string"})]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", arbitrary_types_allowed=True)


def _array(*, minimum: int = 0) -> Any:
    """TOML has arrays, frozen types have tuples: the one place where strictness bends."""
    return Field(strict=False, min_length=minimum)


# -- tables --------------------------------------------------------------------------------------------------


class SecretReference(_Table):
    """Where a secret is found: a file or an environment variable, never the value itself."""

    file: str | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one_place(self) -> "SecretReference":
        if (self.file is None) == (self.env is None):
            raise ValueError('a secret is { file = "…" } or { env = "…" }')
        return self

    def read(self, base: Path) -> str:
        """The secret. Raises OperatorError that names the place when there is none."""
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise OperatorError(f"the environment variable {self.env} is not set")
            return value
        path = self.path(base)
        try:
            value = path.read_text().strip()
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
            raise OperatorError(f"the file {path} cannot be read ({reason})") from exc
        if not value:
            raise OperatorError(f"the file {path} is empty")
        return value

    def path(self, base: Path) -> Path:
        return base / cast("str", self.file)


class Server(_Table):
    listen: ListenAddress = "127.0.0.1:8080"
    public_url: PublicURL
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    trusted_proxies: Annotated[tuple[TrustedNetwork, ...], _array()] = ()
    oauth_prefix: RoutePath = "/oauth2"

    @property
    def issuer(self) -> str:
        """The issuer identifier: `public_url` byte for byte (RFC 8414, section 2)."""
        return self.public_url

    @property
    def origin(self) -> str:
        """`public_url` without a trailing slash, to which paths are appended."""
        return self.public_url.rstrip("/")

    @property
    def host(self) -> str:
        """The host of `public_url` in lower case; an IPv6 literal keeps its brackets."""
        return _bracketed(URL(self.public_url))

    @property
    def port(self) -> int:
        return cast("int", URL(self.public_url).port)

    @property
    def secure(self) -> bool:
        """Whether people reach us by https."""
        return URL(self.public_url).scheme == "https"

    @property
    def address(self) -> tuple[str, int]:
        return _listen_address(self.listen)


class Admin(_Table):
    listen: ListenAddress = "127.0.0.1:9901"

    @property
    def address(self) -> tuple[str, int]:
        return _listen_address(self.listen)


class Database(_Table):
    url: str | SecretReference = "embedded"
    data_dir: Annotated[str, Field(min_length=1)] = "gateway-data"

    @property
    def embedded(self) -> bool:
        return self.url == "embedded"


class Keys(_Table):
    master: SecretReference = SecretReference(file="gateway-data/master.key")
    previous: Annotated[tuple[SecretReference, ...], _array()] = ()


class Tokens(_Table):
    type: TokenType = "bearer"
    access_ttl: Duration = 3600.0
    refresh_ttl: Duration = 14 * 86400.0
    code_ttl: Annotated[Duration, Field(le=600)] = 60.0
    refresh_grace: Annotated[Grace, Field(le=60)] = 0.0


class Mac(_Table):
    skew: Annotated[Duration, Field(le=600)] = 60.0
    algorithms: Annotated[tuple[MacAlgorithm, ...], _array(minimum=1)] = ("hmac-sha-256",)
    drafts: Annotated[tuple[MacDraft, ...], _array(minimum=1)] = ("01",)


class Route(_Table):
    name: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    path: RoutePath
    hosts: Annotated[tuple[HostName, ...], _array()] = ()
    methods: Annotated[tuple[Method, ...], _array()] = ()
    upstreams: Annotated[tuple[Upstream, ...], _array(minimum=1)]
    upstream_host: str | None = None
    strip_prefix: RoutePath | None = None
    auth: Literal["none"] | Annotated[tuple[AuthScheme, ...], _array(minimum=1)]
    scopes: (
        Annotated[tuple[ScopeName, ...], _array()]
        | dict[Method | Literal["*"], Annotated[tuple[ScopeName, ...], _array()]]
    ) = ()
    timeout: Duration = 15.0
    max_body: Size = 1024**2
    forward_authorization: bool = False

    @property
    def schemes(self) -> tuple[AuthScheme, ...]:
        """The credentials it accepts; empty for a public route."""
        return () if self.auth == "none" else self.auth

    @property
    def all_scopes(self) -> frozenset[str]:
        """Every scope that some method asks for."""
        if not isinstance(self.scopes, dict):
            return frozenset(self.scopes)
        return frozenset(name for names in self.scopes.values() for name in names)

    @model_validator(mode="after")
    def _agrees(self) -> "Route":
        if self.auth == "none" and self.all_scopes:
            raise ValueError('scopes need a credential: a route with auth = "none" cannot ask for any')
        prefix = self.strip_prefix
        if prefix not in (None, "/") and self.path != prefix and not self.path.startswith(f"{prefix}/"):
            raise ValueError(f"strip_prefix = {prefix!r} is no prefix of path = {self.path!r}")
        if isinstance(self.scopes, dict) and self.methods:
            for method in self.scopes:
                if method != "*" and method not in self.methods:
                    raise ValueError(f"scopes names {method}, which is not among methods")
        return self


class Branding(_Table):
    name: Annotated[str, Field(min_length=1, max_length=100)] = "Gateway"
    logo: str | None = None
    accent: Annotated[str, Field(pattern=_COLOUR.pattern)] | None = None
    stylesheet: str | None = None
    help: Annotated[str, Field(max_length=500)] | None = None


class Config(_Table):
    """A whole configuration file."""

    server: Server
    admin: Admin = Admin()
    database: Database = Database()
    keys: Keys = Keys()
    tokens: Tokens = Tokens()
    mac: Mac = Mac()
    scopes: dict[ScopeName, Annotated[str, Field(min_length=1, max_length=200)]] = {}
    routes: Annotated[tuple[Route, ...], _array()] = ()
    branding: Branding = Branding()


# -- loading -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration file that holds, with the place it came from and its secrets resolved.

    `keyring` is None only where an embedded database has yet to make its first master key.
    """

    config: Config
    path: Path
    database_url: str | None  # None: the embedded database
    keyring: Keyring | None
    warnings: tuple[str, ...]

    @property
    def base(self) -> Path:
        """The folder of the file: relative paths in it start here."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        return self.base / self.config.database.data_dir

    @property
    def master_key_file(self) -> Path | None:
        master = self.config.keys.master
        return None if master.file is None else master.path(self.base)


def load(path: Path) -> Settings:
    """Read and judge a configuration file. Raises ConfigError with every fault that it has."""
    config = parse(_read(path))
    return resolve(config, path.absolute())


def parse(tables: Mapping[str, Any]) -> Config:
    """Judge the tables of a file. Raises ConfigError with every fault in them."""
    try:
        config = Config.model_validate(tables)
    except ValidationError as exc:
        known = [_fault_of(dict(error), tables) for error in exc.errors()]
        raise ConfigError(list(dict.fromkeys(known))) from None
    faults = [*_route_faults(config), *_scope_faults(config)]
    if faults:
        raise ConfigError(faults)
    return config


def resolve(config: Config, path: Path) -> Settings:
    """Find the secrets and files that a configuration names. Raises ConfigError with all that are missing."""
    base, faults = path.parent, list[Fault]()
    url = None
    if not config.database.embedded:
        url = _database_url(config.database.url, base, faults)
    keyring = _keyring(config, base, faults)
    for key in ("logo", "stylesheet"):
        name = getattr(config.branding, key)
        if name is not None and not (base / name).is_file():
            faults.append(Fault(f"branding.{key}", f"the file {base / name} is not there"))
    if faults:
        raise ConfigError(faults)
    return Settings(config, path, url, keyring, tuple(_warnings(config)))


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as exc:
        mend = "name a file with --config or $GATEWAY_CONFIG"
        raise ConfigError([Fault("", f"{path}: cannot be read ({exc.strerror}); {mend}")]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([Fault("", f"{path}: is not UTF-8")]) from exc
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([Fault("", f"{path}: is not TOML: {exc}")]) from exc


def _fault_of(error: dict[str, Any], tables: Mapping[str, Any]) -> Fault:
    location, kind = _path_in_file(error["loc"], tables), error["type"]
    if kind == "extra_forbidden":
        return Fault(location, "is no known key; see config.example.toml")
    if kind == "missing":
        hint = ' (state "none" for a public route)' if location.endswith(".auth") else ""
        return Fault(location, f"must be stated{hint}")
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) and repr(given) not in message else ""
    return Fault(location, message[:1].lower() + message[1:] + shown)


def _path_in_file(loc: tuple[str | int, ...], tables: Mapping[str, Any]) -> str:
    """The dotted path of a fault, without the marks that a union of types leaves in it."""
    here: Any = tables
    path = ""
    for part in loc:
        if isinstance(part, int):
            if not isinstance(here, list):
                continue
            here = here[part] if part < len(here) else None
            path += f"[{part}]"
            continue
        known = isinstance(here, dict) and part in here
        if not known and (
            here is None or not isinstance(here, dict) or re.search(r"[\[({]|^(str|constrained|function)", part)
        ):
            continue
        here = here.get(part) if known else None
        path += f".{part}" if path else part
    return path


def _route_faults(config: Config) -> Iterator[Fault]:
    names: dict[str, int] = {}
    keys: dict[tuple[frozenset[str], str, frozenset[str]], str] = {}
    prefix = config.server.oauth_prefix
    for index, route in enumerate(config.routes):
        at = f"routes[{index}]"
        if route.name in names:
            yield Fault(f"{at}.name", f"{route.name!r} is the name of routes[{names[route.name]}] too")
        names.setdefault(route.name, index)
        key = (frozenset(route.hosts), route.path, frozenset(route.methods))
        if key in keys:
            yield Fault(at, f"{route.name!r} duplicates {keys[key]!r}: hosts, path and methods agree")
        keys.setdefault(key, route.name)
        if route.path == prefix or route.path.startswith(f"{prefix}/"):
            yield Fault(
                f"{at}.path", f"{route.path!r} lies under oauth_prefix = {prefix!r}, which is the gateway's own"
            )
    if prefix == "/":
        yield Fault("server.oauth_prefix", 'must be a folder of its own, such as "/oauth2"')


def _scope_faults(config: Config) -> Iterator[Fault]:
    if not config.scopes:
        return  # all scopes are made by `gateway scope create`; the start compares them with the database
    for index, route in enumerate(config.routes):
        for name in sorted(route.all_scopes - config.scopes.keys()):
            yield Fault(f"routes[{index}].scopes", f"unknown scope {name!r}: describe it under [scopes]")


def _database_url(url: str | SecretReference, base: Path, faults: list[Fault]) -> str | None:
    if isinstance(url, SecretReference):
        try:
            url = url.read(base)
        except OperatorError as exc:
            faults.append(Fault("database.url", str(exc)))
            return None
    if not url.startswith(("postgresql://", "postgres://")):
        faults.append(Fault("database.url", '"embedded" or postgresql://USER@HOST/DATABASE is wanted'))
        return None
    return url


def _keyring(config: Config, base: Path, faults: list[Fault]) -> Keyring | None:
    master, keys = config.keys.master, list[bytes]()
    first_start = (
        config.database.embedded
        and master.file is not None
        and not master.path(base).exists()
        and not (base / config.database.data_dir / "postgres").exists()
    )
    references = {"keys.master": master} | {f"keys.previous[{i}]": r for i, r in enumerate(config.keys.previous)}
    for path, reference in references.items():
        if path == "keys.master" and first_start:
            continue
        try:
            keys.append(parse_master_key(reference.read(base)))
        except (OperatorError, ValueError) as exc:
            faults.append(Fault(path, str(exc)))
    if first_start or len(keys) < len(references):
        return None
    return Keyring(keys[0], tuple(keys[1:]))


def _warnings(config: Config) -> Iterator[str]:
    for index, route in enumerate(config.routes):
        if not route.hosts or config.server.host in route.hosts:
            yield (
                f"routes[{index}]: {route.name!r} shares the host {config.server.host!r} with the sign-in pages, so a "
                "script of that upstream runs in their origin; give the routes a host of their own where upstreams "
                "serve what others wrote"
            )
    if not config.server.secure and config.server.host not in ("127.0.0.1", "localhost", "[::1]"):
        yield "server.public_url: is http, so passwords and tokens travel in the clear; use https"


def _bracketed(url: URL) -> str:
    host = cast("str", url.host).lower()
    return f"[{host}]" if ":" in host else host
