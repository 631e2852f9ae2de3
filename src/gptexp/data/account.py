"""The data account: what became of the examples of a corpus. It is filled while a store is built, and kept in it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self


@dataclass
class Tally:
    """A number of examples, and the place of the first one."""

    examples: int = 0
    first: str = ""


@dataclass
class DataAccount:
    """Counts of the examples that were read, and of those that were left out, by reason."""

    examples: int = 0  # read from the corpus
    left_out: dict[str, Tally] = field(default_factory=dict)  # by reason

    def read(self) -> None:
        """Count an example that the corpus yields."""
        self.examples += 1

    def leave_out(self, reason: str, where: str) -> None:
        """Count an example that is not used."""
        tally = self.left_out.setdefault(reason, Tally(first=where))
        tally.examples += 1

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        left_out = {reason: Tally(**tally) for reason, tally in values["left_out"].items()}
        return cls(**{**values, "left_out": left_out})

    def table(self) -> str:
        """Return the account as a short table for a terminal."""
        rows = [("read", f"{self.examples:,} examples")]
        for reason, tally in self.left_out.items():
            first = f" (first: {tally.first})" if tally.first else ""
            rows.append(("left out", f"{tally.examples:,}: {reason}{first}"))
        return "\n".join(f"  {label:<12}{text}" for label, text in rows)
