"""HTTP Message Signatures with hmac-sha256 (RFC 9421): a signed request by the standards track.

    Signature-Input: sig=("@method" "@target-uri" "content-digest");created=1618884473;nonce="…";keyid="gwa_…"
    Signature:       sig=:BASE64:

`keyid` is the access token, the key the characters of the `mac_key` that came with it: tokens of the type `mac`, with
the algorithm hmac-sha-256, sign either way, and what differs is the form. Of the parameters

    created, nonce, keyid    are demanded; all of them make the signature's one use
    alg                      may be left out, and is hmac-sha256
    expires                  is kept: from then on the signature counts no longer
    tag, unknown ones        are covered like the others and mean nothing here

A signature covers at least "@method", the whole target ("@target-uri", or "@authority" with "@path" and "@query"),
and "content-digest" where there is a body, so that nothing of the request that a client means can be altered.

Several signatures in one request, as proxies and other protocols add them: each label stands in both fields (RFC
9421, section 4). If there is one, it counts. Of several, the one whose keyid is a token of ours counts: exactly one,
or nobody could say which is meant. The others are not ours to check and are passed over.
"""

import base64
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.credentials import content_digest, structured
from gateway.credentials.authorization import MalformedCredential
from gateway.credentials.components import Message, signature_base
from gateway.credentials.signed import Proof, Signed
from gateway.credentials.structured import InnerList, Item

INPUT_FIELD: Final = b"signature-input"
VALUE_FIELD: Final = b"signature"
FIELDS: Final = frozenset((INPUT_FIELD, VALUE_FIELD))
ALGORITHM: Final = "hmac-sha256"
LABEL: Final = "sig"

MAXIMUM: Final = {"keyid": 256, "nonce": 128}  # characters
_LONGEST: Final = 4096  # bytes of either field
_LABELS: Final = 8
_COMPONENTS: Final = 32
_PARAMETERS: Final = 16

