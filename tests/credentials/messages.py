"""Messages and the inputs of their signatures, as the tests of signatures make them."""

from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.credentials import MalformedCredential, content_digest, signatures
from gateway.credentials.components import Message
from gateway.credentials.structured import InnerList, Item

TOKEN = "gwa_obviously-a-fake-access-token"
RFC_DIGEST = "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:"
KEY = b"obviously-a-fake-mac-key-of-43-characters--"


def fields(**values: str | bytes | list[str | bytes]) -> tuple[tuple[bytes, bytes, bytes], ...]:
    """Header fields, by names with `_` for `-`; a list has a line for each of its values."""
    lines = [
        (name.replace("_", "-").encode(), one if isinstance(one, bytes) else one.encode())
        for name, value in values.items()
        for one in (value if isinstance(value, list) else [value])
    ]
    return tuple((name.lower(), name, value) for name, value in lines)


def covering(*components: str | Item, **parameters: object) -> InnerList:
    """A signature's input; parameters that are None are left out."""
    items = tuple(item if isinstance(item, Item) else Item(item, {}) for item in components)
    return InnerList(items, {name: value for name, value in parameters.items() if value is not None})


def usual(*components: str | Item, **changes: object) -> InnerList:
    """An input with all that is demanded, with some parameters changed."""
    parameters = {"created": 1618884473, "nonce": "n1", "keyid": TOKEN} | changes
    return covering(*(components or ("@method", "@target-uri")), **parameters)


GET = Message(method="GET", target=b"/notes/1?b=1&a=2", scheme="https", authority="api.example.com")
POST = replace(
    GET,
    method="POST",
    has_body=True,
    fields=fields(Content_Type="text/plain", Content_Digest=content_digest.render(b"x")),
)


def signed(message: Message = GET, signature_input: InnerList | None = None, *, label: str = "sig") -> Message:
    """The message with its signature's fields."""
    stated = usual() if signature_input is None else signature_input
    inputs, value = signatures.render(signatures.sign(KEY, message, stated, label))
    return replace(message, fields=(*message.fields, *fields(Signature_Input=inputs, Signature=value)))


def proven(message: Message, key: bytes = KEY) -> bool:
    """Whether a message proves its signature, or cannot even be read."""
    try:
        return signatures.from_message(message).proven_by(key, "hmac-sha-256")
    except MalformedCredential:
        return False


NAMES = ("x-a", "x-b", "x-c")  # fields that the properties vary
_TEXTS = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=12)
INPUTS = st.builds(
    lambda components, created, nonce, keyid, tag: covering(
        *dict.fromkeys(components), created=created, nonce=nonce, keyid=keyid, tag=tag
    ),
    st.lists(
        st.sampled_from(["@method", "@target-uri", "@authority", "@path", "@query", "@scheme", *NAMES]), max_size=6
    ),
    st.integers(1, 10**12), _TEXTS, _TEXTS, st.none() | _TEXTS,
)  # fmt: skip
"""Inputs of all kinds of coverage, with what is demanded of their parameters."""
