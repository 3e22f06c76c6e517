"""Certificates that tests make: each signs itself, so that whoever trusts it needs no other file."""

import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.serving import free_ports

# Python 3.13 asks of whoever signs others' that its certificate says so (RFC 5280, section 4.2.1.3).
_SIGNS = x509.KeyUsage(
    digital_signature=True,
    key_cert_sign=True,
    crl_sign=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def certify(folder: Path, *hosts: str, age: float = 1.0, days: float = 90.0) -> tuple[Path, Path]:
    """The files of a certificate for these hosts, which began `age` days ago and lives for `days`, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
    begins = datetime.now(UTC) - timedelta(days=age)
    subject = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS, critical=True)
        .add_extension(subject, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(subject), critical=False)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    chain, private = folder / "fullchain.pem", folder / "privkey.pem"
    chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return chain, key_written(key, private)


class Authority:
    """One that signs certificates for others; `ca` is the file of its own."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._folder = folder
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=2000))
            .not_valid_after(now + timedelta(days=2000))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_SIGNS, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *hosts: str, age: float = 1.0, days: float = 90.0) -> tuple[Path, Path]:
        """The files, called by `name`, of a certificate for these hosts, and of its key."""
        key, begins = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) - timedelta(days=age)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(begins + timedelta(days=days))
            .add_extension(
                x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts or (name,)]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        chain = self._folder / f"{name}.pem"
        chain.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return chain, key_written(key, self._folder / f"{name}.key")


def key_written(key: ec.EllipticCurvePrivateKey, path: Path, passphrase: bytes | None = None) -> Path:
    """A private key in a file of its owner's."""
    how = serialization.NoEncryption() if passphrase is None else serialization.BestAvailableEncryption(passphrase)
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how))
    return path


@dataclass(frozen=True)
class Https:
    """The address of a gateway that speaks TLS as `localhost`, and its certificate, which all may read and trust."""

    url: str
    server: dict[str, Any]  # what its configuration says of that
    certificate: Path
    key: Path

    def asking(self) -> ssl.SSLContext:
        """What a client speaks TLS by."""
        return ssl.create_default_context(cafile=str(self.certificate))

    def answering(self) -> ssl.SSLContext:
        """What another server on the same certificate speaks TLS by."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate, self.key)
        return context


@contextmanager
def https() -> Iterator[Https]:
    """The same, for as long as the context: its files are where system users can go whom root's own are closed to."""
    folder = Path(tempfile.mkdtemp(prefix="gwt-", dir="/tmp"))
    folder.chmod(0o711)
    try:
        certificate, key = certify(folder, "localhost")
        (port,) = free_ports(1)
        url, pair = f"https://localhost:{port}", {"certificate": str(certificate), "key": {"file": str(key)}}
        yield Https(url, {"listen": f"127.0.0.1:{port}", "public_url": url, "tls": [pair]}, certificate, key)
    finally:
        shutil.rmtree(folder)
