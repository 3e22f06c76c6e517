"""`gateway` and `python -m gateway`."""

import atexit
import gc
import sys


def main() -> None:
    """Run the command line; exits with 0 done, 1 wrong or absent, 2 usage."""
    # What is loaded stays: to look for garbage in it took a tenth of each start, and of each command again at its end.
    gc.set_threshold(200_000, 20, 50)
    atexit.register(gc.freeze)
    match sys.argv[1:]:
        case ["worker", ("access" | "authorization" | "shadow") as plane, listener, control]:  # as `serve` starts one
            gc.disable()  # until it has started
            from gateway.worker import main as work

            work(plane, int(listener), int(control))
        case _:
            from gateway.cli import root

            root(prog_name="gateway")


if __name__ == "__main__":
    main()
