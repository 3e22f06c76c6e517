#!/usr/bin/env python3
"""A whole installation past one machine, on the loopback of this one: to try it, to measure it, and to break it.

    clients ─→ HAProxy ─→ two gateways ─→ PgBouncer ─→ HAProxy ─→ the primary of three Postgres
                                                                   Patroni beside each, three etcd

`start DIR` makes what is missing in DIR and starts all of it; `stop DIR` ends it and keeps the data; `status DIR` says
what runs, who is primary and who follows; `kill DIR NAME` ends one of them by SIGKILL, as a failure would, `hang DIR
NAME` has it do nothing any more, and `start` brings it back from both.

It takes the programs from $PATH: gateway, etcd, patroni 4, haproxy, pgbouncer (Debian's etcd-server, patroni with
python3-etcd, haproxy, pgbouncer); and those of Postgres from --postgres. Where root runs it, they run as --user; the
gateways give root up by themselves.
"""

import argparse
import contextlib
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

PATIENCE = 90.0  # seconds until something that was started must answer
THREE = (1, 2, 3)
TWO = (1, 2)


@dataclass(frozen=True)
class Ports:
    """Where each of them listens: base, and so many more."""

    base: int

    @property
    def front(self) -> int:
        return self.base

    @property
    def pooler(self) -> int:
        return self.base + 1

    @property
    def primary(self) -> int:
        return self.base + 2

    @property
    def upstream(self) -> int:
        return self.base + 3

    def etcd(self, number: int) -> int:
        return self.base + 10 + number

    def peer(self, number: int) -> int:
        return self.base + 20 + number

    def patroni(self, number: int) -> int:
        return self.base + 30 + number

    def postgres(self, number: int) -> int:
        return self.base + 40 + number

    def gateway(self, number: int) -> int:
        return self.base + 50 + number

    def admin(self, number: int) -> int:
        return self.base + 60 + number


