"""Every key of the configuration file, each declared once, and the values that the program uses.

A key is a field: its name, its type with its bounds (`values`), its default, and below it the text for people. From
that come the validation of a file (`faults`), the JSON Schema for editors, config.example.toml and
docs/configuration.md (`reference`). A key without a default, or with None for one, has an example beside it.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from gateway.config import database_url
from gateway.config.addresses import UNIX_LISTENER, Wanted, socket_path, split_listen, split_origin
from gateway.config.values import (
    AUTH_SCHEMES,
    FIXED,
    ONCE,
    STATED,
    TRUSTED_SOCKET,
    Audience,
    AuthenticationContext,
    Authority,
    BodyText,
    ClaimName,
    ClientId,
    CodeLifetime,
    Colour,
    CorsOrigin,
    DailyLimit,
    Description,
    Duration,
    EnvironmentName,
    FieldName,
    FieldNameOrStar,
    FieldTemplate,
    FieldValue,
    FileName,
    ForeignClaim,
    ForeignScope,
    Grace,
    GroupName,
    HealthPath,
    HeldSize,
    HelpText,
    HostName,
    IssuerURL,
    JwksURL,
    Leeway,
    ListenAddress,
    LogFile,
    Method,
    MethodOrStar,
    Name,
    Network,
    NoneOrDuration,
    OptionalFileName,
    OriginURL,
    PreflightAge,
    PublicAddress,
    RateLimit,
    RedirectTarget,
    RouteName,
    Scheme,
    ScopeName,
    Size,
    Skew,
    SocketMode,
    Staleness,
    SuchAs,
    TrustedNetwork,
    TrustedProxy,
    UpstreamURL,
    URLPath,
    UserName,
    Written,
    array,
    optional_host,
    split_limit,
    split_redirect,
    written,
)
from gateway.model import BEARER, DPOP, MacAlgorithm, MacDraft, SigningAlgorithm, TokenFormat, TokenType
from gateway.oauth.foreign import Algorithm, Trusted
from gateway.oauth.foreign import TokenType as ForeignTokenType
from gateway.routing import HealthCheck, UpstreamTls
from gateway.routing.limits import By, Limit

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


class Table(BaseModel):
    """A table of the file: frozen, strict, without unknown keys.

    The checks are built when the first file is validated, so that a worker, which gets its values ready made, has none.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", defer_build=True)


def default_of(table: type[Table], key: str) -> Any:
    """What a key says where its whole table is left out, read as if it stood there, and without the table's checks."""
    field = table.model_fields[key]
    [way] = [mark for mark in field.metadata if isinstance(mark, Written)]
    return way.read(field.default)


# What a value with several forms is written as. The marks stand in pydantic's locations, and no good key has them.
AS_TEXT, AS_ARRAY, AS_TABLE = "(as text)", "(as array)", "(as table)"


def _by_shape(wanted: str) -> Discriminator:
    """Which form of a value is meant, told by its TOML type, so that faults speak of that form only."""
    return Discriminator(_shape, custom_error_type="wrong_shape", custom_error_message=wanted)


def _shape(value: object) -> str | None:
    shapes: dict[type, str] = {str: AS_TEXT, list: AS_ARRAY, tuple: AS_ARRAY}
    shapes |= dict.fromkeys((dict, SecretReference, Redirect, Upstream, ClaimRule), AS_TABLE)
    return shapes.get(type(value))


class SecretReference(Table):
    """Where a secret is found: a file or an environment variable, never the value itself."""

    file: FileName | None = None
    """A file that holds the secret, relative to the configuration file; a systemd credential by that name goes
    first."""
    env: EnvironmentName | None = None
    """An environment variable that holds the secret."""

    model_config = ConfigDict(
        title='{ file = "…" } or { env = "…" }', json_schema_extra={"minProperties": 1, "maxProperties": 1}
    )

    @model_validator(mode="before")
    @classmethod
    def _one_place(cls, value: object) -> object:
        if isinstance(value, Mapping) and not value.keys() - cls.model_fields.keys() and len(value) != 1:
            raise ValueError('name one place: { file = "…" } or { env = "…" }')
        return value

    def path(self, base: Path) -> Path:
        """The file of a reference that names one: the credential by that name where systemd passed one to the service
        (LoadCredential=, systemd.exec(5)), else relative to the configuration's folder."""
        name, credentials = cast("str", self.file), credentials_folder()
        if credentials is not None and "/" not in name and os.path.lexists(credentials / name):
            return credentials / name
        return base / name


