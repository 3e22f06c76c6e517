"""Addresses of databases: what cannot work is told from the file, and what is accepted, asyncpg reads as it stands."""

from pathlib import Path

import asyncpg
import pytest

from gateway.config.database_url import fault_of
from gateway.store.outages import is_outage

REFUSED = [
    # no host
    ("postgresql://", "it names no database"),
    ("postgres://", "it names no database"),
    ("postgresql://a,,b/gateway", "a host is missing"),
    ("postgresql://a,/gateway", "a host is missing"),
    ("postgresql://,/gateway", "a host is missing"),
    ("postgresql://:5432/gateway", "a host is missing"),
    ("postgresql:///gateway?host=a,", "a host is missing"),
    # ports
    ("postgresql://db:99999/gateway", "a port is a number from 1 to 65535"),
    ("postgresql://db:0/gateway", "a port is a number"),
    ("postgresql://db:hunter2/gateway", "a port is a number"),
    ("postgresql://db:5_4/gateway", "a port is a number"),
    ("postgresql://a:5432,b:65536/gateway", "a port is a number"),
    ("postgresql://[::1]:99999/gateway", "a port is a number"),
    ("postgresql:///gateway?host=db&port=0", "a port is a number"),
    ("postgresql:///gateway?host=/run&port=x", "a port is a number"),
    ("postgresql:///gateway?host=a,b&port=1,2,3", "it names 3 ports for 2 hosts"),
    ("postgresql://db/gateway?port=6432", "write it after the host"),
    ("postgresql://db/gateway?host=/run", "it names the host twice"),
    # marks of a password that were not encoded
    ("postgresql://ada:hunter2/x@db/gateway", "percent-encode / ? # @ : and %"),
    ("postgresql://ada:5432/hunter2@db/gateway", 'its "@" is in the wrong place'),
    ("postgresql://ada:hunter2#x@db/gateway", 'after its "#" would be ignored'),
    ("postgresql://ada:hunter2?x@db/gateway", 'after its "?", write NAME=VALUE'),
    ("postgresql://ada:hunter2@x@db/gateway", 'its "@" is in the wrong place'),
    ("postgresql://ada:hunter2 x@db/gateway", "contains a space"),
    ("postgresql://ada:hunter2\n@db/gateway", "contains a space or a control character"),
    ("postgresql://ada@db/gate%00way", "a control character"),
    # hosts
    ("postgresql://[::1/gateway", "must be in brackets"),
    ("postgresql://::1/gateway", "a host is missing"),
    ("postgresql://fe80::1/gateway", "a port is a number"),
    ("postgresql://a,[::x]/gateway", "IPv6"),
    ("postgresql://[::1]x/gateway", ""),
    ("postgresql://d%2fb/gateway", "a host is a name, an address"),
    # parameters
    ("postgresql://db/gateway?sslmode", "write NAME=VALUE"),
    ("postgresql://db/gateway?a=1&&b=2", "write NAME=VALUE"),
    ("postgresql://db/gateway?sslmode=hunter2", "sslmode is one of disable, allow, prefer, require, verify-ca, verify"),
    ("postgresql://db/gateway?sslnegotiation=tls", "sslnegotiation is one of postgres, direct"),
    ("postgresql://db/gateway?sslnegotiation=direct", "needs sslmode=require"),
    ("postgresql://db/gateway?ssl_min_protocol_version=1.2", "ssl_min_protocol_version is one of TLSv1"),
    ("postgresql://a,b/gateway?target_session_attrs=master", "target_session_attrs is one of any, primary, read-write"),
    ("postgresql://a,b/gateway?target_session_attrs=standby", "target_session_attrs is one of any, primary"),
    ("postgresql://db/gateway?sslmod=require", "did you mean sslmode?"),
    ("postgresql://db/gateway?channel_binding=require", "channel_binding is for other programs"),
    ("postgresql://db/gateway?connect_timeout=10", "connect_timeout is for other programs"),
]


@pytest.mark.parametrize(("url", "said"), REFUSED)
def test_address_that_cannot_work_is_told_without_repeating_it(url: str, said: str) -> None:
    told = fault_of(url)
    assert told is not None
    assert said in told
    assert told.isprintable()
    assert "hunter2" not in told


# What cannot be reached, in every form that is accepted: on loopback, at port 1, where nothing listens.
ACCEPTED = [
    "postgresql://127.0.0.1:1",
    "postgres://ada@127.0.0.1:1/gateway",
    "postgresql://ada:hunter2@127.0.0.1:1/gateway?sslmode=disable",
    "postgresql://ada:h%2Fu%23n%3Ft%40e%3Ar%25@127.0.0.1:1/gateway",
    "postgresql://ada:h:u:n@127.0.0.1:1/gateway",
    "postgresql://\u00e4da:\u00e4@127.0.0.1:1/gateway",
    "postgresql://127.0.0.1:1,127.0.0.2:1/gateway",
    "postgresql://[::1]:1/gateway",
    "postgresql://[::1]:1,[::1]:2/gateway",
    "postgresql://ada@127.0.0.1:1/a@b",
    "postgresql://ada@/gateway?host=FOLDER",
    "postgresql:///gateway?host=FOLDER&port=1",
    "postgresql:///gateway?host=FOLDER,127.0.0.1&port=1",
    "postgresql:///gateway?host=127.0.0.1,FOLDER&port=1,2",
    "postgresql:///gateway?host=127.0.0.1:1",
    "postgresql://%2Fnowhere%2Fat%2Fall:1/gateway",
    "postgresql://127.0.0.1:1/gateway?user=ada@example&password=x",
    "postgresql://127.0.0.1:1/gateway?sslmode=require&sslnegotiation=direct&ssl_min_protocol_version=TLSv1.3",
    "postgresql://127.0.0.1:1,127.0.0.2:1/gateway?target_session_attrs=read-write",
    "postgresql://127.0.0.1:1/gateway?application_name=x&options=-c%20search_path%3Dg&search_path=g",
]


@pytest.mark.parametrize("url", ACCEPTED)
async def test_address_that_is_accepted_is_one_that_asyncpg_reads(url: str, tmp_path: Path) -> None:
    url = url.replace("FOLDER", str(tmp_path))
    assert fault_of(url) is None
    with pytest.raises(OSError, match=r"Connect|connect|No such file") as raised:  # a fault in it is a ValueError
        await asyncpg.connect(url, timeout=10)
    assert is_outage(raised.value)


def test_default_ports_and_services_are_accepted() -> None:
    for url in ("postgresql://db/gateway", "postgresql://db:/gateway", "postgresql://[::1]/gateway"):
        assert fault_of(url) is None
    assert fault_of("postgresql:///?service=gateway") is None


def test_an_address_without_a_host_means_the_sockets_of_this_machine() -> None:
    assert fault_of("postgresql:///gateway") is None
    assert fault_of("postgresql://ada@/gateway?sslmode=disable") is None