@dataclass(frozen=True)
class Cluster:
    """The installation in one folder."""

    folder: Path
    ports: Ports
    programs: Path  # of Postgres
    user: str | None  # whom all but the gateways run as; None: who starts it
    nonces: int = 0  # further databases that nonces of signed calls are spread over

    # -- what is written ---------------------------------------------------------------------------------------

    @cached_property
    def passwords(self) -> dict[str, str]:
        """Of the roles in Postgres, made once."""
        file = self.folder / "passwords.json"
        if not file.exists():
            self.write(file, json.dumps({name: secrets.token_urlsafe(24) for name in ("postgres", "copy", "gateway")}))
        found: dict[str, str] = json.loads(file.read_text())
        return found

    @property
    def databases(self) -> list[str]:
        """The main one, and those of nonces."""
        return ["gateway", *(f"nonces{number + 1}" for number in range(self.nonces))]

    def dsn(self, database: str) -> str:
        """By way of the pooler."""
        return f"postgresql://gateway:{self.passwords['gateway']}@127.0.0.1:{self.ports.pooler}/{database}"

    def standby(self, order: tuple[int, ...]) -> str:
        """The first standby in that order, without the pooler."""
        hosts = ",".join(f"127.0.0.1:{self.ports.postgres(number)}" for number in order)
        return f"postgresql://gateway:{self.passwords['gateway']}@{hosts}/gateway"

    def write(self, file: Path, text: str) -> Path:
        """A file that only their user may read."""
        file.touch(mode=0o600)
        file.write_text(text)
        self.give(file)
        return file

    def give(self, path: Path) -> None:
        if self.user is not None:
            shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)

    def make(self) -> None:
        """Folders and configurations."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self.give(self.folder)
        self.write(self.folder / "made.json", json.dumps({"base": self.ports.base, "nonces": self.nonces}))
        key = self.folder / "master.key"
        if not key.exists():
            self.write(key, secrets.token_urlsafe(32))
        for number in THREE:
            self.write(self.folder / f"patroni{number}.yml", json.dumps(self._patroni(number), indent=1))
        self.write(self.folder / "haproxy.cfg", self._haproxy())
        self.write(self.folder / "users.txt", f'"gateway" "{self.passwords["gateway"]}"\n')
        self.write(self.folder / "pgbouncer.ini", self._pgbouncer())
        for number in TWO:
            self.write(self.folder / f"gateway{number}.toml", self._gateway(number))

    def _patroni(self, number: int) -> dict[str, Any]:
        """JSON is YAML. What was acknowledged is on two machines, always (`synchronous_mode_strict`), whichever standby
        is the faster one: so one that hangs costs nothing (`quorum`, of Patroni 4).
        """
        here = "127.0.0.1"
        roles = {
            "superuser": {"username": "postgres", "password": self.passwords["postgres"]},
            "replication": {"username": "copy", "password": self.passwords["copy"]},
        }
        return {
            "scope": "gateway",
            "name": f"postgres{number}",
            "restapi": {"listen": f"{here}:{self.ports.patroni(number)}"},
            "etcd3": {"hosts": [f"{here}:{self.ports.etcd(one)}" for one in THREE]},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,  # the least that Patroni takes; lease.py ends it after loop_wait + 2 * retry_timeout
                    "loop_wait": 1,  # how soon a primary is missed whose Postgres has died
                    "retry_timeout": 3,  # the least that Patroni takes
                    "primary_start_timeout": 0,  # a primary that died gives its place up at once
                    "maximum_lag_on_failover": 1048576,
                    "synchronous_mode": "quorum",
                    "synchronous_mode_strict": True,
                    "failsafe_mode": True,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"max_connections": 200, "wal_log_hints": "on", "synchronous_commit": "on"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{here}:{self.ports.postgres(number)}",
                "connect_address": f"{here}:{self.ports.postgres(number)}",
                "data_dir": str(self.folder / f"postgres{number}"),
                "bin_dir": str(self.programs),
                "authentication": {**roles, "rewind": roles["superuser"]},
                "parameters": {"unix_socket_directories": ""},
                "pg_hba": [
                    "host replication copy 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
            },
        }

    def _haproxy(self) -> str:
        servers = "\n".join(
            f"    server postgres{one} 127.0.0.1:{self.ports.postgres(one)} check port {self.ports.patroni(one)}"
            for one in THREE
        )
        gateways = "\n".join(
            f"    server gateway{one} 127.0.0.1:{self.ports.gateway(one)} check port {self.ports.admin(one)}"
            for one in TWO
        )
        return f"""\
defaults
    timeout connect 2s
    # What has ended refuses at once; what merely is slow to say that it lives shall not lose its connections.
    timeout check 2s
    timeout client 1h
    timeout server 1h

frontend public
    mode http
    timeout http-request 10s
    bind 127.0.0.1:{self.ports.front}
    http-request set-header X-Forwarded-For %[src]
    http-request set-header X-Forwarded-Proto http
    default_backend gateways

backend gateways
    mode http
    option httpchk GET /healthz
    # What no gateway has seen is given to the other one.
    option redispatch 1
    retry-on conn-failure
    default-server inter 500ms fall 2 rise 1
{gateways}

listen primary
    mode tcp
    bind 127.0.0.1:{self.ports.primary}
    option httpchk GET /primary
    default-server inter 500ms downinter 200ms fall 2 rise 1 on-marked-down shutdown-sessions
{servers}

# What stands for the API: it takes as many connections as come, however busy the machine is.
frontend api
    mode http
    bind 127.0.0.1:{self.ports.upstream}
    http-request return status 200 content-type text/plain string "hello"
"""

    def _pgbouncer(self) -> str:
        databases = "\n".join(
            f"{name} = host=127.0.0.1 port={self.ports.primary} dbname={name}" for name in self.databases
        )
        return f"""\
[databases]
{databases}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.ports.pooler}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {self.folder / "users.txt"}
pool_mode = transaction
max_prepared_statements = 200
max_client_conn = 1000
default_pool_size = 60
server_connect_timeout = 2
server_login_retry = 0.1
query_wait_timeout = 5
"""

    def _gateway(self, number: int) -> str:
        routes = self.folder / "routes.toml"
        given = (
            routes.read_text()
            if routes.exists()
            else f"""\
