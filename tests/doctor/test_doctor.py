"""`gateway doctor` before the gateway serves: misconfigurations, seeded one by one, and what it says of each."""

import asyncio
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.crypto import new_master_key
from gateway.doctor import Finding, asking, examine, machine
from gateway.store import Store, migrations
from gateway.supervisor.control import _name
from tests.certificates import Authority, certify
from tests.doctor.conftest import OK, Installation, as_serving, run
from tests.doctor.rig import HOST, only, tls_of, upstream
from tests.guard.pooler import PROGRAM as PGBOUNCER
from tests.guard.pooler import pooling
from tests.issuers import EC, EDWARDS, KEYS, Issuer, an_issuer, document
from tests.serving import ROOT, write_key
from tests.streams import accepting

KEY_OF_DATA = b"obviously-a-fake-key-for-tests!!"


async def test_healthy_installation_has_no_finding(installation: Installation) -> None:
    report = await examine(installation.write())
    assert report.findings == []
    assert report.facts["database"].startswith("PostgreSQL ")
    assert set(report.left_out) == {"server.public_url"}


# -- the file, the keys and the machine ----------------------------------------------------------------------------

Seed = Callable[[Installation], object]


def _set(table: str, key: str, value: object) -> Seed:
    return lambda made: made.tables[table].update({key: value})


def _mode(name: str, mode: int) -> Seed:
    def seed(made: Installation) -> None:
        made.write()
        (made.folder / name).chmod(mode)

    return seed


def _key_twice(made: Installation) -> None:
    made.tables["keys"]["previous"] = [{"file": "master.key"}]


def _password_in_the_open(made: Installation) -> None:
    made.tables["database"]["url"] = made.tables["database"]["url"].replace("serving@", "serving:hunter2@")
    made.write().chmod(0o644)


def _taken(made: Installation) -> socket.socket:
    host, port = made.tables["server"]["listen"].split(":")
    return socket.create_server((host, int(port)))


