"""HTTP message signatures and content digests (RFC 9421, RFC 9530): which counts, its grammar, what it must cover."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.credentials import MalformedCredential, content_digest, signatures
from gateway.credentials.components import Message
from gateway.credentials.signatures import Signature
from gateway.credentials.signed import BodyDigest, Signed
from gateway.credentials.structured import InnerList, Item
from tests.credentials.messages import (
    GET,
    INPUTS,
    KEY,
    POST,
    RFC_DIGEST,
    TOKEN,
    covering,
    fields,
    proven,
    signed,
    usual,
)

# -- which signature counts, and what it must say ------------------------------------------------------------

INPUT = f'("@method" "@target-uri");created=1618884473;nonce="n1";keyid="{TOKEN}"'
VALUE = ":" + "A" * 43 + "=:"


def _parsed(inputs: str, values: str = f"sig={VALUE}") -> Signature:
    return signatures.parse([inputs.encode("latin-1")], [values.encode("latin-1")])


def test_parameters_are_read() -> None:
    found = _parsed(f'sig={INPUT};alg="hmac-sha256";expires=1618884500;tag="app";other=?0')
    assert (found.label, found.token, found.nonce) == ("sig", TOKEN, "n1")
    assert (found.created, found.expires, found.value) == (1618884473, 1618884500, bytes(32))
    assert _parsed(f"sig={INPUT}").expires is None


@pytest.mark.parametrize(
    "parameters", [f';keyid="{TOKEN}";nonce="n";created=1', f';nonce="n";created=1;keyid="{TOKEN}"']
)
def test_parameters_come_in_any_order(parameters: str) -> None:
    assert _parsed(f'sig=("@method"){parameters}').token == TOKEN


def _without(name: str) -> str:
    return "sig=" + ";".join(part for part in INPUT.split(";") if not part.startswith(name))


def _with(name: str, value: str) -> str:
    return _without(name) + f";{name}={value}"


BAD_INPUTS = [
    "",
    "sig",
    "sig=()",
    'sig="x"',
    f"sig={INPUT},",
    f"sig={INPUT}, sig={INPUT}",
    f'sig={INPUT};nonce="n1"',
    f"Sig={INPUT}",
    f"other={INPUT}",
    f"sig={INPUT}, other={INPUT}",
    'sig="@method"' + INPUT.partition(")")[2],
    *[_without(name) for name in ("created", "nonce", "keyid")],
    *[f"{_without(name)};{name}" for name in ("created", "nonce", "keyid", "alg", "expires", "tag")],
    *[_with("created", value) for value in
      ("-1", "0", "1.5", "9" * 16, "9" * 20, '"1"', "?1", "@1618884473", "now", ":AA==:", "")],
    *[_with("expires", value) for value in ("-1", "0", "1.5", "9" * 20, '"1"', "?1", "1618884472")],
    *[_with("nonce", value) for value in ('""', "n1", "1", ":AA==:", '"' + "n" * 129 + '"', '"\xe4"', '"\x00"')],
    *[_with("keyid", value) for value in ('""', "gwa_x", "1", '"' + "a" * 257 + '"', '"\xe4"', '"\x7f"', '"a\tb"')],
    *[_with("alg", value) for value in
      ('""', '"hmac-sha512"', '"HMAC-SHA256"', '"rsa-pss-sha512"', "hmac-sha256", '"hmac-sha-256"', "1")],
    _with("tag", "1"),
    "sig=(" + " ".join(f'"x{index}"' for index in range(33)) + ")" + INPUT.partition(")")[2],
    f"sig={INPUT}" + "".join(f";p{index}" for index in range(14)),
    f'sig={INPUT};tag="' + "x" * 4096 + '"',
]  # fmt: skip


@pytest.mark.parametrize("inputs", BAD_INPUTS)
def test_bad_signature_input_is_refused(inputs: str) -> None:
    with pytest.raises(MalformedCredential) as caught:
        _parsed(inputs)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "values",
    ["", "sig", "sig=?1", "sig=1", f'sig="{VALUE}"', "sig=" + "A" * 44, "sig=:A:", "sig=:####:", "sig=:AA",
     f"other={VALUE}",
     f"sig={VALUE}, other={VALUE}", f"sig={VALUE}, sig={VALUE}", f"sig=({VALUE})", "sig=:" + "A" * 4096 + ":"],
)  # fmt: skip
def test_bad_signature_value_is_refused(values: str) -> None:
    with pytest.raises(MalformedCredential):
        _parsed(f"sig={INPUT}", values)


FOREIGN = '("@authority");created=1;keyid="their-key";alg="ed25519"'


@pytest.mark.parametrize(
    ("members", "label"),
    [
        ([("a", INPUT)], "a"),
        ([("a", INPUT), ("b", FOREIGN)], "a"),
        ([("a", FOREIGN), ("b", INPUT)], "b"),
        ([("a", "()"), ("b", INPUT), ("c", FOREIGN), ("d", '();keyid="gw"')], "b"),
        ([("a", "?1"), ("b", INPUT)], "b"),
        ([("a", INPUT), ("b", INPUT)], None),
        ([("a", INPUT), ("b", '("@method");keyid="gwa_other"')], None),
        ([("a", FOREIGN), ("b", FOREIGN)], None),
        ([("a", FOREIGN), ("b", INPUT.replace("gwa_", "imported-"))], None),
        ([(f"s{index}", INPUT if index == 3 else FOREIGN) for index in range(8)], "s3"),
        ([(f"s{index}", INPUT if index == 3 else FOREIGN) for index in range(9)], None),
    ],
)
def test_one_signature_counts(members: list[tuple[str, str]], label: str | None) -> None:
    inputs = [f"{name}={member}".encode() for name, member in members]
    values = [f"{name}={VALUE}".encode() for name, _ in reversed(members)]
    if label is None:
        with pytest.raises(MalformedCredential):
            signatures.parse(inputs, values)
    else:
        assert signatures.parse(inputs, values).label == label


def test_a_lone_signature_counts_whatever_its_key_is_called() -> None:
    assert _parsed(_with("keyid", '"imported"')).token == "imported"


_DIGEST = Item("content-digest", {})
_BY_PARTS = ("@authority", "@path", "@query")
_ANY_HOST = ("@method", "@path", "@query")


@pytest.mark.parametrize(
    ("message", "components", "enough"),
    [
        (GET, ("@method", "@target-uri"), True),
        (GET, ("@method", *_BY_PARTS), True),
        (GET, (*_BY_PARTS, "@method", "@scheme", "@request-target", "@target-uri"), True),
        (GET, ("@target-uri",), False),
        (GET, ("@method",), False),
        (GET, (), False),
        (GET, _ANY_HOST, False),
        (GET, ("@method", "@authority", "@path"), False),
        (GET, ("@method", "@authority", "@query"), False),
        (GET, ("@method", "@authority", "@request-target"), False),
        (GET, ("@method", "@authority", "@path", Item("@query-param", {"name": "a"})), False),
        (POST, ("@method", "@target-uri"), False),
        (POST, ("@method", "@target-uri", "content-type"), False),
        (POST, ("@method", "@target-uri", _DIGEST), True),
        (POST, ("@method", "@target-uri", Item("content-digest", {"sf": True})), True),
        (POST, ("@method", "@target-uri", Item("content-digest", {"bs": True})), True),
        (POST, ("@method", "@target-uri", Item("content-digest", {"key": "sha-256"})), True),
        (POST, ("@method", "@target-uri", Item("content-digest", {"key": "sha-512"})), False),  # not there
        (replace(POST, fields=()), ("@method", "@target-uri", _DIGEST), False),
        (replace(POST, fields=()), ("@method", "@target-uri"), False),
    ],
)
def test_a_signature_covers_enough(message: Message, components: tuple[str | Item, ...], enough: bool) -> None:
    stated = usual(*components) if components else covering(**usual().parameters)
    try:
        sent = signed(message, stated)
    except MalformedCredential:  # what is not there cannot even be signed; the guard is asked all the same
        inputs, value = signatures.render(Signature(label="sig", input=stated, value=bytes(32)))
        sent = replace(message, fields=(*message.fields, *fields(Signature_Input=inputs, Signature=value)))
    assert proven(sent) is enough


def test_digest_by_an_algorithm_that_is_not_checked_covers_no_body() -> None:
    both = replace(POST, fields=fields(Content_Digest=f"md5=:AA==:, {content_digest.render(b'x')}"))
    assert not proven(signed(both, usual("@method", "@target-uri", Item("content-digest", {"key": "md5"}))))


@pytest.mark.parametrize("absent", ["signature", "signature-input"])
def test_each_field_needs_the_other(absent: str) -> None:
    sent = signed()
    left = tuple(field for field in sent.fields if field[0] != absent.encode())
    with pytest.raises(MalformedCredential, match="both fields"):
        signatures.from_message(replace(sent, fields=left))


def test_claim_holds_all_that_the_guard_needs() -> None:
    found = signatures.from_message(signed(POST, usual("@method", "@target-uri", "content-digest", expires=1618884500)))
    assert isinstance(found, Signed)
    assert (found.scheme, found.token, found.nonce, found.draft) == ("signature", TOKEN, "n1", None)
    assert (found.created, found.expires, found.algorithm) == (1618884473, 1618884500, "hmac-sha-256")
    assert found.digests == content_digest.parse([content_digest.render(b"x").encode()])
    assert found.proven_by(KEY, "hmac-sha-256")
    assert not found.proven_by(KEY, "hmac-sha-1")
    assert not found.proven_by(KEY + b"x", "hmac-sha-256")
    assert TOKEN not in repr(found) + repr(signatures.sign(KEY, GET, usual()))


def test_what_is_accepted_is_said_as_rfc_9421_section_5_1_has_it() -> None:
    asked = '("@method" "@target-uri");created;alg="hmac-sha256"'
    assert signatures.accepted(has_body=False) == f"sig={asked}"
    assert signatures.accepted(has_body=True) == f"sig={asked}".replace('uri")', 'uri" "content-digest")')


# -- Content-Digest ------------------------------------------------------------------------------------------


def test_digests_of_rfc_9530() -> None:
    # appendix B.1, and section B of RFC 9421
    assert content_digest.render(b'{"hello": "world"}\n') == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert content_digest.render(b'{"hello": "world"}', "sha-512") == RFC_DIGEST


@pytest.mark.parametrize(
    ("values", "hashes"),
    [
        (["{256}"], ["sha256"]),
        (["{512}"], ["sha512"]),
        (["{512}, {256}"], ["sha256", "sha512"]),
        (["{512}", "{256}"], ["sha256", "sha512"]),
        (["md5=:AA==:, {256};x=1, other=1, bare"], ["sha256"]),
    ],
)
def test_known_digests_are_read(values: list[str], hashes: list[str]) -> None:
    stated = {algorithm[-3:]: content_digest.render(b"body", algorithm) for algorithm in content_digest.ALGORITHMS}
    found = content_digest.parse(
        [value.replace("{256}", stated["256"]).replace("{512}", stated["512"]).encode() for value in values]
    )
    assert [digest.hash for digest in found] == hashes


@pytest.mark.parametrize(
    "value",
    ["", "md5=:AA==:", "sha-256", "sha-256=1", 'sha-256="AA=="', "sha-256=:AA==:", "sha-256=(:AA==:)",
     "sha-256=:" + "A" * 86 + "==:", "sha-512=" + VALUE, f"sha-256={VALUE}, sha-256={VALUE}", f"SHA-256={VALUE}",
     "sha-256=####", f"sha-256={VALUE}, sha-512=:AA==:", f"sha-256={VALUE}," + "x" * 1024],
)  # fmt: skip
def test_bad_content_digest_is_refused(value: str) -> None:
    with pytest.raises(MalformedCredential):
        content_digest.parse([value.encode()])


def test_digest_that_is_stated_is_read_also_where_none_is_demanded() -> None:
    stated = replace(GET, fields=fields(Content_Digest=content_digest.render(b"")))
    (digest,) = signatures.from_message(signed(stated)).digests
    assert digest == BodyDigest(base64.b64decode("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="), "sha256")
    with pytest.raises(MalformedCredential):
        signatures.from_message(signed(replace(GET, fields=fields(Content_Digest="md5=:AA==:"))))


# -- properties ----------------------------------------------------------------------------------------------


@given(INPUTS, st.binary(max_size=40), st.from_regex(r"[a-z*][a-z0-9_.*-]{0,8}", fullmatch=True))
def test_signature_is_read_back_as_it_was_written(stated: InnerList, value: bytes, label: str) -> None:
    signature = Signature(label=label, input=stated, value=value)
    inputs, values = (text.encode() for text in signatures.render(signature))
    found = signatures.parse([inputs], [values])
    assert found == signature
    assert list(found.input.parameters) == list(stated.parameters)


_JUNK = st.text(alphabet='ab1sig=,;()" \t:?@%\\*.-@methodcreatednonckyi', max_size=60).map(str.encode) | st.binary(
    max_size=60
)


@given(st.lists(_JUNK, max_size=3), st.lists(_JUNK, max_size=3), st.lists(_JUNK, max_size=2))
def test_reader_raises_its_own_error_only(inputs: list[bytes], values: list[bytes], digests: list[bytes]) -> None:
    lines = [(b"signature-input", b"", line) for line in (f"sig={INPUT}".encode(), *inputs)]
    lines += [(b"signature", b"", line) for line in (f"sig={VALUE}".encode(), *values)]
    lines += [(b"content-digest", b"", line) for line in digests]
    for message in (replace(GET, fields=tuple(lines)), replace(GET, fields=tuple(lines[1:]))):
        try:
            signatures.from_message(message)
        except MalformedCredential:
            continue
