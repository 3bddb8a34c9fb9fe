"""The manifest: all that is known of one checkpoint, as JSON beside its files. Pure: bytes in, words out.

A manifest read from disk is input like any other: it is checked in full before anything is believed.
"""

import json
from typing import Any

from pydantic import TypeAdapter, ValidationError

from app import digests, naming
from app.domain import Checkpoint, Directory, FileMap, Manifest
from app.errors import Refusal

FORMAT = 1

_MANIFEST = TypeAdapter(Manifest)
_DIRECTORY = TypeAdapter(Directory)


class Unreadable(ValueError):
    """The bytes are not what this server writes; the message says why."""


def dump(manifest: Manifest) -> bytes:
    """The manifest as bytes that `load` gives back unchanged."""
    return _dump(_MANIFEST.dump_json(manifest))


def load(data: bytes) -> Manifest:
    """The manifest in these bytes.

    Raises
    ------
    Unreadable
        The bytes are not a manifest of this format, or contradict themselves.
    """
    manifest: Manifest = _load(_MANIFEST, data)
    checkpoint = manifest.checkpoint
    try:
        naming.directory_name(checkpoint.directory)
        naming.checkpoint_name(checkpoint.name)
        for file in checkpoint.files:
            naming.file_path(file.path)
    except Refusal as refusal:
        raise Unreadable(refusal.detail) from refusal
    _agree(checkpoint, manifest.maps)
    return manifest


def dump_directory(directory: Directory) -> bytes:
    """What ``directory.json`` says: the policy and the commit counter."""
    return _dump(_DIRECTORY.dump_json(directory))


def load_directory(data: bytes) -> Directory:
    """The directory in these bytes; `Unreadable` where there is none."""
    directory: Directory = _load(_DIRECTORY, data)
    return directory


def _dump(value: bytes) -> bytes:
    return json.dumps({"format": FORMAT, **json.loads(value)}, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _load(adapter: TypeAdapter[Any], data: bytes) -> Any:
    try:
        value = json.loads(data)
        found = value.pop("format", None)
        if found != FORMAT:
            raise Unreadable(f"format {found!r} is not {FORMAT}")
        return adapter.validate_python(value)
    except (ValueError, AttributeError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise Unreadable(f"not readable: {reason}") from error


def _agree(checkpoint: Checkpoint, maps: Any) -> None:
    """The digests, sizes and paths of a manifest must follow from its own chunk lists."""
    if not checkpoint.files or {file.path for file in checkpoint.files} != set(maps):
        raise Unreadable("its files and its chunk lists are not of the same paths")
    for file in checkpoint.files:
        file_map: FileMap = maps[file.path]
        if sum(chunk.length for chunk in file_map.chunks) != file.size_bytes:
            raise Unreadable(f"the chunks of {file.path} do not add up to its size")
        if digests.of_file(file_map.chunks) != file.digest:
            raise Unreadable(f"the digest of {file.path} does not follow from its chunks")
    if digests.of_checkpoint((file.path, file.digest) for file in checkpoint.files) != checkpoint.digest:
        raise Unreadable("its digest does not follow from its files")
