"""Certificates and keys in files: what is wrong with them, in words that say which.

It brings cryptography along, so who may do without imports it where it is needed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway import barred
from gateway.config.tls import Certified, server_context
from gateway.faults import OperatorError

_LONGEST: Final = 1024 * 1024  # bytes of a file


def pair_faults(certificate: Path, key: Path, now: datetime) -> Iterator[tuple[str, str]]:
    """What is wrong with a certificate and its key, each with "certificate" or "key" before it."""
    chain, private = None, None
    try:
        chain = certificates(certificate)
    except OperatorError as exc:
        yield "certificate", str(exc)
    try:
        private = _private_key(key)
    except OperatorError as exc:
        yield "key", str(exc)
    if chain is None:
        return
    if private is not None and not _agree(private, chain[0]):
        yield "key", f"{key} is the key of another certificate than the first one in {certificate}"
    ends = chain[0].not_valid_after_utc
    if ends <= now:
        yield "certificate", f"{certificate} expired at {ends:%Y-%m-%d %H:%M} UTC; renew it"


def certificates(path: Path) -> list[x509.Certificate]:
    """The certificates in a file, in their order. Raises OperatorError."""
    try:
        return x509.load_pem_x509_certificates(_content(path))
    except ValueError as exc:
        raise OperatorError(f"{path} holds no certificate in PEM") from exc


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST + 1)
    except OSError as exc:
        mend = barred.mend(path) if isinstance(exc, PermissionError) else "correct the path, or put the file there"
        raise OperatorError(f"{path} cannot be read ({barred.reason(exc, path)}); {mend}") from exc
    if len(content) > _LONGEST:
        raise OperatorError(f"{path} is longer than any such file")
    return content


def _private_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(_content(path), None)
    except TypeError as exc:
        raise OperatorError(f"{path} is encrypted, and there is nobody to ask for its passphrase") from exc
    except ValueError as exc:
        raise OperatorError(f"{path} holds no private key in PEM") from exc


def _agree(private: PrivateKeyTypes, certificate: x509.Certificate) -> bool:
    public: PublicKeyTypes = private.public_key()
    return public == certificate.public_key()


def certified(certificate: Path, key: Path) -> Certified:
    """What a certificate's file and its key's hold, if they can be used. Raises OperatorError."""
    now = datetime.now(UTC)
    faults = [message for _, message in pair_faults(certificate, key, now)]
    if faults:
        raise OperatorError("\n".join(faults))
    made = Certified(_content(certificate), _content(key), names_of(certificates(certificate)[0]))
    try:
        server_context(made)
    except (OSError, ValueError) as exc:  # such as a key that is too short
        raise OperatorError(f"{certificate} cannot be used: {exc}") from exc
    return made


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The host names that a certificate is for, in lower case (RFC 9525, section 6.3)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    return tuple(name.lower() for name in found.get_values_for_type(x509.DNSName))
