"""Failures of a cluster under load: what was acknowledged and lost, what passed twice, and how long who had to wait.

    ops/cluster/cluster.py start DIR
    python -m bench.failover DIR --times 20

With `start DIR --nonces 2`, nonces are spread over two more databases, by token; four tokens sign.

All calls go through the front, so many a second together: with bearer tokens that were seen before, with signatures and
a new nonce each, signed ones sent again, tokens that were revoked, and people who allow a client what it asks for. That
redeems the codes, calls with what it got, and refreshes and revokes it; another client is issued tokens for itself and
revokes every other one. After each failure, what was acknowledged about then is asked for again, and in the end all.

What is promised, and broken where it is listed at the end: nothing that was acknowledged is lost, be it granted or
revoked; no nonce passes twice; no token passes when its revocation was acknowledged so long ago; no call with a token
that was seen before fails; and all passes again in time.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import aiohttp

from bench.flow import CALLBACK, Broken, Browser, allowed
from bench.report import table
from bench.signing import Signer

SCRIPT: Final = Path(__file__).resolve().parent.parent / "ops" / "cluster" / "cluster.py"
SETTLED: Final = 2.5  # seconds after its revocation was acknowledged from which no token may pass, behind a pooler
LONGEST: Final = 60.0  # seconds until everything must be back, or the next failure comes all the same
CODES_LIVE: Final = 45.0  # seconds for which a code surely is refused for having been spent, and not for its age
FLOWS: Final = 3.0  # people a second who allow the client something, of 200 calls a second
CALLS_OF_A_FLOW: Final = 8
BROWSERS: Final = 8
SIGNED_IN_FOR: Final = 20  # flows, until the person signs in anew
PASSWORD: Final = "obviously-a-fake-password"

_AWAY: Final = (0, 502, 503, 504)  # nothing was decided, or nobody knows what


@dataclass
class Tally:
    """What became of calls of one kind."""

    outcomes: Counter[int] = field(default_factory=Counter)  # by status; 0: no answer
    failed_at: list[float] = field(default_factory=list)
    why: list[str] = field(default_factory=list)  # of each that failed
    passed_at: float = 0.0

    def take(self, status: int, why: str = "") -> None:
        self.outcomes[status] += 1
        if status == 200:
            self.passed_at = time.monotonic()
        else:
            self.failed_at.append(time.monotonic())
            self.why.append(why or f"{status}")

    def failed_since(self, moment: float) -> list[float]:
        return [one for one in self.failed_at if one >= moment]

    def told(self, moment: float) -> str:
        """The first and last that failed since then, and why those did; all of them where there are few."""
        told = [f"{at - moment:.1f} s: {why}" for at, why in zip(self.failed_at, self.why, strict=True) if at >= moment]
        return "; ".join(told if len(told) <= 4 else [*told[:2], "…", *told[-2:]])


@dataclass
class Signed:
    """A signed call that was sent, and how often it passed."""

    authorization: str
    passed: int = 0


@dataclass
class Grant:
    """What a client was given for one code, or for itself, as far as it was acknowledged.

    Where a request was sent and not answered, nobody can say what became of it: `unknown`.
    """

    access: str
    refresh: str = ""
    code: str = ""
    verifier: str = ""
    redeemed_at: float = field(default_factory=time.monotonic)
    rotated: list[str] = field(default_factory=list)
    access_ended_at: float | None = None
    ended_at: float | None = None
    unknown: bool = False
    asked_at: float = 0.0  # the last time that all of this was asked for

    @property
    def dead_since(self) -> float | None:
        """When the end of its access token was acknowledged."""
        return self.access_ended_at if self.ended_at is None else self.ended_at


class Load:
    """Calls through the front of a cluster, and what may never happen to them."""

    def __init__(self, session: aiohttp.ClientSession, front: str, own: dict[str, str], web: dict[str, str]) -> None:
        self.session, self.front = session, front
        self.own, self.web = own, web  # the clients
        self.tallies = {kind: Tally() for kind in ("bearer", "signed", "tokens", "flows")}
        self.bearers: list[str] = []
        self.signers: list[Signer] = []
        self.sent: deque[Signed] = deque(maxlen=2000)
        self.grants: list[Grant] = []
        self.ended: deque[Grant] = deque(maxlen=300)
        self.latest = 0.0  # seconds after the acknowledgement of its revocation at which a token was let pass
        self.broken: list[str] = []
        self.stopped = False
        self.where = "before the first failure"

    def violated(self, what: str) -> None:
        self.broken.append(f"{what} ({self.where})")

    # -- calls -------------------------------------------------------------------------------------------------

    async def call(self, authorization: str) -> int:
        return (await self._call(authorization))[0]

    async def _call(self, authorization: str) -> tuple[int, str]:
        """The status, and what the answer says of it; `gateway explain` and the gateways' logs know the request_id."""
        try:
            async with self.session.get(f"{self.front}/api", headers={"Authorization": authorization}) as answer:
                body = await answer.read()
                return answer.status, f"{answer.status} {body[:300].decode(errors='replace')}"
        except (aiohttp.ClientError, TimeoutError) as exc:
            return 0, f"no answer: {exc!r}"

    async def post(self, name: str, client: dict[str, str], **form: str) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": aiohttp.encode_basic_auth(client["client_id"], client["client_secret"])}
        try:
            async with self.session.post(f"{self.front}/oauth2/{name}", data=form, headers=headers) as answer:
                body = await answer.read()
                return answer.status, json.loads(body) if body.startswith(b"{") else {}
        except (aiohttp.ClientError, TimeoutError):
            return 0, {}

    async def at_rate(self, rate: float, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin an act so often, whether the ones before have ended or not."""
        pending: set[asyncio.Task[None]] = set()
        next_at = time.monotonic()
        while not self.stopped:
            next_at += 1 / rate
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))
            task = asyncio.create_task(act())
            pending.add(task)
            task.add_done_callback(pending.discard)
        await asyncio.gather(*pending)

    async def bearer(self) -> None:
        self.tallies["bearer"].take(*await self._call(f"Bearer {random.choice(self.bearers)}"))

    async def signed(self) -> None:
        [authorization] = random.choice(self.signers).credentials("/api", urlsplit(self.front).port or 80, 1)
        one = Signed(authorization)
        self.sent.append(one)
        self.tallies["signed"].take(*await self._send(one))

    async def replayed(self) -> None:
        """What was sent once, once more."""
        if self.sent:
            await self._send(random.choice(self.sent))

    async def _send(self, one: Signed) -> tuple[int, str]:
        """It may be refused though it is the first to arrive, when it was sent again meanwhile."""
        status, why = await self._call(one.authorization)
        if status == 200:
            one.passed += 1
            if one.passed > 1:
                self.violated("a nonce passed twice")
        return 200 if one.passed else status, why

    async def revoked(self) -> None:
        """A token whose revocation was acknowledged."""
        if not self.ended:
            return
        grant = random.choice(self.ended)
        assert grant.dead_since is not None
        age = time.monotonic() - grant.dead_since
        if await self.call(f"Bearer {grant.access}") == 200:
            self.latest = max(self.latest, age)
            if age > SETTLED:
                self.violated(f"a token passed {age:.1f} s after its revocation was acknowledged")

    # -- grants ------------------------------------------------------------------------------------------------

    async def tokens(self) -> None:
        """The client that acts for itself: it is issued tokens, and revokes every other one."""
        tally, number = self.tallies["tokens"], 0
        while not self.stopped:
            status, body = await self.post("token", self.own, grant_type="client_credentials")
            tally.take(status)
            if status == 200:
                grant = Grant(str(body["access_token"]))
                self.grants.append(grant)
                number += 1
                if number % 2:
                    await self._revoke(grant, self.own, tally)
            await asyncio.sleep(0.1)

    async def people(self, pause: float) -> None:
        """One browser, in which people allow the client something again and again."""
        split, tally, flows = urlsplit(self.front), self.tallies["flows"], 0
        browser = Browser(str(split.hostname), split.port or 80)
        while not self.stopped:
            began, flows = time.monotonic(), flows + 1
            if flows % SIGNED_IN_FOR == 0:
                browser.close()
                browser = Browser(browser.host, browser.port)
            try:
                async with asyncio.timeout(10):
                    code, verifier = await self._allowed(browser)
            except (Broken, OSError, EOFError, TimeoutError) as exc:
                status = _status_of(exc)
                tally.take(status)
                if status not in _AWAY:
                    self.violated(f"a person's request came to no code: {exc}")
                browser.close()
                await asyncio.sleep(0.2)
                continue
            await self._used(code, verifier, tally)
            await asyncio.sleep(max(0.0, pause * random.uniform(0.8, 1.2) - (time.monotonic() - began)))
        browser.close()

    async def _allowed(self, browser: Browser) -> tuple[str, str]:
        verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code", "client_id": self.web["client_id"], "redirect_uri": CALLBACK, "scope": "read",
            "state": secrets.token_urlsafe(12), "prompt": "consent", "code_challenge": challenge,
            "code_challenge_method": "S256",
        }  # fmt: skip
        return await allowed(browser, f"/oauth2/authorize?{urlencode(asked, quote_via=quote)}"), verifier

    async def _redeem(self, code: str, verifier: str) -> tuple[int, dict[str, Any]]:
        form = {"code": code, "code_verifier": verifier, "redirect_uri": CALLBACK}
        return await self.post("token", self.web, grant_type="authorization_code", **form)

    async def _used(self, code: str, verifier: str, tally: Tally) -> None:
        """All that a client does with a code that it was given."""
        issued_at = time.monotonic()
        status, body = await self._redeem(code, verifier)
        tally.take(status)
        if status not in (*_AWAY, 200) and time.monotonic() - issued_at < CODES_LIVE:
            self.violated(f"a code that was issued is unknown ({status})")
        if status != 200:
            return
        grant = Grant(str(body["access_token"]), str(body["refresh_token"]), code, verifier)
        self.grants.append(grant)
        status = await self._certain(lambda: self.call(f"Bearer {grant.access}"))
        if status != 200:
            self.violated(f"a token of a code that was redeemed is unknown ({status})")
        await self._refresh(grant, tally)
        if not grant.unknown and random.random() < 0.5:
            await self._revoke(grant, self.web, tally)

    async def _refresh(self, grant: Grant, tally: Tally) -> None:
        form = {"grant_type": "refresh_token", "refresh_token": grant.refresh}
        status, body = await self.post("token", self.web, **form)
        tally.take(status)
        if status == 200:
            grant.rotated.append(grant.refresh)
            grant.access, grant.refresh = str(body["access_token"]), str(body["refresh_token"])
        else:
            grant.unknown = True
            if status not in _AWAY:
                self.violated(f"a refresh token that was issued is unknown ({status})")

    async def _revoke(self, grant: Grant, client: dict[str, str], tally: Tally) -> None:
        """Revoke all of a grant, or its access token alone."""
        await self.call(f"Bearer {grant.access}")  # so that workers hold it
        alone = not grant.refresh or random.random() < 0.5
        status, _ = await self.post("revoke", client, token=grant.access if alone else grant.refresh)
        tally.take(status)
        if status != 200:
            grant.unknown = True
            return
        if alone:
            grant.access_ended_at = time.monotonic()
        else:
            grant.ended_at = time.monotonic()
        self.ended.append(grant)

    # -- what was acknowledged -----------------------------------------------------------------------------------

    async def _certain(self, act: Callable[[], Awaitable[int]]) -> int:
        """An answer that decides something, however long that takes."""
        while True:
            if (status := await act()) not in _AWAY:
                return status
            await asyncio.sleep(0.05)

    async def audit(self, since: float = 0.0) -> int:
        """Ask for everything of the grants that were made, used or ended since; gives how many that were."""
        now = time.monotonic()
        asked = [
            grant
            for grant in self.grants
            if max(grant.redeemed_at, grant.dead_since or 0.0) >= since
            and not grant.unknown
            and (grant.dead_since is None or now - grant.dead_since > SETTLED)
        ]
        left = iter(asked)

        async def some() -> None:
            for grant in left:
                await self._ask(grant)

        await asyncio.gather(*(some() for _ in range(6)))
        return len(asked)

    async def _ask(self, grant: Grant) -> None:
        dead_since, ended_at = grant.dead_since, grant.ended_at
        if dead_since is not None and time.monotonic() - dead_since < SETTLED:
            return  # it was revoked since the audit began
        status = await self._certain(lambda: self.call(f"Bearer {grant.access}"))
        if (grant.dead_since, grant.unknown) != (dead_since, False):
            return  # it was revoked meanwhile
        if dead_since is None and status != 200:
            self.violated(f"a token that was issued is unknown ({status})")
        if dead_since is not None and status != 401:
            self.violated(f"a token lives though its revocation was acknowledged ({status})")
        if not grant.refresh:
            return
        lives = await self._lives(grant.refresh)
        if (grant.ended_at, grant.unknown) != (ended_at, False):
            return
        if lives != (ended_at is None):
            self.violated("a refresh token lives though it was revoked" if lives else "a refresh token was lost")
        if any([await self._lives(one) for one in grant.rotated]):
            self.violated("a refresh token lives though its successor was issued")
        if grant.code and random.random() < 0.3:
            await self._redeem_again(grant)

    async def _lives(self, token: str) -> bool:
        while True:
            status, body = await self.post("introspect", self.web, token=token)
            if status == 200:
                return bool(body["active"])
            await asyncio.sleep(0.05)

    async def _redeem_again(self, grant: Grant) -> None:
        """What was redeemed must be refused, which ends all that came from it (RFC 6749, section 4.1.2)."""
        if time.monotonic() - grant.redeemed_at > CODES_LIVE:
            return
        code, grant.code = grant.code, ""
        status, _ = await self._redeem(code, grant.verifier)
        if status == 200:
            self.violated("a code was redeemed twice")
        if status == 400 and grant.ended_at is None:
            grant.ended_at = time.monotonic()
            self.ended.append(grant)
        elif status != 400:
            grant.unknown = True


def _status_of(exc: BaseException) -> int:
    """The status that a flow ended with; 0 where there was no answer."""
    first = str(exc).split(maxsplit=1)[0] if isinstance(exc, Broken) else "0"
    return int(first) if first.isdigit() else 400


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

    def whole(self) -> dict[str, Any] | None:
        """The status of the cluster when it has a primary and both others follow it; None before."""
        status = self.cluster("status")
        return status if status["primary"] is not None and len(status["following"]) == 2 else None

    def primary_killed(self, status: dict[str, Any]) -> None:
        file = self.folder / f"postgres{status['primary']}" / "postmaster.pid"
        os.kill(int(file.read_text().split()[0]), signal.SIGKILL)

    def machine_gone(self, status: dict[str, Any]) -> None:
        self.cluster("kill", f"patroni{status['primary']}")

    def machine_hung(self, status: dict[str, Any]) -> None:
        """It keeps its connections and says nothing; `start` has it go on, as a primary that believes to be one."""
        self.cluster("hang", f"patroni{status['primary']}")

    def pooler_restarted(self, status: dict[str, Any]) -> None:
        os.kill(int(status["processes"]["pgbouncer"]), signal.SIGKILL)
        self.cluster("start")

    def leader_killed(self, status: dict[str, Any]) -> None:
        ports: list[int] = status["etcd"]
        done = subprocess.run(
            ["etcdctl", "endpoint", "status", "-w", "json", "--endpoints", ",".join(f"127.0.0.1:{p}" for p in ports)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        leaders = [
            one for one in json.loads(done.stdout) if one["Status"]["header"]["member_id"] == one["Status"]["leader"]
        ]
        self.cluster("kill", f"etcd{ports.index(int(leaders[0]['Endpoint'].rpartition(':')[2])) + 1}")

    def replica_hung(self, status: dict[str, Any]) -> None:
        self.cluster("hang", f"patroni{random.choice(status['following'])}")


@dataclass(frozen=True)
class Kind:
    """A kind of failure, and how long everything may take to be back."""

    name: str
    happens: Callable[[Faults, dict[str, Any]], None]
    within: float = 10.0  # seconds


KINDS: Final = {
    "primary": Kind("the primary's Postgres is killed", Faults.primary_killed),
    "pooler": Kind("PgBouncer is killed and started anew", Faults.pooler_restarted),
    "etcd": Kind("the leader of etcd is killed", Faults.leader_killed),
    "replica": Kind("a replica hangs", Faults.replica_hung),
    "machine": Kind("the primary's machine is gone", Faults.machine_gone),
    "frozen": Kind("the primary's machine stands still, and goes on later", Faults.machine_hung),
}


@dataclass
class Outcome:
    """What came of one failure: seconds until all was back, and of each kind of calls how many failed for how long."""

    kind: Kind
    back: float
    failed: dict[str, tuple[int, float]]
    why: dict[str, str]


async def _prepared(session: aiohttp.ClientSession, folder: Path, front: str) -> Load:
    config = ["--config", str(folder / "gateway1.toml"), "--json"]

    async def gateway(*arguments: str) -> dict[str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments, *config,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate(PASSWORD.encode() + b"\n")
        assert process.returncode == 0, arguments
        answer: dict[str, str] = json.loads(out)
        return answer

    if not any(one["username"] == "ada" for one in await gateway("user", "list")):  # type: ignore[index]
        await gateway("user", "create", "--username", "ada", "--password-stdin")
    own = await gateway(
        "client", "create", "--name", "Failover", "--grant-type", "client_credentials", "--scope", "read"
    )
    web = await gateway("client", "create", "--name", "Flows", "--redirect-uri", CALLBACK, "--scope", "read")
    load = Load(session, front, own, web)
    for _ in range(4):
        signed = await gateway("token", "issue", "--client", own["client_id"], "--type", "mac", "--ttl", "12h")
        load.signers.append(Signer(signed["access_token"], signed["mac_key"].encode()))
        load.bearers.append(
            (await gateway("token", "issue", "--client", own["client_id"], "--ttl", "12h"))["access_token"]
        )
    for token in load.bearers * 10:  # so that both gateways have seen them
        await load.call(f"Bearer {token}")
    return load


def _acts(load: Load, rate: float) -> Iterable[Coroutine[Any, Any, None]]:
    flows = rate / 200 * FLOWS
    left = rate - flows * CALLS_OF_A_FLOW
    yield load.at_rate(left * 0.6, load.bearer)
    yield load.at_rate(left * 0.25, load.signed)
    yield load.at_rate(left * 0.1, load.replayed)
    yield load.at_rate(left * 0.05, load.revoked)
    yield load.tokens()
    for _ in range(BROWSERS):
        yield load.people(BROWSERS / flows)


async def run(folder: Path, kinds: list[Kind], rate: float) -> int:
    """Have one failure after another under load, and print what came of it; 1 where a promise was broken."""
    faults = Faults(folder)
    front = str(faults.cluster("status")["front"])
    timeout, outcomes = aiohttp.ClientTimeout(total=10), list[Outcome]()
    async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
        await _whole(faults)
        load = await _prepared(session, folder, front)
        began = time.monotonic()
        tasks = [asyncio.create_task(act) for act in _acts(load, rate)]
        await asyncio.sleep(5)
        for number, kind in enumerate(kinds, 1):
            load.where = f"{kind.name}, {number}"
            outcomes.append(await _failure(load, faults, kind))
            told = ", ".join(f"{name} {count} in {took:.1f} s" for name, (count, took) in outcomes[-1].failed.items())
            print(f"{number}. {kind.name}: back after {outcomes[-1].back:.1f} s; failed: {told}", flush=True)
            for name, why in outcomes[-1].why.items():
                print(f"   {name}: {why}", flush=True)
        load.stopped, load.where = True, "at the end"
        await asyncio.gather(*tasks)
        took = time.monotonic() - began
        await asyncio.sleep(SETTLED)
        count = await load.audit()
    print()
    print(
        table(
            ["failure", "times", "all back after, s", *(f"{name}: failed, for s" for name in load.tallies)],
            _lines(outcomes),
        )
    )
    for name, tally in load.tallies.items():
        rate = sum(tally.outcomes.values()) / took
        print(f"{name}: {rate:.0f} a second, by status {dict(sorted(tally.outcomes.items()))}")
    revoked = sum(one.dead_since is not None for one in load.grants)
    print(f"grants asked for again: {count} of {len(load.grants)}, {revoked} of them revoked")
    print(f"a token passed at most {load.latest:.1f} s after its revocation was acknowledged")
    print("broken:", "; ".join(load.broken) or "nothing")
    return 1 if load.broken else 0


async def _failure(load: Load, faults: Faults, kind: Kind) -> Outcome:
    """One failure, from a cluster that is whole until it is so again."""
    status = await _whole(faults)
    since = time.monotonic()
    await asyncio.to_thread(kind.happens, faults, status)
    await asyncio.sleep(3)
    while time.monotonic() - since < LONGEST and not _quiet(load):  # noqa: ASYNC110 -- there is no event
        await asyncio.sleep(0.1)
    failed = {name: tally.failed_since(since) for name, tally in load.tallies.items()}
    back = max((moment for moments in failed.values() for moment in moments), default=since) - since
    await asyncio.to_thread(faults.cluster, "start")
    await load.audit(since - 5)
    if back > kind.within:
        load.violated(f"all was back after {back:.1f} s only")
    failed = {name: tally.failed_since(since) for name, tally in load.tallies.items()}
    if failed["bearer"]:
        load.violated(f"{len(failed['bearer'])} calls failed whose tokens had been seen before")
    return Outcome(
        kind,
        back,
        {name: (len(moments), moments[-1] - moments[0] if moments else 0.0) for name, moments in failed.items()},
        {name: why for name, tally in load.tallies.items() if (why := tally.told(since))},
    )


async def _whole(faults: Faults) -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while (status := await asyncio.to_thread(faults.whole)) is None:
        if time.monotonic() > deadline:
            raise SystemExit("the cluster is not whole again after 90 s; see the logs in its folder")
        await asyncio.sleep(0.5)
    return status


def _lines(outcomes: list[Outcome]) -> Iterable[list[str]]:
    for kind in KINDS.values():
        if of := [one for one in outcomes if one.kind is kind]:
            yield [
                kind.name,
                str(len(of)),
                _spread([one.back for one in of]),
                *(
                    f"{sum(one.failed[name][0] for one in of)}, {_spread([one.failed[name][1] for one in of])}"
                    for name in of[0].failed
                ),
            ]


def _spread(values: list[float]) -> str:
    return f"{median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def _quiet(load: Load) -> bool:
    """Whether nothing failed for two seconds, and every kind of call passes."""
    now = time.monotonic()
    return all(
        now - tally.passed_at < 2 and (not tally.failed_at or now - tally.failed_at[-1] > 2)
        for tally in load.tallies.values()
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--times", type=int, default=1, help="how often each of them  [1]")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"which of them  [{','.join(KINDS)}]")
    parser.add_argument("--rate", type=float, default=200.0, help="calls a second  [200]")
    given = parser.parse_args()
    names = given.kinds.split(",")
    unknown = set(names) - KINDS.keys()
    if unknown:
        parser.error(f"--kinds: {', '.join(sorted(unknown))}: is none of {', '.join(KINDS)}")
    if "etcd" in names and shutil.which("etcdctl") is None:
        parser.error("--kinds: etcd: etcdctl, which tells the leader, is missing: install the package etcd-client")
    kinds = [KINDS[name] for name in names for _ in range(given.times)]
    sys.exit(asyncio.run(run(given.folder, kinds, given.rate)))


if __name__ == "__main__":
    main()
