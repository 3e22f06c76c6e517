"""What only root can try: to be other users of the machine, and to have programs run as them."""

import codecs
import importlib
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for other users")
ORDINARY = "daemon"  # of every Linux machine, and nobody's who runs our tests
_LATE = (
    "concurrent.futures.thread",
    "grp",
    *(f"gateway.cli.{name}" for name in ("backup", "doctor", "key", "migrate")),
)


@contextmanager
def unprivileged() -> Iterator[str]:
    """As somebody who is not root, whom no permission binds; gives the name."""
    if os.geteuid() != 0:
        yield pwd.getpwuid(os.geteuid()).pw_name
        return
    for late in _LATE:  # who may not read our libraries either
        importlib.import_module(late)
    for encoding in ("utf-8-sig", "idna"):
        codecs.lookup(encoding)
    os.seteuid(pwd.getpwnam("nobody").pw_uid)
    try:
        yield "nobody"
    finally:
        os.seteuid(0)
