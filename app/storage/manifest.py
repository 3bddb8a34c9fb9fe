"""The manifest: all that is known of one checkpoint, as JSON beside its files. Pure: bytes in, words out.

A manifest read from disk is input like any other: it is checked in full before anything is believed.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app.core import digests, limits, names
from app.core.errors import Refusal
from app.core.models import CHUNK_MAX_BYTES, LIMITS, Checkpoint, Directory, FileMap, Manifest

FORMAT = 1
INDENTED_BYTES = 256 * 1024
"""Shorter records are indented, for people to read."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NOT_TOLD = {"removed_at", "removed_because", "trashed", "freed", "verified_at", "damage"}
_MANIFEST = TypeAdapter(Manifest)
_DIRECTORY = TypeAdapter(Directory)
_KEYS = {"format", *(field.name for kind in (Manifest, Directory) for field in fields(kind))}


class Unreadable(ValueError):
    """The bytes are not what this server writes; the message says why."""


def dump(manifest: Manifest) -> bytes:
    """The manifest as bytes that `load` gives back unchanged."""
    return _dump(_MANIFEST.dump_json(manifest, exclude={"checkpoint": _NOT_TOLD}))


def load(data: bytes) -> Manifest:
    """The manifest in these bytes.

    Raises
    ------
    Unreadable
        The bytes are not a manifest of this format, or contradict themselves.
    """
    manifest: Manifest = _load(_MANIFEST, data)
    checkpoint = manifest.checkpoint
    if any(getattr(checkpoint, name) for name in _NOT_TOLD):
        raise Unreadable("it speaks of what only the catalog knows")
    for name in (checkpoint.id, checkpoint.save_id, *([manifest.replaces] if manifest.replaces is not None else [])):
        if not _ID.fullmatch(name):
            raise Unreadable(f"{name!r} is no id")
    try:
        names.directory_name(checkpoint.directory)
        names.checkpoint_name(checkpoint.name)
        for file in checkpoint.files:
            names.file_path(file.path)
        for folder in checkpoint.folders:
            if folder.path:
                names.file_path(folder.path)
        for tag in checkpoint.facts.tags:
            names.tag(tag)
        limits.bounded_metadata(checkpoint.facts.metadata)
    except Refusal as refusal:
        raise Unreadable(refusal.detail) from refusal
    _refuse_limits(manifest.policy.limits)
    _refuse_numbers(manifest)
    _refuse_times(checkpoint.created_at)
    _agree(checkpoint, manifest.maps)
    return manifest


def dump_directory(directory: Directory) -> bytes:
    """What ``directory.json`` says: the policy and the commit counter."""
    return _dump(_DIRECTORY.dump_json(directory))


def load_directory(data: bytes) -> Directory:
    """The directory in these bytes; `Unreadable` where there is none."""
    directory: Directory = _load(_DIRECTORY, data)
    if not 0 <= directory.sequence < 2**63:
        raise Unreadable("it holds a counter that cannot be")
    _refuse_limits({name: getattr(directory.policy, name) for name in LIMITS})
    _refuse_times(directory.created_at, directory.last_write_at)
    return directory


def is_as_written(data: bytes) -> bool:
    """Whether the check in these bytes, or the absence of one, speaks against nothing: else something has changed them.

    Version 0.1.0 wrote no check, and whoever changes a record by hand takes it out.
    """
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            return False
        if "check" not in value:
            return value.keys() <= _KEYS  # what was its check once has another name where that was changed
        return bool(value.pop("check") == _check(value))
    except (ValueError, RecursionError):
        return False


def _dump(value: bytes) -> bytes:
    body = {"format": FORMAT, **json.loads(value)}
    text = _canonical(body)
    check = digests.of_chunk(text.encode())
    if len(value) >= INDENTED_BYTES:  # the check goes first into what was checked: to write it again takes long
        return f'{{"check":"{check}",{text[1:]}'.encode()
    return json.dumps({**body, "check": check}, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _check(body: Mapping[str, Any]) -> str:
    """BLAKE3 of a record without its check, as JSON with sorted keys and no spaces."""
    return digests.of_chunk(_canonical(body).encode(errors="surrogatepass"))


def _canonical(body: Mapping[str, Any]) -> str:
    """JSON with sorted keys and no spaces."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _load(adapter: TypeAdapter[Any], data: bytes) -> Any:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise Unreadable("it is no JSON object")
        value.pop("check", None)
        if (found := value.pop("format", None)) != FORMAT:
            raise Unreadable(f"format {found!r} is not {FORMAT}")
        return adapter.validate_python(value)
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise Unreadable(f"not readable: {reason}") from error


def _refuse_constant(name: str) -> None:
    raise Unreadable(f"{name} is not JSON")


def _refuse_limits(limits: Mapping[str, int | None]) -> None:
    for name, value in limits.items():
        least = 1 if name == "keep_every_epochs" else 0
        if name not in LIMITS or (value is not None and not least <= value < 2**63):
            raise Unreadable(f"it holds a limit that cannot be: {name}")


def _refuse_numbers(manifest: Manifest) -> None:
    """Numbers that cannot be: negative ones, and those that SQL cannot hold."""
    checkpoint = manifest.checkpoint
    numbers = [checkpoint.sequence, checkpoint.saved_after, checkpoint.facts.epoch or 0]
    told = [(each.mode, each.modified_ns) for each in checkpoint.files]
    told += [(each.mode, each.modified_ns) for each in checkpoint.folders]
    numbers += [modified_ns or 0 for _, modified_ns in told]
    if not all(0 <= (mode or 0) <= 0o777 for mode, _ in told):
        raise Unreadable("it holds permissions that cannot be")
    numbers += [number for file in checkpoint.files for number in (file.size_bytes, file.mtime_ns)]
    if not all(0 <= number < 2**63 for number in numbers):
        raise Unreadable("it holds a number that cannot be")
    for chunk in (chunk for found in manifest.maps.values() for chunk in found.chunks):
        if not 0 < chunk.length <= CHUNK_MAX_BYTES or not _DIGEST.fullmatch(chunk.digest):
            raise Unreadable("it holds a chunk whose length or digest cannot be")


def _refuse_times(*times: datetime | None) -> None:
    """Times that are none in UTC, as the last hours of the year 9999 may be."""
    for at in times:
        try:
            if at is not None:
                at.astimezone(UTC)
        except (OverflowError, ValueError) as error:
            raise Unreadable("it holds a time that cannot be") from error


def _agree(checkpoint: Checkpoint, maps: Any) -> None:
    """The digests, sizes and paths of a manifest must follow from its own chunk lists."""
    paths = [file.path for file in checkpoint.files]
    if not paths or len(set(paths)) < len(paths) or set(paths) != set(maps):
        raise Unreadable("its files and its chunk lists are not of the same paths")
    for file in checkpoint.files:
        file_map: FileMap = maps[file.path]
        if sum(chunk.length for chunk in file_map.chunks) != file.size_bytes:
            raise Unreadable(f"the chunks of {file.path} do not add up to its size")
        if digests.of_file(file_map.chunks) != file.digest:
            raise Unreadable(f"the digest of {file.path} does not follow from its chunks")
    if digests.of_checkpoint((file.path, file.digest) for file in checkpoint.files) != checkpoint.digest:
        raise Unreadable("its digest does not follow from its files")
