"""From a file to settings: the file, its tables, and the secrets and files that it names.

Loading has no side effect, and never looks at ports, locks or the database.
"""

import errno
import os
import re
import shlex
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import tomli

from gateway import barred
from gateway.config import database_url
from gateway.config.faults import ConfigError, Draft, Fault, RouteNames, validated
from gateway.config.key_file import KeyFile
from gateway.config.rules import conflicts, warnings
from gateway.config.settings import Settings
from gateway.config.tables import IMAGE_TYPES, Certificate, Config, SecretReference, UpstreamTLS, credentials_folder
from gateway.config.tls import Certified
from gateway.crypto import Keyring
from gateway.faults import OperatorError

_LONGEST_SECRET: Final = 64 * 1024  # bytes
_TLS_FILES: Final = ("ca", "certificate", "key")
_PIPE: Final = "it is a pipe, which can be read only once"
_TOML_PLACE = re.compile(r" \(at (line \d+, column \d+|end of document)\)\Z")
_TOML_TWICE = re.compile(r"Cannot (?:overwrite a value|declare .* twice|mutate .*)")


def load(path: Path, *, again: bool = False) -> Settings:
    """Read and validate a configuration file. Raises ConfigError with every fault that it has.

    Who reads it `again` has more to do than to wait for whoever writes into a pipe: then one is a fault.
    """
    path = path.absolute()
    tables = _with_whole_paths(_with_key_beside_data(_read(path, again=again)), path.parent)
    draft = Draft.of(tables)
    config, faults = validated(tables)
    found = _Found(path.parent, again)
    found.look(draft)
    faults += [*conflicts(draft), *found.faults]
    names = RouteNames(tables)
    if config is None or faults:
        raise ConfigError([*map(names.named, faults)])
    advice = tuple(map(names.within, warnings(config)))
    return Settings(
        config, path, found.database_url, found.keyring, advice, found.replicas, found.certificates, found.nonces
    )


def parse(tables: Mapping[str, Any]) -> Config:
    """Validate the tables of a file, without its secrets. Raises ConfigError with every fault in them."""
    tables = _with_key_beside_data(tables)
    config, faults = validated(tables)
    faults += conflicts(Draft.of(tables))
    if config is None or faults:
        raise ConfigError([*map(RouteNames(tables).named, faults)])
    return config


def resolve(config: Config, path: Path) -> Settings:
    """Find the secrets and files that a configuration names. Raises ConfigError with all that are missing."""
    found = _Found(path.parent)
    found.look(Draft.whole(config))
    if found.faults:
        raise ConfigError(found.faults)
    advice = tuple(warnings(config))
    return Settings(
        config, path, found.database_url, found.keyring, advice, found.replicas, found.certificates, found.nonces
    )


