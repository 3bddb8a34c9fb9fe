"""Roots with many checkpoints: some real saves by a real job, copied, and multiplied in the catalog."""

import shutil
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.checkout import Checkout
from benchmarks.live import LiveServer
from benchmarks.scale.http_client import Connection
from benchmarks.scale.jobs import KEEP_ALL, KEEP_MANY, KEEP_SIX, Job
from benchmarks.scale.rows import derived
from benchmarks.scale.rows.bulk_copy import fill
from benchmarks.scale.rows.planned import Target

KEPT, PRUNED, LIMITED = "seed/kept", "seed/pruned", "seed/limited"
SEED_SAVES = 200
SEED_SHARES: Final = {KEPT: (0.4, KEEP_ALL), PRUNED: (0.4, KEEP_SIX), LIMITED: (0.2, KEEP_MANY)}

QUIET: Final = {"HOLDFAST_SCRUB_BYTES_PER_S": "0", "HOLDFAST_COPY_CATALOG_EVERY": "0"}
"""Settings of all servers: the rows have no files to read back, and a copy of the catalog would fall into a measure."""


@dataclass(frozen=True, slots=True)
class Place:
    """A checkpoint in the middle of a directory, to ask for."""

    directory: str
    id: str
    name: str


def seed(checkout: Checkout, folder: Path, saves: int = SEED_SAVES) -> Path:
    """Make a root with some real saves by the checkout's own server and client; return it."""
    root = folder / "seed"
    folder.mkdir(parents=True)
    with LiveServer(root, checkout=checkout, settings=QUIET) as server:
        with Job(checkout, server.url, folder / "job") as job:
            for directory, (share, policy) in SEED_SHARES.items():
                job.ask("crowd", directories=[directory], times=int(share * saves), policy=policy)
        server.wait_until_freed()
    return root


def filled(checkout: Checkout, seeded: Path, root: Path, targets: Sequence[Target]) -> Path:
    """Make a root from a seed, with the rows of the targets."""
    shutil.copytree(seeded, root)
    fill(catalog_of(root), targets)
    derived.rebuild(checkout, catalog_of(root))
    return root


def verify(server: LiveServer, target: Target) -> None:
    """Compare what a server counts with what was made.

    Raises
    ------
    RuntimeError
        It counts other rows: it keeps derived ones, which `derived.REBUILDERS` does not name.
    """
    with Connection(server.url) as connection:
        count = connection.json(f"/v1/directories/{target.directory}")["count"]
    if count != target.live:
        raise RuntimeError(
            f"{target.directory} has {count} checkpoints, not {target.live}: see benchmarks.scale.rows.derived"
        )


def middle_of(root: Path, target: Target) -> Place:
    """Return a live checkpoint in the middle of a target."""
    query = "SELECT id, name FROM checkpoints WHERE directory = ? AND epoch = ? AND removed_at IS NULL"
    with closing(sqlite3.connect(catalog_of(root))) as connection:
        found = connection.execute(query, [target.directory, target.saves // 2]).fetchone()
    return Place(target.directory, *found)


def catalog_of(root: Path) -> Path:
    """Return the catalog of a root."""
    return root / ".holdfast" / "catalog.db"
