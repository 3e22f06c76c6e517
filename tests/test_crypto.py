"""Secrets, digests and key rotation: what is good stays good, and nothing else is."""

import hashlib
import pickle
import re

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import crypto
from gateway.crypto import Keyring, TokenPrefix, UnsealError

OLD, NEW, OTHER = (bytes([number]) * 32 for number in (1, 2, 3))
PREFIXES: tuple[TokenPrefix, ...] = ("gwa_", "gwr_", "gwc_")
prefixes = st.sampled_from(PREFIXES)
texts = st.text(st.characters(codec=None), max_size=50)  # lone surrogates too: strangers send what they like


@pytest.mark.parametrize(
    ("token", "invented"),
    [
        (b"gwa_\xff\xfe", True),
        (b"gwa_" + b"\xc3\xa9" * 20, True),
        (b"gwa_", True),
        (b"\xff" * 44, False),
        (b"", False),
        (b"eyJ.eyJqdGkiOiJnd2pf!!!!", True),
        (b"eyJ.eyJqdGkiOiJnd2pf" + b"\xff" * 60, True),
        (b"eyJ.eyJqdGkiOiJnd2pf", True),
        (b".eyJqdGkiOiJnd2pf" + b"A" * 60, True),
    ],
)
def test_whatever_bytes_claim_to_be_a_token_of_ours_are_judged_without_a_fault(token: bytes, invented: bool) -> None:
    keyring = Keyring(NEW)
    assert keyring.is_invented(token, "gwa_") is invented


@given(prefixes)
def test_token_is_made_of_its_prefix_192_random_bits_and_a_check(prefix: TokenPrefix) -> None:
    token = Keyring(OLD).new_token(prefix)
    assert re.fullmatch(rf"{prefix}[A-Za-z0-9_-]{{40}}", token)
    assert len(token) == crypto.TOKEN_LENGTH


def test_a_worker_s_copy_of_the_keys_knows_what_the_supervisor_s_does() -> None:
    keyring = Keyring(NEW, (OLD,))
    copy: Keyring = pickle.loads(pickle.dumps(keyring))
    assert copy.is_ours(keyring.new_token("gwa_"), "gwa_")
    assert copy.is_ours(Keyring(OLD).new_token("gwa_"), "gwa_")


def test_tokens_never_repeat() -> None:
    keyring = Keyring(OLD)
    assert len({keyring.new_token("gwa_") for _ in range(1000)}) == 1000


@given(prefixes)
def test_token_of_ours_is_recognised_under_its_own_prefix_only(prefix: TokenPrefix) -> None:
    keyring = Keyring(OLD)
    token = keyring.new_token(prefix)
    assert [other for other in PREFIXES if keyring.is_ours(token, other)] == [prefix]
    for other in PREFIXES:
        assert keyring.is_ours(other + token[4:], other) is (other == prefix)


@given(st.data())
def test_token_with_one_character_changed_is_not_ours(data: st.DataObject) -> None:
    keyring = Keyring(OLD)
    token = keyring.new_token("gwa_")
    place = data.draw(st.integers(0, len(token) - 1))
    mark = data.draw(st.characters(codec=None).filter(lambda mark: mark != token[place]))
    assert not keyring.is_ours(token[:place] + mark + token[place + 1 :], "gwa_")


@given(texts)
def test_invented_truncated_and_extended_tokens_are_not_ours(text: str) -> None:
    keyring = Keyring(OLD)
    token = keyring.new_token("gwa_")
    assert not keyring.is_ours(text, "gwa_")
    assert not keyring.is_ours("gwa_" + text, "gwa_")
    assert not keyring.is_ours(token[:-1], "gwa_")
    if text:
        assert not keyring.is_ours(token + text, "gwa_")


def test_token_of_a_previous_key_stays_ours_and_of_an_unknown_one_does_not() -> None:
    token = Keyring(OLD).new_token("gwa_")
    assert Keyring(NEW, (OLD,)).is_ours(token, "gwa_")
    assert not Keyring(NEW, (OTHER,)).is_ours(token, "gwa_")


@given(st.binary(max_size=64))
def test_successor_is_the_same_for_the_same_predecessor_and_salt_and_for_no_other(salt: bytes) -> None:
    keyring = Keyring(OLD)
    token, another = keyring.new_token("gwr_"), keyring.new_token("gwr_")
    (successor,) = keyring.successors(token, salt)
    assert keyring.successors(token, salt) == (successor,)
    assert keyring.is_ours(successor, "gwr_")
    assert successor not in {token, *keyring.successors(another, salt), *keyring.successors(token, salt + b"x")}
    assert successor not in Keyring(NEW).successors(token, salt)


def test_successor_made_with_a_previous_key_is_still_found() -> None:
    token = Keyring(OLD).new_token("gwr_")
    (before,) = Keyring(OLD).successors(token, b"salt")
    current, previous = Keyring(NEW, (OLD,)).successors(token, b"salt")
    assert previous == before != current


@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200))
def test_sealed_text_comes_back_and_does_not_show(purpose: str, row: str, plaintext: bytes) -> None:
    keyring = Keyring(OLD)
    sealed = keyring.seal(purpose, row, plaintext)
    assert keyring.unseal(purpose, row, sealed) == plaintext
    assert sealed != keyring.seal(purpose, row, plaintext)
    if len(plaintext) >= 4:
        assert plaintext not in sealed