def credentials_folder() -> Path | None:
    """The folder of the credentials that systemd passed to this service, if it is one."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


class Certificate(Table):
    """A certificate that the public listener shows."""

    certificate: FileName = Field(examples=["fullchain.pem"])
    """The certificate and its chain, in PEM."""
    key: SecretReference = Field(examples=[{"file": "privkey.pem"}])
    """The file of its private key, in PEM."""

    model_config = ConfigDict(title='{ certificate = "…", key = { file = "…" } }')


class Server(Table):
    """The public listener, and the names by which people and programs reach it."""

    listen: Annotated[PublicAddress, FIXED] = "127.0.0.1:8080"
    """The public listener; `"0.0.0.0:8080"` or `"[::]:8080"` for all addresses, `"unix:/run/gateway/public.sock"` for a
    unix socket."""
    socket_mode: Annotated[SocketMode, FIXED] = "0660"
    """Who may connect to a unix socket, as for chmod: its owner is whom the workers run as."""
    public_url: Annotated[OriginURL, SuchAs('"https://api.example.com"')] = Field(examples=["http://127.0.0.1:8080"])
    """The origin that clients use: issuer, links, and the host and port that MAC signatures cover."""
    tls: Annotated[tuple[Certificate, ...], array()] = ()
    """The certificates by which the public listener speaks TLS (1.2 or newer), such as
    `[{ certificate = "fullchain.pem", key = { file = "privkey.pem" } }]`; without any, it speaks plain HTTP. A client
    is shown the one for the name that it asks for, else the first. They are read again when the files change."""
    workers: Annotated[int, Field(ge=1, le=256)] = 2
    """How many processes share the listener; one for each core is a good start."""
    authorization_workers: Annotated[int, Field(ge=1, le=256)] | None = Field(default=None, examples=[1])
    """How many more show the pages and issue tokens; one for every four workers unless stated."""
    trusted_proxies: Annotated[tuple[TrustedProxy, ...], array(), ONCE] = ()
    """Addresses or networks of the proxies in front, such as `"10.0.0.0/8"`, or `"unix:"` for who comes by the unix
    socket. Who the client is, is read from
    X-Forwarded-For from the right, up to the first address that is none of these; X-Forwarded-Proto is theirs to say
    too."""
    proxy_protocol: bool = False
    """Whether each connection from a trusted proxy begins with a header of the PROXY protocol (version 1 or 2) that
    says whose it is. Others must not send one."""
    oauth_prefix: URLPath = "/oauth2"
    """The path under which the endpoints and pages of the authorization server are."""
    user: Annotated[UserName, FIXED] = ""
    """The system user that the workers and the embedded database run as where root starts the gateway; empty for the
    owner of data_dir."""

    @property
    def issuer(self) -> str:
        """The issuer identifier: `public_url` byte for byte (RFC 8414, section 2)."""
        return self.public_url

    @cached_property
    def origin(self) -> str:
        """`public_url` without a trailing slash, to which paths are appended."""
        return self.public_url.rstrip("/")

    @cached_property
    def host(self) -> str:
        """The host of `public_url` in lower case; an IPv6 literal keeps its brackets."""
        return split_origin(self.public_url)[1]

    @cached_property
    def port(self) -> int:
        """The port of `public_url`, the scheme's own where none is written."""
        return split_origin(self.public_url)[2]

    @cached_property
    def secure(self) -> bool:
        """Whether people reach us by https."""
        return split_origin(self.public_url)[0] == "https"

    @property
    def address(self) -> tuple[str, int] | str:
        """Host, without brackets, and port to listen on; or the path of a unix socket."""
        return socket_path(self.listen, UNIX_LISTENER) or split_listen(self.listen)

    @property
    def mode(self) -> int:
        """The permissions of a unix socket."""
        return int(self.socket_mode, 8)

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of the proxies in front."""
        return tuple(one for one in self.trusted_proxies if not isinstance(one, str))

    @property
    def trusts_socket(self) -> bool:
        """Whether who comes by the unix socket is a proxy in front."""
        return TRUSTED_SOCKET in self.trusted_proxies


class Admin(Table):
    """The listener for operators: /healthz, /readyz, /metrics and, where that is wanted, /explain."""

    listen: Annotated[ListenAddress, FIXED] = "127.0.0.1:9901"
    """Keep it away from the public."""
    hosts: Annotated[tuple[HostName, ...], array(), ONCE] = ()
    """The names that it is asked by, such as `["gateway.internal"]`, besides addresses, localhost, the machine's own
    name and names without a dot. By any other it answers 421, so that no page in a browser reaches it by a name that
    somebody else's DNS gave this address."""
    explain: bool = False
    """Whether `/explain/REQUEST-ID` says what `gateway explain --json` does: who called what, to whoever reaches this
    listener."""

    @property
    def address(self) -> tuple[str, int]:
        """Host, without brackets, and port to listen on."""
        return split_listen(self.listen)


def _plain_database_url(value: object) -> object:
    if not isinstance(value, str) or value == "embedded":
        return value
    if not value.startswith(database_url.SCHEMES):
        raise ValueError('must be "embedded" or "postgresql://USER@HOST/DATABASE"')  # may hold a password
    if (fault := database_url.fault_of(value)) is not None:
        raise ValueError(fault)
    return value


def _further_database_url(value: object) -> object:
    if not isinstance(value, str):
        return value
    if not value.startswith(database_url.SCHEMES):
        raise ValueError('must be "postgresql://USER@HOST/DATABASE"')  # may hold a password
    if (fault := database_url.fault_of(value)) is not None:
        raise ValueError(fault)
    return value


def has_password(address: str | SecretReference) -> bool:
    """Whether the address of a database holds a password itself."""
    return isinstance(address, str) and ":" in address.partition("://")[2].rpartition("@")[0]


Databases: TypeAlias = Annotated[
    tuple[
        Annotated[
            Annotated[str, Written(_further_database_url, '"postgresql://…"'), Tag(AS_TEXT)]
            | Annotated[SecretReference, Tag(AS_TABLE)],
            _by_shape('must be "postgresql://…" or a reference'),
        ],
        ...,
    ],
    array(),
    Field(repr=False),
]


