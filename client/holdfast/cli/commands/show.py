"""``holdfast show`` and ``holdfast tensors``: the facts of a directory or checkpoint, and the tensors in one."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Annotated

import typer

from ..._query import paged
from ...errors import CheckpointNotFound
from .. import formatting
from ..options import AsJson, CheckpointPath, DirectoryOrCheckpoint, ServerUrl, Which
from ..output import Cell, Row
from ..session import Json, Session
from ..statuses import Status

_BAR = 24
"""The width of the bar for a whole checkpoint, in characters."""


def show(path: DirectoryOrCheckpoint, which: Which = None, server: ServerUrl = None, as_json: AsJson = False) -> int:
    """Show the facts of a directory or checkpoint, and why a checkpoint is kept."""
    session = Session.of(server, as_json=as_json)
    if which is None:
        if directory := session.described(session.directory(path)):
            return _show_directory(session, directory)
        if "/" not in path.strip("/"):
            raise CheckpointNotFound(f"there is no directory {path!r}; a checkpoint is DIRECTORY/NAME")
    checkpoint = session.find(path, which)
    reasons = _reasons(session, checkpoint)
    if session.out.as_json:
        session.out.document({"checkpoint": checkpoint, "reasons": reasons})
    else:
        session.out.facts(_checkpoint_facts(session, checkpoint, reasons))
    return Status.DONE


def _show_directory(session: Session, found: Json) -> int:
    if session.out.as_json:
        session.out.document({"directory": found})
        return Status.DONE
    best, latest = found["best"], found["latest"]
    session.out.facts(
        [
            ("directory", session.shown(found["directory"])),
            ("checkpoints", Cell.count(found["count"])),
            ("size", _size(found)),
            ("keeps", formatting.policy(found["policy"])),
            ("best", f"{best['name']}  metric {formatting.number(best['metric'])}" if best else formatting.NONE),
            ("latest", latest["name"] if latest else formatting.NONE),
            ("saved", _when(latest["created_at"]) if latest else formatting.NONE),
            ("saves so far", str(found["sequence"])),
        ]
    )
    return Status.DONE


def _reasons(session: Session, checkpoint: Json) -> list[Json] | None:
    """Return the reasons to keep a checkpoint; None if the token may not ask for them."""
    from ...errors import NotAllowed

    body = {"directory": checkpoint["directory"], "dry_run": True}
    try:
        for page in islice(paged.verdicts(session, body), paged.MOST_PAGES):
            for verdict in (verdict for directory in page["directories"] for verdict in directory["verdicts"]):
                if verdict["checkpoint"]["id"] == checkpoint["id"]:
                    return list(verdict["reasons"])
    except (NotAllowed, CheckpointNotFound):
        pass
    return None


def _checkpoint_facts(session: Session, found: Json, reasons: list[Json] | None) -> Iterator[Row]:
    yield ["checkpoint", Cell(session.path_of(found), session.path_of(found), "bold")]
    yield ["kind", found["kind"]]
    yield ["epoch", Cell.number(found["epoch"])]
    yield ["step", Cell.number(found.get("step"))]
    yield ["metric", Cell.number(found["metric"])]
    yield ["saved", _when(found["created_at"])]
    yield ["size", _size(found)]
    yield ["digest", found["digest"]]
    yield ["id", found["id"]]
    if marks := formatting.flags(found):
        yield ["marks", marks]
    for key, value in found["metadata"].items():
        yield [f"metadata.{key}", Cell.number(value)]
    for file in found["files"]:
        yield ["file", file["path"], _size(file), Cell("", file["digest"])]
    yield ["read back", _when(found["verified_at"]) if found.get("verified_at") else "not yet"]
    if found.get("damage"):
        yield ["damage", Cell(found["damage"], found["damage"], "red")]
    if reasons is not None:
        text = ", ".join(reason["text"] for reason in reasons)
        yield [
            "stays",
            Cell(text, text, "green") if reasons else Cell("no: goes at the next prune or save", "no", "red"),
        ]


def tensors(
    path: CheckpointPath,
    which: Which = None,
    search: Annotated[
        str | None, typer.Option("--search", "-s", metavar="TEXT", help="Only tensors whose names contain this text.")
    ] = None,
    server: ServerUrl = None,
    as_json: AsJson = False,
) -> int:
    """Show the tensors of a checkpoint by module, with their share of its size. Nothing is downloaded."""
    session = Session.of(server, as_json=as_json)
    checkpoint = session.find(path, which)
    files = paged.tensors(session, checkpoint)
    found = [
        {"file": file["path"], **tensor}
        for file in files
        for tensor in file["tensors"]
        if not search or search.lower() in tensor["name"].lower()
    ]
    if session.out.as_json:
        session.out.document({"checkpoint": checkpoint, "tensors": found})
        return Status.DONE if found or not search else Status.NO
    whole = sum(tensor["size_bytes"] or 0 for file in files for tensor in file["tensors"]) or 1
    rows = _grouped(found, whole) if session.out.is_terminal else (_tensor_row(each, whole) for each in found)
    session.out.table(["TENSOR", "DTYPE", "SHAPE", ">SIZE", "SHARE", ""], rows)
    return Status.DONE if found or not search else Status.NO


def _grouped(found: list[Json], whole: int) -> Iterator[Row]:
    """Yield the tensors below a line for each module."""
    modules: dict[str, list[Json]] = {}
    for tensor in found:
        modules.setdefault(tensor["name"].rpartition(".")[0], []).append(tensor)
    for module, members in modules.items():
        size_bytes = sum(tensor["size_bytes"] or 0 for tensor in members)
        title = Cell(module or "(top)", module, "bold")
        yield [
            title,
            "",
            formatting.count(len(members), "tensor"),
            formatting.size(size_bytes),
            *_share(size_bytes, whole),
        ]
        for tensor in members:
            name = tensor["name"].rpartition(".")[2]
            yield [f"  {name}", *_tensor_row(tensor, whole)[1:]]


def _tensor_row(tensor: Json, whole: int) -> list[Cell | str]:
    size_bytes = tensor["size_bytes"] or 0
    return [
        tensor["name"],
        tensor["dtype"],
        formatting.shape(tensor),
        Cell.size(size_bytes),
        *_share(size_bytes, whole),
    ]


def _share(size_bytes: int, whole: int) -> tuple[Cell, Cell]:
    share = size_bytes / whole
    bar = "█" * round(share * _BAR) or ("▏" if size_bytes else "")
    return Cell(bar, f"{share:.6f}", "cyan"), Cell(f"{share:.1%}", f"{share:.1%}", "dim")


def _size(found: Json) -> Cell:
    return Cell(f"{formatting.size(found['size_bytes'])} ({found['size_bytes']:,} bytes)", str(found["size_bytes"]))


def _when(at: str) -> Cell:
    return Cell(f"{at[:19].replace('T', ' ')} UTC, {formatting.ago(at, datetime.now(UTC))}", at)
