"""The tables of the configuration file, as they are written; the text under each key is what editors show for it.

Each becomes the value of the same name in `settings`, with the same keys.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from gateway.config import database_url, settings
from gateway.config.addresses import Wanted
from gateway.config.settings import AUTH_SCHEMES
from gateway.config.values import (
    ONCE,
    Authority,
    CodeLifetime,
    Colour,
    Description,
    Duration,
    EnvironmentName,
    FileName,
    Grace,
    HelpText,
    HostName,
    ListenAddress,
    Method,
    MethodOrStar,
    Name,
    OriginURL,
    RouteName,
    Scheme,
    ScopeName,
    Size,
    Skew,
    Staleness,
    TrustedNetwork,
    URLPath,
    UserName,
    array,
    written,
)
from gateway.model import MacAlgorithm, MacDraft, TokenType


class Table(BaseModel):
    """A table of the file: frozen, strict, without unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", use_attribute_docstrings=True)


def settled(value: Any) -> Any:
    """A value of the file as the program uses it: each table within becomes its namesake in `settings`."""
    if isinstance(value, Table):
        return getattr(settings, type(value).__name__)(**{name: settled(part) for name, part in value})
    return tuple(map(settled, value)) if isinstance(value, tuple) else value


# What a value with several forms is written as. The marks stand in pydantic's locations, and no good key has them.
AS_TEXT, AS_ARRAY, AS_TABLE = "(as text)", "(as array)", "(as table)"


def _by_shape(wanted: str) -> Discriminator:
    """Which form of a value is meant, told by its TOML type, so that faults speak of that form only."""
    return Discriminator(_shape, custom_error_type="wrong_shape", custom_error_message=wanted)


def _shape(value: object) -> str | None:
    shapes: dict[type, str] = {str: AS_TEXT, list: AS_ARRAY, tuple: AS_ARRAY}
    shapes |= dict.fromkeys((dict, SecretReference), AS_TABLE)
    return shapes.get(type(value))


class SecretReference(Table):
    """Where a secret is found: a file or an environment variable, never the value itself."""

    file: FileName | None = None
    """A file that holds the secret, relative to the configuration file."""
    env: EnvironmentName | None = None
    """An environment variable that holds the secret."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, value: object) -> object:
        if isinstance(value, Mapping) and not set(value) - {"file", "env"} and len(value) != 1:
            raise ValueError('name one place: { file = "…" } or { env = "…" }')
        return value


class Server(Table):
    """The public listener and the names by which people and programs reach it."""

    listen: ListenAddress = "127.0.0.1:8080"
    """HOST:PORT of the public listener."""
    public_url: OriginURL
    """The origin that clients use: issuer, links, and the host and port that MAC signatures cover."""
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    """How many processes share the listener; one for each core is a good start."""
    authorization_workers: Annotated[int, Field(ge=1, le=256)] | None = None
    """How many processes show the pages and issue tokens; one for every four workers unless stated."""
    trusted_proxies: Annotated[tuple[TrustedNetwork, ...], array(), ONCE] = ()
    """Addresses or networks of the proxies in front; only they are asked who the client is (X-Forwarded-For)."""
    oauth_prefix: URLPath = "/oauth2"
    """The path under which the endpoints and pages of the authorization server stand."""
    user: UserName = ""
    """The system user that the workers and the embedded database run as where root starts them; the owner of data_dir
    unless stated."""


class Admin(Table):
    """The listener for operators: /healthz and /readyz."""

    listen: ListenAddress = "127.0.0.1:9901"
    """HOST:PORT of the admin listener; keep it away from the public."""


def _plain_database_url(value: object) -> object:
    if not isinstance(value, str) or value == "embedded":
        return value
    if not value.startswith(database_url.SCHEMES):
        raise ValueError('must be "embedded" or "postgresql://USER@HOST/DATABASE"')  # may hold a password
    if (fault := database_url.fault_of(value)) is not None:
        raise ValueError(fault)
    return value


class Database(Table):
    """Where everything is stored."""

    url: Annotated[
        Annotated[str, BeforeValidator(_plain_database_url), Tag(AS_TEXT)] | Annotated[SecretReference, Tag(AS_TABLE)],
        _by_shape('must be "embedded", "postgresql://…" or a reference'),
        Field(repr=False),
    ] = "embedded"
    """"embedded" for a Postgres of its own in data_dir, else postgresql://… (several hosts allowed)."""
    data_dir: FileName = "gateway-data"
    """The folder of the embedded database, relative to the configuration file."""


class Keys(Table):
    """The master keys: they encrypt MAC keys, sign cookies and check tokens."""

    master: SecretReference = SecretReference(file="gateway-data/master.key")
    """Base64 of 32 bytes, in a file that nobody else may read; master.key in data_dir unless stated. The first start of
    an embedded database makes it."""
    previous: Annotated[tuple[SecretReference, ...], array()] = ()
    """Older master keys, still accepted while rotating."""


