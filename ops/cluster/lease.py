#!/usr/bin/env python3
"""Ends the lease of a primary that has not renewed it for as long as Patroni's own rule demands: 7 s, and not 20.

    lease.py --etcd 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379 --scope gateway

Patroni holds the key of the primary in etcd by a lease, which the primary renews in every loop, so that nobody is
promoted while the former primary may still be at work. A primary that cannot renew its lease has given up when
`loop_wait + 2 * retry_timeout` is over: that is why Patroni demands `loop_wait + 2 * retry_timeout <= ttl`. But it
takes no ttl below 20 s. So this program asks etcd, which alone knows, how long ago the lease was renewed, and revokes
it where that is longer than loop_wait + 2 * retry_timeout, as the cluster's own configuration has them. Then Patroni
does what it does whenever a lease has run out.

All is as with a ttl of that length. A primary that still lives takes its key again in its next loop, and no standby is
promoted that reaches it ("Primary is still alive"). One that merely lost etcd has told the standbys by then, and they
go on counting it as the primary (`failsafe_mode`). A machine that stands still as a whole, and goes on later, has a
primary on it until Patroni's next loop there: against that is a watchdog, as with any ttl, here with
`safety_margin: 13` (20 - 7). After etcd has elected a new leader, leases begin anew, and it takes so much longer.

Run one beside each etcd: none needs another one, and several may see the same. Where none runs, it takes the ttl.
etcd is asked by HTTP without a password, or with --user and the password in $ETCD_PASSWORD; with --cacert by TLS.
"""

import argparse
import base64
import contextlib
import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

EVERY: Final = 0.25  # seconds between two looks
AT_LAST: Final = 0.05  # and in the last second before a lease is over
PATIENCE: Final = 1.0  # seconds for an answer of etcd


@dataclass
class Etcd:
    """What can be asked of etcd through whichever member answers (its JSON gateway, /v3/)."""

    urls: list[str]
    user: str | None = None
    tls: ssl.SSLContext | None = None
    token: str = field(default="", repr=False)

    def ask(self, path: str, **body: object) -> dict[str, Any]:
        """Raises OSError when no member answers."""
        last: OSError = OSError("no member is named")
        for url in list(self.urls):
            try:
                return self._asked(url, path, body)
            except OSError as exc:
                last = exc
                self.urls.append(self.urls.pop(0))
                self.token = ""
        raise last

    def _asked(self, url: str, path: str, body: dict[str, object]) -> dict[str, Any]:
        if self.user and not self.token:
            login = {"name": self.user, "password": os.environ.get("ETCD_PASSWORD", "")}
            self.token = str(self._sent(url, "/v3/auth/authenticate", login)["token"])
        return self._sent(url, path, body)

    def _sent(self, url: str, path: str, body: dict[str, object]) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", **({"Authorization": self.token} if self.token else {})}
        request = urllib.request.Request(url + path, json.dumps(body).encode(), headers)  # noqa: S310 -- given by the operator
        with urllib.request.urlopen(request, timeout=PATIENCE, context=self.tls) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found

    def get(self, key: str) -> dict[str, Any] | None:
        """A key with its value and lease; None where it is not there."""
        found = self.ask("/v3/kv/range", key=base64.b64encode(key.encode()).decode()).get("kvs")
        return found[0] if found else None


def longest(config: dict[str, Any]) -> int:
    """Seconds after which a primary that can renew its lease no more has given up, by a cluster's configuration.

    The defaults are Patroni's, and so are the least values, to which it raises what is less.
    """
    return max(1, int(config.get("loop_wait", 10))) + 2 * max(3, int(config.get("retry_timeout", 10)))


def left_of(granted: int, left: int, after: int) -> float:
    """How many seconds a lease has at least until it was not renewed for `after`: 0 where that is certain. etcd says
    what is left of all that was granted in seconds, rounded down; -1 where it knows no such lease."""
    return max(0, left + 1 - (granted - after)) if left >= 0 else inf


def look(etcd: Etcd, prefix: str) -> tuple[str | None, float]:
    """Revoke the lease of the primary if it is over; who that was, and how long to wait for the next look. Raises
    OSError when etcd does not answer."""
    leader, config = etcd.get(f"{prefix}/leader"), etcd.get(f"{prefix}/config")
    if leader is None or config is None or not int(leader.get("lease", "0")):
        return None, EVERY
    after = longest(json.loads(base64.b64decode(config["value"])))
    lease = etcd.ask("/v3/lease/timetolive", ID=leader["lease"])
    left = left_of(int(lease.get("grantedTTL", "0")), int(lease.get("TTL", "0")), after)
    if left > 0:
        return None, AT_LAST if left <= 1 else EVERY
    etcd.ask("/v3/lease/revoke", ID=leader["lease"])
    return base64.b64decode(leader["value"]).decode(), EVERY


def watch(etcd: Etcd, prefix: str) -> Iterator[str]:
    """Look again and again; yields what is to be said of it."""
    silent, pause = False, EVERY
    while True:
        try:
            ended, pause = look(etcd, prefix)
            if silent:
                yield "etcd answers again"
            silent = False
            if ended:
                yield f"{ended} did not renew its lease, which is revoked now"
        except (OSError, ValueError, KeyError) as exc:
            if not silent:
                yield f"etcd gives no answer: {exc}"
            silent = True
        time.sleep(pause)


def main() -> None:
    """Do what the command line says, until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--etcd", required=True, help="its members' HOST:PORT, with commas between; the nearest one first"
    )
    parser.add_argument("--scope", required=True, help="Patroni's `scope`")
    parser.add_argument("--namespace", default="/service", help="Patroni's `namespace`  [/service]")
    parser.add_argument("--user", help="etcd's user, whose password is in $ETCD_PASSWORD")
    parser.add_argument("--cacert", help="the file of the authority that vouches for etcd; then TLS is spoken")
    given = parser.parse_args()
    tls = ssl.create_default_context(cafile=given.cacert) if given.cacert else None
    urls = [f"{'https' if tls else 'http'}://{one}" for one in given.etcd.split(",")]
    prefix = f"/{given.namespace.strip('/')}/{given.scope}"
    with contextlib.suppress(KeyboardInterrupt):
        for said in watch(Etcd(urls, given.user, tls), prefix):
            print(datetime.now(UTC).isoformat(timespec="milliseconds"), said, file=sys.stderr, flush=True)  # noqa: T201 -- its log


if __name__ == "__main__":
    main()
