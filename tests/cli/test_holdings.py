"""Who has what: `token list`, `grant list`, `session list`, their `revoke`, and `report scopes`."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from gateway.cli import common
from gateway.crypto import digest
from gateway.store import Store
from gateway.store.uses import Uses
from tests.cli.conftest import Terminal, matches
from tests.cli.direct import in_database
from tests.store.rig import Rig

T = TypeVar("T")
HOSTILE = "Mozilla/5.0 \x1b[2J\x1b]0;owned\x07\x9b\u202e\r\n{}"


def in_store(gateway: Terminal, act: Callable[[Store], Awaitable[T]]) -> T:
    """What people and clients do meanwhile, by the store of the same database and key."""
    return common.in_store(gateway.config, lambda store, _: act(store))


def ada(gateway: Terminal, username: str = "ada") -> tuple[Rig, Any]:
    """A person who is signed in, a client that she allowed something, and its tokens."""

    async def act(store: Store) -> tuple[Rig, Any]:
        rig = await Rig.build(store, username=username)
        return rig, await rig.tokens()

    return in_store(gateway, act)


def listed(gateway: Terminal, noun: str, *options: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = gateway(noun, "list", "--json", *options).json
    return found


def test_token_list_shows_what_lives_by_the_digests_beginning_and_never_a_token(gateway: Terminal) -> None:
    rig, tokens = ada(gateway)
    client_id = rig.client.client_id
    found = {one["kind"]: one for one in listed(gateway, "token")}
    assert set(found) == {"access", "refresh"}
    assert found["access"]["token"] == digest(tokens.access_token).hex()[:16]
    assert (found["access"]["user"], found["access"]["client_id"]) == ("ada", client_id)
    assert (found["access"]["scopes"], found["access"]["last_used_at"]) == (["read", "write"], None)
    out = gateway("token", "list").out
    assert tokens.access_token not in out
    assert out.splitlines()[0].split()[:3] == ["TOKEN", "KIND", "USER"]
    for options, count in (
        (("--user", "ADA"), 2), (("--client", client_id), 2), (("--scope", "read"), 2), (("--scope", "x"), 0),
        (("--older-than", "1h"), 0), (("--unused-for", "1h"), 0), (("--limit", "1"), 1),
    ):  # fmt: skip
        assert len(listed(gateway, "token", *options)) == count, options
    in_store(gateway, lambda store: store.holdings.note(Uses({digest(tokens.access_token)}, ())))
    asyncio.run(in_database(gateway, "update access_tokens set issued_at = issued_at - interval '2 hours'"))
    asyncio.run(in_database(gateway, "update refresh_tokens set issued_at = issued_at - interval '2 hours'"))
    assert [one["kind"] for one in listed(gateway, "token", "--unused-for", "1h")] == ["refresh"]
    assert len(listed(gateway, "token", "--older-than", "1h")) == 2
    gateway("user", "disable", "ada")
    assert listed(gateway, "token") == []


def test_token_revoke_takes_the_beginning_of_a_digest(gateway: Terminal) -> None:
    _, tokens = ada(gateway)
    shown = digest(tokens.access_token).hex()[:16]
    assert gateway("token", "revoke", "--digest", shown.upper()).out == "1 revoked\n"
    assert [one["kind"] for one in listed(gateway, "token")] == ["refresh"]
    assert "no longer valid" in gateway("token", "revoke", "--digest", shown).fault
    revoked = gateway("events", "--kind", "token.revoked", "--json").json
    assert revoked[0]["detail"] == {"token": shown}
    refresh = digest(tokens.refresh_token).hex()
    assert gateway("token", "revoke", "--digest", refresh, "--json").json == {"revoked": 1}
    assert listed(gateway, "token") == []


@pytest.mark.parametrize(
    ("digits", "told"),
    [
        ("00000000", "no token begins so; `gateway token list`"),
        ("abc", "must be 8 to 64 hexadecimal digits"),
        ("gwa_1234567", "must be 8 to 64 hexadecimal digits"),
        ("\x1b[2J", "must be 8 to 64 hexadecimal digits"),
    ],
)
def test_token_revoke_refuses_a_digest_that_is_none(gateway: Terminal, digits: str, told: str) -> None:
    fault = gateway("token", "revoke", "--digest", digits).fault
    assert matches(told, fault)
    assert fault.isprintable()


def test_a_beginning_that_several_tokens_have_revokes_none(gateway: Terminal) -> None:
    _, _ = ada(gateway)
    asyncio.run(in_database(gateway, "update access_tokens set digest = '\\x" + "ab" * 32 + "'"))
    asyncio.run(in_database(gateway, "update refresh_tokens set digest = '\\x" + "ab" * 31 + "00'"))
    assert "several tokens begin so; give more digits" in gateway("token", "revoke", "--digest", "abababab").fault
    assert len(listed(gateway, "token")) == 2


def test_grant_list_and_revoke(gateway: Terminal) -> None:
    rig, tokens = ada(gateway)
    client_id = rig.client.client_id
    (grant,) = listed(gateway, "grant")
    assert (grant["user"], grant["client_id"], grant["scopes"]) == ("ada", client_id, ["read", "write"])
    in_store(gateway, lambda store: store.holdings.note(Uses({digest(tokens.access_token)}, ())))
    assert listed(gateway, "grant")[0]["last_used_at"] is not None
    assert listed(gateway, "grant", "--scope", "x") == listed(gateway, "grant", "--unused-for", "1h") == []
    assert len(listed(gateway, "grant", "--user", "ada", "--client", client_id, "--scope", "read")) == 1
    assert gateway("grant", "revoke", grant["grant_id"]).out == "1 revoked\n"
    assert listed(gateway, "grant") == listed(gateway, "token") == []
    assert "no grant" in gateway("grant", "revoke", grant["grant_id"]).fault
    assert gateway("grant", "revoke", "--user", "ada", "--json").json == {"revoked": 0}
    (event,) = gateway("events", "--kind", "grant", "--json").json
    assert (event["detail"]["grant_id"], event["actor"].partition(":")[0]) == (grant["grant_id"], "operator")


def test_grants_are_found_by_their_client_their_age_and_their_last_use_and_ended_by_their_client(
    gateway: Terminal,
) -> None:
    rig, tokens = ada(gateway)
    eves, _ = ada(gateway, "eve")
    hers, others = rig.client.client_id, eves.client.client_id

    def found(*options: str) -> set[str]:
        return {one["client_id"] for one in listed(gateway, "grant", *options)}

    assert found() == {hers, others}
    assert (found("--client", hers), found("--client", others)) == ({hers}, {others})
    ago = "created_at = created_at - interval '2 hours', updated_at = updated_at - interval '2 hours'"
    asyncio.run(in_database(gateway, f"update grants set {ago} where client_id = '{hers}'"))
    for options in (("--older-than", "1h"), ("--unused-for", "1h")):
        assert (found(*options), found(options[0], "3h")) == ({hers}, set()), options
    assert found("--client", others, "--unused-for", "1h") == set()
    in_store(gateway, lambda store: store.holdings.note(Uses({digest(tokens.access_token)}, ())))
    assert (found("--older-than", "1h"), found("--unused-for", "1h")) == ({hers}, set())
    asyncio.run(in_database(gateway, "update grants set last_used_at = last_used_at - interval '90 minutes'"))
    assert found("--unused-for", "1h") == {hers}
    assert gateway("grant", "revoke", "--client", others).out == "1 revoked\n"
    assert found() == {hers}
    assert gateway("grant", "revoke", "--client", hers, "--user", "eve").out == "0 revoked\n"
    assert gateway("grant", "revoke", "--client", hers, "--user", "ada", "--json").json == {"revoked": 1}
    assert found() == set()


def test_sessions_are_found_by_their_age_and_their_last_use(gateway: Terminal) -> None:
    rig, _ = ada(gateway)
    eves, _ = ada(gateway, "eve")

    def found(*options: str) -> set[str]:
        return {one["session_id"] for one in listed(gateway, "session", *options)}

    assert found() == {rig.session_id, eves.session_id}
    assert found("--older-than", "10m") == found("--unused-for", "10m") == set()
    ago = "signed_in_at = signed_in_at - interval '30 minutes'"
    asyncio.run(in_database(gateway, f"update sessions set {ago} where session_id = '{rig.session_id}'"))
    for options in (("--older-than", "10m"), ("--unused-for", "10m")):
        assert (found(*options), found(options[0], "40m")) == ({rig.session_id}, set()), options
    assert found("--user", "eve", "--older-than", "10m") == set()
    asyncio.run(in_database(gateway, "update sessions set last_used_at = now()"))
    assert (found("--older-than", "10m"), found("--unused-for", "10m")) == ({rig.session_id}, set())
    asyncio.run(in_database(gateway, "update sessions set last_used_at = now() - interval '20 minutes'"))
    assert found("--unused-for", "10m") == {rig.session_id, eves.session_id}


def test_session_list_and_revoke(gateway: Terminal) -> None:
    rig, _ = ada(gateway)

    async def signs_in(store: Store) -> None:
        assert await store.sessions.start(rig.user.subject, "B" * 43, 3600, user_agent=HOSTILE * 20) is not None

    in_store(gateway, signs_in)
    first, second = listed(gateway, "session", "--user", "ada")
    assert {first["session_id"], second["session_id"]} > {rig.session_id}
    assert first["user_agent"].startswith("Mozilla/5.0 ")
    assert len(first["user_agent"]) == 200
    for out in (gateway("session", "list").out, gateway("session", "list", "--json").out):
        assert all(mark.isprintable() or mark == "\n" for mark in out)
    assert listed(gateway, "session", "--unused-for", "1h") == []
    assert gateway("session", "revoke", rig.session_id).out == "1 revoked\n"
    assert "no session" in gateway("session", "revoke", rig.session_id).fault
    assert gateway("session", "revoke", "--user", "ada", "--json").json == {"revoked": 1}
    assert listed(gateway, "session") == []
    assert [one["kind"] for one in gateway("events", "--kind", "session", "--json").json] == ["session.ended"] * 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("token", "list", "--user", "eve"), 1, "--user: no user 'eve'"),
        (("token", "list", "--client", "x"), 1, "--client: no client 'x'"),
        (("grant", "list", "--older-than", "soon"), 1, "--older-than: must be a duration"),
        (("session", "list", "--limit", "0"), 2, "--limit: 0 is not a whole number from 1 on"),
        (("grant", "revoke"), 2, "GRANT_ID, --user, --client: one of them must be given"),
        (("grant", "revoke", "g1", "--user", "ada"), 2, "GRANT_ID, --user, --client: give the one or the others"),
        (("session", "revoke"), 2, "SESSION_ID, --user: one of them must be given"),
        (("session", "revoke", "s1", "--user", "ada"), 2, "SESSION_ID, --user: give one of them, not both"),
        (("report", "scopes", "--unused-for", "x"), 1, "--unused-for: must be a duration"),
        (("token", "revoke", "--digest", "00", "--user", "ada"), 2, "give one of them, not several"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    gateway: Terminal, arguments: tuple[str, ...], code: int, told: str
) -> None:
    assert matches(told, gateway(*arguments).refused_with(code))


def test_report_scopes_names_what_old_clients_hold_and_do_not_use(gateway: Terminal) -> None:
    rig, _ = ada(gateway)
    client_id = rig.client.client_id
    assert gateway("report", "scopes", "--json").json == []  # it is too young
    asyncio.run(in_database(gateway, "update clients set created_at = created_at - interval '60 days'"))
    asyncio.run(in_database(gateway, "update schema_migrations set applied_at = applied_at - interval '60 days'"))
    in_store(gateway, lambda store: store.holdings.note(Uses((), {(client_id, "read"), ("cgone", "read")})))
    (unused,) = gateway("report", "scopes", "--json").json
    assert (unused["client_id"], unused["scope"], unused["last_used_at"]) == (client_id, "write", None)
    assert unused["grants"] == 1
    asyncio.run(in_database(gateway, "update scope_uses set used_at = used_at - interval '31 days'"))
    answer = gateway("report", "scopes")
    assert [one["scope"] for one in gateway("report", "scopes", "--json").json] == ["write", "read"]
    assert answer.err == ""
    assert "since" in gateway("report", "scopes", "--unused-for", "61d").err
    gateway("client", "disable", client_id)
    assert gateway("report", "scopes", "--json").json == []
