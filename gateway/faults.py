"""What only the operator can mend: a fault of the installation or of its configuration, told on the command line.

Nothing is loaded for it, since what looks after an embedded Postgres as another user may load none but Python's own.
"""


class OperatorError(Exception):
    """A fault that the operator can mend: one line that names the key, the value and the mend.

    `statements` are SQL that mends it, each a line that can be pasted.
    """

    def __init__(self, message: str, *, statements: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.statements = statements


class FaultyConfiguration(OperatorError):
    """A fault of the configuration, which the next start would meet too; the exit code is 78 (EX_CONFIG)."""
