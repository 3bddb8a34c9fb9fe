"""What a run was asked to do; each measure is given one."""

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
        Where what Holdfast is compared with is installed and stays.
    """

    folder: Path
    peers: Path
    rounds: int
    size_bytes: int
