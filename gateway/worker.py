"""A worker's process before its plane is in it: it loads one plane, and nothing of the other one or of the commands."""

from collections.abc import Callable
from functools import partial


def main(plane: str, listener: int, control: int) -> None:
    """Be a worker of that plane on the inherited sockets, until it is told to end."""
    program(plane)(listener, control)


def program(plane: str) -> Callable[[int, int], None]:
    """What a worker of that plane runs, with nothing loaded of the other one."""
    if plane == "shadow":
        from gateway.app.shadow import main as shadow

        return shadow
    from gateway.app import process

    if plane == "access":
        from gateway.app.access import serving
    else:
        from gateway.app.authorization import serving
    return partial(process.run, serving)
