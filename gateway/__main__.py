"""`gateway` and `python -m gateway`."""

from gateway.cli import root


def main() -> None:
    """Run the command line; exits with 0 done, 1 wrong or absent, 2 usage."""
    root(prog_name="gateway")


if __name__ == "__main__":
    main()
