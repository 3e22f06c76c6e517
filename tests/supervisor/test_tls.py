"""A gateway whose public listener speaks TLS: certificates that change without a restart, and faults in them."""

import asyncio
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from gateway import config
from gateway.config import ConfigError
from tests.certificates import Authority
from tests.serving import Gateway, serving, until, write_config
from tests.supervisor.test_reload_command import reload

ROUTE = {"name": "open", "path": "/open", "auth": "none", "respond": {"status": 200, "body": "in"}}
CALL = b"GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n"


def replaced(pair: tuple[Path, Path], by: tuple[Path, Path]) -> None:
    """Put a certificate and its key in the place of others, as who renews them does."""
    for old, new in zip(pair, by, strict=True):
        new.replace(old)


async def connect(
    gateway: Gateway, authority: Authority, name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(gateway.url.rpartition(":")[2])
    context = ssl.create_default_context(cafile=authority.ca)
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name)


async def shown(gateway: Gateway, authority: Authority, name: str) -> int:
    """The serial number of the certificate that is shown for a name."""
    _, writer = await connect(gateway, authority, name)
    raw = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return int(x509.load_der_x509_certificate(raw).serial_number)


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(CALL)
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(2)
    return head


async def test_certificates_change_without_a_restart(tmp_path: Path, database: str) -> None:
    authority = Authority(tmp_path / "authority")
    first, second = authority.issue("first", "api.test"), authority.issue("second", "other.test")
    tls = [{"certificate": str(chain), "key": {"file": str(key)}} for chain, key in (first, second)]
    server = {"tls": tls, "public_url": "https://api.test"}
    async with serving(tmp_path, routes=[ROUTE], dsn=database, server=server) as gateway:
        before = {name: await shown(gateway, authority, name) for name in ("api.test", "other.test")}
        assert len(set(before.values())) == 2
        replaced(first, authority.issue("renewed", "api.test"))
        await until(lambda: "certificates renewed" in gateway.log_text)

        async def is_renewed() -> bool:  # on each worker, some time
            return all([await shown(gateway, authority, "api.test") != before["api.test"] for _ in range(4)])

        await until(is_renewed)
        renewed = await shown(gateway, authority, "api.test")
        assert await shown(gateway, authority, "other.test") == before["other.test"]

        first[1].write_bytes(second[1].read_bytes())  # the key of another
        await until(lambda: "is the key of another certificate" in gateway.log_text)
        assert await shown(gateway, authority, "api.test") == renewed
        code, out, err = await reload(gateway.config)
        assert code == 1
        assert "server.tls[0].key" in out + "".join(err)
        assert await shown(gateway, authority, "api.test") == renewed
        killed = gateway.workers[0]
        killed.kill()
        await gateway.replaced(killed)
        assert {await shown(gateway, authority, "api.test") for _ in range(6)} == {renewed}

        kept = await connect(gateway, authority, "api.test")
        assert (await answered(*kept)).startswith(b"HTTP/1.1 200 OK\r\n")
        replaced(first, authority.issue("mended", "api.test"))
        assert (await reload(gateway.config))[0] == 0
        assert await shown(gateway, authority, "api.test") not in (renewed, before["api.test"])
        head = await answered(*kept)  # by the old worker, which says that it is the last
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in head
        kept[1].close()


def test_faults_in_certificates_are_named(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "authority")
    chain, key = authority.issue("good", "api.test")
    old, its_key = authority.issue("old", "api.test", age=90.0, days=89.0)
    for certificate, private, where, said in (
        (chain, its_key, "key", "is the key of another certificate"),
        (old, its_key, "certificate", "expired at"),
        (tmp_path / "absent.pem", key, "certificate", "cannot be read (No such file"),
        (key, key, "certificate", "holds no certificate in PEM"),
        (chain, chain, "key", "holds no private key in PEM"),
    ):
        chain.chmod(0o600)
        tls = [{"certificate": str(certificate), "key": {"file": str(private)}}]
        server = {"tls": tls, "public_url": "https://api.test"}
        path, _, _ = write_config(tmp_path, tmp_path, dsn="postgresql://db/x", routes=[ROUTE], server=server)
        with pytest.raises(ConfigError) as raised:
            config.load(path)
        [fault] = raised.value.faults
        assert fault.path == f"server.tls[0].{where}"
        assert said in fault.message
    server = {"tls": [{"certificate": str(chain), "key": {"env": "KEY"}}], "public_url": "http://api.test"}
    path, _, _ = write_config(tmp_path, tmp_path, dsn="postgresql://db/x", routes=[ROUTE], server=server)
    with pytest.raises(ConfigError) as raised:
        config.load(path)
    told = {fault.path: fault.message for fault in raised.value.faults}
    assert told.keys() == {"server.public_url", "server.tls[0].key"}
    assert "must be https" in told["server.public_url"]
