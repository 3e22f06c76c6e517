"""Message components and the signature base: what an HTTP message signature signs (RFC 9421, section 2).

    identifier                     value                                                   section
    ─────────────────────────────  ──────────────────────────────────────────────────────  ───────
    "@method"                      the method                                              2.2.1
    "@target-uri"                  scheme://authority, path and query                      2.2.2
    "@authority"                   host in lower case, and the port unless it is usual     2.2.3
    "@scheme"                      http or https                                           2.2.4
    "@request-target"              the request target as received                          2.2.5
    "@path"                        the path as received                                    2.2.6
    "@query"                       "?" and the query as received                           2.2.7
    "@query-param";name="…"        one parameter, decoded and encoded anew                 2.2.8
    "field"                        its values, joined by ", "                              2.1
    "field";sf                     in strict spelling, where the field's kind is known     2.1.1
    "field";key="…"                one member of a Dictionary, in strict spelling          2.1.2
    "field";bs                     each value as a Byte Sequence                           2.1.3

Everything else is refused: `req` and "@status" belong to responses; `tr` to trailers, which come when the call has
long been judged; unknown components and parameters. So is what would let two requests share one base: a component
twice, bytes that are not ASCII (`bs` takes them), a parameter of the query that occurs twice, and an empty query
under "@query" alone, which reads like none. And so is a field that Connection names: anybody could add that option,
and the upstream would never see what was signed (RFC 9110, section 7.6.1).

No value holds a line end and each line begins with an identifier that delimits itself; the last line names all
others. So equal bases mean equal parts.
"""

import base64
import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from gateway.credentials import structured
from gateway.credentials.authorization import MalformedCredential
from gateway.credentials.structured import InnerList, Item
from gateway.http1 import list_members

_PARSED: Final = 4096  # bytes that one request may have parsed as structured fields, however many components it names
_PARAMETERS: Final = 256  # of a query of which one is covered by itself

_FIELD_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9a-z]+")
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e]*")
_DERIVED_VALUE: Final = re.compile(rb"[\x21-\x7e]*")
_ORIGIN: Final = re.compile(rb"(?:[A-Za-z]++://[^/?]*+)?")  # of the absolute form; the origin form has none
# WHATWG URL, application/x-www-form-urlencoded percent-encode set: all but these
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-._")

# Fields of requests that IANA's registry of field names calls structured
_KINDS: Final[dict[str, structured.Kind]] = {
    "accept-signature": "dictionary",
    "cache-status": "list",
    "capsule-protocol": "item",
    "client-cert": "item",
    "client-cert-chain": "list",
    "content-digest": "dictionary",
    "priority": "dictionary",
    "proxy-status": "list",
    "repr-digest": "dictionary",
    "signature": "dictionary",
    "signature-input": "dictionary",
    "want-content-digest": "dictionary",
    "want-repr-digest": "dictionary",
}

Fields = Sequence[tuple[bytes, bytes, bytes]]
"""Header fields: name in lower case, name as sent, value without outer white space."""


class Message(Struct, frozen=True, kw_only=True):
    """A request as it is signed.

    `target` is the request target as received; `scheme` and `authority` are those under which clients reach the
    resource, never what a forwarding field claims. `fields` are its header fields; `has_body` says whether one
    follows them, be it empty.
    """

    method: str
    target: bytes
    scheme: str
    authority: str
    fields: Fields = ()
    has_body: bool = False


def authority(scheme: str, host: str, port: int) -> str:
    """The authority in its normal form: without the scheme's usual port (RFC 9110, section 4.2.3)."""
    return host if port == (443 if scheme == "https" else 80) else f"{host}:{port}"


def signature_base(message: Message, signature_input: InnerList) -> bytes:
    """The bytes that are signed (RFC 9421, section 2.5). Raises MalformedCredential for what cannot be."""
    components = _Components(message, frozenset(str(name) for name, _ in signature_input.items))
    lines, identifiers, seen = list[str](), list[str](), set[object]()
    for index, component in enumerate(signature_input.items, 1):
        identifier = structured.serialised(component)
        unordered = (component.value, frozenset(component.parameters.items()))  # their order makes no difference
        if unordered in seen:
            raise MalformedCredential(f"Component {index} of the signature is covered twice.")
        seen.add(unordered)
        try:
            value = components.value(component)
        except _Unfit as fault:
            raise MalformedCredential(f"Component {index} of the signature {fault}.") from fault
        identifiers.append(identifier)
        lines.append(f"{identifier}: {value}\n")
    parameters = structured.serialised(InnerList((), signature_input.parameters)).removeprefix("()")
    lines.append(f'"@signature-params": ({" ".join(identifiers)}){parameters}')
    return "".join(lines).encode("ascii")


class _Unfit(Exception):
    """Why one component cannot be signed; the text ends a sentence and holds nothing that the client chose."""