class Database(Table):
    """Where everything is stored."""

    url: Annotated[
        Annotated[str, Written(_plain_database_url, '"embedded" or "postgresql://…"'), Tag(AS_TEXT)]
        | Annotated[SecretReference, Tag(AS_TABLE)],
        _by_shape('must be "embedded", "postgresql://…" or a reference'),
        Field(repr=False),
        FIXED,
    ] = "embedded"
    """`"embedded"` for a Postgres of its own in data_dir; else `"postgresql://USER@HOST/DATABASE"` (several hosts
    allowed), or `{ env = "DATABASE_URL" }` where the address holds a password. By a local socket:
    `"postgresql:///DATABASE?host=/run/postgresql"`."""
    data_dir: Annotated[FileName, FIXED] = "gateway-data"
    """The folder of the embedded database."""
    replicas: Databases = ()
    """Standbys of the database that are asked for tokens first, such as `["postgresql://USER@HOST/DATABASE"]`, by the
    role of url. One that is away or behind is passed over; only the primary calls a token unknown or dead."""
    nonces: Databases = ()
    """Further databases that nonces of signed calls are spread over, by token, such as `["postgresql://USER@HOST/NONCES"]`.
    `gateway migrate` makes them ready and puts a changed list in force, 20 minutes later."""

    @property
    def addresses(self) -> dict[str, str | SecretReference]:
        """All the addresses of databases, by key."""
        lists = {"replicas": self.replicas, "nonces": self.nonces}
        further = {f"{key}[{number}]": url for key, urls in lists.items() for number, url in enumerate(urls)}
        return {"url": self.url, **further}

    @property
    def embedded(self) -> bool:
        """Whether the database is a Postgres of our own."""
        return self.url == "embedded"


class Keys(Table):
    """The master keys: they encrypt MAC keys, sign cookies and check tokens."""

    master: SecretReference = written({"file": "gateway-data/master.key"})
    """Base64 of 32 bytes, in a file that only its owner may read (chmod 600); master.key in data_dir unless stated. The
    first start of an embedded database makes it. For an external one:
    `(umask 077; openssl rand -base64 32 > master.key)`. Keep a copy apart from the database."""
    previous: Annotated[tuple[SecretReference, ...], array()] = ()
    """Older master keys, still accepted while rotating by hand, such as `[{ file = "old.key" }]`; `gateway key rotate`
    keeps them in the master key's own file."""


class Tokens(Table):
    """What is issued and for how long."""

    type: TokenType = "bearer"
    """The type of access tokens; a client may have another."""
    format: TokenFormat = "opaque"
    """The form of bearer tokens: `"opaque"`, or `"jwt"` for ones that others can verify by jwks.json (RFC 9068); a
    client may have another."""
    jwt_algorithm: SigningAlgorithm = "RS256"
    """What signs such tokens: RS256, which every verifier knows (RFC 9068, section 2.1), or ES256 or EdDSA, which are
    shorter."""
    access_ttl: Duration = written("1h")
    """How long an access token lives."""
    refresh_ttl: Duration = written("14d")
    """How long a refresh token lives."""
    code_ttl: CodeLifetime = written("60s")
    """How long an authorization code lives."""
    refresh_grace: Grace = written("0s")
    """How long a used refresh token still gives the same successor, for clients that lose answers."""
    dpop_nonce: bool = False
    """Whether DPoP proofs must hold a nonce of ours, at the token endpoint and at routes, so that none can be made long
    before it is used; clients get it with the first refusal."""
    stale_for: Staleness = written("0s")
    """How long tokens that were seen before still pass while the database is away, instead of 503. What is revoked
    meanwhile passes too, and without `replicas` what was in the second before."""


class Registration(Table):
    """Clients that register themselves (RFC 7591). People are told that nobody has verified them, and they act only for
    people who allow it."""

    policy: Literal["closed", "token", "open"] = "closed"
    """`"closed"`: none; `"token"`: who has a token that `gateway registration create-token` made; `"open"`: anybody, 20
    an hour from one address."""
    unused_ttl: Duration = written("30d")
    """How long a client that registered itself stays after it was last used; counts for those that register from then
    on."""


class ClientMetadataDocuments(Table):
    """Clients whose client_id is the https URL of a document about them, which MCP clients use
    (draft-ietf-oauth-client-id-metadata-document)."""

    enabled: bool = False
    """Whether there are such clients. The gateway fetches their documents from the internet, and from no inner network;
    people are told that nobody has verified them."""


class Mac(Table):
    """Signed requests (MAC tokens)."""

    skew: Skew = written("60s")
    """How far a client's clock may be off, for DPoP proofs too."""
    algorithms: Annotated[tuple[MacAlgorithm, ...], array(minimum=1), ONCE] = ("hmac-sha-256",)
    """What may be used at all. A client gets the first unless created with another. Routes with `"signature"` need
    `"hmac-sha-256"`."""
    drafts: Annotated[tuple[MacDraft, ...], array(minimum=1), ONCE] = ("01",)
    """What may be used at all. A client gets the first unless created with others."""


def _none(value: object) -> object:
    if value in AUTH_SCHEMES:
        raise ValueError(f'schemes must be in an array, even a single one: write ["{value}"]')
    if value != "none":
        raise Wanted('must be "none", or an array such as ["bearer"]')
    return value


ClaimSource = Literal[
    "groups",
    "username",
    "email",
    "name",
    "given_name",
    "family_name",
    "middle_name",
    "nickname",
    "profile",
    "picture",
    "website",
    "gender",
    "birthdate",
    "zoneinfo",
    "locale",
    "phone_number",
]


