"""The one form of signed credentials: proofs, and the hash of the body that a MAC credential states."""

import base64
import hashlib
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.values import changed
from gateway.credentials import MalformedCredential, mac
from gateway.credentials.signed import BodyCheck, BodyDigest, HashName, Proof, Signed, from_mac
from gateway.model import MacAlgorithm

KEY = b"obviously-a-fake-key-for-tests-only-123456"
COVERED = mac.Covered(method="POST", target=b"/notes?b=1&a=2", host="api.example.com", port=443)
SHA1, SHA256 = hashlib.sha1(b"body", usedforsecurity=False).digest(), hashlib.sha256(b"body").digest()
STATED = base64.b64encode(SHA256).decode()


def credentials(algorithm: MacAlgorithm = "hmac-sha-256", **attributes: Any) -> mac.Credentials:
    """A right MAC credential for `COVERED`; draft 00's where the nonce has an age and no time is given."""
    attributes = {"nonce": "n", "ts": None if ":" in attributes.get("nonce", "") else "1336363200", **attributes}
    signature = mac.sign(KEY, algorithm, mac.normalized_string(COVERED, **attributes))
    return mac.Credentials(id="gwa_token", mac=signature, **attributes)


def stated(**attributes: Any) -> tuple[BodyDigest, ...]:
    return from_mac(credentials(**attributes), COVERED).digests


# -- what is claimed -----------------------------------------------------------------------------------------


def test_mac_of_draft_01_is_read_into_the_one_form() -> None:
    signed = from_mac(credentials(ext="data"), COVERED)
    assert (signed.scheme, signed.token, signed.nonce, signed.draft) == ("mac", "gwa_token", "n", "01")
    assert (signed.created, signed.expires, signed.algorithm, signed.digests) == (1336363200, None, None, ())
    assert [proof.text for proof in signed.proofs] == [
        b"1336363200\nn\nPOST\n/notes?b=1&a=2\napi.example.com\n443\ndata\n"
    ]


def test_mac_of_draft_00_has_no_time() -> None:
    signed = from_mac(credentials(nonce="5.5:n"), COVERED)
    assert (signed.draft, signed.created, signed.nonce) == ("00", None, "5.5:n")


@pytest.mark.parametrize("algorithm", ["hmac-sha-256", "hmac-sha-1"])
def test_proof_is_right_by_one_key_and_one_algorithm_only(algorithm: MacAlgorithm) -> None:
    signed = from_mac(credentials(algorithm), COVERED)
    other: MacAlgorithm = "hmac-sha-1" if algorithm == "hmac-sha-256" else "hmac-sha-256"
    assert signed.proven_by(KEY, algorithm)
    assert not signed.proven_by(KEY, other)
    assert not signed.proven_by(KEY + b"x", algorithm)
    assert not from_mac(credentials(algorithm), changed(COVERED, port=80)).proven_by(KEY, algorithm)


def test_every_proof_must_be_right_and_there_must_be_one() -> None:
    right = from_mac(credentials(), COVERED)
    (proof,) = right.proofs
    assert changed(right, proofs=(proof, proof)).proven_by(KEY, "hmac-sha-256")
    assert not changed(right, proofs=(proof, Proof(proof.text + b"x", proof.mac))).proven_by(KEY, "hmac-sha-256")
    assert not changed(right, proofs=()).proven_by(KEY, "hmac-sha-256")


def test_algorithm_that_is_demanded_must_be_the_token_s() -> None:
    demanding = changed(from_mac(credentials("hmac-sha-1"), COVERED), algorithm="hmac-sha-256")
    assert not demanding.proven_by(KEY, "hmac-sha-1")
    assert changed(demanding, algorithm="hmac-sha-1").proven_by(KEY, "hmac-sha-1")


def test_token_is_kept_out_of_representations() -> None:
    assert "gwa_token" not in repr(from_mac(credentials(), COVERED))


# -- the hash of the body in a MAC credential ----------------------------------------------------------------


@pytest.mark.parametrize("digest", [SHA1, SHA256])
def test_bodyhash_of_draft_00_is_read(digest: bytes) -> None:
    assert stated(nonce="1:n", bodyhash=base64.b64encode(digest).decode()) == (BodyDigest(digest, None),)


@pytest.mark.parametrize(
    "ext",
    [
        f"body_hash={STATED}",
        f"body_hash={quote(STATED, safe='')}",
        quote(f"body_hash={STATED}", safe=""),
        f"a=b&body_hash={STATED}",
        f"body_hash={STATED}&a=b",
        f"a, body_hash={STATED}; c",
        f"a body_hash={STATED}",
        f"bodyhash=x&BODY_HASH=y&xbody_hash=z&body_hash={STATED}",
    ],
)
def test_body_hash_in_ext_is_read_encoded_or_not(ext: str) -> None:
    assert stated(ext=ext) == (BodyDigest(SHA256, None),)
    assert stated(nonce="1:n", ext=ext) == (BodyDigest(SHA256, None),)


@pytest.mark.parametrize("digest", [hashlib.sha256(b"%d" % number).digest() for number in range(20)])
def test_every_character_of_base64_survives_both_spellings(digest: bytes) -> None:
    text = base64.b64encode(digest).decode()
    for value in (text, quote(text, safe=""), "".join(f"%{ord(char):02x}" for char in text)):
        assert stated(ext=f"body_hash={value}") == (BodyDigest(digest, None),)


