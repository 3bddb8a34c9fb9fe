"""``holdfast diff``: the differences between two checkpoints, by digests alone. Its statuses are those of diff(1)."""

from collections.abc import Iterator

from ..._query import paged
from .. import formatting
from ..options import AsJson, CheckpointPath, ServerUrl
from ..output import Cell, Row
from ..session import Json, Session
from ..statuses import Status

_MARKS = {"added": ("+", "green"), "removed": ("-", "red"), "reshaped": ("%", "magenta"), "changed": ("~", "yellow")}
_UNCERTAIN = ("?", "dim")
_FACTS = ("kind", "epoch", "step", "metric", "is_best", "pinned", "tags")


def diff(before: CheckpointPath, after: CheckpointPath, server: ServerUrl = None, as_json: AsJson = False) -> int:
    """Compare two checkpoints: facts, files and tensors. Nothing is downloaded."""
    session = Session.of(server, as_json=as_json)
    old, new = session.find(before), session.find(after)
    found = paged.comparison(session, old, new)
    is_same = not any(each["change"] != "same" for each in [*found["files"], *(found["tensors"] or [])])
    if session.out.as_json:
        session.out.document({"same": is_same, **found})
    else:
        _show(session, found)
    return Status.DONE if is_same else Status.NO


def _show(session: Session, found: Json) -> None:
    is_terminal = session.out.is_terminal
    if is_terminal:
        session.out.line(f"- {session.path_of(found['before'])}", "red")
        session.out.line(f"+ {session.path_of(found['after'])}", "green")
    rows = [*_facts(found["before"], found["after"]), *_files(found), *_tensors(found)]
    session.out.table(["", "WHAT", "NAME", "BEFORE", "AFTER"], rows)
    if is_terminal:
        counts = ", ".join(f"{count} {change}" for change, count in found["counts"].items())
        session.out.line(f"{counts}; {formatting.size(found['shared_bytes'])} are shared", "dim")


def _facts(before: Json, after: Json) -> Iterator[Row]:
    for fact in _FACTS:
        if before.get(fact) != after.get(fact):
            yield [_mark("changed"), "fact", fact, Cell.number(before.get(fact)), Cell.number(after.get(fact))]
    old, new = before["metadata"], after["metadata"]
    for key in sorted({*old, *new}):
        if key not in old or key not in new or old[key] != new[key]:
            change = "added" if key not in old else "removed" if key not in new else "changed"
            yield [_mark(change), "metadata", key, Cell.number(old.get(key)), Cell.number(new.get(key))]


def _files(found: Json) -> Iterator[Row]:
    for file in found["files"]:
        if file["change"] != "same":
            yield [_mark(file["change"]), "file", file["path"], _bytes(file["before"]), _bytes(file["after"])]


def _tensors(found: Json) -> Iterator[Row]:
    several = len(found["files"]) > 1
    for tensor in found["tensors"] or []:
        if tensor["change"] != "same":
            name = f"{tensor['file']}: {tensor['name']}" if several else tensor["name"]
            yield [_mark(tensor["change"]), "tensor", name, _typed(tensor["before"]), _typed(tensor["after"])]


def _mark(change: str) -> Cell:
    mark, style = _MARKS.get(change, _UNCERTAIN)
    return Cell(mark, change, style)


def _bytes(side: Json | None) -> Cell:
    return Cell.size(side["size_bytes"]) if side else Cell.of(formatting.NONE)


def _typed(side: Json | None) -> str:
    return f"{side['dtype']} {formatting.shape(side)}" if side else formatting.NONE
