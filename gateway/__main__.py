"""`gateway` and `python -m gateway`."""

import gc
import sys


def main() -> None:
    """Run the command line; exits with 0 done, 1 wrong or absent, 2 usage."""
    gc.set_threshold(50_000, 20, 50)  # what is loaded stays, and to look for garbage in it was a tenth of each start
    match sys.argv[1:]:
        case ["worker", ("access" | "authorization" | "shadow") as plane, listener, control]:  # as `serve` starts one
            from gateway.worker import main as work

            work(plane, int(listener), int(control))
        case _:
            from gateway.cli import root

            root(prog_name="gateway")


if __name__ == "__main__":
    main()
