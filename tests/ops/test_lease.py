"""When the lease of a primary is over, by what etcd and Patroni's configuration say. The cluster itself is run by hand:
`python -m bench.failover`."""

import base64
import importlib.util
import sys
from math import inf
from types import ModuleType

import pytest

from tests.serving import ROOT

_FILE = ROOT / "ops" / "cluster" / "lease.py"


@pytest.fixture(scope="module")
def lease() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ops_cluster_lease", _FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        ({"loop_wait": 1, "retry_timeout": 3}, 7),
        ({"loop_wait": 2, "retry_timeout": 5, "ttl": 20}, 12),
        ({}, 30),  # Patroni's defaults
        ({"loop_wait": 0, "retry_timeout": 1}, 7),  # Patroni raises both to its least values
        ({"loop_wait": "1", "retry_timeout": "3"}, 7),
    ],
)
def test_a_primary_has_as_long_as_patroni_demands_of_a_ttl(
    lease: ModuleType, config: dict[str, object], seconds: int
) -> None:
    assert lease.longest(config) == seconds


@pytest.mark.parametrize(
    ("granted", "left", "seconds"),
    [
        (20, 19, 7),  # renewed this second
        (20, 13, 1),  # up to 7 s ago, and perhaps not quite
        (20, 12, 0),  # 7 to 8 s ago
        (20, 0, 0),
        (20, -1, inf),  # it has run out, and there is nothing to end (etcd: TTL of an unknown lease)
        (7, 0, 1),  # no longer than it takes anyway
    ],
)
def test_a_lease_is_over_once_it_is_certain_that_it_was_not_renewed_for_so_long(
    lease: ModuleType, granted: int, left: int, seconds: float
) -> None:
    assert lease.left_of(granted, left, 7) == seconds


class Etcd:
    """What an etcd answers in which a primary has a lease of 20 s."""

    def __init__(self, left: int) -> None:
        self.left, self.revoked = left, list[str]()

    def get(self, key: str) -> dict[str, str] | None:
        if key.endswith("/leader"):
            return {"lease": "77", "value": base64.b64encode(b"postgres1").decode()}
        return {"value": base64.b64encode(b'{"loop_wait": 1, "retry_timeout": 3}').decode()}

    def ask(self, path: str, ID: str) -> dict[str, str]:  # noqa: N803 -- as etcd spells it
        if path == "/v3/lease/revoke":
            self.revoked.append(ID)
        return {"grantedTTL": "20", "TTL": str(self.left)}


def test_a_lease_is_looked_at_more_often_in_its_last_second_and_then_revoked(lease: ModuleType) -> None:
    seen = {left: (lease.look(etcd := Etcd(left), "/service/gateway"), etcd.revoked) for left in (19, 14, 13, 12)}
    assert seen == {
        19: ((None, lease.EVERY), []),
        14: ((None, lease.EVERY), []),
        13: ((None, lease.AT_LAST), []),
        12: (("postgres1", lease.EVERY), ["77"]),
    }
