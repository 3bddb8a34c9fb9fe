"""The options of a run; each measure gets them."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Plan:
    """The size and the number of rounds, and where to put what is measured.

    Parameters
    ----------
    folder : Path
        Empty, on the disk that is measured, and removed afterwards.
    peers : Path
        The folder in which the peers are installed and kept.
    """

    folder: Path
    peers: Path
    rounds: int
    size_bytes: int
