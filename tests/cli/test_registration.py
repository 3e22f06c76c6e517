"""`gateway registration`: initial access tokens."""

import asyncio

from tests.cli.conftest import Terminal
from tests.cli.direct import in_database


def test_a_token_is_printed_once_and_good_for_what_was_asked(gateway: Terminal) -> None:
    made = gateway("registration", "create-token", "--ttl", "2h", "--uses", "3", "--json")
    assert made.json.keys() == {"initial_access_token", "expires_in", "uses"}
    assert (made.json["expires_in"], made.json["uses"]) == (7200, 3)
    assert made.json["initial_access_token"].startswith("gwi_")
    assert 'registration.policy is "closed"' in made.err
    assert gateway("registration", "create-token").code == 0
    assert gateway("registration", "revoke-tokens", "--json").json == {"revoked": 2}
    assert gateway("registration", "revoke-tokens").out == "0 revoked\n"
    kinds = asyncio.run(in_database(gateway, "select array_agg(kind order by event_id) from events"))
    assert kinds == ["registration_token.created"] * 2 + ["registration_token.revoked"] * 2


def test_wrong_options_are_named(gateway: Terminal) -> None:
    assert "--uses" in gateway("registration", "create-token", "--uses", "0").refused_with(2)
    assert "--ttl" in gateway("registration", "create-token", "--ttl", "soon").fault
