"""Bytes that the catalog keeps of each save, at first and past the horizons, with six live checkpoints a job.

Also the size of its write-ahead log.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.checkout import Checkout
from benchmarks.live import LiveServer
from benchmarks.scale.jobs import KEEP_SIX, Job
from benchmarks.scale.plan import ScalePlan
from benchmarks.scale.readings import Reading, of_value
from benchmarks.scale.rows import roots

JOBS = 4
SAVES = 1000
FIRST_SAVES = 12
MB = 1e6
LONG_AGO = "2020-01-01T00:00:00.000000Z"
PAST = (
    ("events", "at", "true"),
    ("audit", "at", "true"),
    ("checkpoints", "removed_at", "freed"),
    ("saves", "superseded_at", "superseded_at IS NOT NULL"),
)
"""The times that rows are deleted by: table, column and rows."""
PATIENCE_S = 300


def measure(plan: ScalePlan) -> Iterator[Reading]:
    """Yield the growth of the catalog by a save, what is left of it past the horizons, and the log's size."""
    saves = min(SAVES, plan.rows // 20)
    subject = f"{saves:,} saves of {JOBS} jobs"
    for checkout in plan.checkouts:
        folder = plan.folder / checkout.label
        folder.mkdir()
        _run(checkout, folder, FIRST_SAVES)
        _pass_horizons(checkout, folder / "root")
        before = _used_bytes(folder / "root")
        log_bytes = _run(checkout, folder, saves // JOBS)
        growth = (_used_bytes(folder / "root") - before) / (saves // JOBS * JOBS)
        yield of_value("catalog bytes of a save", subject, checkout.label, growth)
        yield of_value("write-ahead log", subject, checkout.label, log_bytes / MB)
        _pass_horizons(checkout, folder / "root")
        left = (_used_bytes(folder / "root") - before) / (saves // JOBS * JOBS)
        yield of_value("catalog bytes past horizons", subject, checkout.label, left)


def _run(checkout: Checkout, folder: Path, times: int) -> int:
    """Save so many times in each directory; return the size of the log before the server stops."""
    work: dict[str, Any] = {"directories": [f"runs/{number}" for number in range(JOBS)], "policy": KEEP_SIX}
    with LiveServer(folder / "root", checkout=checkout, settings=roots.QUIET) as server:
        with Job(checkout, server.url, folder / f"job-{times}") as job:
            job.ask("crowd", times=times, **work)
        server.wait_until_freed()
        return roots.catalog_of(folder / "root").with_name("catalog.db-wal").stat().st_size


def _pass_horizons(checkout: Checkout, root: Path) -> None:
    """Date what happened back by years, and let a server delete what it deletes for its age."""
    if not _count(root, "sqlite_master WHERE name = 'horizons'"):
        return  # a checkout that keeps everything
    with closing(sqlite3.connect(roots.catalog_of(root))) as connection, connection:
        for table, column, condition in PAST:
            connection.execute(f"UPDATE {table} SET {column} = '{LONG_AGO}' WHERE {condition}")
    with LiveServer(root, checkout=checkout, settings={**roots.QUIET, "HOLDFAST_JANITOR_EVERY_S": "0.2"}):
        ends_at = time.monotonic() + PATIENCE_S
        while _count(root, "checkpoints WHERE freed") or _count(root, "events") > 1 or _count(root, "audit") > 1:
            if time.monotonic() > ends_at:
                raise RuntimeError("the server has not deleted what is past its horizons")
            time.sleep(0.1)


def _count(root: Path, rows: str) -> int:
    with closing(sqlite3.connect(roots.catalog_of(root))) as connection:
        return int(connection.execute(f"SELECT count(*) FROM {rows}").fetchone()[0])


def _used_bytes(root: Path) -> int:
    """Return the bytes of the pages in use; the log is in them, as the server has stopped."""
    with closing(sqlite3.connect(roots.catalog_of(root))) as connection:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)