class Tokens(Table):
    """What is issued and for how long."""

    type: TokenType = "bearer"
    """The type of access tokens; a client may have another."""
    access_ttl: Duration = written("1h")
    """How long an access token lives."""
    refresh_ttl: Duration = written("14d")
    """How long a refresh token lives."""
    code_ttl: CodeLifetime = written("60s")
    """How long an authorization code lives, at most 10m."""
    refresh_grace: Grace = written("0s")
    """How long a used refresh token still gives the same successor, at most 60s."""
    stale_for: Staleness = written("0s")
    """How long tokens that were seen before still pass while the database is away, at most 1d; revoked ones too."""


class Mac(Table):
    """Signed requests (MAC tokens)."""

    skew: Skew = written("60s")
    """How far a client's clock may be off, at most 10m."""
    algorithms: Annotated[tuple[MacAlgorithm, ...], array(minimum=1), ONCE] = ("hmac-sha-256",)
    """The algorithms that may be used at all; a client gets the first unless created with another."""
    drafts: Annotated[tuple[MacDraft, ...], array(minimum=1), ONCE] = ("01",)
    """The drafts that may be used at all; a client gets the first unless created with others."""


def _none(value: object) -> object:
    if value in AUTH_SCHEMES:
        raise ValueError(f'schemes must be in an array, even a single one: write ["{value}"]')
    if value != "none":
        raise Wanted('must be "none", or an array such as ["bearer"]')
    return value


class Route(Table):
    """A part of an API: what it matches, who may call it, where it leads."""

    name: RouteName
    """A name for logs and metrics."""
    path: URLPath
    """Whole segments: /api/notes matches /api/notes and /api/notes/…, never /api/notesx; the longest match wins."""
    hosts: Annotated[tuple[HostName, ...], array(), ONCE] = ()
    """The hosts that it answers on, a resource of its own at each; empty for any."""
    methods: Annotated[tuple[Method, ...], array(), ONCE] = ()
    """The methods that it answers; empty for any."""
    upstreams: Annotated[tuple[OriginURL, ...], array(minimum=1)]
    """The servers that it leads to."""
    upstream_host: Authority | None = None
    """The Host that the upstream is sent instead of the client's."""
    strip_prefix: URLPath | None = None
    """The front part of path that the upstream does not see."""
    auth: Annotated[
        Annotated[Literal["none"], BeforeValidator(_none), Tag(AS_TEXT)]
        | Annotated[tuple[Scheme, ...], array(minimum=1), ONCE, Tag(AS_ARRAY)],
        _by_shape('must be "none" or an array such as ["bearer", "mac"]'),
    ]
    """The credentials that it accepts, or "none" for a public route."""
    scopes: Annotated[
        Annotated[tuple[ScopeName, ...], array(), ONCE, Tag(AS_ARRAY)]
        | Annotated[dict[MethodOrStar, Annotated[tuple[ScopeName, ...], array(), ONCE]], Tag(AS_TABLE)],
        _by_shape('must be an array such as ["notes:read"], or a table of them by method'),
    ] = ()
    """The scopes that a call needs: one list for all methods, or lists by method with "*" for the others."""
    timeout: Duration = written("15s")
    """How long the upstream may take to begin its answer."""
    max_body: Size = written("1MiB")
    """The longest request body."""
    forward_authorization: bool = False
    """Whether the upstream gets the Authorization field, or the fields of the signature."""
    mac_body_hash: bool = False
    """Whether a signed call with a body must state the body's hash; one that is stated is always checked."""
    trust_request_id: bool = False
    """Whether the X-Request-Id of a trusted proxy is kept, instead of one of ours."""
    encoded_slashes: Literal["refuse", "keep"] = "refuse"
    """Whether paths with encoded slashes (%2F) or empty segments (//) are refused, or passed as they came."""


class Passwords(Table):
    """What people's passwords must be."""

    min_length: Annotated[int, Field(ge=8, le=128)] = 8
    """The fewest characters of a new password; 15 is NIST's advice where a password is all that is asked for."""


class Branding(Table):
    """What people see on the pages."""

    name: Name = "Gateway"
    """The name of the service."""
    logo: FileName | None = None
    """An image file, relative to the configuration file."""
    accent: Colour | None = None
    """The colour of buttons and links."""
    stylesheet: FileName | None = None
    """A CSS file that is added to ours, relative to the configuration file."""
    help: HelpText | None = None
    """What to do for who forgot a password."""


class Config(Table):
    """A whole configuration file."""

    server: Server
    admin: Admin = Admin()
    database: Database = Database()
    keys: Keys = Keys()
    tokens: Tokens = Tokens()
    mac: Mac = Mac()
    scopes: dict[ScopeName, Description] = {}
    """Scopes and the plain words that the consent page says for them; more may be made by `gateway scope create`."""
    routes: Annotated[tuple[Route, ...], array()] = ()
    """The parts of the API; what no route matches is answered 404."""
    passwords: Passwords = Passwords()
    branding: Branding = Branding()


def table_within(annotation: Any) -> type[Table] | None:
    """The table type that an annotation holds, in whatever array or union."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for part in inner if (found := table_within(part)) is not None), None)
