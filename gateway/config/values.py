"""The scalar types of the configuration: how a value is written, what it becomes, and what is said when it is wrong.

Every check raises `Wanted` (what would be right; the report adds what stood there) or a plain ValueError (a whole
sentence that shows nothing of the value, for what may hold a secret).
"""

import json
import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, Final, Literal, cast

from msgspec import Struct
from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from gateway.config.addresses import (
    LISTEN,
    ORIGIN,
    UNIX_LISTENER,
    UNIX_UPSTREAM,
    Wanted,
    canonical_host,
    is_host,
    socket_path,
    split_listen,
    split_origin,
)
from gateway.model import is_scope_token
from gateway.oauth import foreign
from gateway.routing.limits import Moment
from gateway.routing.shaping import NAMED, unknown_names
from gateway.schemes import SCHEMES

Network = IPv4Network | IPv6Network

AUTH_SCHEMES: Final = tuple(name for name, facts in SCHEMES.items() if not facts.variant)
_SCHEME_WANTED: Final = f"must be {', '.join(map(json.dumps, AUTH_SCHEMES[:-1]))} or {json.dumps(AUTH_SCHEMES[-1])}"

_DURATION = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_MOMENTS: Final[dict[str, Moment]] = {"s": "second", "m": "minute", "h": "hour", "day": "day"}
_MOST_HELD: Final = 1024 * 1024
_ACR = re.compile(r"[!#-\[\]-~]{0,200}")  # one of `acr_values`, which stands in quotes in a challenge
_ACR_WANTED: Final = 'must be "password", or empty for any way to sign in'
_SIZE = re.compile(r"([0-9]{1,12})(B|KiB|MiB|GiB)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES: Final = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_AUTHORITY = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]+)(?::([0-9]{1,5}))?")
# No ";": what stands behind one is a parameter of the segment to some servers, so such a path is never matched.
_PATH = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)+|/")
_HEALTH_PATH = re.compile(r"/[!\"$-~]{0,1000}")  # as it is asked for, query included (RFC 9112, section 3.2.1)
_METHOD = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")  # RFC 9110, section 9.1: a token
_ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
GROUP: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,99}")
_CLAIM_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9._:/-]{0,99}")
_CLAIMS_OF_SIGN_INS: Final = frozenset(
    (
        *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "auth_time", "nonce", "acr", "amr", "azp", "sid", "at_hash"),
        *("c_hash", "s_hash", "events", "client_id", "scope", "cnf", "act"),
    )
)
_SCOPE_NAME = re.compile(r"[!#-\[\]-~]+")
_COLOUR = re.compile(r"#(?:[0-9a-fA-F]{3}|[0-9a-fA-F]{6})")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_RATE = re.compile(r"([0-9]{1,7})/([smh])")
_QUOTA = re.compile(r"([0-9]{1,12})/day")
_USER_NAME = re.compile(r"(?:[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?)?")
# A redirect's target: an origin, a path, or both.
_TARGET = re.compile(r"(https?://[^/?#]+)?(/[^?#]*)?")
_WHERE_TO: Final = 'must be where to: "https://HOST[:PORT][/PATH]", or "/PATH" at the same host, without a query'
TRUSTED_SOCKET: Final = "unix:"
_LISTEN_OR_SOCKET = f"{LISTEN.pattern}|unix:/.+"
_ORIGIN_OR_SOCKET = rf"{ORIGIN.pattern}|http\+unix:///.+"
_SOCKET_MODE = re.compile(r"0?[0-7]{3}")
_CORS_ORIGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(\[[^\[\]]*\]|[^:/?#@\[\]]+)(?::([0-9]{1,5}))?")
_PORTS: Final = {"http": 80, "https": 443}
_FIELD_NAME = re.compile(r"[A-Za-z0-9-]{1,64}")  # by no other character, so that no two names read alike to an upstream
_FIELD_VALUE = re.compile(r"(?:[!-~](?:[ -~]{0,2000}[!-~])?)?")  # RFC 9110, section 5.5
_LONGEST_BODY: Final = 64 * 1024
_MAPPED: Final = 96  # bits before the IPv4 address in an IPv4-mapped one (RFC 4291, section 2.5.5.2)
_LONGEST_PART: Final = 255  # bytes of a name in a folder, and of a whole path below
_LONGEST_PATH: Final = 4095


def _text(value: object, wanted: str) -> str:
    if not isinstance(value, str):
        raise Wanted(wanted)
    return value


def _matching(pattern: re.Pattern[str], wanted: str) -> Callable[[object], str]:
    """A check for text that a pattern describes whole."""

    def check(value: object) -> str:
        text = _text(value, wanted)
        if pattern.fullmatch(text) is None:
            raise Wanted(wanted)
        return text

    return check


# -- times and sizes -----------------------------------------------------------------------------------------


def _seconds(text: str) -> float | None:
    found = _DURATION.fullmatch(text)
    return None if found is None else float(int(found[1]) * _SECONDS[found[2]])


def _duration(least: str, most: str) -> Callable[[object], float]:
    lowest, highest = cast("float", _seconds(least)), cast("float", _seconds(most))

    def check(value: object) -> float:
        seconds = _seconds(value) if isinstance(value, str) else None
        if seconds is None or not lowest <= seconds <= highest:
            raise Wanted(f'must be a duration from "{least}" to "{most}", such as "90s", "15m", "1h" or "14d"')
        return seconds

    return check


def _rate(value: object) -> str:
    wanted = 'must be calls a second, minute or hour, such as "100/s", "600/m" or "5000/h", up to 1,000,000'
    text = _text(value, wanted)
    if _RATE.fullmatch(text) is None:
        raise Wanted(wanted)
    return _counting(text, 1_000_000, wanted)


def _quota(value: object) -> str:
    wanted = 'must be calls a day, such as "10000/day"'
    text = _text(value, wanted)
    if _QUOTA.fullmatch(text) is None:
        raise Wanted(wanted)
    return _counting(text, 10**12, wanted)


def _counting(text: str, most: int, wanted: str) -> str:
    count = split_limit(text)[0]
    if not count:
        raise ValueError("lets nothing pass; close the route with respond = { status = 503 } instead")
    if count > most:
        raise Wanted(wanted)
    return text


def split_limit(text: str) -> tuple[int, Moment]:
    """How many calls, and for how long."""
    count, _, unit = text.partition("/")
    return int(count), _MOMENTS[unit]


def _size(value: object) -> int:
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise Wanted('must be a size such as "64KiB" or "1MiB"')
    return int(found[1]) * _BYTES[found[2]]


def _held_size(value: object) -> int:
    size = _size(value)
    if size > _MOST_HELD:
        raise Wanted('must be at most "1MiB": each connection may hold as much, either way')
    return size


# -- addresses -----------------------------------------------------------------------------------------------


def _listen(value: object) -> str:
    text = _text(value, 'must be HOST:PORT such as "127.0.0.1:8080"')
    split_listen(text)
    return text


def _public_address(value: object) -> str:
    text = _text(value, 'must be HOST:PORT such as "127.0.0.1:8080", or "unix:/PATH"')
    if socket_path(text, UNIX_LISTENER) is None:
        if text.startswith("unix:"):
            raise Wanted('must be "unix:/PATH", the whole path of a socket')
        split_listen(text)
    return text


def _trusted_proxy(value: object) -> Network | str:
    return TRUSTED_SOCKET if value == TRUSTED_SOCKET else _network(value)


_socket_mode = _matching(_SOCKET_MODE, 'must be a mode as for chmod, such as "0660"')


def _origin(value: object) -> str:
    text = _text(value, 'must be text such as "https://api.example.com"')
    split_origin(text)
    return text


def _upstream(value: object) -> str:
    text = _text(value, 'must be text such as "http://127.0.0.1:9000"')
    if socket_path(text, UNIX_UPSTREAM) is None:
        if text.startswith("http+unix:"):
            raise Wanted('must be "http+unix:///PATH", the whole path of a socket')
        split_origin(text)
    return text


def _host_name(value: object) -> str:
    wanted = 'must be a host name such as "api.example.com", without scheme, port or path'
    lowered = _text(value, wanted).lower().removesuffix(".")
    if not is_host(lowered):
        raise Wanted(wanted)
    return canonical_host(lowered)


def _authority(value: object) -> str:
    wanted = 'must be HOST or HOST:PORT such as "internal.example:8000"'
    found = _AUTHORITY.fullmatch(_text(value, wanted))
    if found is None or not is_host(found[1]) or not 1 <= int(found[2] or 1) <= 65535:
        raise Wanted(wanted)
    return found[0]


def _network(value: object) -> Network:
    wanted = 'must be an address or a network such as "10.0.0.0/8"'
    text = _text(value, wanted)
    try:
        network = ip_network(text)
    except ValueError:
        pass
    else:
        mapped = getattr(network.network_address, "ipv4_mapped", None)
        if mapped is not None and network.prefixlen >= _MAPPED:
            meant = ip_network((mapped, network.prefixlen - _MAPPED))
            raise Wanted(f'an IPv4 address must be written as one: write "{meant}"')
        return network
    try:
        meant = ip_network(text, strict=False)
    except ValueError as exc:
        raise Wanted(wanted) from exc
    raise Wanted(f'a network must have no bits set beyond its prefix: write "{meant}"')


# -- routes --------------------------------------------------------------------------------------------------


def _path(value: object) -> str:
    wanted = 'must be a path of whole, plain segments such as "/api/notes", without escapes or a slash at its end'
    text = _text(value, wanted)
    if _PATH.fullmatch(text) is None or any(part in (".", "..") for part in text.split("/")):
        raise Wanted(wanted)
    return text


_health_path = _matching(_HEALTH_PATH, 'must be a path such as "/healthz", or "/healthz?full=1", in ASCII')


def _method(value: object) -> str:
    wanted = 'must be a method such as "GET"'
    text = _text(value, wanted)
    if _METHOD.fullmatch(text) is None:
        raise Wanted(wanted)
    if text.upper() != text:
        raise Wanted(f'methods must be in upper case: write "{text.upper()}"')
    if text == "CONNECT":
        raise ValueError("CONNECT is never forwarded; leave it out")
    return text


def _method_or_star(value: object) -> str:
    return "*" if value == "*" else _method(value)


_route_name = _matching(_ROUTE_NAME, 'must be a name of up to 64 letters, digits, ".", "_" and "-", such as "notes"')


def _scope_name(value: object) -> str:
    wanted = 'must be a scope name of printable ASCII without spaces, quotes or backslashes, such as "notes:read"'
    text = _text(value, wanted)
    if not is_scope_token(text):
        raise Wanted(wanted)
    return text


def _group(value: object) -> str:
    wanted = 'must be up to 100 letters, digits and . _ : / @ -, the first a letter or digit, such as "staff"'
    text = _text(value, wanted)
    if GROUP.fullmatch(text) is None:
        raise Wanted(wanted)
    return text


def _acr(value: object) -> str:
    text = _text(value, _ACR_WANTED)
    if _ACR.fullmatch(text) is None:
        raise Wanted(_ACR_WANTED)
    return text


def _claim_name(value: object) -> str:
    wanted = 'must be a claim of your own, such as "groups"'
    text = _text(value, wanted)
    if _CLAIM_NAME.fullmatch(text) is None:
        raise Wanted(f"{wanted}, of up to 100 letters, digits and . _ : / -")
    if text in _CLAIMS_OF_SIGN_INS:
        raise ValueError("says who signed in, how or when, and stands for nothing else; choose another name")
    return text


def _auth_scheme(value: object) -> object:
    if value == "none":
        raise ValueError('is not a scheme; write auth = "none", without brackets, for a public route')
    if value not in AUTH_SCHEMES:
        raise Wanted(_SCHEME_WANTED)
    return value


def _redirect_target(value: object) -> str:
    text = _text(value, _WHERE_TO)
    if text:
        split_redirect(text)
    return text


def split_redirect(text: str) -> tuple[str, str]:
    """The origin, empty for the request's own, and the path of a redirect's target; a path of "/" is empty."""
    found = _TARGET.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        raise Wanted(_WHERE_TO)
    origin, path = found[1] or "", "" if found[2] in (None, "/") else found[2]
    if origin:
        split_origin(origin)
    if path:
        _path(path)
    return origin, path


def _cors_origin(value: object) -> str:
    """An origin as browsers write it (HTML, "ASCII serialization of an origin"), or any."""
    wanted = 'must be an origin such as "https://app.example.com", without a path, or "*" for all'
    text = _text(value, wanted)
    if text == "*":
        return text
    if text == "null":
        raise ValueError('"null" is an origin that any page can have; name those that may call')
    found = _CORS_ORIGIN.fullmatch(text)
    if found is None or not is_host(found[2]) or not 1 <= int(found[3] or 1) <= 65535:
        raise Wanted(wanted)
    port = "" if found[3] is None or int(found[3]) == _PORTS.get(found[1].lower()) else f":{int(found[3])}"
    meant = f"{found[1].lower()}://{canonical_host(found[2])}{port}"
    if meant != text:
        raise Wanted(f'browsers write it so: write "{meant}"')
    return text


def _without_user(url: str) -> str:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise ValueError("a URL here must not contain a user or a password; take them out")
    return url


def _issuer_url(value: object) -> str:
    wanted = (
        'must be the issuer as its tokens name it in iss, such as "https://login.example.com", without a query; http '
        "is for this machine alone"
    )
    text = _without_user(_text(value, wanted))
    if not foreign.is_url(text) or "?" in text or not is_host(foreign.host_of(text)):
        raise Wanted(wanted)
    return text


def _jwks_uri(value: object) -> str:
    wanted = 'must be where the keys are, such as "https://login.example.com/jwks.json"; http is for this machine alone'
    text = _without_user(_text(value, wanted))
    if text and (not foreign.is_url(text) or not is_host(foreign.host_of(text))):
        raise Wanted(wanted)
    return text


# -- header fields -------------------------------------------------------------------------------------------


_field_name = _matching(_FIELD_NAME, 'must be the name of a header field such as "X-Tenant": letters, digits and "-"')
_field_value = _matching(
    _FIELD_VALUE, "must be the value of a header field: printable ASCII, without spaces at its ends"
)


def _template(value: object) -> str:
    text = _field_value(value)
    unknown = unknown_names(text)
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in NAMED)
        raise ValueError(f'knows no {unknown[0]}; there are {known}, and "{{{{" and "}}}}" for the braces themselves')
    return text


def _field_name_or_star(value: object) -> str:
    return "*" if value == "*" else _field_name(value)


# -- text ----------------------------------------------------------------------------------------------------


def _body(value: object) -> str:
    wanted = f"must be text of at most {_LONGEST_BODY} bytes"
    text = _text(value, wanted)
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_BODY:  # too long to be shown
        raise ValueError(f"{wanted}; what is longer is an upstream's to answer")
    return text


def _words(longest: int, *, lines: bool = False) -> Callable[[object], str]:
    wanted = f"must be text of 1 to {longest} printable characters{'' if lines else ' on one line'}"

    def check(value: object) -> str:
        text = _text(value, wanted)
        printable = text.replace("\n", "").isprintable() if lines else text.isprintable()
        if len(text) > longest or not printable or not text.strip():
            raise Wanted(wanted)
        return text

    return check


def _file_name(value: object) -> str:
    wanted = "must be the name of a file"
    text = _text(value, wanted)
    if not text or "\0" in text:
        raise Wanted(wanted)
    name = text.encode("utf-8", "surrogateescape")
    if len(name) > _LONGEST_PATH or any(len(part) > _LONGEST_PART for part in name.split(b"/")):
        raise Wanted(f"{wanted}, of at most {_LONGEST_PART} bytes a part")
    return text


def _optional_file(value: object) -> str:
    return "" if value == "" else _file_name(value)


def optional_host(value: object) -> str:
    """A host name, or nothing."""
    return "" if value == "" else _host_name(value)


def _log_file(value: object) -> str:
    text = _file_name(value)
    place = text.removeprefix("syslog:")
    if place in (text, "") or place.startswith("/"):
        return text
    found = _AUTHORITY.fullmatch(place)
    if found is None or not is_host(found[1]) or not 1 <= int(found[2] or 0) <= 65535:
        raise Wanted('must be "syslog:", "syslog:/SOCKET" or "syslog:HOST:PORT"')
    return text


def _environment_name(value: object) -> str:
    if not isinstance(value, str) or _ENVIRONMENT_NAME.fullmatch(value) is None:
        raise ValueError('must be the name of an environment variable, such as "GATEWAY_MASTER_KEY"')
    return value


_user_name = _matching(_USER_NAME, 'must be the name of a system user, such as "gateway"')


_colour = _matching(_COLOUR, 'must be a colour such as "#0a7" or "#00aa77"')


# -- the types -----------------------------------------------------------------------------------------------


class Written(Struct, frozen=True):
    """How a type is written in the file: `read` checks a value and makes it ours, `kind` is what people know it by, and
    `pattern` is as much of the check as an editor can make."""

    read: Callable[[object], object]
    kind: str
    pattern: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        checked = {"minLength": 1} if self.pattern is None else {"pattern": f"^(?:{self.pattern})$"}
        return {"type": "string", "title": self.kind, **checked}


def _lifetime(least: str, most: str) -> Written:
    return Written(_duration(least, most), f'duration, "{least}" to "{most}"', _DURATION.pattern)


Duration = Annotated[float, _lifetime("1s", "3650d")]
NoneOrDuration = Annotated[float, _lifetime("0s", "3650d")]
CodeLifetime = Annotated[float, _lifetime("1s", "10m")]
Skew = Annotated[float, _lifetime("1s", "10m")]
Grace = Annotated[float, _lifetime("0s", "60s")]
PreflightAge = Annotated[float, _lifetime("0s", "1d")]
Staleness = Annotated[float, _lifetime("0s", "1d")]
Size = Annotated[int, Written(_size, "size", _SIZE.pattern)]
HeldSize = Annotated[int, Written(_held_size, 'size, "0B" to "1MiB"', _SIZE.pattern)]
RateLimit = Annotated[str, Written(_rate, "calls/s, calls/m or calls/h", _RATE.pattern)]
DailyLimit = Annotated[str, Written(_quota, "calls/day", _QUOTA.pattern)]
ListenAddress = Annotated[str, Written(_listen, "HOST:PORT", LISTEN.pattern)]
PublicAddress = Annotated[str, Written(_public_address, "HOST:PORT or unix:/PATH", _LISTEN_OR_SOCKET)]
SocketMode = Annotated[str, Written(_socket_mode, "mode", _SOCKET_MODE.pattern)]
OriginURL = Annotated[str, Written(_origin, "http[s]://HOST[:PORT]", ORIGIN.pattern)]
UpstreamURL = Annotated[
    str,
    Written(_upstream, "http[s]://HOST[:PORT] or http+unix:///PATH", _ORIGIN_OR_SOCKET),
]
HostName = Annotated[str, Written(_host_name, "host name")]
Authority = Annotated[str, Written(_authority, "HOST[:PORT]", _AUTHORITY.pattern)]
TrustedNetwork = Annotated[Network, Written(_network, "address or network")]
TrustedProxy = Annotated[Network | Literal["unix:"], Written(_trusted_proxy, 'address, network or "unix:"')]
URLPath = Annotated[str, Written(_path, "path", _PATH.pattern)]
HealthPath = Annotated[str, Written(_health_path, "path", _HEALTH_PATH.pattern)]
RedirectTarget = Annotated[str, Written(_redirect_target, "URL or path", _TARGET.pattern)]
FieldName = Annotated[str, Written(_field_name, "header field", _FIELD_NAME.pattern)]
FieldTemplate = Annotated[str, Written(_template, "value")]
FieldNameOrStar = Annotated[str, Written(_field_name_or_star, 'header field or "*"')]
CorsOrigin = Annotated[str, Written(_cors_origin, 'origin or "*"')]
FieldValue = Annotated[str, Written(_field_value, "value", _FIELD_VALUE.pattern)]
BodyText = Annotated[str, Written(_body, "text of up to 64 KiB")]
Method = Annotated[str, Written(_method, "method in upper case", _METHOD.pattern)]
MethodOrStar = Annotated[str, Written(_method_or_star, 'method or "*"', _METHOD.pattern)]
RouteName = Annotated[str, Written(_route_name, 'up to 64 letters, digits, ".", "_" and "-"', _ROUTE_NAME.pattern)]
ClaimName = Annotated[str, Written(_claim_name, "claim", _CLAIM_NAME.pattern)]
GroupName = Annotated[str, Written(_group, "group", GROUP.pattern)]
ClientId = Annotated[str, Written(_words(255), "client identifier")]
AuthenticationContext = Annotated[str, Written(_acr, "acr", _ACR.pattern)]
ScopeName = Annotated[str, Written(_scope_name, "scope", _SCOPE_NAME.pattern)]
IssuerURL = Annotated[str, Written(_issuer_url, "https://HOST[:PORT][/PATH]")]
JwksURL = Annotated[str, Written(_jwks_uri, "URL")]
Audience = Annotated[str, Written(_words(255), "audience")]
ForeignClaim = Annotated[str, Written(_words(100), "claim")]
ForeignScope = Annotated[str, Written(_words(255), "scope of the issuer's", ".{1,255}")]
Leeway = Annotated[float, _lifetime("0s", "5m")]
Scheme = Annotated[str, BeforeValidator(_auth_scheme), Field(json_schema_extra={"enum": list(AUTH_SCHEMES)})]
Name = Annotated[str, Written(_words(100), "text of up to 100 characters")]
Description = Annotated[str, Written(_words(200), "text of up to 200 characters")]
HelpText = Annotated[str, Written(_words(500, lines=True), "text of up to 500 characters")]
FileName = Annotated[str, Written(_file_name, "file name")]
OptionalFileName = Annotated[str, Written(_optional_file, "file name")]
LogFile = Annotated[str, Written(_log_file, '"-", a file name, or "syslog:"')]
EnvironmentName = Annotated[
    str, Written(_environment_name, "name of an environment variable", _ENVIRONMENT_NAME.pattern)
]
UserName = Annotated[str, Written(_user_name, "system user", _USER_NAME.pattern)]
Colour = Annotated[str, Written(_colour, "colour", _COLOUR.pattern)]


# -- how keys are declared -----------------------------------------------------------------------------------


def written(value: Any) -> Any:
    """A default as it would be written in the file; it is read like a given value."""
    return Field(default=value, validate_default=True)


def array(*, minimum: int = 0) -> Any:
    """TOML has arrays, frozen types have tuples: the one place where strictness bends."""
    return Field(strict=False, min_length=minimum)


def _once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict.fromkeys(values))


ONCE: Final = AfterValidator(_once)  # what is said twice in a set counts once


class SuchAs(Struct, frozen=True):
    """What a fault says where the key is absent: `words`, in place of the key's example."""

    words: str


class Stated:
    """A mark on a key that has a default, and for which even a small installation writes its example."""


STATED: Final = Stated()


class Fixed:
    """A mark on a key that only a restart changes, because it says where the gateway listens, where its data is or
    whose its processes are."""


FIXED: Final = Fixed()
