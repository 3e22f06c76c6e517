"""TOML → frozen values, every fault at once, each with its path in the file and the mend.

tables     every key, declared once, and the values that the program uses
values     how a single value is written, and what is said when it is wrong
addresses  how an address is written
faults     findings in plain words, and what can be read of a file that has some
rules      what tables may not say together
loading    the file, its secrets and the result
settings   that result
routes     routes as the access plane uses them
reference  what is said of the keys: the JSON Schema for editors, the example and the page of the documentation
"""

from gateway.config.faults import ConfigError, Fault
from gateway.config.loading import load, parse, read_secret, resolve
from gateway.config.routes import compile_routes
from gateway.config.settings import Settings
from gateway.config.tables import (
    Admin,
    Branding,
    Config,
    Database,
    Headers,
    Keys,
    Mac,
    Route,
    SecretReference,
    Server,
    Tokens,
)
from gateway.config.values import Network

__all__ = [
    "Admin",
    "Branding",
    "Config",
    "ConfigError",
    "Database",
    "Fault",
    "Headers",
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