@pytest.mark.parametrize(
    "ext", [None, "a", "body_hash", "the body_hash of it", "x=body_hash", f"bodyhash={STATED}", "%"]
)
def test_ext_without_a_body_hash_states_none(ext: str | None) -> None:
    assert stated(ext=ext) == ()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        *[
            ({"ext": f"body_hash={value}"}, "is not base64")
            for value in (
                "", "=", "abc", STATED[:-1], STATED + "=", STATED + STATED[:4], STATED[:-2] + "B=",
                STATED.replace("=", "%3"), STATED.replace("=", "%253D"), "%ff" * 32, "x" * 42 + "!=", "-_" * 21 + "A=",
            )
        ],
        *[
            ({"ext": f"body_hash={base64.b64encode(b'x' * size).decode()}"}, "wrong length")
            for size in (1, 16, 19, 21, 31, 33, 48, 64)
        ],
        ({"ext": f"body_hash={STATED}&body_hash={STATED}"}, "given twice"),
        ({"ext": f"body_hash={STATED},body%5Fhash={STATED}"}, "given twice"),
        ({"ext": f"body_hash=&body_hash={STATED}"}, "given twice"),
        ({"nonce": "1:n", "bodyhash": STATED, "ext": f"body_hash={STATED}"}, "given twice"),
        ({"nonce": "1:n", "bodyhash": "AAAA"}, "wrong length"),
        ({"nonce": "1:n", "bodyhash": STATED[:-2] + "B="}, "is not base64"),
    ],
)  # fmt: skip
def test_bad_hash_of_the_body_is_malformed(attributes: dict[str, str], said: str) -> None:
    with pytest.raises(MalformedCredential, match=said):
        stated(**attributes)


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\'), min_size=1))
def test_any_ext_is_read_or_malformed(ext: str) -> None:
    try:
        found = stated(ext=ext[:1024])
    except MalformedCredential:
        return
    assert len(found) <= 1


def test_mac_that_is_spelt_in_another_way_is_malformed() -> None:
    right = credentials()
    spelt = right.mac[:-2] + chr(ord(right.mac[-2]) + 1) + "="  # the same bytes, with bits set behind them
    assert base64.b64decode(spelt) == base64.b64decode(right.mac)
    with pytest.raises(MalformedCredential, match="mac is not base64"):
        from_mac(changed(right, mac=spelt), COVERED)


# -- the check of a body -------------------------------------------------------------------------------------

HASHES: tuple[HashName, ...] = ("sha1", "sha256", "sha512")


def fits(check: BodyCheck, *parts: bytes) -> bool:
    for part in parts:
        check.update(part)
    return check.fits()


@pytest.mark.parametrize(("algorithm", "digest"), [("hmac-sha-1", SHA1), ("hmac-sha-256", SHA256)])
def test_hash_without_a_name_is_by_the_token_s_algorithm(algorithm: MacAlgorithm, digest: bytes) -> None:
    assert fits(BodyCheck([BodyDigest(digest)], algorithm), b"body")
    other: MacAlgorithm = "hmac-sha-1" if algorithm == "hmac-sha-256" else "hmac-sha-256"
    assert not BodyCheck([BodyDigest(digest)], other).possible
    assert not fits(BodyCheck([BodyDigest(digest)], other), b"body")


def test_all_hashes_that_are_stated_must_fit() -> None:
    sha512 = BodyDigest(hashlib.sha512(b"body").digest(), "sha512")
    sha256 = BodyDigest(SHA256, "sha256")
    wrong = BodyDigest(hashlib.sha256(b"other").digest(), "sha256")
    for good in ([sha256], [sha512], [sha256, sha512], [sha512, BodyDigest(SHA256)]):
        assert fits(BodyCheck(good, "hmac-sha-256"), b"bo", b"", b"dy")
    for bad in ([sha512, wrong], [wrong, sha512], [sha256, wrong], [wrong, sha256]):
        assert not fits(BodyCheck(bad, "hmac-sha-256"), b"body")


@given(st.binary(max_size=200), st.lists(st.sampled_from(HASHES), min_size=1, unique=True), st.data())
def test_any_other_body_does_not_fit(body: bytes, names: list[HashName], data: st.DataObject) -> None:
    digests = [BodyDigest(hashlib.new(name, body).digest(), name) for name in names]
    at = data.draw(st.integers(0, len(body)))
    assert fits(BodyCheck(digests, "hmac-sha-1"), body[:at], body[at:])
    other = data.draw(st.binary(max_size=200).filter(lambda other: other != body))
    assert not fits(BodyCheck(digests, "hmac-sha-1"), other)


def test_empty_body_has_a_hash_too() -> None:
    assert fits(BodyCheck([BodyDigest(hashlib.sha256(b"").digest())], "hmac-sha-256"))
    assert not fits(BodyCheck([BodyDigest(SHA256)], "hmac-sha-256"))


def test_signed_has_no_digests_where_none_are_stated() -> None:
    assert Signed(scheme="signature", token="t", nonce="n", proofs=()).digests == ()