[scopes]
"read" = "Read"

[[routes]]
name = "api"
path = "/api"
upstreams = ["http://127.0.0.1:{self.ports.upstream}"]
auth = ["bearer", "mac", "signature"]
scopes = ["read"]
"""
        )
        return f"""\
[server]
listen = "127.0.0.1:{self.ports.gateway(number)}"
public_url = "http://127.0.0.1:{self.ports.front}"
trusted_proxies = ["127.0.0.1"]
workers = 1

[admin]
listen = "127.0.0.1:{self.ports.admin(number)}"

[database]
url = "{self.dsn("gateway")}"
nonces = {json.dumps([self.dsn(name) for name in self.databases[1:]])}
# Each leads to another standby, whoever is primary.
replicas = ["{self.standby(THREE)}", "{self.standby(THREE[::-1])}"]

[tokens]
stale_for = "1m" # so that tokens that were seen before pass while the database fails over

[keys]
master = {{ file = "{self.folder / "master.key"}" }}

{given}"""

    # -- what runs ---------------------------------------------------------------------------------------------

    @property
    def commands(self) -> dict[str, list[str]]:
        """All that runs, in the order of its start."""
        here, ports = "http://127.0.0.1", self.ports
        peers = ",".join(f"etcd{number}={here}:{ports.peer(number)}" for number in THREE)
        etcds = {
            f"etcd{number}": [
                "etcd", "--name", f"etcd{number}", "--data-dir", str(self.folder / f"etcd{number}"),
                "--listen-client-urls", f"{here}:{ports.etcd(number)}",
                "--advertise-client-urls", f"{here}:{ports.etcd(number)}",
                "--listen-peer-urls", f"{here}:{ports.peer(number)}",
                "--initial-advertise-peer-urls", f"{here}:{ports.peer(number)}",
                "--initial-cluster", peers, "--initial-cluster-state", "new", "--log-level", "warn",
            ]
            for number in THREE
        }  # fmt: skip
        return {
            **etcds,
            **{
                f"lease{number}": [
                    sys.executable, str(Path(__file__).with_name("lease.py")), "--scope", "gateway",
                    "--etcd", ",".join(f"127.0.0.1:{ports.etcd(one)}" for one in (number, *THREE)),
                ]
                for number in THREE
            },
            **{f"patroni{number}": ["patroni", str(self.folder / f"patroni{number}.yml")] for number in THREE},
            "haproxy": ["haproxy", "-f", str(self.folder / "haproxy.cfg")],
            "pgbouncer": ["pgbouncer", str(self.folder / "pgbouncer.ini")],
            **{
                f"gateway{number}": ["gateway", "serve", "--config", str(self.folder / f"gateway{number}.toml")]
                for number in TWO
            },
        }  # fmt: skip

    def pid(self, name: str) -> int | None:
        """The process that was started by that name, while it lives."""
        with contextlib.suppress(OSError, ValueError):
            pid, started = map(int, (self.folder / f"{name}.pid").read_text().split())
            if _started(pid) == started:
                return pid
        return None

    def run(self, name: str) -> None:
        """Start it unless it runs. It goes on when this program has ended; what it says is in NAME.log."""
        if self.pid(name) is not None:
            self._signal(name, signal.SIGCONT)  # where it hung
            return
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                self.commands[name],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder, start_new_session=True,
                **({} if name.startswith(("gateway", "lease")) else self._as_user),
            )  # fmt: skip
        (self.folder / f"{name}.pid").write_text(f"{process.pid} {_started(process.pid)}")

    @property
    def _as_user(self) -> dict[str, Any]:
        if self.user is None:
            return {}
        entry = pwd.getpwnam(self.user)
        environment = {**os.environ, "HOME": str(self.folder)}
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": [], "env": environment}

    def start(self) -> None:
        """Make and start all of it, and wait until it serves."""
        self.make()
        for name in self.commands:
            if self.pid(name) is None:
                (self.folder / f"{name}.pid").unlink(missing_ok=True)
        gateways = [name for name in self.commands if name.startswith("gateway")]
        for name in self.commands:
            if name not in gateways:
                self.run(name)
        _until(lambda: self._all_live() and self.primary() is not None, "a primary")
        _until(self._has_databases, "the databases of the gateways")
        subprocess.run(["gateway", "migrate", "--config", str(self.folder / "gateway1.toml")], check=True)  # noqa: S607
        if not any((self.folder / f"{name}.log").exists() for name in gateways):
            self._spread_at_once()
        for name in gateways:
            self.run(name)
        for number in TWO:
            _until(lambda of=number: _answers(f"http://127.0.0.1:{self.ports.admin(of)}/readyz"), f"gateway{number}")
        _until(
            lambda: _answers(f"http://127.0.0.1:{self.ports.front}/.well-known/oauth-authorization-server"), "the front"
        )

    def _all_live(self) -> bool:
        """Whether what was started runs on; what does not is named."""
        for name in self.commands:
            if (self.folder / f"{name}.pid").exists() and self.pid(name) is None:
                raise SystemExit(f"{name}: has ended; see {self.folder / name}.log")
        return True

    def _has_databases(self) -> bool:
        """Whether the role and databases of the gateways are there; they are made where they are not."""
        there = self._asked_in_postgres("postgres", "select datname from pg_database")
        if there is None:
            return False
        missing = [name for name in self.databases if name not in there.split()]
        statements = [
            *([f"create role gateway login password '{self.passwords['gateway']}'"] if "gateway" in missing else []),
            *(f"create database {name} owner gateway encoding 'UTF8' template template0" for name in missing),
        ]
        return all(
            self._asked_in_postgres("postgres", statement) is not None
            or "role" in statement  # it is there since the last try, or the database cannot be made either
            for statement in statements
        )

    def _spread_at_once(self) -> None:
        """Have nonces go to their databases from now on, not in 20 minutes: no gateway has looked yet where they go."""
        _until(
            lambda: (
                self._asked_in_postgres(
                    "gateway", "update nonce_layouts set from_second = extract(epoch from now())::bigint"
                )
                is not None
            ),
            "the layout of the nonces",
        )

    def _asked_in_postgres(self, database: str, statement: str) -> str | None:
        """What the primary answers its superuser; None where it fails."""
        psql = [str(self.programs / "psql"), "-qXAt", "-v", "ON_ERROR_STOP=1"]
        address = f"host=127.0.0.1 port={self.ports.primary} user=postgres dbname={database} connect_timeout=2"
        environment = {**os.environ, "PGPASSWORD": self.passwords["postgres"]}
        done = subprocess.run(
            [*psql, address], input=statement, env=environment, text=True, capture_output=True, check=False
        )
        return done.stdout if done.returncode == 0 else None

    def primary(self) -> int | None:
        """The number of the primary; None while there is none."""
        return next((one for one in THREE if _answers(f"http://127.0.0.1:{self.ports.patroni(one)}/primary")), None)

    def following(self) -> list[int]:
        """The numbers of the standbys that have what is acknowledged, or vote on it."""
        number = self.primary()
        if number is None:
            return []
        members = json.loads(_asked(f"http://127.0.0.1:{self.ports.patroni(number)}/cluster") or "{}").get(
            "members", []
        )
        synchronous = [one for one in members if one["role"] in ("sync_standby", "quorum_standby")]
        return [int(one["name"].removeprefix("postgres")) for one in synchronous if one["state"] == "streaming"]

    def stop(self) -> None:
        """End all of it, in the reverse order, each before the next."""
        for name in reversed(self.commands):
            if (pid := self.pid(name)) is not None:
                self._signal(name, signal.SIGCONT)
                os.kill(pid, signal.SIGINT if name == "pgbouncer" else signal.SIGTERM)
                _until(lambda of=name: self.pid(of) is None, f"the end of {name}")

    def kill(self, name: str) -> None:
        """End one of them as a failure would, with all that it started: the machine is gone."""
        self._signal(name, signal.SIGKILL)
        _until(lambda: self.pid(name) is None, f"the end of {name}")

    def hang(self, name: str) -> None:
        """Have one of them, and all that it started, do nothing while its connections stay open."""
        self._signal(name, signal.SIGSTOP)

    def _signal(self, name: str, number: signal.Signals) -> None:
        pid = self.pid(name)
        if pid is None:
            raise SystemExit(f"{name}: is not running; `status` names what is")
        told = [pid, *_below(pid)]
        if name.startswith("patroni"):  # Postgres is nobody's child once it is up
            with contextlib.suppress(OSError, ValueError, IndexError):
                file = self.folder / name.replace("patroni", "postgres") / "postmaster.pid"
                postmaster = int(file.read_text().split()[0])
                told += [postmaster, *_below(postmaster)]
        for one in told:
            with contextlib.suppress(ProcessLookupError):
                os.kill(one, number)

    def status(self) -> dict[str, object]:
        """What others need to know of it."""
        return {
            "front": f"http://127.0.0.1:{self.ports.front}",
            "etcd": [self.ports.etcd(number) for number in THREE],
            "primary": self.primary(),
            "following": self.following(),
            "processes": {name: self.pid(name) for name in self.commands},
        }


# -- the pieces ------------------------------------------------------------------------------------------------------


def _started(pid: int) -> int | None:
    """When a process began, in the kernel's ticks, so that its number stands for no other; None where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else int(fields[19])


