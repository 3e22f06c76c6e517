"""From a file to settings: the file, its tables, and the secrets and files that it names.

Loading has no side effect, and never looks at ports, locks or the database.
"""

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.config.faults import ConfigError, Draft, Fault, judged
from gateway.config.rules import conflicts, warnings
from gateway.config.settings import Config, SecretReference, Settings
from gateway.crypto import Keyring, parse_master_key
from gateway.errors import OperatorError

_LONGEST_SECRET: Final = 64 * 1024  # bytes
_TOML_PLACE = re.compile(r" \(at (line \d+, column \d+|end of document)\)\Z")
_TOML_TWICE = re.compile(r"Cannot (?:overwrite a value|declare .* twice|mutate .*)")


def load(path: Path) -> Settings:
    """Read and judge a configuration file. Raises ConfigError with every fault that it has."""
    path = path.absolute()
    tables = _read(path)
    draft = Draft.of(tables)
    config, faults = judged(tables)
    found = _Found.by(draft, path.parent)
    faults += [*conflicts(draft), *found.faults]
    if config is None or faults:
        raise ConfigError(faults)
    return Settings(config, path, found.database_url, found.keyring, tuple(warnings(config)))


def parse(tables: Mapping[str, Any]) -> Config:
    """Judge the tables of a file, without its secrets. Raises ConfigError with every fault in them."""
    config, faults = judged(tables)
    faults += conflicts(Draft.of(tables))
    if config is None or faults:
        raise ConfigError(faults)
    return config


def resolve(config: Config, path: Path) -> Settings:
    """Find the secrets and files that a configuration names. Raises ConfigError with all that are missing."""
    found = _Found.by(Draft.whole(config), path.parent)
    if found.faults:
        raise ConfigError(found.faults)
    return Settings(config, path, found.database_url, found.keyring, tuple(warnings(config)))


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except OSError as exc:
        mend = "name a file with --config or $GATEWAY_CONFIG"
        raise ConfigError([Fault("", f"{path}: cannot be read ({exc.strerror}); {mend}")]) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError([Fault("", f"{path}: is not UTF-8 (at byte {exc.start}); save it as UTF-8")]) from exc
    except RecursionError as exc:
        raise ConfigError([Fault("", f"{path}: is not TOML: it is nested too deeply")]) from exc
    except ValueError as exc:  # TOMLDecodeError, and numbers that are too long
        raise ConfigError([Fault("", f"{path}: {_toml_fault(str(exc))}")]) from exc


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
    faults: list[Fault]
    database_url: str | None = None
    keyring: Keyring | None = None

    @classmethod
    def by(cls, draft: Draft, base: Path) -> "_Found":
        found = cls(base, [])
        url = draft.database.get("url", "embedded")
        found.database_url = None if url == "embedded" else found._url(url)
        found.keyring = found._keys(draft, embedded=url == "embedded")
        for key in ("logo", "stylesheet"):
            name = draft.branding.get(key)
            if name is not None and not os.access(base / name, os.R_OK):
                found.faults.append(Fault(f"branding.{key}", f"there is no readable file {base / name}"))
        return found

    def _url(self, url: str | SecretReference) -> str | None:
        if isinstance(url, str):
            return url
        value = self._secret("database.url", url, "put postgresql://USER@HOST/DATABASE there")
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            mend = "postgresql://USER@HOST/DATABASE is wanted"
            self.faults.append(Fault("database.url", f"what stands in {_place(url, self.base)} is no address; {mend}"))
        return value

    def _keys(self, draft: Draft, *, embedded: bool) -> Keyring | None:
        references = dict(_key_references(draft))
        first_start = embedded and self._is_first_start(draft)
        if first_start:
            references.pop("keys.master", None)
        keys = [self._key(path, reference) for path, reference in references.items()]
        if first_start or "keys.master" not in references or None in keys:
            return None
        whole = [key for key in keys if key is not None]
        return Keyring(whole[0], tuple(whole[1:]))

    def _is_first_start(self, draft: Draft) -> bool:
        """Whether `serve` has yet to make both the embedded database and its master key."""
        master, data_dir = draft.keys.get("master"), draft.database.get("data_dir")
        if master is None or master.file is None or data_dir is None:
            return False
        return not master.path(self.base).exists() and not (self.base / data_dir / "postgres").exists()

    def _key(self, path: str, reference: SecretReference) -> bytes | None:
        value = self._secret(path, reference, "restore it, or for a new database make one: openssl rand -base64 32")
        if value is None:
            return None
        try:
            return parse_master_key(value)
        except ValueError as exc:
            self.faults.append(Fault(path, f"what stands in {_place(reference, self.base)} is no key: {exc}"))
            return None

    def _secret(self, path: str, reference: SecretReference, mend: str) -> str | None:
        try:
            return read_secret(reference, self.base)
        except OperatorError as exc:
            self.faults.append(Fault(path, f"{exc}; {mend}"))
            return None


def _key_references(draft: Draft) -> Iterator[tuple[str, SecretReference]]:
    if "master" in draft.keys:
        yield "keys.master", draft.keys["master"]
    for index, reference in enumerate(draft.keys.get("previous", ())):
        yield f"keys.previous[{index}]", reference


def _place(reference: SecretReference, base: Path) -> str:
    return f"${reference.env}" if reference.env is not None else str(reference.path(base))


def read_secret(reference: SecretReference, base: Path) -> str:
    """The secret that a reference leads to, without outer whitespace.

    Raises OperatorError that names the place when there is none.
    """
    if reference.env is not None:
        value = os.environ.get(reference.env, "").strip()
        if not value:
            raise OperatorError(f"the environment variable {reference.env} is not set")
        return value
    path = reference.path(base)
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_SECRET + 1)
        value = content.decode("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise OperatorError(f"the file {path} cannot be read ({reason})") from exc
    if not value or len(content) > _LONGEST_SECRET:
        raise OperatorError(f"the file {path} is {'too long' if value else 'empty'}")
    return value
