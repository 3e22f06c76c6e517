"""Secrets, digests, constant-time comparison and key rotation, in one place.

One master key, and previous ones that are still accepted. Each purpose has a key of its own (HKDF, RFC 5869),
each ciphertext names the key that sealed it and is bound to its purpose and its row, and what is checked is
checked against the current key first, then the previous ones.

Tokens read PREFIX + 32 characters of randomness + 8 characters of keyed check, all in [A-Za-z0-9_-]. The check
lets an invented token be refused without a query and lets scanners recognise a leaked one; it authenticates
nothing by itself, since the store decides.

`cryptography` and `argon2` are imported when something is sealed or a password is checked: they are 7 MB of a worker
that does neither.
"""

import base64
import hashlib
import hmac
import re
import secrets
import string
from binascii import b2a_base64
from dataclasses import dataclass
from functools import cache, lru_cache
from hmac import compare_digest
from typing import TYPE_CHECKING, Final, Literal, get_args

from gateway.errors import GatewayError

if TYPE_CHECKING:
    from argon2 import PasswordHasher

# Access token, refresh token, authorization code, reference of a pushed request, device code, identifier of a JWT,
# session of a browser.
TokenPrefix = Literal["gwa_", "gwr_", "gwc_", "gwp_", "gwd_", "gwj_", "gwb_"]

_PREFIXES: Final[tuple[bytes, ...]] = tuple(prefix.encode() for prefix in get_args(TokenPrefix))
_RANDOM_BYTES: Final = 24  # 192 bits
_CHECK_BYTES: Final = 6
_CHECK_LENGTH: Final = 8  # characters of base64
_NONCE_BYTES: Final = 12
KEY_ID_BYTES: Final = 4  # with which a ciphertext begins
MASTER_KEY_BYTES: Final = 32
TOKEN_LENGTH: Final = 4 + 32 + 8

_TOKEN_CHARACTERS: Final = (string.ascii_letters + string.digits + "_-").encode()
_SHAPES: Final = bytes(ord("x") if byte in _TOKEN_CHARACTERS else ord("?") for byte in range(256))
_SHAPE: Final = b"x" * TOKEN_LENGTH
_URLSAFE: Final = bytes.maketrans(b"+/", b"-_")


# How the claims of a JWT of ours begin, {"jti":"gwj_, behind the dot that ends its header; and how many characters hold
# the whole identifier, so that an invented one is told without reading the rest.
_JWT_MARK: Final = b".eyJqdGkiOiJnd2pf"
_JTI_ENCODED: Final = 72
_JTI: Final = re.compile(rb'\{"jti":"(gwj_[A-Za-z0-9_-]{40})",')


class UnsealError(GatewayError):
    """A ciphertext was sealed by an unknown key, for another row or purpose, or was altered."""


def _is_shaped(token: bytes, prefix: bytes) -> bool:
    """Whether a token of that kind has the length and the characters of ours."""
    return token.startswith(prefix) and token.translate(_SHAPES) == _SHAPE


def as_bytes(text: str) -> bytes:
    """A text that a client sent, whatever it may hold."""
    return text.encode("utf-8", "surrogatepass")


def digest(secret: str) -> bytes:
    """SHA-256 of a token or secret: 32 bytes, the only form in which the store knows it."""
    return hashlib.sha256(as_bytes(secret)).digest()


def equal(one: bytes, other: bytes) -> bool:
    """Whether two byte strings agree, in time that does not tell where they differ."""
    return compare_digest(one, other)


def random_text(nbytes: int = _RANDOM_BYTES) -> str:
    """Randomness of `nbytes` bytes in [A-Za-z0-9_-]."""
    return secrets.token_urlsafe(nbytes)


def new_identifier(prefix: str) -> str:
    """A public identifier that begins with a letter and holds only [a-z2-7], with 80 random bits."""
    return prefix + base64.b32encode(secrets.token_bytes(10)).decode().lower()


def new_master_key() -> str:
    """A master key as it stands in its file: 32 random bytes in base64url."""
    return base64.urlsafe_b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()


def parse_master_key(text: str) -> bytes:
    """The bytes of a master key. Raises ValueError unless it is base64 (either alphabet) of 32 bytes."""
    normal = text.strip().replace("+", "-").replace("/", "_").rstrip("=")
    try:
        key = base64.b64decode(normal + "=" * (-len(normal) % 4), altchars=b"-_", validate=True)
    except ValueError as exc:
        raise ValueError("a master key is base64 of 32 bytes") from exc
    if len(key) != MASTER_KEY_BYTES:
        raise ValueError(f"a master key is base64 of 32 bytes, this one has {len(key)}")
    return key


