"""Wrong usage: one line on stderr that names what was given and what would be right, and exit code 2."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

import click
import pytest
from click.testing import CliRunner, Result

from gateway.cli import root
from tests.serving import ROOT

EVERY = (
    "demo, serve, reload, explain, routes, doctor, check-config, key, migrate, backup, restore, client, registration, "
    "user, scope, token, grant, session, events, report, mac, signature"
)
GRANTS = (
    "'authorization_code', 'refresh_token', 'client_credentials', 'device_code', 'implicit', 'password', "
    "'urn:ietf:params:oauth:grant-type:device_code'"
)
CREATE = ("client", "create", "--name", "An app")
SIGN = ("mac", "sign", "--id", "t", "--url", "http://a.example/")
SIGNATURE = ("signature", "sign", "--keyid", "t", "--url", "http://a.example/", "--key", "k")
VERIFY = ("mac", "verify", "--authorization", "MAC x", "--url", "http://a.example/")

WRONG: list[tuple[Sequence[str], str]] = [
    # no command
    ((), f"name a command: {EVERY}; see 'gateway --help'"),
    (("scope",), "scope: name a command: create, delete, list; see 'gateway scope --help'"),
    (("client", "--"), "client: name a command: create, delete, "),
    # unknown commands
    (("clinet",), "'clinet': is not a command of 'gateway'; did you mean client?"),
    (("check_config",), "'check_config': is not a command of 'gateway'; did you mean check-config?"),
    (("",), "'': is not a command of 'gateway'; the commands are demo, serve, reload, "),
    (("frobnicate",), "'frobnicate': is not a command of 'gateway'; the commands are demo, serve, reload, "),
    (("client", "creat"), "'creat': is not a command of 'gateway client'; did you mean create?"),
    (("user", "passwd"), "'passwd': is not a command of 'gateway user'; "),
    (("scope", "show"), "'show': is not a command of 'gateway scope'; the commands are create, delete, list"),
    (("client", "remove"), "'remove': is not a command of 'gateway client'; the commands are "),
    (("status",), "'status': is not a command of 'gateway'; the commands are "),
    (("config",), "'config': is not a command of 'gateway'; did you mean check-config?"),
    (("user", "del"), "'del': is not a command of 'gateway user'; did you mean delete?"),
    (("mac", "check"), "'check': is not a command of 'gateway mac'; the commands are sign, verify"),
    # unknown options
    (
        (*CREATE, "--redirect", "x"),
        "--redirect: is not an option of 'gateway client create'; did you mean --redirect-uri?",
    ),
    ((*CREATE, "--nme=x"), "--nme: is not an option of 'gateway client create'; did you mean --name?"),
    (("user", "list", "-x"), "-x: is not an option of 'gateway user list'; see 'gateway user list --help'"),
    (("serve", "--zz"), "--zz: is not an option of 'gateway serve'; see 'gateway serve --help'"),
    (("--config", "x", "serve"), "--config: is not an option of 'gateway'; options stand after the command; see "),
    (("token", "--json", "list"), "--json: is not an option of 'gateway token'; options stand after the command; see "),
    (("--versoin",), "--versoin: is not an option of 'gateway'; did you mean --version?"),
    # what must be given
    (("client", "create"), "--name: must be given; see 'gateway client create --help'"),
    (("client", "show"), "CLIENT_ID: must be given; see 'gateway client show --help'"),
    (("scope", "create", "notes:read"), "--description: must be given; see 'gateway scope create --help'"),
    (("scope", "create", "--description", "x"), "NAME: must be given; see 'gateway scope create --help'"),
    (("user", "create"), "--username: must be given; see 'gateway user create --help'"),
    (("token", "issue"), "--client: must be given; see 'gateway token issue --help'"),
    (("token", "inspect"), "TOKEN: must be given; see 'gateway token inspect --help'"),
    (("mac", "sign"), "--id: must be given; see 'gateway mac sign --help'"),
    (("mac", "verify"), "--authorization: must be given; see 'gateway mac verify --help'"),
    (SIGN, "--key: must be given; --key-stdin or $GATEWAY_MAC_KEY is safer; see 'gateway mac sign --help'"),
    (("client", "update", "c"), "nothing to change: give an option, such as --name NAME; see "),
    # what options take
    (("client", "create", "--name"), "--name: requires an argument; see 'gateway client create --help'"),
    (("serve", "--config"), "--config: requires an argument; see 'gateway serve --help'"),
    ((*CREATE, "--public=1"), "--public: does not take a value; see 'gateway client create --help'"),
    # values
    ((*CREATE, "--grant-type", "magic"), f"--grant-type: 'magic' is not one of {GRANTS}; see "),
    ((*CREATE, "--token-type", "jwt"), "--token-type: 'jwt' is not one of 'bearer', 'mac'; see "),
    ((*CREATE, "--mac-algorithm", "md5"), "--mac-algorithm: 'md5' is not one of 'hmac-sha-256', 'hmac-sha-1'; see "),
    ((*CREATE, "--mac-draft", "04"), "--mac-draft: '04': drafts 03 to 05 are not accepted, "),
    (("serve", "--workers", "0"), "--workers: 0 is not a whole number from 1 to 256; see 'gateway serve --help'"),
    (("serve", "--workers", "257"), "--workers: 257 is not a whole number from 1 to 256; see "),
    (("serve", "--workers", "two"), "--workers: 'two' is not a whole number from 1 to 256; see "),
    (("serve", "--workers", ""), "--workers: '' is not a whole number from 1 to 256; see "),
    (("serve", "--log-level", "loud"), "--log-level: 'loud' is not one of 'debug', 'info', 'warning', 'error'; see "),
    ((*SIGNATURE, "--created", "now"), "--created: 'now' is not a valid integer; see "),
    ((*SIGNATURE, "--field", "X"), "--field: must be NAME: VALUE, not 'X'; see "),
    ((*VERIFY, "--body-file", "/"), "--body-file: File '/' is a directory; see 'gateway mac verify --help'"),
    (("demo", "--dir", __file__), f"--dir: Directory '{__file__}' is a file; see 'gateway demo --help'"),
    # what does not go together
    (("user", "create", "--username", "u"), "--password-stdin, --generate-password: one of them must be given; see "),
    (("user", "set-password", "u", "--password-stdin", "--generate-password"),
     "--password-stdin, --generate-password: give one of them, not both; see 'gateway user set-password --help'"),
    (("token", "revoke"), "TOKEN, --user, --client, --digest: one of them must be given; see 'gateway token revoke "),
    (("token", "revoke", "t", "--user", "u"), "TOKEN, --user, --client, --digest: give one of them, not several; see "),
    ((*SIGN, "--key", "k", "--draft", "00", "--ts", "5"), "--ts '5': belongs to draft 01; leave it out, "),
    ((*SIGN, "--key", "k", "--ext", "e", "--body", "b"), "--ext, --body: give one of them, since the body's hash "),
    ((*SIGN, "--key", "k", "--key-stdin"), "--key, --key-stdin: give one of them, not both; see "),
    ((*SIGN, "--key", "k", "--body", "b", "--body-file", "f"), "--body, --body-file: give one of them, not both; see "),
    ((*SIGNATURE, "--body", "b", "--field", "Content-Digest: x"), "--field, --body: Content-Digest is made from "),
    # arguments too many
    (("client", "show", "a", "b", "c"), "'b': is one argument too many; see 'gateway client show --help'"),
    (("serve", "now"), "'now': is one argument too many; see 'gateway serve --help'"),
    (("check-config", "config.toml"), "'config.toml': is one argument too many; see 'gateway check-config --help'"),
    (("migrate", "x"), "'x': is one argument too many; see 'gateway migrate --help'"),
    (("demo", "x"), "'x': is one argument too many; see 'gateway demo --help'"),
    # what would make more lines, or act on the terminal
    (("two\nlines",), r"'two\nlines': is not a command of 'gateway'; "),
    (("client", "show", "a", "\x1b[2J\r\nb"), r"'\x1b[2J\r\nb': is one argument too many; "),
    ((*CREATE, "--a\nb"), r"--a\nb: is not an option of 'gateway client create'; "),
    ((*CREATE, "--token-type", "a\u2028b"), r"--token-type: 'a\u2028b' is not one of "),
    (("user", "list", "\udcff"), r"'\udcff': is one argument too many; "),
]  # fmt: skip


def _typed(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments, prog_name="gateway", env={"GATEWAY_MAC_KEY": None})


@pytest.mark.parametrize(("arguments", "line"), WRONG)
def test_wrong_usage_is_one_line_that_names_the_mend(arguments: Sequence[str], line: str) -> None:
    done = _typed(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"gateway: {line}")
    assert done.stderr.endswith("\n")
    assert done.stderr[:-1].isprintable()


@pytest.mark.parametrize(
    "arguments",
    [(), (b"clinet",), (b"client", b"create"), (b"serve", b"--workers", b"0"), (b"user", b"show", b"a", b"\xff\n")],
)
def test_program_tells_wrong_usage_in_one_line_too(arguments: Sequence[bytes]) -> None:
    command = [os.fsencode(sys.executable), b"-m", b"gateway", *arguments]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.startswith(b"gateway: ")
    assert done.stderr.count(b"\n") == 1


def _every_command(group: click.Group, *path: str) -> Iterator[tuple[str, ...]]:
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None
        yield (*path, name)
        if isinstance(command, click.Group):
            yield from _every_command(command, *path, name)


@pytest.mark.parametrize("path", [(), *_every_command(root)])
def test_help_is_printed_on_stdout(path: Sequence[str]) -> None:
    done = _typed(*path, "--help")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(" ".join(["Usage: gateway", *path]))
    assert f"Example: {' '.join(['gateway', *path])}" in done.stdout
    assert "..." not in done.stdout.removeprefix("Usage:").partition("\n")[2]  # nothing is cut off
    assert "[default: (" not in done.stdout


@pytest.mark.parametrize("path", [*_every_command(root)])
def test_every_command_refuses_an_unknown_option_in_one_line(path: Sequence[str]) -> None:
    done = _typed(*path, "--no-such")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"gateway: --no-such: is not an option of 'gateway {' '.join(path)}'; ")


def test_every_command_takes_a_configuration_file_also_where_it_reads_none() -> None:
    without = []
    for path in _every_command(root):
        command: click.Command = root
        for name in path:
            assert isinstance(command, click.Group)
            found = command.get_command(click.Context(command), name)
            assert found is not None
            command = found
        if not isinstance(command, click.Group) and "--config" not in {o for p in command.params for o in p.opts}:
            without.append(path)
    assert without == []
    assert _typed(*SIGN, "--key", "k", "--config", "/nowhere.toml").exit_code == 0


def test_faulty_configuration_ends_with_78_and_the_command_that_checks_it_with_1() -> None:
    assert _typed("client", "list", "--config", "/nowhere.toml").exit_code == os.EX_CONFIG
    assert _typed("check-config", "--config", "/nowhere.toml").exit_code == 1