class ClaimRule(Table):
    """What a claim of your own says, and to whom."""

    value: ClaimSource = Field(examples=["groups"])
    """What is known of a person: `"groups"`, `"username"`, `"email"` or another of their fields."""
    scope: ScopeName = written("profile")
    """The scope that it comes with."""
    clients: Annotated[tuple[ClientId, ...], array(), ONCE] = ()
    """The client identifiers that get it; empty for all."""
    id_token: bool = False
    """Whether it stands in ID tokens too, besides at the UserInfo endpoint."""

    model_config = ConfigDict(title='{ value = "…", scope = "…" }')


class Redirect(Table):
    """Where a route leads its callers to."""

    to: RedirectTarget = Field(examples=["https://new.example.com/notes"])
    """The new address: an origin with or without a path, or a path at the same host."""
    status: Literal[301, 302, 303, 307, 308] = 307
    """What the answer says: 307 and 308 keep the method, and browsers keep 301 and 308 for good."""

    model_config = ConfigDict(title='{ to = "…", status = 308 }')

    @property
    def origin(self) -> str:
        """The origin that it leads to; empty for the request's own."""
        return split_redirect(self.to)[0]

    @property
    def path(self) -> str:
        """What stands in the place of the route's path; empty for the root."""
        return split_redirect(self.to)[1]


class Respond(Table):
    """What a route answers in an upstream's place."""

    status: Annotated[int, Field(ge=200, le=599)] = Field(examples=[503])
    """The status."""
    body: BodyText = ""
    """The body; text/plain unless a header says otherwise."""
    headers: dict[FieldName, FieldValue] = {}
    """Fields of the answer."""

    model_config = ConfigDict(title='{ status = 503, body = "…", headers = { … = "…" } }')


class Upstream(Table):
    """One of the servers that a route leads to."""

    url: UpstreamURL = Field(examples=["http://10.0.0.2:9000"])
    """Its address."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How much of the route's calls it gets, beside the weights of the others."""

    model_config = ConfigDict(title='{ url = "…", weight = 2 }')

    def __str__(self) -> str:
        """As reports name it."""
        return self.url if self.weight == 1 else f"{self.url} with weight {self.weight}"


def url_of(upstream: str | Upstream) -> str:
    """The address of an upstream, in either form."""
    return upstream if isinstance(upstream, str) else upstream.url


class Health(Table):
    """What the upstreams of a route are asked time and again, by each worker."""

    path: HealthPath = Field(examples=["/healthz"])
    """What is asked for, by GET; an answer from 200 to 399 says that the upstream is well."""
    interval: Duration = written("5s")
    """How long after the end of one check the next one begins."""
    timeout: Duration = written("2s")
    """How long an upstream may take to begin its answer, connecting included."""
    healthy: Annotated[int, Field(ge=1, le=100)] = 2
    """How many good answers in a row bring an upstream back."""
    unhealthy: Annotated[int, Field(ge=1, le=100)] = 3
    """How many checks in a row must fail before an upstream gets no more calls."""

    model_config = ConfigDict(
        title='{ path = "/healthz", interval = "5s", timeout = "2s", healthy = 2, unhealthy = 3 }'
    )

    @property
    def terms(self) -> HealthCheck:
        """The same, as the access plane uses it."""
        return HealthCheck(self.path.encode("ascii"), self.interval, self.timeout, self.healthy, self.unhealthy)


class UpstreamTLS(Table):
    """How TLS is spoken with the upstreams of a route."""

    ca: OptionalFileName = ""
    """The certificates, in PEM, of the authorities that count; empty for the system's."""
    certificate: OptionalFileName = ""
    """What is shown to an upstream that asks who calls, in PEM with its chain."""
    key: OptionalFileName = ""
    """The private key of that certificate."""
    server_name: Annotated[str, Written(optional_host, "host name")] = ""
    """The name that the upstream's certificate must have; empty for the host of its URL."""
    verify: bool = True
    """Whether the upstream must prove who it is. Without that, anybody between reads and answers."""

    model_config = ConfigDict(title='{ ca = "", certificate = "", key = "", server_name = "", verify = true }')

    @property
    def terms(self) -> UpstreamTls:
        """The same, as the access plane uses it."""
        return UpstreamTls(self.ca, self.certificate, self.key, self.server_name, self.verify)


class Headers(Table):
    """What becomes of the header fields of messages."""

    set: dict[FieldName, FieldTemplate] = {}
    """Fields that stand in the place of all of their name."""
    add: dict[FieldName, FieldTemplate] = {}
    """Fields that stand beside those that came."""
    remove: Annotated[tuple[FieldName, ...], array(), ONCE] = ()
    """Fields that are taken out."""

    model_config = ConfigDict(title='{ set = { … = "…" }, add = { … = "…" }, remove = ["…"] }')


class Cors(Table):
    """Which pages of other origins may call a route from a browser, and read the answers (the CORS protocol)."""

    origins: Annotated[tuple[CorsOrigin, ...], array(minimum=1), ONCE] = Field(examples=[["https://app.example.com"]])
    """The origins of the pages, as browsers write them; `["*"]` for all."""
    methods: Annotated[tuple[Method, ...], array(), ONCE] = ()
    """The methods that they may use; empty for those of the route."""
    headers: Annotated[tuple[FieldNameOrStar, ...], array(), ONCE] = ()
    """The fields that they may send besides those of every page and the route's credential; `["*"]` for any."""
    expose: Annotated[tuple[FieldNameOrStar, ...], array(), ONCE] = ()
    """The fields of answers that they may read besides those of every answer."""
    credentials: bool = False
    """Whether they may send cookies. A token in Authorization needs no leave of this kind."""
    max_age: PreflightAge = written("10m")
    """How long browsers may keep the answer to a preflight."""

    model_config = ConfigDict(
        title='{ origins = ["…"], methods = [], headers = [], expose = [], credentials = false, max_age = "10m" }'
    )