@given(st.data(), st.binary(max_size=50))
def test_sealed_text_with_one_bit_changed_or_cut_is_refused(data: st.DataObject, plaintext: bytes) -> None:
    keyring = Keyring(OLD)
    sealed = keyring.seal("mac-key", "row", plaintext)
    bit = data.draw(st.integers(0, len(sealed) * 8 - 1))
    altered = bytearray(sealed)
    altered[bit // 8] ^= 1 << (bit % 8)
    cut = data.draw(st.integers(0, len(sealed) - 1))
    for wrong in (bytes(altered), sealed[:cut], sealed + b"\0"):
        with pytest.raises(UnsealError):
            keyring.unseal("mac-key", "row", wrong)


@pytest.mark.parametrize(("purpose", "row"), [("mac-key", "another row"), ("cookie", "row"), ("mac-keyrow", "")])
def test_sealed_text_opens_for_its_purpose_and_row_only(purpose: str, row: str) -> None:
    sealed = Keyring(OLD).seal("mac-key", "row", b"secret")
    with pytest.raises(UnsealError):
        Keyring(OLD).unseal(purpose, row, sealed)


def test_sealed_text_of_a_previous_key_opens_and_asks_to_be_sealed_anew() -> None:
    sealed = Keyring(OLD).seal("mac-key", "row", b"secret")
    rotated = Keyring(NEW, (OLD,))
    assert rotated.unseal("mac-key", "row", sealed) == b"secret"
    with pytest.raises(UnsealError):
        Keyring(NEW).unseal("mac-key", "row", sealed)


@given(texts, texts)
def test_signature_is_good_for_its_purpose_and_message_only(message: str, other: str) -> None:
    keyring = Keyring(OLD)
    signature = keyring.sign("csrf", message)
    assert keyring.verify("csrf", message, signature)
    assert keyring.verify("csrf", other, signature) is (other == message)
    assert not keyring.verify("cookie", message, signature)
    assert not keyring.verify("csrf", message, other)
    assert Keyring(NEW, (OLD,)).verify("csrf", message, signature)
    assert not Keyring(NEW).verify("csrf", message, signature)


@given(texts)
def test_digest_takes_any_text_and_is_sha256(text: str) -> None:
    assert len(crypto.digest(text)) == 32
    assert crypto.digest("gwa_x") == hashlib.sha256(b"gwa_x").digest()


@given(st.binary(min_size=32, max_size=32), st.text(max_size=30))
def test_keys_are_derived_as_hkdf_derives_them(master: bytes, purpose: str) -> None:
    expected = HKDF(algorithm=SHA256(), length=32, salt=None, info=f"gateway/1/{purpose}".encode()).derive(master)
    assert crypto._derive(master, purpose) == expected  # RFC 5869


def test_keyring_shows_no_key() -> None:
    shown = repr(Keyring(OLD, (NEW,)))
    assert shown == f"Keyring({Keyring(OLD).key_id.hex()}, 1 previous)"
    assert Keyring(OLD, (NEW,)).key_ids == {Keyring(OLD).key_id, Keyring(NEW).key_id}


@settings(max_examples=20)
@given(st.binary(min_size=32, max_size=32))
def test_master_key_reads_back_in_either_alphabet_with_or_without_padding(key: bytes) -> None:
    import base64

    for text in (base64.b64encode(key).decode(), base64.urlsafe_b64encode(key).decode()):
        assert crypto.parse_master_key(f" {text}\n") == crypto.parse_master_key(text.rstrip("=")) == key


@pytest.mark.parametrize("text", ["", "short", "!" * 44, "A" * 42, "A" * 44, "Ä" * 43, "AAAA AAAA" * 5])
def test_master_key_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a master key is base64 of 32 bytes"):
        crypto.parse_master_key(text)


def test_new_master_key_is_one() -> None:
    assert len(crypto.parse_master_key(crypto.new_master_key())) == 32


@given(st.sampled_from("ucgfst"))
def test_identifier_begins_with_its_letter_and_is_plain(prefix: str) -> None:
    assert re.fullmatch(rf"{prefix}[a-z2-7]{{16}}", crypto.new_identifier(prefix))


def test_password_matches_its_hash_and_no_other() -> None:
    hashed = crypto.hash_password("correct horse")
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert crypto.password_matches(hashed, "correct horse")
    assert not crypto.password_matches(hashed, "correct horse ")
    assert hashed != crypto.hash_password("correct horse")


@pytest.mark.parametrize("password", ["", "\0", "ünïcode ✓", "x" * 4096, "\ud800"])
def test_password_of_any_characters_can_be_hashed(password: str) -> None:
    assert crypto.password_matches(crypto.hash_password(password), password)


@pytest.mark.parametrize("hashed", ["", "plain", "$argon2id$broken"])
def test_password_never_matches_what_is_no_hash(hashed: str) -> None:
    assert not crypto.password_matches(hashed, hashed)


def test_unknown_user_hash_matches_nothing_but_costs_the_same() -> None:
    assert not crypto.password_matches(crypto.UNKNOWN_USER_HASH, "")
    assert crypto.UNKNOWN_USER_HASH.split("$")[:4] == crypto.hash_password("x").split("$")[:4]


def test_comparison_tells_equal_from_different() -> None:
    assert crypto.equal(b"same", b"same")
    assert not crypto.equal(b"same", b"sama")
    assert not crypto.equal(b"same", b"")
