"""A budget for parsing hostile files: bytes of one part, and steps in all. Pure."""

from dataclasses import dataclass


class BudgetExceeded(ValueError):
    """Parsing would exceed its budget."""


@dataclass(slots=True)
class Budget:
    """A budget: ``max_bytes`` for one part of a file, and ``steps`` of about 0.5 µs in all."""

    max_bytes: int
    steps: int

    def admit(self, size_bytes: int, *, bytes_per_step: int) -> None:
        """Spend the steps to parse a part of this size.

        Raises
        ------
        BudgetExceeded
            The part is too large, or no steps are left.
        """
        if size_bytes > self.max_bytes:
            raise BudgetExceeded(f"{size_bytes} bytes are too many")
        self.spend(size_bytes // bytes_per_step)

    def spend(self, steps: int = 1) -> None:
        """Spend steps before they are done; raise `BudgetExceeded` if none are left."""
        self.steps -= steps
        if self.steps < 0:
            raise BudgetExceeded("it takes too long")
