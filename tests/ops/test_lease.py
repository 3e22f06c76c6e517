"""When the lease of a primary is over, by what etcd and Patroni's configuration say. The cluster itself is run by hand:
`python -m bench.failover`."""

import importlib.util
import sys
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
    ("granted", "left", "over"),
    [
        (20, 19, False),  # renewed this second
        (20, 13, False),  # up to 7 s ago, and perhaps not quite
        (20, 12, True),  # 7 to 8 s ago
        (20, 0, True),
        (20, -1, False),  # it has run out, and there is nothing to end (etcd: TTL of an unknown lease)
        (7, 0, False),  # no longer than it takes anyway
    ],
)
def test_a_lease_is_over_once_it_is_certain_that_it_was_not_renewed_for_so_long(
    lease: ModuleType, granted: int, left: int, over: bool
) -> None:
    assert lease.is_over(granted, left, 7) is over