_OUR_TOKEN: Final = "gwa_"  # noqa: S105  # what our tokens begin with, no token
_DIGEST_FIELD: Final = content_digest.FIELD.decode("ascii")
_TARGETS: Final = (frozenset(("@target-uri",)), frozenset(("@authority", "@path", "@query")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature under its label: what it covers and its parameters, in their order, and the HMAC itself.

    Raises MalformedCredential when a demanded parameter is missing or one does not follow its grammar.
    """

    label: str
    input: InnerList
    value: bytes

    def __post_init__(self) -> None:
        _check_parameters(self.input.parameters)
        if len(self.input.items) > _COMPONENTS:
            raise MalformedCredential(f"A signature may cover at most {_COMPONENTS} components.")

    @property
    def token(self) -> str:
        """The access token, by which the key is found."""
        return str(self.input.parameters["keyid"])

    @property
    def nonce(self) -> str:
        """The nonce, which with the token and the time stands for the signature's one use."""
        return str(self.input.parameters["nonce"])

    @property
    def created(self) -> int:
        """Seconds since 1970."""
        return _seconds(self.input.parameters["created"])

    @property
    def expires(self) -> int | None:
        """Seconds since 1970 from which on it counts no longer, if the client said so."""
        expires = self.input.parameters.get("expires")
        return None if expires is None else _seconds(expires)

    def __repr__(self) -> str:
        return f"Signature({self.label})"


def parse(inputs: Sequence[bytes], values: Sequence[bytes]) -> Signature:
    """The one signature that counts, from the values of all Signature-Input and Signature lines.

    Raises MalformedCredential.
    """
    stated = structured.dictionary(inputs, field="Signature-Input", longest=_LONGEST)
    signatures = structured.dictionary(values, field="Signature", longest=_LONGEST)
    if stated.keys() != signatures.keys() or not stated:
        raise MalformedCredential("Each signature needs its label in both Signature-Input and Signature.")
    if len(stated) > _LABELS:
        raise MalformedCredential(f"A request may carry at most {_LABELS} signatures.")
    label = _counting(stated)
    member, value = stated[label], signatures[label]
    if not isinstance(member, InnerList):
        raise MalformedCredential("A member of Signature-Input must be a list of components in parentheses.")
    if not isinstance(value, Item) or not isinstance(value.value, bytes):
        raise MalformedCredential("A member of Signature must be a byte sequence: base64 between colons.")
    return Signature(label=label, input=member, value=value.value)


def render(signature: Signature) -> tuple[str, str]:
    """The values of Signature-Input and Signature, which `parse` reads back as the same signature."""
    value = base64.b64encode(signature.value).decode("ascii")
    return f"{signature.label}={structured.serialised(signature.input)}", f"{signature.label}=:{value}:"


def from_message(message: Message) -> Signed:
    """The claim that the signature that counts makes of its request.

    Raises MalformedCredential, also where it covers too little.
    """
    inputs = [value for name, _, value in message.fields if name == INPUT_FIELD]
    values = [value for name, _, value in message.fields if name == VALUE_FIELD]
    if not inputs or not values:
        raise MalformedCredential("A signature needs both fields, Signature-Input and Signature.")
    signature = parse(inputs, values)
    _check_coverage(message, signature.input)
    stated = [value for name, _, value in message.fields if name == content_digest.FIELD]
    return Signed(
        scheme="signature",
        token=signature.token,
        nonce=signature.nonce,
        proofs=(Proof(signature_base(message, signature.input), signature.value),),
        created=signature.created,
        expires=signature.expires,
        algorithm="hmac-sha-256",
        digests=content_digest.parse(stated) if stated else (),
    )


def sign(key: bytes, message: Message, signature_input: InnerList, label: str = LABEL) -> Signature:
    """A client's side: the signature over what `signature_input` covers.

    Raises MalformedCredential for what cannot be signed.
    """
    value = hmac.digest(key, signature_base(message, signature_input), "sha256")
    return Signature(label=label, input=signature_input, value=value)


def accepted(*, has_body: bool) -> str:
    """The value of Accept-Signature: what a signature must cover and carry at least (RFC 9421, section 5.1).

    The field can ask for no nonce of the client's choice; that one is demanded is for the description to say.
    """
    covered = ("@method", "@target-uri", *((_DIGEST_FIELD,) if has_body else ()))
    items = tuple(Item(name, {}) for name in covered)
    return f"{LABEL}={structured.serialised(InnerList(items, {'created': True, 'alg': ALGORITHM}))}"


def _counting(stated: dict[str, structured.Member]) -> str:
    """The label of the signature that counts; the rule is at this file's head."""
    if len(stated) == 1:
        return next(iter(stated))
    ours = [label for label, member in stated.items() if _is_ours(member.parameters.get("keyid"))]
    if len(ours) != 1:
        raise MalformedCredential("Of several signatures, exactly one must have an access token as its keyid.")
    return ours[0]


def _is_ours(keyid: object) -> bool:
    return type(keyid) is str and keyid.startswith(_OUR_TOKEN)


def _check_parameters(parameters: structured.Parameters) -> None:
    if len(parameters) > _PARAMETERS:
        raise MalformedCredential(f"A signature may have at most {_PARAMETERS} parameters.")
    for name, longest in MAXIMUM.items():
        value = parameters.get(name)
        if value is None:
            raise MalformedCredential(f"The parameter {name} is missing.")
        if type(value) is not str or not value:
            raise MalformedCredential(f"The parameter {name} is malformed: it must be a quoted string.")
        if len(value) > longest:
            raise MalformedCredential(f"The parameter {name} is longer than {longest} characters: shorten it.")
    _check_times(parameters)
    for name in ("alg", "tag"):
        if type(parameters.get(name, "")) is not str:
            raise MalformedCredential(f"The parameter {name} is malformed: it must be a quoted string.")
    if parameters.get("alg", ALGORITHM) != ALGORITHM:
        raise MalformedCredential(f'The parameter alg must be "{ALGORITHM}" or left out.')


def _check_times(parameters: structured.Parameters) -> None:
    created = parameters.get("created")
    if created is None:
        raise MalformedCredential("The parameter created is missing.")
    for name in ("created", "expires"):
        if _seconds(parameters.get(name, created)) <= 0:
            raise MalformedCredential(f"The parameter {name} is malformed: it must be whole seconds since 1970.")
    if _seconds(parameters.get("expires", created)) < _seconds(created):
        raise MalformedCredential("The parameter expires is earlier than created.")


def _seconds(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _check_coverage(message: Message, signature_input: InnerList) -> None:
    bare = {item.value for item in signature_input.items if not item.parameters and type(item.value) is str}
    if "@method" not in bare or not any(target <= bare for target in _TARGETS):
        raise MalformedCredential(
            'A signature must cover "@method" and "@target-uri" (or "@authority", "@path", "@query").'
        )
    if message.has_body and not any(map(_covers_body, signature_input.items)):
        raise MalformedCredential(f'The signature of a request with a body must cover "{_DIGEST_FIELD}".')


def _covers_body(item: Item) -> bool:
    """Whether this is Content-Digest, in whatever spelling, or a digest in it that is checked."""
    return item.value == _DIGEST_FIELD and item.parameters.get("key", "sha-256") in content_digest.ALGORITHMS
