"""A checkout of the repository, with the interpreter that runs its server and its client."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Checkout:
    """A folder with the repository, and the interpreter in which its distributions are installed."""

    label: str
    folder: Path
    python: Path

    @classmethod
    def at(cls, folder: Path, label: str) -> Self:
        """Return the checkout in a folder.

        Raises
        ------
        ValueError
            The folder holds no checkout, or one without its ``.venv``.
        """
        folder = folder.resolve()
        python = folder / ".venv" / "bin" / "python"
        for needed in (folder / "app" / "__main__.py", python):
            if not needed.exists():
                raise ValueError(f"{folder} is no checkout with an environment of its own: {needed} is missing")
        return cls(label, folder, python)


OURS = Checkout("here", Path(__file__).resolve().parent.parent, Path(sys.executable))
"""The checkout that this module belongs to."""
