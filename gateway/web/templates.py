"""The templates of pages, each compiled once and kept beside its text, as Python keeps its modules.

To compile them is a quarter of what a process of the authorization plane does before it serves. What was compiled lies
in `__pycache__` of their folder, and whoever can write there could write the text as well. It counts for exactly what
it was made of: the text and its place, how templates are written, and the versions of jinja2 and of Python; and only
whole, since what a machine without power wrote half would end each process that runs it. Where it cannot be kept, each
process compiles its own.
"""

import importlib.util
import marshal
import os
import sys
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import jinja2
from jinja2.bccache import Bucket

from gateway.resources import folder

# How templates are written; a missing value is a fault.
_WRITTEN: Final[dict[str, Any]] = {
    "autoescape": True,
    "lstrip_blocks": True,
    "trim_blocks": True,
    "undefined": jinja2.StrictUndefined,
}

_MARK: Final = sha256().digest_size


class Compiled(jinja2.BytecodeCache):
    """What was compiled of the templates of a folder."""

    def __init__(self, templates: Path) -> None:
        self._templates = templates
        self._maker = (str(templates), repr(_WRITTEN), jinja2.__version__, importlib.util.MAGIC_NUMBER.hex())

    def get_cache_key(self, name: str, filename: str | None = None) -> str:  # noqa: ARG002  # the base's signature
        return name

    def load_bytecode(self, bucket: Bucket) -> None:
        with suppress(OSError):
            kept = self._place(bucket).read_bytes()
            mark, code = kept[:_MARK], kept[_MARK:]
            if mark == self._mark(bucket, code):
                bucket.code = marshal.loads(code)  # noqa: S302  # of whoever could write the template

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep it where that is possible and wanted, readable for whom the text is; others see all of it or nothing."""
        if sys.dont_write_bytecode:
            return
        place = self._place(bucket)
        with suppress(OSError):
            if not place.parent.is_dir():
                place.parent.mkdir(exist_ok=True)
                place.parent.chmod(self._templates.stat().st_mode & 0o755)
            made = place.with_suffix(f".{os.getpid()}")
            try:
                code = marshal.dumps(bucket.code)
                made.write_bytes(self._mark(bucket, code) + code)
                made.chmod((self._templates / bucket.key).stat().st_mode & 0o644)
                made.replace(place)
            except OSError:
                made.unlink(missing_ok=True)
                raise

    def _place(self, bucket: Bucket) -> Path:
        return self._templates / "__pycache__" / f"{bucket.key}.{sys.implementation.cache_tag}.pyc"

    def _mark(self, bucket: Bucket, code: bytes) -> bytes:
        """What it is compiled of, by whom, and to what."""
        return sha256("\0".join((*self._maker, bucket.checksum, "")).encode() + code).digest()


def environment_options() -> dict[str, Any]:
    """The options of the environment (`jinja2.Environment`) that every template is rendered in."""
    templates = folder("templates")
    return {
        "loader": jinja2.FileSystemLoader(templates),
        "auto_reload": False,  # they are read once, by a process that may not be able to a second time
        "bytecode_cache": Compiled(templates),
        **_WRITTEN,
    }
