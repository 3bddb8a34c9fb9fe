"""The options of a run at scale; each measure gets them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkout import Checkout

BASE_ROWS = 1000


@dataclass(frozen=True, slots=True)
class ScalePlan:
    """The number of rows, the checkouts, and where to put what is measured.

    Parameters
    ----------
    folder : Path
        Empty, on the disk that is measured, and removed afterwards.
    rows : int
        The number of checkpoints.
    checkouts : sequence of Checkout
        The checkouts to measure in turns.
    seeds : mapping
        A root with some real saves for each label of a checkout; only to be copied.
    seconds : float
        How long each read of each contender is repeated, at least.
    """

    folder: Path
    rows: int
    checkouts: Sequence[Checkout]
    seeds: Mapping[str, Path]
    seconds: float = 1.0
