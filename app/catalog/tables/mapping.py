"""Mapping of checkpoints to rows, and back."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter

from app.catalog.tables.times import to_text, to_time
from app.core import ranking
from app.core.models import Checkpoint, Facts, File, FileMap, Folder, Kind, Manifest, Retention

_MAP = TypeAdapter(FileMap)
_FOLDERS = TypeAdapter(tuple[Folder, ...])
_KINDS = get_args(Kind)
_RETENTIONS = get_args(Retention)


def row(checkpoint: Checkpoint, writer: str | None) -> Mapping[str, Any]:
    """Return the row of a new checkpoint."""
    return {
        "id": checkpoint.id,
        "directory": checkpoint.directory,
        "name": checkpoint.name,
        "digest": checkpoint.digest,
        "size_bytes": checkpoint.size_bytes,
        "created_at": to_text(checkpoint.created_at),
        "removed_at": to_text(checkpoint.removed_at),
        "removed_because": checkpoint.removed_because,
        "trashed": checkpoint.trashed,
        "writer": writer,
        **folder_values(checkpoint),
        **fact_values(checkpoint.facts),
        **position_values(checkpoint),
    }


def file_rows(manifest: Manifest) -> Iterable[Mapping[str, Any]]:
    """Return the rows of its files."""
    for file in manifest.checkpoint.files:
        yield {
            "checkpoint_id": manifest.checkpoint.id,
            "path": file.path,
            "size_bytes": file.size_bytes,
            "digest": file.digest,
            "version": file.version,
            "mode": file.mode,
            "modified_ns": file.modified_ns,
            "map": _MAP.dump_json(manifest.maps[file.path]).decode(),
        }


def number_rows(checkpoint: Checkpoint) -> Iterable[Mapping[str, Any]]:
    """Return the rows of the metadata that it can be ranked by: finite numbers with short keys."""
    for key, value in checkpoint.facts.metadata.items():
        if ranking.is_key(key) and (number := ranking.finite(value)) is not None:
            yield {
                "checkpoint_id": checkpoint.id,
                "key": key,
                "value": number,
                "directory": checkpoint.directory,
                "saved_after": checkpoint.saved_after,
                "sequence": checkpoint.sequence,
                "removed": checkpoint.removed_at is not None,
            }


def folder_values(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the column of its folders."""
    return {"folders": _FOLDERS.dump_json(checkpoint.folders).decode() if checkpoint.folders else None}


def fact_values(facts: Facts) -> Mapping[str, Any]:
    """Return the columns of its facts."""
    finite = ranking.finite(facts.metric)
    return {
        "kind": facts.kind,
        "epoch": facts.epoch,
        "step": facts.step,
        "metric": finite,
        "metric_text": None if facts.metric is None or finite is not None else repr(facts.metric),
        "is_best": facts.is_best,
        "pinned": facts.pinned,
        "tags": json.dumps(list(facts.tags), ensure_ascii=False),
        "retention": facts.retention,
        "metadata": json.dumps(dict(facts.metadata), ensure_ascii=False, allow_nan=False),
    }


def position_values(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the columns of its position in the order."""
    return {
        "save_id": checkpoint.save_id,
        "sequence": checkpoint.sequence,
        "saved_after": checkpoint.saved_after,
    }


def checkpoint(row: Any, files: tuple[File, ...]) -> Checkpoint:
    """Parse a row.

    Raises
    ------
    ValueError, TypeError, KeyError
        The row is corrupt.
    """
    facts = Facts(
        kind=row["kind"],
        epoch=row["epoch"],
        step=row["step"],
        metric=float(row["metric_text"]) if row["metric_text"] is not None else row["metric"],
        is_best=row["is_best"],
        pinned=row["pinned"],
        tags=tuple(json.loads(row["tags"])),
        retention=row["retention"],
        metadata=json.loads(row["metadata"]),
    )
    _refuse_corrupt(row, facts, files)
    return Checkpoint(
        id=row["id"],
        directory=row["directory"],
        name=row["name"],
        save_id=row["save_id"],
        sequence=row["sequence"],
        saved_after=row["saved_after"],
        facts=facts,
        files=files,
        digest=row["digest"],
        created_at=to_time(row["created_at"]),
        removed_at=to_time(row["removed_at"]),
        removed_because=row["removed_because"],
        trashed=row["trashed"],
        freed=row["freed"],
        verified_at=to_time(row["verified_at"]),
        damage=row["damage"],
        folders=folders(row["folders"]),
    )


def _refuse_corrupt(row: Any, facts: Facts, files: Iterable[File]) -> None:
    """Raise `ValueError` if a column holds a value of a wrong type, which SQLite accepts in any column."""
    numbers = [row["sequence"], row["saved_after"], facts.epoch or 0, facts.step or 0]
    numbers += [file.size_bytes for file in files]
    texts = [row["name"], row["save_id"], row["digest"], *facts.tags]
    texts += [text for file in files for text in (file.digest, file.version)]
    is_sound = (
        facts.kind in _KINDS
        and facts.retention in _RETENTIONS
        and isinstance(facts.metadata, dict)
        and isinstance(facts.metric, float | int | None)
        and all(isinstance(number, int) for number in numbers)
        and all(isinstance(text, str) for text in texts)
    )
    if not is_sound:
        raise ValueError("a column holds a value of a wrong type")


def folders(text: str | None) -> tuple[Folder, ...]:
    """Parse the folders of a checkpoint."""
    return _FOLDERS.validate_json(text) if text else ()


def file_map(text: str) -> FileMap:
    """Parse the chunks and tensors of a file."""
    return _MAP.validate_json(text)
