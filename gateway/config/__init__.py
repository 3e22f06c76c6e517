"""TOML → frozen types, every fault at once, each with its path in the file and the mend.

values     how a single value is written, and what is said when it is wrong
tables     the tables of the file; their JSON Schema is what editors use (`gateway check-config --schema`)
faults     findings in plain words, and what can be read of a file that has some
rules      what tables may not say together
loading    the file, its secrets and the result
routes     routes as the access plane uses them
"""

from gateway.config.faults import ConfigError, Fault
from gateway.config.loading import Settings, load, parse, read_secret, resolve
from gateway.config.routes import compile_routes
from gateway.config.tables import (
    Admin,
    Branding,
    Config,
    Database,
    Keys,
    Mac,
    Route,
    SecretReference,
    Server,
    Tokens,
)
from gateway.config.values import AuthScheme, Network

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
