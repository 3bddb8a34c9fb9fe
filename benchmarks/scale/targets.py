"""The targets of all figures: what must be reached, and what is aimed at. Data only."""

from typing import Final, Literal, NamedTuple

Unit = Literal["x", "ms", "1/s", "", "MB", "B"]


class Bound(NamedTuple):
    """The unit of a figure and its targets; upper bounds, unless ``is_floor``."""

    unit: Unit
    reach: float | None = None
    aim: float | None = None
    is_floor: bool = False


_FLAT = Bound("x", 2, 1.5)
_PAGE = Bound("ms", 150, 50)

BOUNDS: Final[dict[str, Bound]] = {
    # reads: a ratio is that of the time with many rows to the time with 1,000
    "latest": _FLAT,
    "by id": _FLAT,
    "by name": _FLAT,
    "best": _FLAT,
    "best by=": _FLAT,
    "best mode=max": _FLAT,
    "first page": Bound("x", 2),
    "middle page": Bound("x", 2),
    "order best": Bound("x", 2),
    "order epoch": Bound("x", 2),
    "order -epoch": Bound("x", 2),
    "order metric": Bound("x", 2),
    "order -metric": Bound("x", 2),
    "order size_bytes": Bound("x", 2),
    "order created_at": Bound("x", 2),
    "order -created_at": Bound("x", 2),
    "with removed": Bound("x", 2),
    "directory": Bound("x", 2),
    "directory page": Bound("x", 2),
    "tree page": _PAGE,
    "storage page, first": _PAGE,
    "storage page": _PAGE,
    "storage chart, first": _PAGE,
    "storage chart": _PAGE,
    "series": _PAGE,
    "metrics": _PAGE,
    "directories": Bound("ms", 100, 30),
    # saves: ratios to a directory with 100 live checkpoints
    "save, keep all": Bound("x", 1.5, 1.2),
    "save, limits": Bound("x", 1.5, 1.2),
    "another job's save": Bound("x", 1.5),
    # throughput and small sizes
    "saves of 100 jobs": Bound("1/s", 150, 300, is_floor=True),
    "server CPU of a save": Bound("ms"),
    "memory with 100 jobs": Bound("MB", 200, 150),
    "fsyncs of a save": Bound("", 7, 5),
    "fsyncs, one pruned": Bound("", 9, 6),
    "10 kB save": Bound("x", 8, 4),
    "1 MiB save": Bound("x", 8, 4),
    "1 MiB load": Bound("x", 8, 4),
    "tiny tensors save": Bound("x", 1.5, 1.1),
    "tiny tensors load": Bound("x", 1.2, 1.1),
    "import holdfast": Bound("ms", 150, 80),
    # connections: ratios to the time without them
    "save beside watchers": Bound("x", 1.5),
    "health beside watchers, p99": Bound("ms", 20),
    "save beside downloads": Bound("x", 2),
    "health beside downloads, p99": Bound("ms", 20),
    "memory with downloads": Bound("MB", 300),
    "health beside uploads, p99": Bound("ms", 50),
    "memory with uploads": Bound("MB", 300),
    # bytes of the catalog
    "catalog bytes of a save": Bound("B"),
    "catalog bytes past horizons": Bound("B"),
    "write-ahead log": Bound("MB"),
}
