"""What is wrong with a configuration file and with the files and secrets that it names: every fault at once."""

import os
import pwd
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway import config
from gateway.config import ConfigError
from gateway.crypto import new_master_key
from tests.folders import SHORT
from tests.serving import write_key
from tests.system_users import as_root, unprivileged


def _load(folder: Path, text: str | bytes) -> dict[str, str]:
    path = folder / "config.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as raised:
        config.load(path)
    return {fault.path: fault.message for fault in raised.value.faults}


MINIMAL = '[server]\npublic_url = "https://api.example.com"\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[server]\na = 1\na = 2\n", "line 3, column 6: a key or table is given twice"),
        ("[server]\n[server]\n", "line 2, column 8: a key or table is given twice"),
        ("a = 1\n[a.b]\n", "a key or table is given twice"),
        ("[server\n", "is not TOML"),
        ("a = \n", "line 1, column 5: is not TOML"),
        ("a = 'x", "is not TOML"),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("a = " + "9" * 5000, "is not TOML"),
        (b"a = '\xff'\n", "is not UTF-8 (in line 1)"),
        (b"\xff\xfea\x00", "is not UTF-8"),
        (b"a = 1\0", "is not TOML"),
    ],
)
def test_broken_toml_is_one_line_with_its_place(tmp_path: Path, text: str | bytes, said: str) -> None:
    faults = _load(tmp_path, text)
    assert faults.keys() == {""}
    assert faults[""].startswith(f"{tmp_path}/config.toml: ")
    assert said in faults[""]
    assert "\n" not in faults[""]


def test_a_file_that_may_not_be_read_is_told_with_whose_it_is_and_who_we_are() -> None:
    """The file, a secret that it names, and a folder on the way."""
    owner = pwd.getpwuid(os.geteuid()).pw_name
    with tempfile.TemporaryDirectory(prefix="gwt-", dir=SHORT) as name:
        folder = Path(name)
        folder.chmod(0o755)
        inner = folder / "inner"
        inner.mkdir()
        (inner / "key").write_text(new_master_key())
        (inner / "key").chmod(0o000)
        named = MINIMAL + f'[keys]\nmaster = {{ file = "{inner}/key" }}\n[database]\nurl = "postgresql://db/x"\n'
        (folder / "config.toml").write_text(named)
        with unprivileged() as me, pytest.raises(ConfigError) as raised:
            config.load(folder / "config.toml")
        assert f"it belongs to {owner} (mode 0000), and we are {me}" in str(raised.value)
        assert "openssl" not in str(raised.value)  # a good key would be gone
        inner.chmod(0o000)
        with unprivileged() as me, pytest.raises(ConfigError) as raised:
            config.load(folder / "config.toml")
        assert f"the folder {inner} belongs to {owner} (mode 0000), and we are {me}" in str(raised.value)
        inner.chmod(0o755)
        (folder / "config.toml").chmod(0o000)
        with unprivileged() as me, pytest.raises(ConfigError) as raised:
            config.load(folder / "config.toml")
        assert f"(Permission denied: it belongs to {owner} (mode 0000), and we are {me})" in str(raised.value)


def test_absent_file_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: cannot be read \(No such file or directory\); name a file"):
        config.load(tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory\)"):
        config.load(tmp_path)


@pytest.mark.parametrize("piped", ["config.toml", "m.key"])
def test_who_reads_again_waits_for_no_pipe(tmp_path: Path, piped: str) -> None:
    (tmp_path / "config.toml").write_text(MINIMAL + '[keys]\nmaster = { file = "m.key" }\n')
    write_key(tmp_path / "m.key", new_master_key())
    config.load(tmp_path / "config.toml", again=True)
    (tmp_path / piped).unlink()
    os.mkfifo(tmp_path / piped)
    with pytest.raises(ConfigError, match=rf"{piped}.* cannot be read \(it is a pipe, which can be read only once\)"):
        config.load(tmp_path / "config.toml", again=True)


def test_who_reads_again_is_told_what_cannot_be_looked_at(tmp_path: Path) -> None:
    (tmp_path / "config.toml").symlink_to("x" * 300)
    with pytest.raises(ConfigError, match=r"config\.toml: cannot be read \(File name too long\)"):
        config.load(tmp_path / "config.toml", again=True)


def _absent(_: Path) -> None: ...


def _empty(path: Path) -> None:
    path.write_text("\n")


def _folder(path: Path) -> None:
    path.mkdir()