SEEDS: dict[str, tuple[Seed, str, str, str]] = {  # what is done; the key, what is said of it, and the mend
    "a key that is misspelt": (_set("server", "wrokers", 2), "server.wrokers", "not a known key", "workers"),
    "a secret that is not there": (
        _set("keys", "master", {"env": "GATEWAY_NO_SUCH_KEY"}),
        "keys.master",
        "GATEWAY_NO_SUCH_KEY is not set",
        "restore it",
    ),
    "a master key that others may read": (
        _mode("master.key", 0o644),
        "keys.master",
        "accessible to users",
        "chmod 600",
    ),
    "a file that anybody may write": (_mode("config.toml", 0o666), "configuration", "written by others", "chmod go-w"),
    "a folder that anybody may write": (_mode(".", 0o777), "configuration", "written by others", "chmod go-w"),
    "a master key that is its own predecessor": (_key_twice, "keys.previous", "listed twice", "each once"),
    "a user who is not there": (
        _set("server", "user", "no-such-user"),
        "server.user",
        "no such system user|only root",
        "useradd|start the gateway as",
    ),
    "proxies that are everybody": (
        _set("server", "trusted_proxies", ["0.0.0.0/0"]),
        "server.trusted_proxies",
        "lets everybody claim any address",
        "name the proxies",
    ),
    "pages that go in the clear": (
        _set("server", "public_url", "http://api.example.com"),
        "server.public_url",
        "travel in the clear",
        "use https",
    ),
    "an admin listener for all": (
        lambda made: made.tables["admin"].update(listen=made.tables["admin"]["listen"].replace("127.0.0.1", "0.0.0.0")),
        "admin.listen",
        "from other machines",
        "listen on 127.0.0.1",
    ),
    "a port that is taken": (_taken, "server.listen", "port is in use", "stop what listens there"),
    "an address of another machine": (
        _set("server", "listen", "192.0.2.7:8080"),
        "server.listen",
        "not an address of this machine",
        "choose one of its own",
    ),
    "workers beyond the cores": (
        _set("server", "workers", 3 * len(os.sched_getaffinity(0))),
        "server.workers",
        "workers share",
        "one for each core",
    ),
    "a scope that nobody defined": (
        lambda made: made.tables.pop("scopes"),
        "routes[0].scopes",
        "nobody defined",
        "gateway scope create notes:read",
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
async def test_what_is_wrong_with_file_keys_and_machine_is_named_with_its_mend(
    installation: Installation, seed: str
) -> None:
    sow, about, what, mend = SEEDS[seed]
    installation.write()
    done = sow(installation)
    if not installation.config.stat().st_mode & 0o066:
        installation.write()
    report = await examine(installation.config)
    findings = [finding for finding in report.findings if finding.about.startswith(about)]
    if isinstance(done, socket.socket):
        done.close()
    assert findings, report.findings
    assert any(re.search(what, finding.what) and re.search(mend, finding.mend) for finding in findings), findings
    assert {finding.about for finding in report.findings} <= {findings[0].about, "keys", "database.url"}
    assert all(finding.why for finding in findings)


async def test_a_password_that_everybody_may_read_is_named_with_its_mend(installation: Installation) -> None:
    _password_in_the_open(installation)
    faults = [finding for finding in (await examine(installation.config)).findings if finding.level == "fault"]
    assert [finding.about for finding in faults] == ["database.url"]
    assert "everybody on this machine may read (mode 0644)" in faults[0].what
    assert "chmod o-r" in faults[0].mend
    assert "hunter2" not in str(faults)


async def test_a_disk_that_is_full_and_a_small_machine_are_named(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    installation.tables["database"] = {"data_dir": "data"}
    full = SimpleNamespace(total=1000 * 2**20, used=990 * 2**20, free=10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: full)
    report = await examine(installation.write())
    assert "1% of the disk" in only(report).what
    assert "make room" in only(report).mend
    assert "database.url" in report.left_out  # and nothing was made to find out
    installation.tables["log"] = {"access": "json", "access_file": "access.log"}
    named = [finding.about for finding in (await examine(installation.write())).findings]
    assert named == ["database.data_dir", "log.access_file"]
    del installation.tables["log"]
    assert not (installation.folder / "data").exists()

    monkeypatch.undo()
    monkeypatch.setattr(os, "sysconf", lambda _: 2**14)
    report = await examine(installation.write())
    assert only(report).about == "server.workers"
    assert "this machine has 256" in only(report).what


async def test_a_low_limit_of_open_files_ends_the_program_with_1_and_is_told_in_json(
    installation: Installation,
) -> None:
    path = installation.write()
    program = f'ulimit -n 512; exec "{sys.executable}" -m gateway doctor --json --config "{path}"'
    command = partial(subprocess.run, ["bash", "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    done = await asyncio.to_thread(command)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    assert told["healthy"] is False
    [finding] = told["findings"]
    assert finding["about"] == "open files"
    assert "LimitNOFILE=65536" in finding["mend"]
    assert finding["level"] == "fault"


async def test_clocks_that_differ_are_named(installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    date = formatdate(__import__("time").time() + 300, usegmt=True).encode()
    async with upstream(OK[:-2] + b"Date: " + date + b"\r\n\r\n") as port:
        installation.route["upstreams"] = [f"http://127.0.0.1:{port}"]
        finding = only(await examine(installation.write()))
    assert (finding.about, finding.level) == ("time", "fault")
    assert re.search(rf"clock is (300|299) s behind that of 127.0.0.1:{port}", finding.what)
    assert "NTP" in finding.mend


@pytest.mark.parametrize(
    ("schemes", "matters"),
    [
        (("mac",), True),
        (("bearer", "signature"), True),
        (("dpop",), True),  # whose proofs count within mac.skew too (RFC 9449, section 4.3)
        (("bearer", "session"), False),
        ((), False),
    ],
)
def test_a_clock_that_nothing_sets_matters_where_calls_are_signed(
    monkeypatch: pytest.MonkeyPatch, schemes: tuple[str, ...], matters: bool
) -> None:
    monkeypatch.setattr(machine, "_adjtimex", lambda: 5)
    signed: Any = SimpleNamespace(
        config=SimpleNamespace(mac=SimpleNamespace(skew=60.0), routes=[SimpleNamespace(schemes=schemes)])
    )
    found = [*machine.clock_findings(signed, {})]
    assert ["timedatectl" in finding.mend for finding in found] == [True] * matters
    assert [*machine.clock_findings(signed, {"the database": 0.1})] == []


# -- upstreams -----------------------------------------------------------------------------------------------------

UPSTREAMS: dict[str, tuple[bytes | None, str, bool, str, str]] = {  # answer, scheme, TLS; what is said, and the mend
    "one that hangs": (None, "http", False, "no answer in time", "see whether it hangs"),
    "one that closes": (b"", "http", False, "closed the connection", "see its log"),
    "one that is no web server": (
        b"SSH-2.0-OpenSSH_9.2\r\n",
        "http",
        False,
        "other than HTTP",
        "where it speaks HTTP/1.1",
    ),
    "one that is unwell": (b"HTTP/1.1 503 No\r\n\r\n", "http", False, "answers 503 to HEAD /notes", "see its own log"),
    "one that serves another host": (
        b"HTTP/1.1 421 No\r\n\r\n",
        "http",
        False,
        "no host notes.example",
        "upstream_host",
    ),
    "one that speaks TLS, asked without": (OK, "http", True, "speaks TLS", "write https://"),
    "one without TLS, asked by it": (OK, "https", False, "speaks plain HTTP", "write http://"),
    "one whom nobody trusts": (OK, "https", True, "signed by nobody", "update-ca-certificates"),
}


@pytest.mark.parametrize("seed", UPSTREAMS)
async def test_what_is_wrong_with_an_upstream_is_named_with_its_mend(
    installation: Installation, monkeypatch: pytest.MonkeyPatch, seed: str
) -> None:
    answer, scheme, secured, what, mend = UPSTREAMS[seed]
    monkeypatch.setattr(asking, "PATIENCE", 1.0)
    tls = tls_of(*certify(installation.folder / "tls", "localhost")) if secured else None
    async with upstream(answer, tls) as port:
        host = "localhost" if scheme == "https" else "127.0.0.1"
        installation.route["upstreams"] = [f"{scheme}://{host}:{port}"]
        finding = only(await examine(installation.write()))
    assert finding.about == "routes[0].upstreams[0] (route notes)"
    assert what in finding.what
    assert mend in finding.mend


async def test_an_upstream_that_never_comes_to_an_end_is_left_in_time(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "PATIENCE", 0.5)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"X")
            await writer.drain()
            await asyncio.sleep(0.05)

    async with accepting(drip) as port:
        installation.route["upstreams"] = [f"http://127.0.0.1:{port}"]
        finding = only(await examine(installation.write()))
    assert "no answer in time" in finding.what


@pytest.mark.parametrize(
    ("url", "what", "mend"),
    [
        ("http://nowhere.invalid:9000", "cannot be resolved", "correct the name"),
        ("http://127.0.0.1:9", "nothing listens there", "start it"),
    ],
)
async def test_an_upstream_that_is_not_there_is_named_with_its_mend(
    installation: Installation, url: str, what: str, mend: str
) -> None:
    installation.route["upstreams"] = [url]
    finding = only(await examine(installation.write()))
    assert what in finding.what
    assert mend in finding.mend


@pytest.mark.parametrize(
    ("hosts", "age", "days", "what", "mend"),
    [
        (("other.example.com",), 1, 90, "for another name", "name it as its certificate does"),
        (("localhost",), 91, 90, "has expired", "renew the certificate"),
        (("localhost",), 80, 90, "expires in 10.0 days", "why that did not happen"),
        (("localhost",), 89, 90, "expires in 1.0 days", "why that did not happen"),
    ],
)
async def test_what_is_wrong_with_a_certificate_is_named_with_its_mend(
    installation: Installation,
    monkeypatch: pytest.MonkeyPatch,
    hosts: tuple[str, ...],
    age: float,
    days: float,
    what: str,
    mend: str,
) -> None:
    chain, key = certify(installation.folder / "tls", *hosts, age=age, days=days)
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))
    async with upstream(OK, tls_of(chain, key)) as port:
        installation.route["upstreams"] = [f"https://localhost:{port}"]
        finding = only(await examine(installation.write()))
    assert what in finding.what
    assert mend in finding.mend
    assert finding.level == ("warning" if "10.0" in what else "fault")


async def test_upstream_is_asked_by_its_own_terms(installation: Installation) -> None:
    ours = Authority(installation.folder / "ours")
    async with upstream(OK, tls_of(*ours.issue("localhost"))) as port:
        installation.route["upstreams"] = [f"https://localhost:{port}"]
        installation.route["upstream_tls"] = {"ca": "ours/ca.pem"}
        assert [finding.what for finding in await findings_of(installation)] == []
        installation.route["upstream_tls"] = {"ca": "ours/ca.pem", "server_name": "other.test"}
        [finding] = await findings_of(installation)
        assert "for another name" in finding.what
    installation.route |= {"upstreams": [f"http+unix://{installation.folder}/app.sock"]}
    del installation.route["upstream_tls"]
    [finding] = await findings_of(installation)
    assert finding.what == f"unix:{installation.folder}/app.sock: nothing listens there"
    assert finding.mend == "start it, or correct the path"


async def test_upstream_is_asked_for_its_health(installation: Installation) -> None:
    async with upstream(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") as port:
        installation.route |= {"upstreams": [f"http://127.0.0.1:{port}"], "health": {"path": "/healthz"}}
        [finding] = await findings_of(installation)
        assert finding.about == "routes[0].upstreams[0] (route notes)"
        assert finding.what == f"127.0.0.1:{port} answers 404 to the health check GET /healthz"
        assert "health.path" in finding.mend
    async with upstream(OK) as port:
        installation.route["upstreams"] = [f"http://127.0.0.1:{port}"]
        assert await findings_of(installation) == []


async def test_certificates_of_our_own_near_their_end_or_for_other_names_are_named(installation: Installation) -> None:
    ours = Authority(installation.folder / "ours")
    chain, key = ours.issue("shown", "notes.example.com", age=80.0, days=90.0)
    installation.tables["server"]["tls"] = [{"certificate": str(chain), "key": {"file": str(key)}}]
    found = {finding.about: finding for finding in await findings_of(installation)}
    assert "expires in 10.0 days" in found["server.tls[0]"].what
    assert f"no certificate is for the host {HOST}" in found["server.tls"].what


async def findings_of(installation: Installation) -> list[Finding]:
    """What is found, but for what asks through the proxy in front, which is not there."""
    return [one for one in (await examine(installation.write())).findings if one.about != "server.public_url"]


# -- the database --------------------------------------------------------------------------------------------------


async def _another_key(dsn: str) -> None:
    from gateway.crypto import Keyring

    store = await Store.open(as_serving(dsn), Keyring(KEY_OF_DATA), size=1)
    await store.close()


def _sql(*statements: str) -> Callable[[str], Awaitable[None]]:
    async def sow(dsn: str) -> None:
        name = dsn.rpartition("/")[0] and dsn.split("/")[3].partition("?")[0]
        await run(dsn, *(statement.replace("{name}", name) for statement in statements))

    return sow


SHIFTED = (
    "create function shifted.clock_timestamp() returns timestamptz language sql as 'select now() + interval ''90 s'''"
)

FAR_AWAY = (
    "create schema far_away",
    "grant usage on schema far_away to serving",
    "create function far_away.inet_client_addr() returns inet language sql as 'select ''192.0.2.7''::inet'",
    "create function far_away.inet_server_addr() returns inet language sql as 'select ''192.0.2.1''::inet'",
    "alter database {name} set search_path = far_away, pg_catalog, public",
)

FOLLOWED = (
    "create schema followed",
    "grant usage on schema followed to serving",
    "create view followed.pg_stat_replication as select * from (values ('async'), ('sync')) as s (sync_state)",
    "grant select on followed.pg_stat_replication to serving",
    "alter database {name} set search_path = followed, pg_catalog, public",
)

DATABASE: dict[str, tuple[Callable[[str], Awaitable[None]], str, str]] = {
    "one that was not migrated": (_sql("drop table schema_migrations"), "not migrated", "gateway migrate"),
    "one of a newer release": (
        _sql("insert into schema_migrations (name, checksum) values ('9999_later', '')"),
        "newer than this version",
        "install the version",
    ),
    "one of an unreleased version": (
        _sql("update schema_migrations set name = '0001_users' where name like '0001%'"),
        "made by an unreleased version",
        "make a new database",
    ),
    "a table that the role may not change": (
        _sql("alter table users owner to gateway", "grant select on users to serving"),
        "lacks privileges",
        "run these as",
    ),
    "one that takes no writes": (
        _sql("alter database {name} set default_transaction_read_only = on"),
        "begin read-only",
        "take the setting back",
    ),
    "too few connections": (
        _sql("alter database {name} connection limit 12"),
        "leaves the gateway 12 connections",
        "CONNECTION LIMIT -1",
    ),
    "connections that a reload has not": (
        _sql("alter database {name} connection limit 40"),
        "leaves the gateway 40 connections",
        "CONNECTION LIMIT -1",
    ),
    "a clock that is ahead": (
        _sql(
            "create schema shifted",
            "grant usage on schema shifted to serving",
            SHIFTED,
            "alter database {name} set search_path = shifted, pg_catalog, public",
        ),
        "90 s behind that of the database",
        "NTP",
    ),
    "a way on which others are": (_sql(*FAR_AWAY), "192.0.2.1 is not encrypted", "add ?sslmode=verify-full"),
    "data of another key": (_another_key, "does not fit the data", "keys.previous"),
    "a superuser": (_sql("alter role serving superuser"), "is a superuser", "owns this database and no more"),
}


@pytest.mark.parametrize("seed", DATABASE)
async def test_what_is_wrong_with_the_database_is_named_with_its_mend(
    installation: Installation, durable: str, fresh: str, seed: str
) -> None:
    sow, what, mend = DATABASE[seed]
    await sow(fresh)
    try:
        finding = only(await examine(installation.write()))
    finally:
        await run(durable, "alter role serving nosuperuser")
    assert what in finding.what
    assert mend in finding.mend
    assert finding.level == ("warning" if seed in ("a superuser", "connections that a reload has not") else "fault")


async def test_a_connection_that_is_meant_to_be_in_the_clear_is_a_warning(
    installation: Installation, fresh: str
) -> None:
    await _sql(*FAR_AWAY)(fresh)
    url = str(installation.tables["database"]["url"])
    installation.tables["database"]["url"] = f"{url}{'&' if '?' in url else '?'}sslmode=disable"
    finding = only(await examine(installation.write()))
    assert "192.0.2.1 is not encrypted" in finding.what
    assert finding.level == "warning"
    assert finding.mend.startswith("nothing if nobody else is on that network; else write sslmode=verify-full")


async def test_missing_privileges_come_as_statements_that_mend_them(installation: Installation, fresh: str) -> None:
    await run(fresh, "alter table users owner to gateway", "grant select on users to serving")
    finding = only(await examine(installation.write()))
    await run(fresh, *finding.statements)
    assert (await examine(installation.config)).findings == []


async def test_a_server_that_forgets_what_was_committed_is_named(installation: Installation, database: str) -> None:
    """The server of the other tests: fast, and worth nothing after a crash."""
    installation.tables["database"]["url"] = database
    found = {finding.what: finding for finding in (await examine(installation.write())).findings}
    assert found.keys() == {
        "fsync is off there",
        "full_page_writes is off there",
        "autovacuum is off there",
        "the role gateway is a superuser",
    }
    assert "ALTER SYSTEM SET fsync = on" in found["fsync is off there"].mend
    assert found["fsync is off there"].level == "fault"


async def test_a_standby_that_is_waited_for_and_absent_is_named(installation: Installation, durable: str) -> None:
    await run(durable, "alter system set synchronous_standby_names = 'standby'", "select pg_reload_conf()")
    try:
        await _until_set(durable, "synchronous_standby_names", "standby")
        finding = only(await examine(installation.write()))
    finally:
        await run(durable, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
        await _until_set(durable, "synchronous_standby_names", "")
    assert "waits for a standby (standby), and none is there" in finding.what
    assert "start the standby" in finding.mend


@pytest.mark.parametrize("names", ["", "ANY 1 (*)"])
async def test_standbys_of_which_a_commit_waits_for_none_are_a_warning(
    installation: Installation, durable: str, fresh: str, names: str
) -> None:
    await _sql(*FOLLOWED)(fresh)
    await run(durable, f"alter system set synchronous_standby_names = '{names}'", "select pg_reload_conf()")
    try:
        await _until_set(durable, "synchronous_standby_names", names)
        report = await examine(installation.write())
    finally:
        await run(durable, "alter system reset synchronous_standby_names", "select pg_reload_conf()")
        await _until_set(durable, "synchronous_standby_names", "")
    if names:  # the one that waits for a standby has it
        assert report.findings == []
        assert f"2 standbys, a commit waits for {names}" in report.facts["database"]
        return
    finding = only(report)
    assert (finding.about, finding.level) == ("database.url", "warning")
    assert report.healthy
    assert "2 standbys follow the server, and a commit waits for none of them" in finding.what
    assert "a spent nonce passes twice" in finding.why
    assert "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'" in finding.mend
    assert "2 standbys, a commit waits for none" in report.facts["database"]


async def test_a_server_that_is_too_old_is_named_with_its_mend(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations, "OLDEST_SERVER", 99)
    finding = only(await examine(installation.write()))
    assert (finding.about, finding.level) == ("database.url", "fault")
    assert re.fullmatch(r"PostgreSQL \d\d is too old", finding.what)
    assert finding.mend == "99 or newer is needed"
    assert finding.why == "the gateway does not start on it"


async def _until_set(dsn: str, name: str, value: str) -> None:
    """Until the server's processes have read a changed setting; new connections have it then."""
    import asyncpg

    async with asyncio.timeout(30):
        while True:
            connection = await asyncpg.connect(dsn)
            found = await connection.fetchval("select current_setting($1)", name)
            await connection.close()
            if found == value:
                return


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        (partial(re.sub, r"//serving@", "//nobody_here@"), "does not exist", "create the role"),
        (partial(re.sub, r"/doctor_\d+", "/no_such_database"), "does not exist", "CREATE DATABASE"),
        (lambda _: "postgresql://serving@127.0.0.1:9/gateway", "Connection refused", "start the database"),
        (
            lambda _: "postgresql://serving@nowhere.invalid/gateway",
            "nowhere.invalid cannot be used",
            "correct the host",
        ),
    ],
)
async def test_a_database_that_cannot_be_reached_is_named_with_its_mend(
    installation: Installation, change: Callable[[str], str], what: str, mend: str
) -> None:
    installation.tables["database"]["url"] = change(installation.tables["database"]["url"])
    finding = only(await examine(installation.write()))
    assert what in finding.what
    assert mend in finding.mend


async def test_a_database_of_another_encoding_is_named(installation: Installation, durable: str) -> None:
    await run(
        durable,
        "create database other owner serving encoding 'SQL_ASCII' locale 'C' template template0",
    )
    url = re.sub(r"/doctor_\d+", "/other", installation.tables["database"]["url"])
    installation.tables["database"]["url"] = url
    finding = only(await examine(installation.write()))
    assert "encoding is SQL_ASCII" in finding.what
    assert "UTF8" in finding.mend


@pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer is not installed")
@pytest.mark.parametrize(
    ("mode", "prepared", "wanted"),
    [
        ("transaction", 200, [("bounding a statement's time", "set it for the role")]),
        (
            "transaction",
            0,
            [("forgets prepared statements", "max_prepared_statements"), ("bounding a statement's time", "")],
        ),
        ("statement", 200, [("for one statement only", "pool_mode = transaction")]),
    ],
)
async def test_what_is_wrong_with_a_pooler_is_named_with_its_mend(
    installation: Installation, fresh: str, mode: str, prepared: int, wanted: list[tuple[str, str]]
) -> None:
    async with pooling(fresh, prepared=prepared, mode=mode) as dsn:
        installation.tables["database"]["url"] = as_serving(dsn)
        findings = [
            finding for finding in (await examine(installation.write())).findings if "superuser" not in finding.what
        ]
    assert len(findings) == len(wanted), findings
    for finding, (what, mend) in zip(findings, wanted, strict=True):
        assert what in finding.what
        assert mend in finding.mend


def test_command_says_what_it_found_and_ends_with_1(installation: Installation) -> None:
    installation.route["upstreams"] = ["http://127.0.0.1:9"]
    path = installation.write()
    command = [sys.executable, "-m", "gateway", "doctor", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "fault      routes[0].upstreams[0] (route notes): 127.0.0.1:9: nothing listens there"
    assert lines[1].strip().startswith("why:  calls to its routes are answered 502")
    assert lines[2].strip() == "mend: start it, or correct host and port"
    assert lines[-1] == "1 fault, no warnings"

    done = subprocess.run([*command, "--through", "nowhere"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "--through: must be HOST:PORT" in done.stderr


def test_a_new_key_is_not_made_by_looking(installation: Installation, tmp_path: Path) -> None:
    write_key(tmp_path / "other.key", new_master_key())
    installation.tables["database"] = {"data_dir": "data"}
    installation.tables["keys"] = {}
    asyncio.run(examine(installation.write()))
    assert not (installation.folder / "data").exists()


async def test_a_gateway_of_another_user_is_not_believed(installation: Installation) -> None:
    path = installation.write()
    if os.geteuid() != 0:
        pytest.skip("only root can act for other users")
    taker = (
        "import os, socket, sys; os.setgid(65534); os.setuid(65534); s = socket.socket(socket.AF_UNIX);"
        "s.bind('\\0' + sys.argv[1][1:]); s.listen(); print('taken', flush=True); sys.stdin.read()"
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", taker, _name(path).replace("\0", "@")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"taken\n"
    finding = only(await examine(path))
    await process.communicate(b"")
    assert "has taken the gateway's name" in finding.what
    assert "see what it is" in finding.mend


# -- other issuers -------------------------------------------------------------------------------------------------


def elsewhere(issuer: Issuer) -> None:
    issuer.publish(EC, issuer=f"{issuer.url}/")


def away(issuer: Issuer) -> None:
    issuer.answers.clear()


def otherwise(issuer: Issuer) -> None:
    issuer.publish(EDWARDS)


def late(issuer: Issuer) -> None:
    date = formatdate(__import__("time").time() + 300, usegmt=True)
    issuer.answers[KEYS] = document({"keys": [EC.jwk]}, fields=f"Date: {date}\r\n")


@pytest.mark.parametrize(
    ("seed", "about", "what", "mend"),
    [
        (elsewhere, "issuers[0].url", "calls itself", "byte for byte"),
        (away, "issuers[0].url", "status is 404", "correct url"),
        (otherwise, "issuers[0].algorithms", "no key for ES256 or RS256, but for EdDSA", "name what it signs with"),
        (late, "time", "s behind that of the issuer corp", "NTP"),
    ],
)
async def test_what_is_wrong_with_an_issuer_is_named_with_its_mend(
    installation: Installation, seed: Callable[[Issuer], None], about: str, what: str, mend: str
) -> None:
    async with an_issuer(EC) as issuer:
        installation.issuer = issuer.configured()
        installation.route["issuers"] = ["corp"]
        report = await examine(installation.write())
        assert (report.findings, report.facts["issuers"]) == ([], "1")
        seed(issuer)
        finding = only(await examine(installation.write()))
    assert (finding.about, finding.level) == (about, "fault")
    assert what in finding.what
    assert mend in finding.mend