def _below(pid: int) -> list[int]:
    """All children of a process, and theirs."""
    with contextlib.suppress(OSError):
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return [*children, *(one for child in children for one in _below(child))]
    return []


def _asked(url: str) -> bytes | None:
    """What an address answers with 200; None where it answers otherwise, or not."""
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 -- our own addresses
            body: bytes = answer.read()
            return body if answer.status == 200 else None
    except (OSError, urllib.error.URLError):
        return None


def _made_of(folder: Path) -> dict[str, int]:
    """How the installation in a folder was made; nothing where there is none."""
    with contextlib.suppress(OSError, ValueError):
        found: dict[str, int] = json.loads((folder / "made.json").read_text())
        return found
    return {}


def _answers(url: str) -> bool:
    return _asked(url) is not None


def _until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not there after {PATIENCE:.0f} s; see the logs in the folder")
        time.sleep(0.2)


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("start", "stop", "status", "kill", "hang"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("name", nargs="?", help="what to kill or hang, such as patroni1")
    parser.add_argument("--base", type=int, help="the first of 70 ports  [the folder's, or 26000 for a new one]")
    parser.add_argument("--nonces", type=int, help="databases beside the main one that nonces are spread over  [0]")
    parser.add_argument("--postgres", type=Path, help="the folder of its programs  [the newest in /usr/lib/postgresql]")
    parser.add_argument("--user", default="postgres", help="whom all of it runs as, where root starts it  [postgres]")
    given = parser.parse_args()
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    programs = given.postgres or (installed[-1] if installed else None)
    if programs is None:
        parser.error("--postgres: no PostgreSQL is installed in /usr/lib/postgresql; name the folder of its programs")
    user = given.user if os.geteuid() == 0 else None
    folder = given.folder.absolute()
    made = _made_of(folder)
    if given.nonces is not None and made.get("nonces", given.nonces) != given.nonces:
        parser.error("--nonces: is said when the folder is made; afterwards docs/scaling.md says how it is changed")
    base, nonces = given.base or made.get("base", 26000), given.nonces or made.get("nonces", 0)
    cluster = Cluster(folder, Ports(base), programs.absolute(), user, nonces)
    if given.verb == "start":
        for program in ("etcd", "patroni", "haproxy", "pgbouncer", "gateway"):
            if shutil.which(program) is None:
                parser.error(f"{program}: is not in $PATH; the head of this file says where it comes from")
        cluster.start()
    elif given.verb == "stop":
        cluster.stop()
    elif given.verb in ("kill", "hang"):
        if given.name not in cluster.commands:
            parser.error(f"{given.verb}: name one of {', '.join(cluster.commands)}")
        getattr(cluster, given.verb)(given.name)
    print(json.dumps(cluster.status(), indent=1))  # noqa: T201 -- its answer


if __name__ == "__main__":
    main()
