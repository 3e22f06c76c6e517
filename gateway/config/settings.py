"""The configuration as the program uses it: plain frozen values, each of which has been judged.

`tables` says how the same keys are written in the file and what is wrong with them; it makes these. They stand apart
because a worker gets them ready made from its supervisor: judging takes pydantic, which would cost each worker 10 MB.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final, Literal, cast

from gateway.config.addresses import split_listen, split_origin
from gateway.crypto import Keyring
from gateway.model import MacAlgorithm, MacDraft, TokenType

AuthScheme = Literal["bearer", "mac", "signature"]
Network = IPv4Network | IPv6Network

# What a logo may be, by how its file's name ends: the machine's own table may lack some.
IMAGE_TYPES: Final = {
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".avif": "image/avif",
    ".ico": "image/vnd.microsoft.icon",
}
AUTH_SCHEMES: Final[tuple[AuthScheme, ...]] = ("bearer", "mac", "signature")


@dataclass(frozen=True, kw_only=True)
class SecretReference:
    """Where a secret is found: a file or an environment variable, never the value itself."""

    file: str | None
    env: str | None

    def path(self, base: Path) -> Path:
        """The file of a reference that names one."""
        return base / cast("str", self.file)


@dataclass(frozen=True, kw_only=True)
class Server:
    """The public listener and the names by which people and programs reach it."""

    listen: str
    public_url: str
    workers: int
    authorization_workers: int | None
    trusted_proxies: tuple[Network, ...]
    oauth_prefix: str
    user: str = ""

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
        return split_origin(self.public_url)[1]

    @property
    def port(self) -> int:
        """The port of `public_url`, the scheme's own where none is written."""
        return split_origin(self.public_url)[2]

    @property
    def secure(self) -> bool:
        """Whether people reach us by https."""
        return split_origin(self.public_url)[0] == "https"

    @property
    def address(self) -> tuple[str, int]:
        """Host, without brackets, and port to listen on."""
        return split_listen(self.listen)


@dataclass(frozen=True, kw_only=True)
class Admin:
    """The listener for operators."""

    listen: str

    @property
    def address(self) -> tuple[str, int]:
        """Host, without brackets, and port to listen on."""
        return split_listen(self.listen)


@dataclass(frozen=True, kw_only=True)
class Database:
    """Where everything is stored."""

    url: str | SecretReference = field(repr=False)
    data_dir: str

    @property
    def embedded(self) -> bool:
        """Whether the database is a Postgres of our own."""
        return self.url == "embedded"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Where the master keys are."""

    master: SecretReference
    previous: tuple[SecretReference, ...]


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """What is issued and for how long, in seconds; the defaults are those of the file."""

    type: TokenType = "bearer"
    access_ttl: float = 3600.0
    refresh_ttl: float = 14 * 86400.0
    code_ttl: float = 60.0
    refresh_grace: float = 0.0
    stale_for: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mac:
    """Signed requests; `skew` is in seconds."""

    skew: float
    algorithms: tuple[MacAlgorithm, ...]
    drafts: tuple[MacDraft, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """A part of an API as the operator wrote it; `timeout` is in seconds, `max_body` in bytes."""

    name: str
    path: str
    hosts: tuple[str, ...]
    methods: tuple[str, ...]
    upstreams: tuple[str, ...]
    upstream_host: str | None
    strip_prefix: str | None
    auth: Literal["none"] | tuple[AuthScheme, ...]
    scopes: tuple[str, ...] | dict[str, tuple[str, ...]]
    timeout: float
    max_body: int
    forward_authorization: bool
    mac_body_hash: bool = False
    trust_request_id: bool = False
    encoded_slashes: Literal["refuse", "keep"] = "refuse"

    @property
    def schemes(self) -> tuple[AuthScheme, ...]:
        """The credentials it accepts; empty for a public route."""
        return () if self.auth == "none" else self.auth

    @property
    def all_scopes(self) -> frozenset[str]:
        """Every scope that some method asks for."""
        return scopes_of(self.scopes)


def scopes_of(scopes: tuple[str, ...] | Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Every scope that a route's `scopes` names, in either form."""
    if isinstance(scopes, Mapping):
        return frozenset(name for names in scopes.values() for name in names)
    return frozenset(scopes)


@dataclass(frozen=True, kw_only=True)
class Passwords:
    """What people's passwords must be."""

    min_length: int


@dataclass(frozen=True, kw_only=True)
class Branding:
    """What people see on the pages."""

    name: str
    logo: str | None
    accent: str | None
    stylesheet: str | None
    help: str | None


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration file."""

    server: Server
    admin: Admin
    database: Database
    keys: Keys
    tokens: Tokens
    mac: Mac
    scopes: dict[str, str]
    routes: tuple[Route, ...]
    passwords: Passwords
    branding: Branding


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration file that holds, with the place it came from and its secrets resolved.

    `keyring` is None only where an embedded database has yet to make its first master key.
    """

    config: Config
    path: Path
    database_url: str | None = field(repr=False)  # None: the embedded database
    keyring: Keyring | None
    warnings: tuple[str, ...]

    @property
    def base(self) -> Path:
        """The folder of the file: relative paths in it start here."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """The folder of the embedded database."""
        return self.base / self.config.database.data_dir

    @property
    def master_key_file(self) -> Path | None:
        """The file of the master key; None where it stands in the environment."""
        master = self.config.keys.master
        return None if master.file is None else master.path(self.base)