class _Components:
    """The values of one message's components, each part of it parsed once at most."""

    def __init__(self, message: Message, covered: frozenset[str]) -> None:
        self._message = message
        self._covered = covered
        origin = _ORIGIN.match(message.target)  # at its beginning only: a query may hold addresses too
        path, mark, query = message.target[origin.end() if origin else 0 :].partition(b"?")
        self._path, self._query = path or b"/", mark + query
        self._fields: dict[bytes, list[bytes]] | None = None
        self._dictionaries: dict[str, dict[str, structured.Member]] = {}
        self._parameters: dict[str, list[str]] | None = None
        self._parsed = 0

    def value(self, component: Item) -> str:
        """A component's value. Raises _Unfit, or MalformedCredential where a structured field is no such thing."""
        name, parameters = component
        if not isinstance(name, str):
            raise _Unfit("is not named by a quoted string")
        if name == "@query-param":
            if parameters.keys() != {"name"}:
                raise _Unfit("takes one parameter: the name of a query parameter")
            return self._query_parameter(parameters["name"])
        if name.startswith("@"):
            if parameters:
                raise _Unfit("has parameters that are not allowed there")
            return self._derived(name)
        if _FIELD_NAME.fullmatch(name) is None:
            raise _Unfit("is neither a field's name in lower case nor a derived component")
        return self._field(name, parameters)

    # -- section 2.2 ----------------------------------------------------------------------------------------

    def _derived(self, name: str) -> str:
        message = self._message
        if name == "@method":
            return message.method
        if name == "@authority":
            return message.authority
        if name == "@scheme":
            return message.scheme
        if name == "@target-uri":
            return f"{message.scheme}://{message.authority}{self._ascii(self._path + self._query)}"
        if name == "@request-target":
            return self._ascii(message.target)
        if name == "@path":
            return self._ascii(self._path)
        if name == "@query":
            if self._query == b"?" and self._covered.isdisjoint(("@target-uri", "@request-target")):
                raise _Unfit('is an empty query, which looks like none: cover "@target-uri", or send no "?"')
            return self._ascii(self._query or b"?")
        raise _Unfit("is not known for requests")

    def _ascii(self, part: bytes) -> str:
        if _DERIVED_VALUE.fullmatch(part) is None:
            raise _Unfit("is a part of the target that is not ASCII: percent-encode it")
        return part.decode("ascii")

    def _query_parameter(self, name: object) -> str:
        if self._parameters is None:
            if self._query.count(b"&") >= _PARAMETERS:
                raise _Unfit(f"is in a query of more than {_PARAMETERS} parameters")
            self._parameters = _form(self._query[1:])
        found = self._parameters.get(name, []) if type(name) is str else []
        if len(found) != 1:
            raise _Unfit("does not occur exactly once in the query")
        return found[0]

    # -- section 2.1 ----------------------------------------------------------------------------------------

    def _field(self, name: str, parameters: structured.Parameters) -> str:
        if not parameters.keys() <= {"sf", "key", "bs"}:
            raise _Unfit("has a parameter that is not known for requests")
        if any(parameters.get(flag, True) is not True for flag in ("sf", "bs")):
            raise _Unfit("has a flag with a value")
        values = self._values(name)
        if not values:
            raise _Unfit("is a field that the request does not have")
        if any(name.encode("ascii") in list_members(options) for options in self._values("connection")):
            raise _Unfit("is a field that is not forwarded, since Connection names it")
        if "bs" in parameters:
            if len(parameters) > 1:
                raise _Unfit("has parameters that exclude each other")
            return ", ".join(f":{base64.b64encode(value).decode('ascii')}:" for value in values)
        if "key" in parameters:
            return self._dictionary_member(name, parameters["key"])
        if "sf" in parameters:
            if name not in _KINDS:
                raise _Unfit("is not a known structured field")
            return structured.strict(self._counted(values), _KINDS[name], field="that is covered", longest=_PARSED)
        combined = b", ".join(values)
        if _FIELD_VALUE.fullmatch(combined) is None:
            raise _Unfit("is a field that is not ASCII: add ;bs to cover it")
        return combined.decode("ascii")

    def _dictionary_member(self, name: str, key: object) -> str:
        members = self._dictionaries.get(name)
        if members is None:
            values = self._counted(self._values(name))
            members = structured.dictionary(values, field="that is covered", longest=_PARSED)
            self._dictionaries[name] = members
        member = members.get(key) if type(key) is str else None
        if member is None:
            raise _Unfit("is a member that the field does not have")
        return structured.serialised(member)

    def _values(self, name: str) -> list[bytes]:
        if self._fields is None:
            self._fields = {}
            for lower, _, value in self._message.fields:
                self._fields.setdefault(lower, []).append(value)
        return self._fields.get(name.encode("ascii"), [])

    def _counted(self, values: Sequence[bytes]) -> Sequence[bytes]:
        """`values`, counted as parsed; _Unfit where one request would have more parsed than it may."""
        self._parsed += sum(map(len, values)) + 2 * len(values)
        if self._parsed > _PARSED:
            raise _Unfit(f"is beyond the {_PARSED} bytes of structured fields that are parsed for one request")
        return values


def _form(query: bytes) -> dict[str, list[str]]:
    """The values of each parameter as section 2.2.8 spells both: decoded as a form's, then percent-encoded."""
    parameters: dict[str, list[str]] = {}
    for pair in query.split(b"&"):
        if pair:
            name, _, value = pair.replace(b"+", b" ").partition(b"=")
            parameters.setdefault(_encoded(unquote_to_bytes(name)), []).append(_encoded(unquote_to_bytes(value)))
    return parameters


def _encoded(text: bytes) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text)
