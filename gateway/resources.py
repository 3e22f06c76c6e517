"""What was installed: the places of `sql/` and `templates/`, beside the package in a checkout and inside it in a wheel,
and where more of it is installed from.
"""

import importlib.metadata
import json
from contextlib import suppress
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

_PACKAGE = Path(__file__).resolve().parent
_NAME: Final = "oauth2-gateway"


def folder(name: str) -> Path:
    """The folder `sql` or `templates`. Raises FileNotFoundError when the installation is incomplete."""
    for parent in (_PACKAGE, _PACKAGE.parent):
        found = parent / name
        if found.is_dir():
            return found
    raise FileNotFoundError(f"the folder {name}/ is missing from the installation at {_PACKAGE}")


def engine() -> str:
    """Which engine runs: `compiled`, or `plain` where the wheel was built without a compiler, or this is a checkout."""
    compiled = any((_PACKAGE / "routing" / f"table{suffix}").exists() for suffix in EXTENSION_SUFFIXES)
    return "compiled" if compiled else "plain"


def installing(extra: str) -> str:
    """The command that installs an extra, from the folder or wheel that this was installed from (PEP 610); no registry
    has it, and whoever took its name in one would be run."""
    source = "/path/to/gateway"
    with suppress(importlib.metadata.PackageNotFoundError, ValueError, KeyError, TypeError):
        direct = json.loads(importlib.metadata.distribution(_NAME).read_text("direct_url.json") or "{}")
        url = urlsplit(str(direct["url"]))
        if url.scheme == "file":
            source = unquote(url.path)
    return f"pip install '{source}[{extra}]'"
