"""The loopback that everything is measured on: without a congestion control that paces.

BBR sends by the clock, also where nothing can congest: on the loopback much of a large answer's CPU time is then the
kernel setting timers, and how many depends on what a connection did before. So where BBR is the machine's, and we may,
the run gets a network of its own, and Linux's usual control on its loopback.
"""

import ctypes
import os
import socket
import subprocess
from typing import Final

from bench.site import CannotStart, program

_PACING: Final = "bbr"
_USUAL: Final = "cubic"
_CLONE_NEWNET: Final = 0x40000000  # unshare(2); os.unshare is Python 3.12's


def congestion_control() -> str:
    """What a TCP connection over the loopback gets."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        return client.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()


def settle() -> str:
    """Leave pacing behind, for this process and all that it starts from now on; gives what it measures with, in words.

    Raises CannotStart when the new network has no loopback.
    """
    control, ip = congestion_control(), program("ip")
    if control != _PACING:
        return control
    if ip is None:
        return f"{control}, which paces; with the package iproute2 it would be {_USUAL}"
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        return f"{control}, which paces; for root it would be {_USUAL} ({os.strerror(ctypes.get_errno())})"
    if fault := _failed(ip, "link set lo up"):
        raise CannotStart(fault)
    for to in ("127.0.0.0/8", "127.0.0.1"):
        if fault := _failed(ip, f"route replace local {to} dev lo table local congctl {_USUAL}"):
            return f"{control}, which paces ({fault})"
    return f"{congestion_control()}, on a loopback of its own; the machine's {control} paces"


def _failed(ip: str, command: str) -> str:
    """Run it; gives why it failed, or nothing."""
    done = subprocess.run([ip, *command.split()], capture_output=True, text=True, check=False)
    return f"ip {command}: {done.stderr.strip()}" if done.returncode else ""
