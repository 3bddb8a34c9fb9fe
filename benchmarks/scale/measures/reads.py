"""Reads with many rows, against the same reads with 1,000: one full directory, many directories, and pruned jobs."""

import base64
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.checkout import Checkout
from benchmarks.live import LiveServer
from benchmarks.scale.http_client import Connection
from benchmarks.scale.plan import BASE_ROWS, ScalePlan
from benchmarks.scale.readings import Reading, Result, attempted, of_times
from benchmarks.scale.rows import roots
from benchmarks.scale.rows.planned import Target
from benchmarks.scale.turns import in_turns

LIST = "/v1/checkpoints?directory={directory}"
EVERYWHERE: Final = {
    "tree page": "/",
    "storage page": "/storage",
    "storage chart": "/storage/series",
    "metrics": "/metrics",
}
OF_A_DIRECTORY: Final = {
    "latest": "/v1/checkpoints/latest?directory={directory}",
    "by id": "/v1/checkpoints/{id}",
    "by name": LIST + "&name={name}",
    "best": "/v1/checkpoints/best?directory={directory}",
    "best by=": "/v1/checkpoints/best?directory={directory}&by=lr",
    "best mode=max": "/v1/checkpoints/best?directory={directory}&mode=max",
    "first page": LIST,
    "directory": "/v1/directories/{directory}",
    "directory page": "/directories/{directory}",
    "series": "/series/{directory}?of=metric",
}
ORDERS = ("best", "epoch", "-epoch", "metric", "-metric", "size_bytes", "created_at", "-created_at")
READS: Final[dict[str, Mapping[str, str]]] = {
    "one": {
        **OF_A_DIRECTORY,
        "middle page": LIST + "&page_token={token}",
        **{f"order {order}": f"{LIST}&order_by={order}" for order in ORDERS},
        **EVERYWHERE,
    },
    "many": {**EVERYWHERE, "directories": "/v1/directories"},
    "jobs": {
        **OF_A_DIRECTORY,
        "with removed": LIST + "&include_removed=true",
        **EVERYWHERE,
        "directories": "/v1/directories",
    },
}
"""The paths of each layout."""
CACHED = ("storage page", "storage chart")
"""Reads that a server answers from memory for a minute: the first one of each server is a figure of its own."""


def targets_of(layout: str, rows: int) -> list[Target]:
    """Return the directories of a layout."""
    match layout:
        case "one":
            return [Target("runs/one", rows, rows, roots.KEPT)]
        case "many":
            many = min(10_000, rows // 10)
            each = rows // many
            return [Target(f"many/{number // 100:03}/{number:05}", each, each, roots.KEPT) for number in range(many)]
        case "jobs":
            jobs = min(200, rows // 50)
            return [Target(f"jobs/{number:03}", rows // jobs, 6, roots.PRUNED) for number in range(jobs)]
    raise LookupError(layout)


@dataclass(frozen=True, slots=True)
class _Key:
    checkout: str
    rows: int


def measure(layout: str, plan: ScalePlan) -> Iterator[Result]:
    """Yield the readings of a layout; each checkout has a server with either number of rows."""
    folder = plan.folder / layout
    folder.mkdir()
    with ExitStack() as stack:
        calls: dict[_Key, Mapping[str, Callable[[], float]]] = {}
        for checkout in plan.checkouts:
            for rows in (BASE_ROWS, plan.rows):
                calls[_Key(checkout.label, rows)] = _calls(plan, checkout, layout, rows, folder, stack)
        for name in READS[layout]:
            chosen = {key: of[name] for key, of in calls.items()}
            yield from attempted(f"{layout}, {name}", _measure_read(plan, name, _subject(layout, plan.rows), chosen))
    shutil.rmtree(folder)


def _calls(
    plan: ScalePlan, checkout: Checkout, layout: str, rows: int, folder: Path, stack: ExitStack
) -> dict[str, Callable[[], float]]:
    """Start a server with so many rows; return a call for each read."""
    targets = targets_of(layout, rows)
    root = roots.filled(checkout, plan.seeds[checkout.label], folder / f"{checkout.label}-{rows}", targets)
    place = roots.middle_of(root, targets[0])
    server = stack.enter_context(LiveServer(root, checkout=checkout, settings=roots.QUIET))
    roots.verify(server, targets[0])
    connection = stack.enter_context(Connection(server.url))
    values = {"directory": place.directory, "id": place.id, "name": place.name}
    if "middle page" in READS[layout]:
        values["token"] = _middle_token(connection, LIST.format(**values), targets[0].saves // 2)
    return {name: partial(connection.took_s, path.format(**values)) for name, path in READS[layout].items()}


def _middle_token(connection: Connection, path: str, rows: int) -> str:
    """Return the token of a page that begins so many rows after the second one, in the order of positions."""
    token = connection.json(path)["next_page_token"]
    listing, key = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    moved = [listing, [value + rows for value in key]]
    return base64.urlsafe_b64encode(json.dumps(moved).encode()).decode().rstrip("=")


def _measure_read(
    plan: ScalePlan, name: str, subject: str, calls: Mapping[_Key, Callable[[], float]]
) -> Iterator[Reading]:
    found: dict[str, Mapping[_Key, list[float]]] = {}
    if name in CACHED:
        found[f"{name}, first"] = {key: [call()] for key, call in calls.items()}
    found[name] = in_turns(calls, budget_s=plan.seconds)
    for figure, spent in found.items():
        for checkout in plan.checkouts:
            many, few = (spent[_Key(checkout.label, rows)] for rows in (plan.rows, BASE_ROWS))
            yield of_times(figure, subject, checkout.label, many, few)


def _subject(layout: str, rows: int) -> str:
    targets = targets_of(layout, rows)
    words = {1: "1 directory"}.get(len(targets), f"{len(targets):,} directories")
    return f"{words} × {targets[0].saves:,}" + (f", {targets[0].live} live" if layout == "jobs" else "")