def _short(path: Path) -> None:
    path.write_text("Y29uZmlkZW50aWFs")


def _no_base64(path: Path) -> None:
    path.write_text("confidential, and no base64 at all!")


def _binary(path: Path) -> None:
    path.write_bytes(b"\xff" * 32)


def _endless(path: Path) -> None:
    path.write_text(new_master_key() * 2000)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            _absent,
            "cannot be read (No such file or directory); restore it, or for a new database make one: (umask 077; ",
        ),
        (_empty, "is empty"),
        (_folder, "cannot be read (Is a directory)"),
        (_short, "does not hold a key: a master key is base64 of 32 bytes, this one has 12"),
        (_no_base64, "does not hold a key: a master key is base64 of 32 bytes"),
        (_binary, "cannot be read (it is not text)"),
        (_endless, "is too long"),
    ],
)
def test_master_key_that_cannot_be_used_is_a_fault(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "m.key")
    write_key(tmp_path / "o.key", new_master_key())
    text = (
        '[database]\nurl = "postgresql://db.example/gateway"\n'
        '[keys]\nmaster = { file = "m.key" }\nprevious = [{ file = "o.key" }, { file = "m.key" }]\n'
    )
    faults = _load(tmp_path, MINIMAL + text)
    assert faults.keys() == {"keys.master", "keys.previous[1]"}
    assert said in faults["keys.master"]
    assert f"{tmp_path}/m.key" in faults["keys.master"]
    assert "onfidential" not in str(faults)
    assert "Y29u" not in str(faults)


def test_lost_master_key_of_an_existing_embedded_database_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "gateway-data" / "postgres").mkdir(parents=True)
    faults = _load(tmp_path, MINIMAL)
    assert "restore it" in faults["keys.master"]


@pytest.mark.parametrize("value", ["", "  ", "mysql://root:confidential@db"])
def test_database_url_that_cannot_be_used_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("TEST_DATABASE_URL", value)
    write_key(tmp_path / "m.key", new_master_key())
    text = '[database]\nurl = { env = "TEST_DATABASE_URL" }\n[keys]\nmaster = { file = "m.key" }\n'
    faults = _load(tmp_path, MINIMAL + text)
    assert faults.keys() == {"database.url"}
    assert "TEST_DATABASE_URL" in faults["database.url"]
    assert "confidential" not in faults["database.url"]


def test_databases_of_a_list_are_read_by_reference_and_stand_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_REPLICA", "postgresql://ada:confidential@a/gateway")
    monkeypatch.setenv("TEST_NO_REPLICA", "mysql://root:confidential@db")
    reference, other = '{ env = "TEST_REPLICA" }', '{ env = "TEST_NO_REPLICA" }'
    path = tmp_path / "config.toml"
    path.write_text(f'{MINIMAL}[database]\nreplicas = [{reference}, "postgresql://b/gateway"]\n')
    settings = config.load(path)
    assert settings.replicas == ("postgresql://ada:confidential@a/gateway", "postgresql://b/gateway")
    assert "confidential" not in repr(settings)
    faults = _load(tmp_path, f'{MINIMAL}[database]\nreplicas = [{reference}, {other}, {reference}, {{ env = "NO" }}]\n')
    assert faults.keys() == {"database.replicas[1]", "database.replicas[2]", "database.replicas[3]"}
    assert "is the same as database.replicas[0]" in faults["database.replicas[2]"]
    assert "confidential" not in str(faults)


@pytest.mark.parametrize(
    "text",
    [
        '[database]\nurl = "mysql://root:confidential@db"\n',
        '[database]\nurl = ["confidential"]\n',
        '[database]\nreplicas = ["mysql://root:confidential@db"]\n',
        '[database]\nreplicas = "postgresql://root:confidential@db/d"\n',
        '[keys]\nmaster = "confidential"\n',
        '[keys]\nmaster = { value = "confidential" }\n',
        '[keys]\nmaster = ["confidential"]\n',
        '[keys]\nmaster = { env = "confidential, not a name" }\n',
        '[keys]\nprevious = "confidential"\n',
        '[keys]\nprevious = ["confidential"]\n',
        '[keys]\nsecret = "confidential"\n',
        'keys = "confidential"\n',
        'database = "postgresql://ada:confidential@db.example/gateway"\n',
        'password = "confidential"\n',
    ],
)
def test_secret_in_the_open_is_refused_and_not_repeated(tmp_path: Path, text: str) -> None:
    faults = _load(tmp_path, text + MINIMAL)
    assert faults
    assert "confidential" not in str(faults)


