"""A finding, and the report of all of them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal, Self

from msgspec import Struct

from gateway.faults import OperatorError

Level = Literal["fault", "warning"]
"""A fault keeps people or programs from being served, or safe; a warning is what seldom is meant."""

FAULT: Final[Level] = "fault"
WARNING: Final[Level] = "warning"


class Finding(Struct, frozen=True):
    """One thing that is wrong: `about` is a key of the configuration or a word for what has none, `statements` are SQL
    that mends it."""

    about: str
    what: str
    why: str
    mend: str
    level: Level = FAULT
    statements: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: OperatorError | str, why: str, *, level: Level = FAULT, about: str = "") -> Self:
        """The finding that a message of ours stands for: `key: what; mend`, where the key is there unless told."""
        statements = said.statements if isinstance(said, OperatorError) else ()
        text = str(said)
        if not about:
            about, _, text = text.partition(": ")
        what, _, mend = text.partition("; ")
        return cls(about, what, why, mend or "correct it", level, statements)


@dataclass(slots=True)
class Report:
    """The findings, the facts that were looked at, and what could not be looked at, with the reason."""

    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, findings: Iterable[Finding]) -> None:
        """These were found too."""
        self.findings.extend(findings)

    @property
    def healthy(self) -> bool:
        """Whether there is no fault."""
        return all(finding.level != FAULT for finding in self.findings)