class Rate(Table):
    """How fast a route may be called."""

    by: By = Field(examples=["client"])
    """Whose calls are counted together: those of one `"client"`, `"user"`, `"token"` or `"address"` (with IPv6 its
    /64), or all calls of the `"route"`."""
    limit: RateLimit = Field(examples=["100/s"])
    """How many calls in a second, minute or hour."""
    burst: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(default=None, examples=[200])
    """How many may come at once after a rest; as many as limit says unless stated."""

    model_config = ConfigDict(title='{ by = "client", limit = "100/s", burst = 200 }')

    @property
    def terms(self) -> Limit:
        """The same, as the access plane uses it."""
        count, per = split_limit(self.limit)
        return Limit(self.by, count, per, self.burst or count)


class Quota(Table):
    """How often a route may be called in a day."""

    by: By = Field(examples=["client"])
    """Whose calls are counted together, as for a rate."""
    limit: DailyLimit = Field(examples=["10000/day"])
    """How many calls in a day of UTC."""

    model_config = ConfigDict(title='{ by = "client", limit = "10000/day" }')

    @property
    def terms(self) -> Limit:
        """The same, as the access plane uses it."""
        return Limit(self.by, *split_limit(self.limit))


class Issuer(Table):
    """One table for each other issuer whose access tokens open routes that name it, beside our own: JWTs that it has
    signed (RFC 9068). docs/issuers.md has the settings for common ones."""

    name: RouteName = Field(examples=["corp"])
    """A name for routes, logs and metrics. Whoever its tokens name is called by it too: upstreams and limits know them
    as corp|SUBJECT."""
    url: IssuerURL = Field(examples=["https://login.example.com"])
    """The issuer, byte for byte as it stands in iss. Its metadata, and with that its keys, are found below it (OpenID
    Connect Discovery, RFC 8414)."""
    jwks_uri: JwksURL = ""
    """Where its keys are, if it has no metadata."""
    audience: Annotated[tuple[Audience, ...], array(minimum=1), ONCE] = Field(examples=[["https://api.example.com"]])
    """What it calls this API: one of these must stand in aud."""
    algorithms: Annotated[tuple[Algorithm, ...], array(minimum=1), ONCE] = ("RS256", "ES256")
    """What it may sign with."""
    token_types: Annotated[tuple[ForeignTokenType, ...], array(minimum=1), ONCE] = ("at+jwt",)
    """What typ must say: `"at+jwt"`, which tells access tokens from all else that an issuer signs (RFC 9068); with
    `"JWT"` plain ones count too, whose typ is that or absent: then audience must be that of nothing but this API."""
    subject_claim: ForeignClaim = "sub"
    """Where the person stands, or the client where there is none."""
    client_claim: ForeignClaim = "client_id"
    """Where the client stands; with many issuers it is `"azp"`, `"appid"` or `"cid"`."""
    scopes_claim: ForeignClaim = "scope"
    """Where the scopes stand, as text with spaces between or as an array; `"scp"`, `"roles"` or another."""
    scopes: dict[ForeignScope, Annotated[tuple[ScopeName, ...], array(), ONCE]] = Field(
        default={}, examples=[{"api.read": ["notes:read"], "api.write": ["notes:read", "notes:write"]}]
    )
    """What its scopes are here, such as `{ "api.read" = ["notes:read"] }`; those that are not named count for nothing.
    Without any they are called alike."""
    leeway: Leeway = written("30s")
    """How far its clock and this one may differ."""

    @property
    def trusted(self) -> Trusted:
        """The same, as tokens are judged by it."""
        return Trusted(
            name=self.name,
            url=self.url,
            jwks_uri=self.jwks_uri,
            audience=frozenset(self.audience),
            algorithms=self.algorithms,
            token_types=self.token_types,
            subject_claim=self.subject_claim,
            client_claim=self.client_claim,
            scopes_claim=self.scopes_claim,
            scopes={name: frozenset(ours) for name, ours in self.scopes.items()} or None,
            leeway=self.leeway,
        )


class WebSocket(Table):
    """What holds for WebSockets of a route."""

    max_message: Size = written("4MiB")
    """The longest message, either way, over all of its fragments, as it is sent: compressed where both ends agreed on
    that. Beyond it both sides get the close code 1009."""
    origins: Annotated[tuple[CorsOrigin, ...], array(), ONCE] = ()
    """The origins of the pages that may open one, as browsers write them; pages of others are answered 403. Empty for
    all; programs that are no browsers, and so send no Origin, are not held up by it."""

    model_config = ConfigDict(title='{ max_message = "4MiB", origins = ["…"] }')


