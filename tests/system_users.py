"""What only root can try: to be other users of the machine, and to have programs run as them."""

import os

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for other users")
ORDINARY = "daemon"  # of every Linux machine, and nobody's who runs our tests
