"""`gateway doctor` while the gateway serves: public_url from outside in, through proxies that do one thing wrong."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from gateway import config
from gateway.doctor import Report, asking, examine, machine
from gateway.web.arrival import FIELD, PATH
from tests.certificates import certify
from tests.doctor.conftest import OK
from tests.doctor.rig import HOST, as_they_came, front, only, tls_of, upstream, with_host, without
from tests.serving import Gateway, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Site:
    """A gateway that serves under a public name, and the certificate of the proxies in front."""

    gateway: Gateway
    port: int
    tls: ssl.SSLContext
    folder: Path


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    folder.chmod(0o700)
    chain, key = certify(folder / "tls", HOST)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(chain))
        async with upstream(OK) as port:
            route = {
                "name": "notes",
                "path": "/notes",
                "hosts": ["notes.example.com"],
                "upstreams": [f"http://127.0.0.1:{port}"],
                "auth": ["bearer"],
            }
            server = {"public_url": f"https://{HOST}", "trusted_proxies": ["127.0.0.1"]}
            async with serving(folder, routes=[route], workers=1, server=server) as gateway:
                yield Site(gateway, int(gateway.url.rpartition(":")[2]), tls_of(chain, key), folder)


async def looked(site: Site, **how: Any) -> Report:
    """The report of the gateway behind such a proxy."""
    async with front(site.port, how.pop("tls", site.tls), **how) as place:
        return await examine(site.gateway.config, through=place)


async def test_healthy_installation_that_serves_has_no_finding_and_nothing_is_left_out(site: Site) -> None:
    report = await looked(site)
    assert report.findings == []
    assert report.left_out == {}
    assert report.facts["gateway"] == f"process {site.gateway.process.pid}"


def _redirect() -> bytes:
    return b"HTTP/1.1 301 M\r\nLocation: https://www.example.com/\r\nStrict-Transport-Security: x\r\n\r\n"


FRONTS: dict[str, tuple[Mapping[str, Any], str, str, str]] = {  # how; the key, what is said, the mend
    "another Host": ({"rewrite": with_host("127.0.0.1")}, "public_url", "another Host", "proxy_set_header Host"),
    "no word of whom it speaks for": (
        {"rewrite": without("x-forwarded-for")},
        "trusted_proxies",
        "does not say whom it speaks for",
        "proxy_add_x_forwarded_for",
    ),
    "what clients claim": (
        {"rewrite": lambda fields, client: [*without("x-forwarded-for")(fields, client), fields[4]]},
        "trusted_proxies",
        "may claim any address",
        "proxy_set_header X-Forwarded-For",
    ),
    "an address that is not trusted": (
        {"source": "127.0.0.2"},
        "trusted_proxies",
        "the proxy in front, 127.0.0.2, is not among them",
        'trusted_proxies = ["127.0.0.2"]',
    ),
    "the scheme that clients claim": (
        {"rewrite": lambda fields, client: [*without("x-forwarded-proto")(fields, client), fields[5]]},
        "trusted_proxies",
        "arrives at the gateway, as http",
        "proxy_set_header X-Forwarded-Proto",
    ),
    "no credential": (
        {"rewrite": without("authorization")},
        "public_url",
        "takes the Authorization field away",
        "CGIPassAuth",
    ),
    "no HSTS": ({"hsts": False}, "public_url", "no Strict-Transport-Security", "max-age"),
    "no gateway": (
        {"answer": b"HTTP/1.1 502 B\r\nStrict-Transport-Security: x\r\n\r\n"},
        "public_url",
        "gets no answer from the gateway",
        "lead to server.listen",
    ),
    "a redirect": ({"answer": _redirect()}, "public_url", "sends its callers to https://www", "where they end"),
    "another site": (
        {"answer": b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: x\r\n\r\nhello"},
        "public_url",
        "is not this gateway",
        "all paths of it",
    ),
    "another gateway": (
        {"rewrite": without(FIELD.lower())},
        "public_url",
        "another gateway, or one with other keys",
        "lead to server.listen",
    ),
}


@pytest.mark.parametrize("seed", FRONTS)
async def test_what_a_proxy_in_front_does_wrong_is_named_with_its_mend(site: Site, seed: str) -> None:
    how, about, what, mend = FRONTS[seed]
    finding = only(await looked(site, **how))
    assert finding.about == f"server.{about}"
    assert what in finding.what
    assert mend in finding.mend
    assert finding.level == ("warning" if seed == "no HSTS" else "fault")


async def test_a_proxy_that_passes_all_as_it_came_lets_clients_claim_address_and_scheme(site: Site) -> None:
    findings = (await looked(site, rewrite=as_they_came)).findings
    assert [finding.about for finding in findings] == ["server.trusted_proxies"] * 2
    assert "may claim any address" in findings[0].what


@pytest.mark.parametrize(
    ("hosts", "age", "what"),
    [((HOST,), 91, "has expired"), (("www.example.com",), 1, "another name"), ((HOST,), 89, "expires in 1.0 days")],
)
async def test_what_is_wrong_with_its_certificate_is_named(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hosts: tuple[str, ...], age: float, what: str
) -> None:
    chain, key = certify(tmp_path, *hosts, age=age)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    finding = only(await looked(site, tls=tls_of(chain, key)))
    assert (finding.about, finding.level) == ("server.public_url", "fault")
    assert what in finding.what


async def test_a_certificate_that_nobody_trusts_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    finding = only(await looked(site))
    assert "signed by nobody" in finding.what
    assert "fullchain.pem" in finding.mend


async def test_a_name_that_does_not_lead_anywhere_is_named_with_the_way_around_it(site: Site) -> None:
    finding = only(await examine(site.gateway.config))  # example.com has no such name, or nothing of ours
    assert finding.about == "server.public_url"
    finding = only(await examine(site.gateway.config, through=("127.0.0.1", 9)))
    assert "nothing listens there" in finding.what


async def test_a_worker_that_hangs_is_named(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 1.0)
    [worker] = site.gateway.workers
    worker.suspend()
    try:
        findings = (await examine(site.gateway.config, through=("127.0.0.1", 9))).findings
    finally:
        worker.resume()
    [finding] = [one for one in findings if one.about == "server.listen"]
    assert "no answer in time" in finding.what
    assert "look at the log" in finding.mend


async def test_workers_that_are_not_ready_and_a_gateway_that_says_nothing_are_named(site: Site) -> None:
    settings = config.load(site.gateway.config)
    health = {"workers": 2, "workers_ready": 1, "authorization_workers": 1, "authorization_workers_ready": 0}
    findings = [*machine._health(settings, machine.Serving(1, {**health, "draining": True}))]
    assert [finding.about for finding in findings] == ["server.workers", "server.authorization_workers", "server"]
    [finding] = machine._health(settings, machine.Serving(1, {}))
    assert "process 1) does not answer" in finding.what


async def test_strangers_are_told_nothing_of_how_a_call_arrived(site: Site) -> None:
    for given in ("", "0.0", "99999999999.x", "1.\xff", f"{'9' * 20}.x", "1764338400." + "A" * 43):
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", site.port)
            writer.write(
                f"GET /oauth2/{PATH} HTTP/1.1\r\nHost: {HOST}\r\n{FIELD}: {given}\r\nConnection: close\r\n\r\n".encode(
                    "latin-1"
                )
            )
            answer = await reader.read()
            writer.close()
        assert answer.startswith(b"HTTP/1.1 404 "), answer
        assert b"came_by" not in answer
