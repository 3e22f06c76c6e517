"""A configuration with the place that it came from and its secrets: what a supervisor gives its workers."""

from dataclasses import dataclass, field
from pathlib import Path

from gateway.config.tables import Config
from gateway.config.tls import Certified
from gateway.crypto import Keyring


@dataclass(frozen=True, slots=True)
class Settings:
    """A configuration file that holds, with the place it came from and its secrets resolved.

    `keyring` is None only where an embedded database has yet to make its first master key.
    """

    config: Config
    path: Path
    database_url: str | None = field(repr=False)  # None: the embedded database
    keyring: Keyring | None
    warnings: tuple[str, ...]
    replicas: tuple[str, ...] = field(default=(), repr=False)
    certificates: tuple[Certified, ...] = field(default=(), repr=False)  # what the public listener shows
    nonces: tuple[str, ...] = field(default=(), repr=False)

    @property
    def base(self) -> Path:
        """The folder of the file: relative paths in it start here."""
        return self.path.parent

    @property
    def data_dir(self) -> Path:
        """The folder of the embedded database."""
        return self.base / self.config.database.data_dir

    @property
    def certificate_files(self) -> tuple[tuple[Path, Path], ...]:
        """The files of `server.tls`, each certificate's with its key's."""
        return tuple(
            (self.base / one.certificate, one.key.path(self.base))
            for one in self.config.server.tls
            if one.key.file is not None
        )

    @property
    def master_key_file(self) -> Path | None:
        """The file of the master key; None where it stands in the environment."""
        master = self.config.keys.master
        return None if master.file is None else master.path(self.base)