class Route(Table):
    """One table for each part of the API; what no route matches is answered 404. Of routes with one path, one that
    names the host goes first, then one that names the method; of two that name alike, the first here."""

    name: RouteName = Field(examples=["notes"])
    """A name for logs and metrics."""
    path: URLPath = Field(examples=["/api/notes"])
    """Whole segments: /api/notes and /api/notes/…, never /api/notesx. The longest match wins."""
    hosts: Annotated[tuple[HostName, ...], array(), ONCE] = ()
    """The hosts that it answers on, such as `["api.example.com"]`; empty for any. At each it is a resource of its own
    (RFC 8707). A host of its own keeps scripts of the upstream out of the sign-in pages' origin."""
    methods: Annotated[tuple[Method, ...], array(), ONCE] = ()
    """The methods that it answers; empty for any. HEAD is a method of its own here."""
    upstreams: Annotated[
        tuple[
            Annotated[
                Annotated[UpstreamURL, Tag(AS_TEXT)] | Annotated[Upstream, Tag(AS_TABLE)],
                _by_shape('must be text such as "http://127.0.0.1:9000", or { url = "…", weight = 2 }'),
            ],
            ...,
        ],
        array(),
        STATED,
    ] = Field(default=(), examples=[["http://127.0.0.1:9000"]])
    """The servers that it leads to, `"http+unix:///run/app.sock"` for a unix socket: required, except where the route
    answers by itself (`redirect`, `respond`). Of several, each call goes to the one with less to do of two that are
    drawn by weight, which is 1 unless stated. One that fails three calls in a row is left out for a second, then for
    longer, unless all are."""
    health: Health | None = Field(default=None, examples=[{"path": "/healthz"}])
    """What the upstreams are asked time and again; one that does not answer well gets no calls, unless none does."""
    retries: Annotated[int, Field(ge=0, le=10)] = 1
    """How often a call is sent once more, to another upstream where there is one, when nothing of its answer has come.
    Only methods that may be repeated are (RFC 9110, section 9.2.2), never POST or PATCH, and of a route's calls a tenth
    at most. A call of which nothing was sent goes to the next upstream in any case."""
    connections: Annotated[int, Field(ge=1, le=100_000)] | None = Field(default=None, examples=[100])
    """How many connections each worker holds to each upstream; 100 unless stated. Calls beyond them wait their turn,
    up to 1,000 of a route; more are answered 503."""
    upstream_tls: UpstreamTLS | None = Field(default=None, examples=[{"ca": "upstreams-ca.pem"}])
    """How TLS is spoken with upstreams of https."""
    upstream_host: Authority | None = Field(default=None, examples=["notes.internal"])
    """The Host that the upstream gets instead of the client's."""
    strip_prefix: Annotated[URLPath | None, STATED] = Field(default=None, examples=["/api"])
    """The beginning of the path, which the upstream does not see."""
    rewrite_prefix: URLPath | None = Field(default=None, examples=["/v2"])
    """What the upstream sees in the place of strip_prefix; without that, before the whole path."""
    redirect: Annotated[
        Annotated[RedirectTarget, Tag(AS_TEXT)] | Annotated[Redirect, Tag(AS_TABLE)],
        _by_shape('must be text such as "https://new.example.com/notes", or { to = "…", status = 308 }'),
    ] = ""
    """Where it leads its callers, such as `"https://new.example.com/notes"` or `"/notes"`, with 307 unless a status is
    named: this stands in the place of the route's path, and what follows that, and the query, come behind it."""
    respond: Respond | None = Field(
        default=None, examples=[{"status": 503, "body": "Back at noon.", "headers": {"Retry-After": "3600"}}]
    )
    """What it answers by itself, to whoever may call."""
    allow: Annotated[tuple[TrustedNetwork, ...], array(), ONCE] = ()
    """Addresses or networks that may call, such as `"10.0.0.0/8"`; empty for all. Who calls is told by trusted_proxies;
    others are answered 403, whatever their credential."""
    deny: Annotated[tuple[TrustedNetwork, ...], array(), ONCE] = ()
    """Addresses or networks that may not call, also where allow names them."""
    rate: Annotated[tuple[Rate, ...], array()] = ()
    """How fast it may be called, such as `[{ by = "client", limit = "100/s", burst = 200 }]`; what is faster is
    answered 429. All workers, and all gateways on one database, count together, to within 10 %."""
    concurrency: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """How many calls, and tunnels such as WebSockets, may be under way at a time, on all workers of this machine
    together; 0 for any number. Past it, calls are answered 503 at once, with Retry-After: none waits."""
    quota: Annotated[tuple[Quota, ...], array()] = ()
    """How often it may be called in a day, such as `[{ by = "client", limit = "10000/day" }]`; what is more is answered
    429. All workers and gateways count together, exactly."""
    cors: Cors | None = Field(default=None, examples=[{"origins": ["https://app.example.com"]}])
    """Which pages of other origins may call it from a browser, without a route of its own for preflights."""
    request_headers: Headers | None = Field(default=None, examples=[{"set": {"X-Tenant": "{client_id}"}}])
    """Fields of what the upstream gets. Values may name who calls: `{subject}`, `{username}`, `{email}`, `{client_id}`,
    `{scope}`, `{groups}`, `{request_id}`, `{address}`; a field that names what is not known is left out."""
    response_headers: Headers | None = Field(default=None, examples=[{"remove": ["Server"]}])
    """Fields of what the upstream, or the route itself, answers; refusals have their own."""
    auth: Annotated[
        Annotated[Literal["none"], BeforeValidator(_none), Tag(AS_TEXT)]
        | Annotated[tuple[Scheme, ...], array(minimum=1), ONCE, Tag(AS_ARRAY)],
        _by_shape('must be "none" or an array such as ["bearer", "mac"]'),
        SuchAs('["bearer"], or "none" for a public route'),
    ] = Field(examples=[["bearer", "mac"]])
    """The credentials that it accepts (`"signature"` is RFC 9421), or `"none"` for a public route. With `"session"`
    people open it in a browser, at the host of server.public_url: who isn't signed in is sent to sign in, and comes
    back."""
    scopes: Annotated[
        Annotated[tuple[ScopeName, ...], array(), ONCE, Tag(AS_ARRAY)]
        | Annotated[dict[MethodOrStar, Annotated[tuple[ScopeName, ...], array(), ONCE]], Tag(AS_TABLE)],
        _by_shape('must be an array such as ["notes:read"], or a table of them by method'),
        STATED,
    ] = Field(default=(), examples=[{"GET": ["notes:read"], "*": ["notes:write"]}])
    """What a token must carry: one list for all methods, or lists by method with `"*"` for all others. HEAD asks for
    what GET does. Without `"*"`, other methods ask for no scope."""
    groups: Annotated[
        Annotated[tuple[GroupName, ...], array(), ONCE, Tag(AS_ARRAY)]
        | Annotated[dict[MethodOrStar, Annotated[tuple[GroupName, ...], array(), ONCE]], Tag(AS_TABLE)],
        _by_shape('must be an array such as ["staff"], or a table of them by method'),
    ] = Field(default=(), examples=[["staff"]])
    """Groups whose people alone may call it, whatever their token may do; empty for everybody: one list for all
    methods, or lists by method with `"*"` for all others. A token without a person is in none. `request_headers` can
    tell the upstream, as `set = { "X-Auth-Groups" = "{groups}" }`."""
    max_age: NoneOrDuration = written("0s")
    """How long ago the person behind a call may have signed in, such as `"15m"`; `"0s"` for any time. Who signed in
    earlier is told to do so again (RFC 9470)."""
    acr: AuthenticationContext = ""
    """How the person must have signed in: `"password"`, or empty for any way, which also takes what no person signed in
    for."""
    issuers: Annotated[tuple[RouteName, ...], array(), ONCE] = ()
    """Other issuers whose access tokens it takes beside ours, by their names under [[issuers]]. Their people are in no
    group here."""
    timeout: Duration = written("15s")
    """How long the upstream may take to begin its answer."""
    connect_timeout: Duration | None = Field(default=None, examples=["2s"])
    """How long an upstream may take to take a connection, TLS included; 5 seconds unless stated."""
    idle_timeout: Duration | None = Field(default=None, examples=["60s"])
    """How long an answer, or a tunnel such as a WebSocket, may rest; 5 minutes unless stated."""
    total_timeout: NoneOrDuration = written("0s")
    """How long a call may take in all, its body and its answer included; `"0s"` for as long as it moves."""
    max_body: Size = written("1MiB")
    """The longest request body."""
    hold: HeldSize = written("0B")
    """A request's body up to this is taken in whole before an upstream connection is taken, and of an answer as much is
    taken off the upstream ahead of a client that reads slowly: so slow clients hold no upstream connection. It may be
    held for each connection, either way."""
    websocket: WebSocket | None = Field(
        default=None, examples=[{"max_message": "4MiB", "origins": ["https://app.example.com"]}]
    )
    """The longest message of its WebSockets, either way (4 MiB unless stated), and the origins of the pages that may
    open one; pages of all where none is named."""
    drain: Duration = written("30s")
    """How long streams (WebSockets, and answers without an end) may go on when a reload or a restart replaces their
    worker; at a stop, 30 seconds at most. WebSockets then get the close code 1001."""
    forward_authorization: bool = False
    """Whether the upstream gets the Authorization field, or the fields of the signature."""
    dpop: Literal["off", "optional", "required"] = "off"
    """Whether bearer tokens that are bound to a key of their client's (RFC 9449) open it, with a proof for each call:
    `"optional"` beside others, `"required"` alone."""
    mac_body_hash: bool = False
    """Whether a signed call with a body must state the body's hash, `bodyhash` in draft 00, `ext="body_hash=…"` in
    draft 01. One that is stated is always checked; `"signature"` always demands a Content-Digest."""
    identity_jwt: bool = False
    """Whether the upstream also gets who calls as a JWT of a minute in X-Auth-Jwt, whose `aud` is the route's resource
    identifier, signed by a key of jwks.json (ES256): so that it need not trust the network."""
    trust_request_id: bool = False
    """Whether the X-Request-Id of a trusted proxy is kept, instead of one of ours. That proxy must set it by itself:
    one that passes on what the client sent lets the client choose what your logs say."""
    encoded_slashes: Literal["refuse", "keep"] = "refuse"
    """What becomes of paths with encoded slashes (%2F) or empty segments (//): `"keep"` is for upstreams that take them
    for names, such as /files/a%2Fb; they pass as they came, unless some reading of them leads to another route."""

    @property
    def redirection(self) -> Redirect | None:
        """Where it leads its callers, if it does."""
        if isinstance(self.redirect, Redirect):
            return self.redirect
        return Redirect(to=self.redirect) if self.redirect else None

    @property
    def max_message(self) -> int:
        """The longest message of its WebSockets, also where it says nothing of these."""
        unsaid: int = default_of(WebSocket, "max_message")
        return unsaid if self.websocket is None else self.websocket.max_message

    @property
    def targets(self) -> tuple[Upstream, ...]:
        """The servers that it leads to, each with its weight."""
        return tuple(Upstream(url=one) if isinstance(one, str) else one for one in self.upstreams)

    @property
    def schemes(self) -> tuple[str, ...]:
        """The credentials it accepts, `"dpop"` among them where it takes that; empty for a public route."""
        if self.auth == "none":
            return ()
        bound = {"optional": (BEARER, DPOP), "required": (DPOP,)}
        of_bearer = bound.get(self.dpop, (BEARER,))
        return tuple(scheme for name in self.auth for scheme in (of_bearer if name == BEARER else (name,)))

    @property
    def all_scopes(self) -> frozenset[str]:
        """Every scope that some method asks for."""
        return scopes_of(self.scopes)


