"""TOML → frozen values, every fault at once, each with its path in the file and the mend.

settings   the result, as the program uses it
addresses  how an address is written
routes     routes as the access plane uses them

What reads a file stands behind `load`, `parse` and `resolve`, and is imported when one of them is asked for:

values     how a single value is written, and what is said when it is wrong
tables     the tables of the file; their JSON Schema is what editors use (`gateway check-config --schema`)
faults     findings in plain words, and what can be read of a file that has some
rules      what tables may not say together
loading    the file, its secrets and the result
"""

import importlib
from typing import TYPE_CHECKING, Any, Final

from gateway.config.routes import compile_routes
from gateway.config.settings import (
    Admin,
    AuthScheme,
    Branding,
    Config,
    Database,
    Keys,
    Mac,
    Network,
    Route,
    SecretReference,
    Server,
    Settings,
    Tokens,
)

if TYPE_CHECKING:
    from gateway.config.faults import ConfigError, Fault
    from gateway.config.loading import load, parse, read_secret, resolve

_OF_READING: Final = {
    **dict.fromkeys(("ConfigError", "Fault"), "gateway.config.faults"),
    **dict.fromkeys(("load", "parse", "read_secret", "resolve"), "gateway.config.loading"),
}


def __getattr__(name: str) -> Any:
    """What a worker never asks for, since it gets its settings ready made (PEP 562)."""
    if name not in _OF_READING:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_OF_READING[name]), name)


__all__ = [
    "Admin",
    "AuthScheme",
    "Branding",
    "Config",
    "ConfigError",
    "Database",
    "Fault",
    "Keys",
    "Mac",
    "Network",
    "Route",
    "SecretReference",
    "Server",
    "Settings",
    "Tokens",
    "compile_routes",
    "load",
    "parse",
    "read_secret",
    "resolve",
]
