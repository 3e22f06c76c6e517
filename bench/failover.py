"""Failures of a cluster under load: what was acknowledged and lost, what passed twice, and how long who had to wait.

    ops/cluster/cluster.py start DIR
    python -m bench.failover DIR --rounds 4

Three kinds of calls go through the front, so many a second: with bearer tokens that were seen before, with signatures
and a new nonce each, and signed ones sent again, which must not pass. Beside them tokens are issued and revoked at the
token endpoint, one after another. After each failure and at the end all that was acknowledged is asked for again.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from bench.signing import Signer

SCRIPT = Path(__file__).resolve().parent.parent / "ops" / "cluster" / "cluster.py"
SETTLED = 2.5  # seconds after its revocation was acknowledged from which no token may pass, behind a pooler
LONGEST = 60.0  # seconds until everything must be back


@dataclass
class Tally:
    """What became of calls of one kind."""

    outcomes: Counter[int] = field(default_factory=Counter)  # by status; 0: no answer
    failed_at: list[float] = field(default_factory=list)
    passed_at: float = 0.0

    def take(self, status: int, wanted: int) -> None:
        self.outcomes[status] += 1
        if status == wanted:
            self.passed_at = time.monotonic()
        else:
            self.failed_at.append(time.monotonic())

    def outage(self, since: float) -> float:
        """Seconds from the first failure since then to the last one."""
        failed = [moment for moment in self.failed_at if moment >= since]
        return failed[-1] - failed[0] if failed else 0.0


class Load:
    """Calls through the front of a cluster, and what may never happen to them."""

    def __init__(self, session: aiohttp.ClientSession, front: str, client: dict[str, str]) -> None:
        self.session, self.front, self.client = session, front, client
        self.tallies = {kind: Tally() for kind in ("bearer", "signed", "tokens")}
        self.bearers: list[str] = []
        self.signer: Signer | None = None
        self.sent: deque[tuple[str, int]] = deque(maxlen=2000)
        self.issued: dict[str, float | None] = {}  # tokens, with when their revocation was acknowledged
        self.violations: list[str] = []
        self.stopped = False

    async def call(self, authorization: str) -> int:
        try:
            async with self.session.get(f"{self.front}/api", headers={"Authorization": authorization}) as answer:
                await answer.read()
                return answer.status
        except (aiohttp.ClientError, TimeoutError):
            return 0

    async def post(self, name: str, **form: str) -> tuple[int, dict[str, Any]]:
        credentials = aiohttp.encode_basic_auth(self.client["client_id"], self.client["client_secret"])
        headers = {"Authorization": credentials}
        try:
            async with self.session.post(f"{self.front}/oauth2/{name}", data=form, headers=headers) as answer:
                body = await answer.read()
                return answer.status, json.loads(body) if body.startswith(b"{") else {}
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}

    async def at_rate(self, rate: float, act: Any) -> None:
        """Begin an act so often, whether the ones before have ended or not."""
        pending: set[asyncio.Task[None]] = set()
        began = time.monotonic()
        for number in itertools.count():
            if self.stopped:
                break
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            task = asyncio.create_task(act())
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)

    async def bearer(self) -> None:
        self.tallies["bearer"].take(await self.call(f"Bearer {random.choice(self.bearers)}"), 200)

    async def signed(self) -> None:
        assert self.signer is not None
        port = int(self.front.rpartition(":")[2])
        [authorization] = self.signer.credentials("/api", port, 1)
        status = await self.call(authorization)
        self.tallies["signed"].take(status, 200)
        self.sent.append((authorization, status))

    async def replayed(self) -> None:
        """What was sent once, and may have passed, once more."""
        if not self.sent:
            return
        authorization, first = random.choice(self.sent)
        if await self.call(authorization) == 200:
            if first == 200:
                self.violations.append("a nonce passed twice")
            self.sent = deque(((one, 200 if one == authorization else status) for one, status in self.sent), 2000)

    async def tokens(self) -> None:
        """Issue a token, and revoke every other one."""
        tally, number = self.tallies["tokens"], 0
        while not self.stopped:
            status, body = await self.post("token", grant_type="client_credentials")
            tally.take(status, 200)
            if status != 200:
                await asyncio.sleep(0.1)
                continue
            token = str(body["access_token"])
            number += 1
            if number % 2:
                await self._revoke(token, tally)
            else:
                self.issued[token] = None
            await asyncio.sleep(0.05)

    async def _revoke(self, token: str, tally: Tally) -> None:
        """Until its revocation is acknowledged nobody can say what the token is."""
        await self.call(f"Bearer {token}")  # so that workers hold it
        status, _ = await self.post("revoke", token=token)
        tally.take(status, 200)
        if status == 200:
            self.issued[token] = time.monotonic()

    async def audit(self) -> None:
        """Ask for all that was acknowledged."""
        for token, revoked_at in list(self.issued.items()):
            if revoked_at is not None and time.monotonic() - revoked_at < SETTLED:
                continue
            while (status := await self.call(f"Bearer {token}")) in (0, 502, 503, 504):  # noqa: ASYNC110 -- as below
                await asyncio.sleep(0.05)
            if revoked_at is None and status != 200:
                self.violations.append(f"a token that was issued is unknown ({status})")
            if revoked_at is not None and status != 401:
                self.violations.append(f"a token lives after its revocation was acknowledged ({status})")


class Faults:
    """What is broken, and mended again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cluster(self, *arguments: str) -> dict[str, Any]:
        done = subprocess.run(
            [sys.executable, str(SCRIPT), arguments[0], str(self.folder), *arguments[1:]],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{\n") :])
        return found

    def postmaster(self, number: int) -> int:
        return int((self.folder / f"postgres{number}" / "postmaster.pid").read_text().split()[0])

    def break_(self, kind: str) -> Any:
        """Break something; gives what mends it, to be called later."""
        status = self.cluster("status")
        primary = int(status["primary"])
        if kind == "the primary's Postgres is killed":
            os.kill(self.postmaster(primary), signal.SIGKILL)
            return lambda: None
        if kind == "the primary's machine is gone":
            self.cluster("kill", f"patroni{primary}")
            return lambda: self.cluster("start")
        if kind == "PgBouncer is started anew":
            self.cluster("kill", "pgbouncer")
            self.cluster("start")
            return lambda: None
        if kind == "a replica hangs":
            pid = self.postmaster(primary % 3 + 1)
            os.kill(pid, signal.SIGSTOP)
            return lambda: os.kill(pid, signal.SIGCONT)
        self.cluster("kill", f"etcd{self._etcd_leader(status)}")
        return lambda: self.cluster("start")

    def _etcd_leader(self, status: dict[str, Any]) -> int:
        ports: list[int] = status["etcd"]
        done = subprocess.run(
            ["etcdctl", "endpoint", "status", "-w", "json", "--endpoints", ",".join(f"127.0.0.1:{p}" for p in ports)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        for one in json.loads(done.stdout):
            if one["Status"]["header"]["member_id"] == one["Status"]["leader"]:
                return ports.index(int(one["Endpoint"].rpartition(":")[2])) + 1
        raise AssertionError("etcd has no leader")


KINDS = (
    "the primary's Postgres is killed",
    "PgBouncer is started anew",
    "the leader of etcd is killed",
    "a replica hangs",
    "the primary's machine is gone",
)


async def _prepared(session: aiohttp.ClientSession, folder: Path, front: str) -> Load:
    config = ["--config", str(folder / "gateway1.toml"), "--json"]

    async def gateway(*arguments: str) -> dict[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, *config, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        answer: dict[str, str] = json.loads(out)
        return answer

    client = await gateway(
        "client", "create", "--name", "Failover", "--grant-type", "client_credentials", "--scope", "read"
    )
    load = Load(session, front, client)
    signed = await gateway("token", "issue", "--client", client["client_id"], "--type", "mac")
    load.signer = Signer(signed["access_token"], signed["mac_key"].encode())
    for _ in range(10):
        status, body = await load.post("token", grant_type="client_credentials")
        assert status == 200, body
        load.bearers.append(str(body["access_token"]))
    return load


async def run(folder: Path, rounds: int, rate: float) -> int:
    """Break everything in turn under load, and print what came of it; 1 where something was violated."""
    faults = Faults(folder)
    front = str(faults.cluster("status")["front"])
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        load = await _prepared(session, folder, front)
        tasks = [
            asyncio.create_task(load.at_rate(rate * 0.6, load.bearer)),
            asyncio.create_task(load.at_rate(rate * 0.3, load.signed)),
            asyncio.create_task(load.at_rate(rate * 0.1, load.replayed)),
            asyncio.create_task(load.tokens()),
        ]
        await asyncio.sleep(5)
        print(f"| failure | back after | {' | '.join(f'{kind}: failed, for' for kind in load.tallies)} | violations |")
        for kind in itertools.islice(itertools.cycle(KINDS), rounds * len(KINDS)):
            since = time.monotonic()
            before = {name: len(tally.failed_at) for name, tally in load.tallies.items()}
            mend = await asyncio.to_thread(faults.break_, kind)
            await asyncio.sleep(3)
            while time.monotonic() - since < LONGEST and not _quiet(load):  # noqa: ASYNC110 -- there is no event
                await asyncio.sleep(0.1)
            failed = [moment for tally in load.tallies.values() for moment in tally.failed_at if moment > since]
            back = max(failed, default=since) - since
            await asyncio.to_thread(mend)
            await asyncio.sleep(3)
            await load.audit()
            told = " | ".join(
                f"{len(tally.failed_at) - before[name]}, {tally.outage(since):.1f} s"
                for name, tally in load.tallies.items()
            )
            print(f"| {kind} | {back:.1f} s | {told} | {load.violations or 'none'} |", flush=True)
            await asyncio.sleep(12)  # until replicas follow again
        load.stopped = True
        await asyncio.gather(*tasks)
        await asyncio.sleep(SETTLED)
        await load.audit()
    for name, tally in load.tallies.items():
        print(f"{name}: {dict(sorted(tally.outcomes.items()))}")
    print(f"tokens asked for again: {len(load.issued)}; violations: {load.violations or 'none'}")
    return 1 if load.violations else 0


def _quiet(load: Load) -> bool:
    """Whether nothing failed for two seconds, and every kind of call passes."""
    now = time.monotonic()
    return all(
        now - tally.passed_at < 1 and (not tally.failed_at or now - tally.failed_at[-1] > 2)
        for tally in load.tallies.values()
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second  [200]")
    given = parser.parse_args()
    sys.exit(asyncio.run(run(given.folder, given.rounds, given.rate)))


if __name__ == "__main__":
    main()