def scopes_of(scopes: tuple[str, ...] | Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Every scope that a route's `scopes` names, in either form."""
    if isinstance(scopes, Mapping):
        return frozenset(name for names in scopes.values() for name in names)
    return frozenset(scopes)


class Passwords(Table):
    """What people's passwords must be."""

    min_length: Annotated[int, Field(ge=8, le=128)] = 8
    """The fewest characters of a new password; 15 is NIST's advice where a password is all that is asked for. The
    10,000 most used ones are refused as well."""


class Log(Table):
    """What is written of calls. The gateway's own log always goes to stderr."""

    access: Literal["off", "json", "combined"] = "off"
    """One line for each call when it has ended, also where it was refused or its client left; no secrets, and of
    queries the names alone. docs/operation.md has the fields."""
    access_file: LogFile = "-"
    """Where these lines go: `"-"` for stderr; a file, which is opened again on SIGUSR1; `"syslog:"` for this machine's,
    `"syslog:/run/other.sock"` or, over UDP, `"syslog:HOST:PORT"`."""
    sample: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 1.0
    """The share of the calls that passed which get a line; what failed always does."""


class Traces(Table):
    """Traces by OpenTelemetry; they need the extra, from the folder or wheel that Gateway was installed from:
    `pip install '/path/to/gateway[traces]'`."""

    endpoint: Annotated[OriginURL | None, SuchAs('"http://127.0.0.1:4318"')] = Field(
        default=None, examples=["http://127.0.0.1:4318"]
    )
    """Where spans go, by OTLP over HTTP; without it none are made, and traceparent passes as it came. With it, a call
    without one gets one."""
    sample: Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)] = 1.0
    """The share of traces that is recorded, besides those of which a trusted proxy says that they are."""


