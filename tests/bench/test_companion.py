"""The upload sink and the token stub that the benchmark's proxies lead to."""

import http.client
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.companion import received
from bench.site import HERE, CannotStart, Running
from tests.serving import PATIENCE, free_ports


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[tuple[int, int]]:
    tokens, (sink, stub) = tmp_path / "tokens", free_ports(2)
    tokens.write_text("good\nbetter\n")
    command = [sys.executable, str(HERE / "companion.py"), f"--sink={sink}", f"--stub={stub}", f"--tokens={tokens}"]
    running = Running(command, stub, tmp_path / "log")
    try:
        running.wait()
        yield sink, stub
    finally:
        running.stop()


def test_sink_tells_length_and_checksum_of_what_arrived(ports: tuple[int, int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=PATIENCE)
    for body in (b"", b"a", bytes(range(256)) * 4096):
        connection.request("POST", "/up/any", body)
        assert connection.getresponse().read() == received(len(body), zlib.crc32(body))
    connection.close()


@pytest.mark.parametrize(("token", "status"), [("good", 200), ("better", 200), ("goo", 401), ("goodness", 401)])
def test_stub_knows_the_good_tokens(ports: tuple[int, int], token: str, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=PATIENCE)
    connection.request("GET", "/verify", headers={"Authorization": f"Bearer {token}"})
    assert connection.getresponse().status == status
    connection.close()


@pytest.mark.parametrize(("token", "active"), [("good", b"true"), ("bad", b"false")])
def test_stub_introspects(ports: tuple[int, int], token: str, active: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports[1], timeout=PATIENCE)
    connection.request("POST", "/introspect", f"token_type_hint=access_token&token={token}")
    assert b'"active": ' + active in connection.getresponse().read()
    connection.close()


def test_program_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    [port] = free_ports(1)
    running = Running([sys.executable, "-c", "raise SystemExit('no such luck')"], port, tmp_path / "log")
    with pytest.raises(CannotStart, match="no such luck"):
        running.wait()
    running.stop()