def _with_key_beside_data(tables: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tables with the master key in data_dir where they name no place for it."""
    keys, folder = tables.get("keys", {}), Draft.of(tables).get("database", "data_dir")
    if folder is None or not isinstance(keys, Mapping) or "master" in keys:
        return tables
    return {**tables, "keys": {**keys, "master": {"file": str(Path(folder, "master.key"))}}}


def _with_whole_paths(tables: Mapping[str, Any], base: Path) -> Mapping[str, Any]:
    """The tables with the files of `upstream_tls` as they are found from anywhere."""
    routes = tables.get("routes")
    if not isinstance(routes, list):
        return tables
    return {**tables, "routes": [_with_whole_path(route, base) for route in routes]}


def _with_whole_path(route: object, base: Path) -> object:
    tls = route.get("upstream_tls") if isinstance(route, dict) else None
    if not isinstance(route, dict) or not isinstance(tls, dict):
        return route
    whole = {key: str(base / tls[key]) for key in _TLS_FILES if isinstance(tls.get(key), str) and tls[key]}
    return {**route, "upstream_tls": {**tls, **whole}}


def _read(path: Path, *, again: bool) -> dict[str, Any]:
    try:
        if again:
            _require_no_pipe(path)
        # Not the standard library's, which takes seconds for a key of very many parts.
        return tomli.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        mend = "name a file with --config or $GATEWAY_CONFIG"
        if isinstance(exc, PermissionError):
            mend = f"{barred.mend(path)}, or name another one with --config or $GATEWAY_CONFIG"
        raise ConfigError([Fault("", f"{path}: cannot be read ({barred.reason(exc, path)}); {mend}")]) from exc
    except UnicodeDecodeError as exc:
        line = exc.object.count(b"\n", 0, exc.start) + 1
        raise ConfigError([Fault("", f"{path}: is not UTF-8 (in line {line}); save it as UTF-8")]) from exc
    except RecursionError as exc:
        raise ConfigError([Fault("", f"{path}: is not TOML: it is nested too deeply")]) from exc
    except ValueError as exc:  # TOMLDecodeError, and numbers that are too long
        raise ConfigError([Fault("", f"{path}: {_toml_fault(str(exc))}")]) from exc


def _require_no_pipe(path: Path) -> None:
    if path.is_fifo():
        raise OSError(errno.ESPIPE, _PIPE)


def _toml_fault(text: str) -> str:
    found = _TOML_PLACE.search(text)
    place = f"{found[1]}: " if found else ""
    said = text[: found.start()] if found else text
    if _TOML_TWICE.fullmatch(said):
        return f"{place}a key or table is given twice; keep one of them"
    return f"{place}is not TOML: {said}"


# -- secrets and files ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Found:
    """The secrets that a configuration names, and what is wrong with them."""

    base: Path
    again: bool = False
    faults: list[Fault] = field(default_factory=list)
    database_url: str | None = None
    keyring: Keyring | None = None
    certificates: tuple[Certified, ...] = ()
    replicas: tuple[str, ...] = ()
    nonces: tuple[str, ...] = ()

    def look(self, draft: Draft) -> None:
        """Find what this names."""
        url = draft.get("database", "url") or "embedded"
        self.database_url = None if url == "embedded" else self._url("database.url", url)
        self.replicas, self.nonces = self._urls("replicas", draft), self._urls("nonces", draft)
        self.keyring = self._keys(draft, embedded=url == "embedded")
        for key in ("logo", "stylesheet"):
            if (name := draft.get("branding", key)) is not None and (
                fault := _file_fault(key, self.base / name)
            ) is not None:
                self.faults.append(Fault(f"branding.{key}", fault))
        self._listener_tls(draft.get("server", "tls") or ())
        for index, route in enumerate(draft.routes):
            if (secured := route.get("upstream_tls")) is not None:
                self.faults += _upstream_tls(f"routes[{index}].upstream_tls", secured)

    def _listener_tls(self, shown: Sequence[Certificate]) -> None:
        if not shown:
            return
        from gateway.config import certificates

        made: list[Certified] = []
        for index, one in enumerate(shown):
            at = f"server.tls[{index}]"
            if one.key.file is None:
                self.faults.append(Fault(f"{at}.key", 'must name a file, { file = "…" }, which is read again'))
                continue
            certificate, key = self.base / one.certificate, one.key.path(self.base)
            faults = [
                Fault(f"{at}.{name}", said)
                for name, said in certificates.pair_faults(certificate, key, datetime.now(UTC))
            ]
            if (open_to := _open_to_others(key)) is not None:
                faults.append(Fault(f"{at}.key", open_to))
            if not faults:
                try:
                    made.append(certificates.certified(certificate, key))
                except OperatorError as exc:
                    faults.append(Fault(f"{at}.certificate", str(exc)))
            self.faults += faults
        self.certificates = tuple(made)

    def _urls(self, key: str, draft: Draft) -> tuple[str, ...]:
        """The addresses of several databases. Each may stand there once."""
        found: dict[str, str] = {}
        for number, url in enumerate(draft.get("database", key) or ()):
            path = f"database.{key}[{number}]"
            value = self._url(path, url)
            if value is not None and value in found:
                self.faults.append(Fault(path, f"is the same as {found[value]}; leave one of them out"))
            elif value is not None:
                found[value] = path
        return tuple(found)

    def _url(self, path: str, url: str | SecretReference) -> str | None:
        if isinstance(url, str):  # validated with the tables, but for the files
            value, place = url, ""
        else:
            secret = self._secret(path, url, "put postgresql://USER@HOST/DATABASE there")
            if secret is None:
                return None
            value, place = secret, f"the address in {_place(url, self.base)} cannot be used: "
        if (fault := _fault_of(value) or _absent_file(value)) is not None:
            self.faults.append(Fault(path, place + fault))
        return value

    def _keys(self, draft: Draft, *, embedded: bool) -> Keyring | None:
        references = dict(_key_references(draft))
        first_start = embedded and self._is_first_start(draft)
        if first_start:
            self._check_new_key(
                references.pop("keys.master").path(self.base), self.base / draft.get("database", "data_dir")
            )
        found = [self._in_file(path, reference) for path, reference in references.items()]
        if first_start or "keys.master" not in references or () in found:
            return None
        current, *others = dict.fromkeys(key for keys in found for key in keys)
        return Keyring(current, tuple(others))

    def _is_first_start(self, draft: Draft) -> bool:
        """Whether `serve` has yet to make both the embedded database and its master key."""
        master, data_dir = draft.get("keys", "master"), draft.get("database", "data_dir")
        if master is None or master.file is None or data_dir is None:
            return False
        return not os.path.lexists(master.path(self.base)) and not os.path.lexists(self.base / data_dir / "postgres")

    def _check_new_key(self, path: Path, data_dir: Path) -> None:
        """The key that the first start will make needs a folder, or a place for one.

        Within the database's own folder that is for the start to say, which knows what stands in its way.
        """
        folder = next(parent for parent in path.parents if os.path.lexists(parent))
        if not folder.is_dir() and not path.is_relative_to(data_dir):
            mend = "name a file in a folder, where the first start makes the key"
            self.faults.append(Fault("keys.master", f"{folder} is not a folder; {mend}"))

    def _in_file(self, path: str, reference: SecretReference) -> tuple[bytes, ...]:
        """The keys in one place; none where something is wrong with it."""
        if reference.file is not None and (open_to := _open_to_others(reference.path(self.base))) is not None:
            self.faults.append(Fault(path, open_to))
        value = self._secret(path, reference, _mend_of(reference, self.base))
        if value is None:
            return ()
        try:
            return KeyFile.parse(value).keys
        except ValueError as exc:
            self.faults.append(Fault(path, f"{_place(reference, self.base)} does not hold a key: {exc}"))
            return ()

    def _secret(self, path: str, reference: SecretReference, mend: str) -> str | None:
        try:
            return read_secret(reference, self.base, again=self.again)
        except OperatorError as exc:
            if isinstance(exc.__cause__, PermissionError):  # it is there: a new one would take its place
                mend = barred.mend(reference.path(self.base))
            self.faults.append(Fault(path, f"{exc}; {mend}"))
            return None


def _upstream_tls(at: str, secured: UpstreamTLS) -> Iterator[Fault]:
    """What is wrong with the files of a route's `upstream_tls`."""
    from gateway.config import certificates

    if secured.ca:
        try:
            certificates.certificates(Path(secured.ca))
        except OperatorError as exc:
            yield Fault(f"{at}.ca", str(exc))
    if secured.certificate and secured.key:
        key = Path(secured.key)
        for name, message in certificates.pair_faults(Path(secured.certificate), key, datetime.now(UTC)):
            yield Fault(f"{at}.{name}", message)
        if (open_to := _open_to_others(key)) is not None:
            yield Fault(f"{at}.key", open_to)


def _fault_of(url: str) -> str | None:
    if not url.startswith(database_url.SCHEMES):
        return "must be postgresql://USER@HOST/DATABASE"
    return database_url.fault_of(url)


def _absent_file(url: str) -> str | None:
    """The fault of an address whose file is not there; asyncpg looks for it where the program was started."""
    for name, file in database_url.files_of(url).items():
        if not _is_readable(Path(file)):
            return f"its {name} names {_named(Path(file).absolute())}, which is not a readable file"
    if database_url.wants_authority(url) and "PGSSLROOTCERT" not in os.environ:
        default = Path(os.path.expanduser("~/.postgresql/root.crt"))  # noqa: PTH111  # Path raises where there is no home
        if not _is_readable(default):
            return f"sslmode=verify-… needs the authority's certificate: add sslrootcert=FILE, or make {default}"
    return None


def _file_fault(key: str, path: Path) -> str | None:
    if not _is_readable(path):
        mend = barred.mend(path) if os.path.isfile(path) else "correct the path, or leave the key out"  # noqa: PTH113  # Path raises
        return f"there is no readable file {_named(path)}; {mend}"
    if key == "logo" and path.suffix.lower() not in IMAGE_TYPES:
        return f"{path} is not an image; name a file that ends in {', '.join(IMAGE_TYPES)}"
    return None


def _named(path: Path) -> str:
    """A file that cannot be read, with whose it is if it is there."""
    return f"{path} ({barred.whose(path)})" if os.path.lexists(path) else str(path)


def _is_readable(path: Path) -> bool:
    return os.path.isfile(path) and os.access(path, os.R_OK)  # noqa: PTH113  # where a path is too long, Path raises


def _open_to_others(path: Path) -> str | None:
    """The fault of a key's file that others than its owner may read; None if it has none.

    One of root's may be given to a group of its own (0640), for a service that runs as an ordinary user. A credential
    of systemd's shows the mask of its access list there (0440), which names that user alone.
    """
    try:
        known = path.stat()
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(known.st_mode):
        return None
    mode = stat.S_IMODE(known.st_mode)
    apart = known.st_gid != 0 or path.parent == credentials_folder()
    for_group = stat.S_IRGRP if known.st_uid == 0 and apart else 0
    if not mode & (stat.S_IRWXG | stat.S_IRWXO) & ~for_group:
        return None
    return (
        f"the file {path} is accessible to users other than its owner (mode {mode:04o}); chmod 600 it, and replace "
        "the key if somebody may have read it"
    )


def _key_references(draft: Draft) -> Iterator[tuple[str, SecretReference]]:
    if (master := draft.get("keys", "master")) is not None:
        yield "keys.master", master
    for index, reference in enumerate(draft.get("keys", "previous") or ()):
        yield f"keys.previous[{index}]", reference


def _mend_of(reference: SecretReference, base: Path) -> str:
    """The mend for a missing key: a command that makes one which nobody else can read."""
    made = "openssl rand -base64 32"
    if reference.file is not None:
        made = f"(umask 077; {made} > {shlex.quote(str(reference.path(base)))})"
    return f"restore it, or for a new database make one: {made}"


def _place(reference: SecretReference, base: Path) -> str:
    return f"${reference.env}" if reference.env is not None else str(reference.path(base))


def read_secret(reference: SecretReference, base: Path, *, again: bool = False) -> str:
    """The secret that a reference leads to, without outer whitespace; with `again` not through a pipe, as in `load`.

    Raises OperatorError that names the place when there is none.
    """
    if reference.env is not None:
        value = os.environ.get(reference.env, "").strip()
        if not value:
            raise OperatorError(f"the environment variable {reference.env} is not set")
        return value
    path = reference.path(base)
    try:
        if again:
            _require_no_pipe(path)
        with path.open("rb") as file:
            content = file.read(_LONGEST_SECRET + 1)
        value = content.decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = barred.reason(exc, path) if isinstance(exc, OSError) else "it is not text"
        raise OperatorError(f"the file {path} cannot be read ({reason})") from exc
    if not value or len(content) > _LONGEST_SECRET:
        raise OperatorError(f"the file {path} is {'too long' if value else 'empty'}")
    return value