@pytest.mark.parametrize(
    ("key", "name", "said"),
    [
        ("logo", "folder.svg", "there is no readable file"),
        ("logo", "logo.txt", "is not an image; name a file that ends in .svg, .png"),
        ("logo", "logo", "is not an image"),
        ("stylesheet", "folder.svg", "there is no readable file"),
        ("stylesheet", "/dev/zero", "there is no readable file /dev/zero"),
    ],
)
def test_branding_file_of_another_kind_is_a_fault(tmp_path: Path, key: str, name: str, said: str) -> None:
    _folder(tmp_path / "folder.svg")
    _short(tmp_path / "logo.txt")
    _short(tmp_path / "logo")
    faults = _load(tmp_path, f'{MINIMAL}[branding]\n{key} = "{name}"\n')
    assert faults.keys() == {f"branding.{key}"}
    assert said in faults[f"branding.{key}"]


def test_first_start_needs_a_folder_for_the_master_key(tmp_path: Path) -> None:
    _short(tmp_path / "file")
    faults = _load(tmp_path, MINIMAL + '[keys]\nmaster = { file = "file/below/master.key" }\n')
    assert faults == {
        "keys.master": f"{tmp_path}/file is not a folder; name a file in a folder, where the first start makes the key"
    }


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ('[database]\ndata_dir = "{}"\n', set()),
        ('[branding]\nlogo = "{}/a.svg"\n', {"branding.logo"}),
        ('[keys]\nmaster = {{ file = "{}" }}\n', set()),
        ('[database]\nurl = "postgresql://h/d?sslmode=require&sslrootcert={}"\n', {"database.url", "keys.master"}),
    ],
)
def test_path_that_only_the_folder_makes_too_long_is_no_traceback(tmp_path: Path, text: str, faults: set[str]) -> None:
    path = tmp_path / "config.toml"
    path.write_text(MINIMAL + text.format("/".join(["x" * 200] * 20)))
    found = set[str]()
    try:
        config.load(path)
    except ConfigError as exc:
        found = {fault.path for fault in exc.faults}
    assert found == faults


def test_first_key_within_the_database_is_left_to_the_start(tmp_path: Path) -> None:
    _short(tmp_path / "file")
    text = '[database]\ndata_dir = "file/data"\n[keys]\nmaster = { file = "file/data/master.key" }\n'
    (tmp_path / "config.toml").write_text(MINIMAL + text)
    assert config.load(tmp_path / "config.toml").keyring is None


@pytest.mark.parametrize("plain", [True, False])
def test_database_url_is_judged_wherever_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: bool
) -> None:
    url = "postgresql://ada:confidential@db.example:99999/gateway"
    monkeypatch.setenv("TEST_DATABASE_URL", url)
    write_key(tmp_path / "m.key", new_master_key())
    stated = f'"{url}"' if plain else '{ env = "TEST_DATABASE_URL" }'
    faults = _load(tmp_path, MINIMAL + f'[database]\nurl = {stated}\n[keys]\nmaster = {{ file = "m.key" }}\n')
    assert faults.keys() == {"database.url"}
    assert "a port is a number from 1 to 65535" in faults["database.url"]
    assert ("TEST_DATABASE_URL" in faults["database.url"]) is not plain
    assert "confidential" not in str(faults)


@pytest.mark.parametrize("name", ["sslrootcert", "sslcert", "sslkey", "sslcrl", "passfile"])
def test_files_that_the_database_url_names_must_be_there(tmp_path: Path, name: str) -> None:
    write_key(tmp_path / "m.key", new_master_key())
    url = f"postgresql://db.example/gateway?sslmode=require&{name}={tmp_path}/absent"
    faults = _load(tmp_path, f'{MINIMAL}[database]\nurl = "{url}"\n[keys]\nmaster = {{ file = "m.key" }}\n')
    assert faults == {"database.url": f"its {name} names {tmp_path}/absent, which is not a readable file"}


def test_certificate_is_not_verified_without_an_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PGSSLROOTCERT", raising=False)
    write_key(tmp_path / "m.key", new_master_key())
    text = (
        f'{MINIMAL}[database]\nurl = "postgresql://db.example/gateway?sslmode=verify-full"\n'
        '[keys]\nmaster = { file = "m.key" }\n'
    )
    faults = _load(tmp_path, text)
    assert "add sslrootcert=FILE" in faults["database.url"]
    (tmp_path / ".postgresql").mkdir()
    _short(tmp_path / ".postgresql" / "root.crt")
    config.load(tmp_path / "config.toml")