def key_id_of(master: bytes) -> bytes:
    """Four bytes that name a master key and tell nothing about it."""
    return _derive(master, "key-id")[:KEY_ID_BYTES]


@lru_cache(256)  # of a few purposes for each master key
def _derive(master: bytes, purpose: str) -> bytes:
    """HKDF with SHA-256, no salt, 32 bytes (RFC 5869): extract, then the one block that there is to expand."""
    extracted = hmac.digest(bytes(32), master, "sha256")
    return hmac.digest(extracted, f"gateway/1/{purpose}".encode() + b"\1", "sha256")


def is_like_our_jwt(token: bytes) -> bool:
    """Whether a token looks like a JWT of ours, whoever made it."""
    return token.startswith(_JWT_MARK, max(token.find(b"."), 0))


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys that one master key stands for."""

    key_id: bytes
    master: bytes
    check: "hashlib.blake2b"  # with the key taken in already
    successor: bytes

    @classmethod
    def of(cls, master: bytes) -> "_Keys":
        return cls(
            key_id_of(master),
            master,
            hashlib.blake2b(key=_derive(master, "token-check"), digest_size=_CHECK_BYTES),
            _derive(master, "refresh-successor"),
        )


class Keyring:
    """The current master key and the previous ones; it never shows any of them."""

    def __init__(self, master: bytes, previous: tuple[bytes, ...] = ()) -> None:
        self._current = _Keys.of(master)
        self._all = (self._current, *(_Keys.of(key) for key in previous))

    def __reduce__(self) -> "tuple[type[Keyring], tuple[bytes, tuple[bytes, ...]]]":
        """The supervisor hands it to its workers; what is derived is derived there anew."""
        return Keyring, (self._current.master, tuple(keys.master for keys in self._all[1:]))

    def __repr__(self) -> str:
        return f"Keyring({self.key_id.hex()}, {len(self._all) - 1} previous)"

    @property
    def key_id(self) -> bytes:
        """Four bytes that name the current master key and tell nothing about it."""
        return self._current.key_id

    @property
    def key_ids(self) -> frozenset[bytes]:
        """The names of all accepted master keys."""
        return frozenset(keys.key_id for keys in self._all)

    # -- tokens ---------------------------------------------------------------------------------------------

    def new_token(self, prefix: TokenPrefix) -> str:
        """A fresh token with 192 random bits and its keyed check."""
        body = prefix + random_text(_RANDOM_BYTES)
        return body + _check(self._current.check, body.encode()).decode()

    def is_ours(self, token: str, prefix: TokenPrefix) -> bool:
        """Whether a token of that kind has our shape and carries a good check."""
        return self._is_whole(as_bytes(token), prefix)

    def _is_whole(self, token: bytes, prefix: TokenPrefix) -> bool:
        return _is_shaped(token, prefix.encode()) and self._is_checked(token)

    def is_forged(self, token: bytes, prefix: bytes = b"gwa_") -> bool:
        """Whether a token of that kind has our shape, and a check that none of our keys has made."""
        return _is_shaped(token, prefix) and not self._is_checked(token)

    def _is_checked(self, token: bytes) -> bool:
        """Whether one of our keys has made the check with which a token of our shape ends."""
        body, check = token[:-_CHECK_LENGTH], token[-_CHECK_LENGTH:]
        for keys in self._all:  # noqa: SIM110  # floods of invented tokens are checked here; a generator costs a tenth
            if compare_digest(_check(keys.check, body), check):
                return True
        return False

    def is_invented(self, token: bytes, prefix: TokenPrefix) -> bool:
        """Whether a token that claims to be ours cannot be one of that kind: no query is spent on it.

        One of another shape is not: it may have been imported. A JWT of ours is an access token, and has a keyed check
        in its identifier.
        """
        if token.startswith(_PREFIXES):
            return not self._is_whole(token, prefix)
        if not is_like_our_jwt(token):
            return False
        begin = token.find(b".") + 1
        return prefix != "gwa_" or not self._has_our_jti(token[begin : begin + _JTI_ENCODED])

    def _has_our_jti(self, claims: bytes) -> bool:
        """Whether the claims that begin so, in base64url, have an identifier of ours."""
        try:
            found = _JTI.fullmatch(base64.urlsafe_b64decode(claims))
        except ValueError:
            return False
        return found is not None and not self.is_forged(found[1], b"gwj_")

    def successors(self, refresh_token: str, salt: bytes) -> tuple[str, ...]:
        """The refresh token that follows `refresh_token`, for the current key first, then the previous ones.

        It is derived from the predecessor's plaintext and a salt of its row, so that it can be given again
        within the grace period although the store holds digests only. Issue the first; to answer again, take
        the one whose digest is stored.
        """
        return tuple(self._successor(keys, refresh_token, salt) for keys in self._all)

    def _successor(self, keys: _Keys, refresh_token: str, salt: bytes) -> str:
        mac = hmac.digest(keys.successor, salt + b"\0" + refresh_token.encode(), "sha256")
        body = "gwr_" + base64.urlsafe_b64encode(mac[:_RANDOM_BYTES]).decode()
        return body + _check(keys.check, body.encode()).decode()

    # -- sealing --------------------------------------------------------------------------------------------

    def seal(self, purpose: str, row: str, plaintext: bytes) -> bytes:
        """Encrypt and authenticate: key id, nonce, AES-256-GCM ciphertext, bound to `purpose` and `row`."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = secrets.token_bytes(_NONCE_BYTES)
        cipher = AESGCM(_derive(self._current.master, f"seal/{purpose}"))
        return self.key_id + nonce + cipher.encrypt(nonce, plaintext, row.encode())

    def unseal(self, purpose: str, row: str, sealed: bytes) -> bytes:
        """The text that `seal` was given. Raises UnsealError when it was not sealed by us for this purpose and row."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        key_id, rest = sealed[:KEY_ID_BYTES], sealed[KEY_ID_BYTES:]
        nonce, ciphertext = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        for keys in self._all:
            if keys.key_id == key_id and len(nonce) == _NONCE_BYTES:
                try:
                    return AESGCM(_derive(keys.master, f"seal/{purpose}")).decrypt(nonce, ciphertext, row.encode())
                except InvalidTag:
                    continue
        raise UnsealError(f"nothing of ours for {purpose}")

    # -- keyed digests --------------------------------------------------------------------------------------

    def sign(self, purpose: str, message: str) -> str:
        """A keyed check of `message` for one purpose, 43 characters (HMAC-SHA-256, base64url)."""
        return _sign(self._current.master, purpose, message)

    def keyed_digest(self, purpose: str, message: str) -> bytes:
        """A digest of `message` that nobody finds by trying all that people type: 32 bytes, by the current key."""
        return _keyed(self._current.master, purpose, message)

    def purpose_keys(self, purpose: str) -> tuple[bytes, ...]:
        """Keys for one purpose, for who makes many checks: of the current master key, then of the previous ones."""
        return tuple(_derive(keys.master, f"purpose/{purpose}") for keys in self._all)

    def verify(self, purpose: str, message: str, signature: str) -> bool:
        """Whether `signature` was made by `sign` with any accepted key, in constant time for each."""
        given = as_bytes(signature)
        return any(equal(_sign(keys.master, purpose, message).encode(), given) for keys in self._all)


def _check(keyed: "hashlib.blake2b", body: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(body)
    return b2a_base64(mac.digest(), newline=False).translate(_URLSAFE)


def _keyed(master: bytes, purpose: str, message: str) -> bytes:
    return hmac.digest(_derive(master, f"sign/{purpose}"), as_bytes(message), "sha256")


def _sign(master: bytes, purpose: str, message: str) -> str:
    return base64.urlsafe_b64encode(_keyed(master, purpose, message)).decode().rstrip("=")


# -- passwords -----------------------------------------------------------------------------------------------

_PASSES: Final = 2
_MEMORY: Final = 19 * 1024  # KiB


@cache
def _passwords() -> "PasswordHasher":
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=_PASSES, memory_cost=_MEMORY, parallelism=1)


def hash_password(password: str) -> str:
    """The argon2id hash of a password (19 MiB, two passes): some 20 ms of one core, so keep it off the loop."""
    return _passwords().hash(as_bytes(password))


def _invented_hash() -> str:
    salt, tag = (base64.b64encode(secrets.token_bytes(size)).decode().rstrip("=") for size in (16, 32))
    return f"$argon2id$v=19$m={_MEMORY},t={_PASSES},p=1${salt}${tag}"


# What an unknown user's password is checked against, so that it takes the same time as a known one's.
UNKNOWN_USER_HASH: Final = _invented_hash()


def password_matches(password_hash: str, password: str) -> bool:
    """Whether a password is the one that was hashed; as slow as hashing it."""
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _passwords().verify(password_hash, as_bytes(password))
    except (VerificationError, InvalidHashError):
        return False
