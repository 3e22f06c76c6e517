"""Every refusal as whoever is called at night reads it: one line that says what is wrong, with which value, and the
way on."""

from collections.abc import Sequence

import pytest

from tests.cli.conftest import Terminal

# {client}: a confidential client; {public}: a public one; ada: a person
ROWS: list[tuple[Sequence[str], str, str]] = [
    (("client", "show", "nope"), "no client 'nope'", "`gateway client list` shows all"),
    (("client", "update", "{client}", "--scope", "zz"), "'zz'", "`gateway scope create`"),
    (
        ("client", "update", "{client}", "--redirect-uri", "http://evil.example/cb"),
        "'http://evil.example/cb'",
        "use https",
    ),
    (("client", "update", "{client}", "--grant-type", "magic"), "'magic'", "'client_credentials'"),
    (("client", "update", "{client}", "--mac-draft", "05"), "'05'", "use 01 or 00"),
    (("client", "rotate-secret", "{public}"), "is public and has no secret", "PKCE"),
    (("client", "rotate-secret", "{client}", "--overlap", "soon"), "'soon'", '"15m"'),
    (("client", "create", "--name", ""), "--name", "printable characters"),
    (("client", "create", "--name", "x", "--public", "--first-party"), "--first-party", "confidential"),
    (("client", "create", "--name", "x", "--grant-type", "refresh_token"), "refresh_token", "add --grant-type"),
    (("client", "create", "--name", "x", "--owner", "eve"), "'eve'", "`gateway user list` shows all"),
    (("client", "create", "--name", "x", "--logo", "/nowhere.svg"), "No such file", "name a picture file"),
    (("client", "remove", "x"), "'remove': is not a command", "the commands are create, delete,"),
    (("user", "create", "--username", "ada", "--generate-password"), "'ada': another user has it", "choose another"),
    (("user", "create", "--username", "a b", "--generate-password"), "'a b'", "letters, digits"),
    (("user", "create", "--username", "bob"), "--generate-password", "one of them must be given"),
    (("user", "create", "--username", "bob", "--email", "no", "--generate-password"), "'no'", "ada@example.com"),
    (("user", "show", "eve"), "no user 'eve'", "`gateway user list` shows all"),
    (("scope", "create", "a b", "--description", "x"), "'a b'", '"notes:read"'),
    (("scope", "create", "notes:read", "--description", "x"), "is already defined under [scopes]", "change it there"),
    (("scope", "delete", "notes:read"), "'notes:read': is defined under [scopes]", "remove it there"),
    (("scope", "delete", "nope"), "no scope 'nope'", "`gateway scope list` shows all"),
    (("token", "issue", "--client", "nope"), "--client: no client 'nope'", "`gateway client list` shows all"),
    (("token", "issue", "--client", "{client}", "--user", "eve"), "no user 'eve'", "`gateway user list` shows all"),
    (("token", "issue", "--client", "{client}", "--scope", "zz"), "'zz'", "`gateway scope create`"),
    (("token", "issue", "--client", "{client}", "--ttl", "forever"), "'forever'", '"14d"'),
    (("token", "revoke"), "TOKEN, --user, --client", "one of them must be given"),
    (("token", "revoke", "gwa_x"), "nothing was revoked", "`gateway token inspect` says why"),
    (("token", "revoke", "--user", "eve"), "no user 'eve'", "`gateway user list` shows all"),
    (("serve", "--workers", "0"), "--workers: 0", "from 1 to 256"),
    (("migrate", "now"), "'now'", "see 'gateway migrate --help'"),
    (("chekc-config",), "'chekc-config': is not a command", "did you mean check-config?"),
]


def test_every_refusal_is_one_line_with_what_is_wrong_and_the_way_on(gateway: Terminal) -> None:
    names = {"client": gateway.client()["client_id"], "public": gateway.client("--public")["client_id"]}
    gateway.user()
    for arguments, wrong, way_on in ROWS:
        done = gateway(*(part.format(**names) for part in arguments))
        assert (done.code in (1, 2), done.out) == (True, ""), arguments
        [line] = done.err.splitlines()
        assert line.startswith("gateway: "), line
        assert wrong in line, line
        assert way_on in line, line


@pytest.mark.parametrize("noun", ["client", "user"])
def test_what_is_disabled_is_told_with_the_command_that_ends_it(gateway: Terminal, noun: str) -> None:
    client = gateway.client()["client_id"]
    gateway.user()
    name = {"client": client, "user": "ada"}[noun]
    gateway(noun, "disable", name)
    fault = gateway("token", "issue", "--client", client, "--user", "ada").fault
    assert fault == f"gateway: {noun} {name!r}: is disabled; `gateway {noun} enable {name}` enables it again"