def test_branding_files_must_be_there(tmp_path: Path) -> None:
    faults = _load(tmp_path, MINIMAL + '[branding]\nlogo = "no.svg"\nstylesheet = "no.css"\n')
    assert faults.keys() == {"branding.logo", "branding.stylesheet"}
    assert f"{tmp_path}/no.svg" in faults["branding.logo"]


EVERYTHING_WRONG = """
[server]
listen = "127.0.0.1:9901"
public_url = 3
worker = 4

[database]
url = { env = "TEST_ABSENT_VARIABLE" }

[keys]
master = { file = "absent.key" }

[tokens]
access_ttl = 3600

[scopes]
"notes:read" = ""

[branding]
name = 3
logo = "absent.svg"

[[routes]]
name = "notes"
path = "/api"
upstreams = ["http://127.0.0.1:9000"]
auth = ["bearer"]
timeout = 3

[[routes]]
name = "notes"
path = "/api"
upstreams = []
scopes = ["notes:write"]
strip_prefix = "/b"

[[routes]]
name = "tokens"
path = "/oauth2/token"
upstreams = ["http://127.0.0.1:9000"]
auth = "none"
max_body = -1
"""


def test_all_faults_are_reported_together(tmp_path: Path) -> None:
    assert _load(tmp_path, EVERYTHING_WRONG).keys() == {
        "server.public_url",
        "server.worker",
        "admin.listen",
        "database.url",
        "keys.master",
        "tokens.access_ttl",
        'scopes."notes:read"',
        "branding.name",
        "branding.logo",
        "routes[0].timeout",
        "routes[1]",
        "routes[1].name",
        "routes[1].upstreams",
        "routes[1].auth",
        "routes[1].scopes",
        "routes[1].strip_prefix",
        "routes[2].path",
        "routes[2].max_body",
    }


@pytest.mark.parametrize(
    ("mode", "group", "refused"),
    [
        (0o600, None, False),
        (0o400, None, False),
        (0o644, None, True),
        (0o604, None, True),
        (0o640, None, True),
        (0o602, None, True),
        pytest.param(0o640, 1, False, marks=as_root),  # root's, for the group of a service
        pytest.param(0o660, 1, True, marks=as_root),
        pytest.param(0o644, 1, True, marks=as_root),
    ],
)
def test_key_that_others_may_use_is_a_fault_with_its_mend(
    tmp_path: Path, mode: int, group: int | None, refused: bool
) -> None:
    for name in ("m.key", "o.key"):
        write_key(tmp_path / name, new_master_key())
        if group is not None:
            os.chown(tmp_path / name, 0, group)
        (tmp_path / name).chmod(mode)
    text = f'{MINIMAL}[keys]\nmaster = {{ file = "m.key" }}\nprevious = [{{ file = "o.key" }}]\n'
    if not refused:
        (tmp_path / "config.toml").write_text(text)
        config.load(tmp_path / "config.toml")
        return
    faults = _load(tmp_path, text)
    assert faults.keys() == {"keys.master", "keys.previous[0]"}
    said = f"the file {tmp_path}/m.key is accessible to users other than its owner (mode {mode:04o}); chmod 600"
    assert said in str(faults)


def test_command_that_a_missing_key_is_told_with_makes_one_that_is_taken(tmp_path: Path) -> None:
    text = f'{MINIMAL}[database]\nurl = "postgresql://db.example/gateway"\n[keys]\nmaster = {{ file = "new key" }}\n'
    told = _load(tmp_path, text)["keys.master"]
    subprocess.run(["sh", "-c", told[told.index("(umask") :]], check=True)
    assert (tmp_path / "new key").stat().st_mode & 0o777 == 0o600
    config.load(tmp_path / "config.toml")


def test_master_key_lies_beside_the_data_unless_another_place_is_stated(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'{MINIMAL}[database]\ndata_dir = "elsewhere/data"\n')
    read = config.load(tmp_path / "config.toml")
    assert read.master_key_file == tmp_path / "elsewhere" / "data" / "master.key"
    (tmp_path / "config.toml").write_text(f"{MINIMAL}[keys]\nprevious = []\n[database]\ndata_dir = '{tmp_path}/data'\n")
    assert config.load(tmp_path / "config.toml").master_key_file == tmp_path / "data" / "master.key"