class Branding(Table):
    """What people see on the pages."""

    name: Name = "Gateway"
    """The name of the service."""
    logo: FileName | None = Field(default=None, examples=["logo.svg"])
    """An image file: .svg, .png, .jpg, .webp, .gif, .avif or .ico."""
    accent: Colour | None = Field(default=None, examples=["#0a58ca"])
    """The colour of buttons and links."""
    stylesheet: FileName | None = Field(default=None, examples=["brand.css"])
    """A CSS file that is added to ours."""
    help: HelpText | None = Field(default=None, examples=["Ask the help desk, extension 1234."])
    """Where people get help who have forgotten their password: a sentence, or a URL."""


class Config(Table):
    """Durations are `"60s"`, `"15m"`, `"1h"` or `"14d"`; sizes are `"64KiB"` or `"1MiB"`. File names are relative to
    the configuration file. A secret is a reference, `{ file = "…" }` or `{ env = "…" }`, never the value itself."""

    server: Server
    admin: Admin = written({})
    database: Database = written({})
    keys: Keys = written({})
    tokens: Tokens = written({})
    registration: Registration = written({})
    client_metadata_documents: ClientMetadataDocuments = written({})
    mac: Mac = written({})
    scopes: Annotated[dict[ScopeName, Description], STATED] = Field(
        default={}, examples=[{"notes:read": "Read your notes", "notes:write": "Change your notes"}]
    )
    """Scopes and the plain words that the consent page says for them. Once there are some, routes may ask for these
    only; without any here, scopes are made by `gateway scope create`."""
    claims: dict[
        ClaimName,
        Annotated[
            Annotated[ClaimSource, Tag(AS_TEXT)] | Annotated[ClaimRule, Tag(AS_TABLE)],
            _by_shape('must be text such as "groups", or { value = "groups", scope = "…" }'),
        ],
    ] = Field(default={}, examples=[{"groups": "groups"}])
    """Claims of your own that applications get of people, by the claim's name, such as `groups = "groups"`, or
    `{ value = "groups", scope = "wiki", clients = ["c…"], id_token = true }`."""
    issuers: Annotated[tuple[Issuer, ...], array()] = ()
    routes: Annotated[tuple[Route, ...], array(), STATED] = ()
    passwords: Passwords = written({})
    log: Log = written({})
    traces: Traces = written({})
    branding: Branding = written({})

    @property
    def trusted_issuers(self) -> tuple[Trusted, ...]:
        """The other issuers whose tokens open some route."""
        named = {name for route in self.routes for name in route.issuers}
        return tuple(one.trusted for one in self.issuers if one.name in named)


def claim_rules(claims: Mapping[str, ClaimRule | ClaimSource]) -> dict[str, ClaimRule]:
    """The claims of one's own, by their names, each in full."""
    return {name: rule if isinstance(rule, ClaimRule) else ClaimRule(value=rule) for name, rule in claims.items()}


def table_within(annotation: Any) -> type[Table] | None:
    """The table type that an annotation holds, in whatever array or union."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    inner = getattr(annotation, "__args__", ())
    return next((found for part in inner if (found := table_within(part)) is not None), None)
