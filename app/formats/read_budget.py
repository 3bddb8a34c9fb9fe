"""A budget for reading what others wrote: how many bytes at once, and how many steps for all of it. Pure."""

from dataclasses import dataclass


class BudgetExceeded(ValueError):
    """Work that was begun would take more than it may."""


@dataclass(slots=True)
class Budget:
    """A limit of what may be spent: ``max_bytes`` of one part of a file, and so many steps of some 0.5 µs in all."""

    max_bytes: int
    steps: int

    def admit(self, size_bytes: int, *, bytes_per_step: int) -> None:
        """Spend what it takes to read so many bytes.

        Raises
        ------
        BudgetExceeded
            They are too many.
        """
        if size_bytes > self.max_bytes:
            raise BudgetExceeded(f"{size_bytes} bytes are too many")
        self.spend(size_bytes // bytes_per_step)

    def spend(self, steps: int = 1) -> None:
        """Spend some steps, before they are taken; `BudgetExceeded` where none are left."""
        self.steps -= steps
        if self.steps < 0:
            raise BudgetExceeded("it takes too long")
