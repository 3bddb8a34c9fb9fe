"""``holdfast ls``: the directories below a prefix, or the checkpoints of a directory."""

from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from ...errors import CheckpointNotFound
from .. import formatting
from ..completion import directory_names
from ..options import AsJson, ServerUrl
from ..output import Cell, Row
from ..session import Json, Session
from ..statuses import Misuse, Status

_ORDERS: dict[str, Callable[[Json], object]] = {
    "name": lambda found: found["directory"],
    "count": lambda found: found["count"],
    "size_bytes": lambda found: found["size_bytes"],
    "created_at": lambda found: found["latest"]["created_at"] if found["latest"] else "",
}
CHECKPOINT_ORDERS = ("position", "best", "epoch", "step", "metric", "created_at", "name", "size_bytes")


def ls(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PREFIX|DIRECTORY", autocompletion=directory_names, help="Directory, or prefix of directories."
        ),
    ] = None,
    directories: Annotated[
        bool, typer.Option("--directories", "-d", help="List directories even if the path is one.")
    ] = False,
    removed: Annotated[bool, typer.Option("--removed", help="Include removed checkpoints.")] = False,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only checkpoints of this kind: regular or best.")
    ] = None,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only checkpoints with this tag.")] = None,
    order: Annotated[
        str | None,
        typer.Option(
            "--order",
            metavar="[-]ORDER",
            help="Checkpoints: position, best, epoch, step, metric, created_at, name, size_bytes; default -position, "
            "the newest first. Directories: name, count, size_bytes, created_at. A leading - reverses the order.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", metavar="N", min=0, help="List at most N.")] = None,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """List the checkpoints of a directory, or the directories below a prefix."""
    session = Session.of(server, as_json=as_json)
    if path and not directories and (found := session.described(session.directory(path))):
        query = {"include_removed": True if removed else None, "kind": kind, "tag": tag}
        return _checkpoints(session, found, order or "-position", limit, query)
    if removed or kind or tag:
        raise Misuse(
            "--removed, --kind and --tag are for the checkpoints of a directory, and there is no such directory"
        )
    return _directories(session, path, order or "name", limit)


def _directories(session: Session, path: str | None, order: str, limit: int | None) -> int:
    key = _ORDERS.get(order.removeprefix("-"))
    if key is None:
        raise Misuse(f"directories are ordered by {', '.join(_ORDERS)}, not by {order}")
    listed = session.pages("/v1/directories", "directories", prefix=session.below(path))
    found = [directory for directory in listed if directory["count"] or path]
    if path and not found:
        raise CheckpointNotFound(f"there is no directory at or below {path!r}")
    found = sorted(found, key=key, reverse=order.startswith("-"))[:limit]  # type: ignore[arg-type]
    if session.out.as_json:
        session.out.document({"directories": found})
        return Status.DONE
    now = datetime.now(UTC)
    columns = ["DIRECTORY", ">CHECKPOINTS", ">SIZE", ">BEST", "LATEST", "SAVED"]
    session.out.table(columns, (_directory_row(session, directory, now) for directory in found))
    return Status.DONE


def _directory_row(session: Session, found: Json, now: datetime) -> Row:
    best, latest = found["best"], found["latest"]
    return [
        Cell.of(session.shown(found["directory"])),
        Cell.count(found["count"]),
        Cell.size(found["size_bytes"]),
        Cell.number(best["metric"] if best else None),
        latest["name"] if latest else formatting.NONE,
        _saved(latest, now),
    ]


def _checkpoints(session: Session, directory: Json, order: str, limit: int | None, query: Json) -> int:
    if order.removeprefix("-") not in CHECKPOINT_ORDERS:
        raise Misuse(f"checkpoints are ordered by {', '.join(CHECKPOINT_ORDERS)}, not by {order}")
    asked = {"directory": directory["directory"], "order_by": order, **query}
    if limit is not None:
        asked["page_size"] = min(max(limit, 1), 1000)
    found = list(islice(session.pages("/v1/checkpoints", "checkpoints", **asked), limit))
    if session.out.as_json:
        session.out.document({"directory": directory["directory"], "checkpoints": found})
        return Status.DONE
    best = directory["best"]["id"] if directory["best"] else None
    now = datetime.now(UTC)
    columns = ["NAME", ">EPOCH", ">METRIC", ">SIZE", "SAVED", "KIND", "MARKS", ">STEP"]
    session.out.table(columns, (_checkpoint_row(checkpoint, best, now) for checkpoint in found))
    return Status.DONE


def _checkpoint_row(found: Json, best: str | None, now: datetime) -> Row:
    is_best = found["id"] == best
    marks = ", ".join(word for word in ("the best" if is_best else "", formatting.flags(found)) if word)
    return [
        Cell(found["name"], found["name"], "dim strike" if found["removed_at"] else "bold" if is_best else ""),
        Cell.number(found["epoch"]),
        Cell.number(found["metric"], "green" if is_best else ""),
        Cell.size(found["size_bytes"]),
        _saved(found, now),
        found["kind"],
        Cell(marks, marks or formatting.NONE),
        Cell.number(found.get("step")),  # the columns of earlier versions come first: programs count them
    ]


def _saved(found: Json | None, now: datetime) -> Cell:
    if found is None:
        return Cell.of(formatting.NONE)
    return Cell(formatting.ago(found["created_at"], now), found["created_at"], "dim")
