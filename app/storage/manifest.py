"""The manifest: everything known of one checkpoint, as JSON beside its files. Pure: bytes in, values out.

A manifest that was read from a store is untrusted input: it is validated in full before anything in it is used.
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
from app.core.models import CHUNK_MAX_BYTES, INTERVALS, LIMITS, Checkpoint, Directory, FileMap, Manifest

FORMAT = 1
INDENTED_BYTES = 256 * 1024
"""Shorter records are indented, for people to read."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MAX_VERSION = 255
_DIGEST = re.compile(r"[0-9a-f]{64}")
_OMITTED = {"removed_at", "removed_because", "trashed", "freed", "verified_at", "damage"}
_MANIFEST = TypeAdapter(Manifest)
_DIRECTORY = TypeAdapter(Directory)
_KEYS = {"format", *(field.name for kind in (Manifest, Directory) for field in fields(kind))}


class Unreadable(ValueError):
    """The bytes are no record that this server writes; the message says why."""


def dump(manifest: Manifest) -> bytes:
    """Return the manifest as bytes, from which `load` makes an equal one."""
    return _dump(_MANIFEST.dump_json(manifest, exclude={"checkpoint": _OMITTED}))


def load(data: bytes) -> Manifest:
    """Return the manifest in these bytes.

    Raises
    ------
    Unreadable
        The bytes are not a manifest of this format, or contradict themselves.
    """
    manifest: Manifest = _load(_MANIFEST, data)
    checkpoint = manifest.checkpoint
    if any(getattr(checkpoint, name) for name in _OMITTED):
        raise Unreadable("it holds facts that only the catalog has")
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
    """Return the content of ``directory.json``: the policy and the commit counter."""
    return _dump(_DIRECTORY.dump_json(directory))


def load_directory(data: bytes) -> Directory:
    """Return the directory in these bytes; `Unreadable` if they hold none."""
    directory: Directory = _load(_DIRECTORY, data)
    if not 0 <= directory.sequence < 2**63:
        raise Unreadable("it holds an impossible counter")
    _refuse_limits({name: getattr(directory.policy, name) for name in LIMITS})
    _refuse_times(directory.created_at, directory.last_write_at)
    return directory


def is_as_written(data: bytes) -> bool:
    """Return whether the check in these bytes is right, or rightly absent; otherwise they were changed.

    Version 0.1.0 wrote no check, and an operator who edits a record by hand removes it.
    """
    try:
        value = json.loads(data)
        if not isinstance(value, dict):
            return False
        if "check" not in value:
            return value.keys() <= _KEYS  # a renamed check is a key that no record has
        return bool(value.pop("check") == _check(value))
    except (ValueError, RecursionError):
        return False


def _dump(value: bytes) -> bytes:
    body = {"format": FORMAT, **json.loads(value)}
    if "checkpoint" in body:
        body["checkpoint"]["files"] = [_with_time(file) for file in body["checkpoint"]["files"]]
    text = _canonical(body)
    check = digests.of_chunk(text.encode())
    if len(value) >= INDENTED_BYTES:  # the check is put before the checked text: a second dump takes long
        return f'{{"check":"{check}",{text[1:]}'.encode()
    return json.dumps({**body, "check": check}, indent=1, ensure_ascii=False, allow_nan=False).encode()


def _check(body: Mapping[str, Any]) -> str:
    """Return the BLAKE3 of a record without its check, as canonical JSON."""
    return digests.of_chunk(_canonical(body).encode(errors="surrogatepass"))


def _canonical(body: Mapping[str, Any]) -> str:
    """Return canonical JSON: sorted keys and no spaces."""
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _load(adapter: TypeAdapter[Any], data: bytes) -> Any:
    try:
        value = json.loads(data, parse_constant=_refuse_constant)
        if not isinstance(value, dict):
            raise Unreadable("it is no JSON object")
        value.pop("check", None)
        if (found := value.pop("format", None)) != FORMAT:
            raise Unreadable(f"format {found!r} is not {FORMAT}")
        if adapter is _MANIFEST:
            _without_times(value)
        return adapter.validate_python(value)
    except (ValueError, RecursionError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise Unreadable(f"not readable: {reason}") from error


def _with_time(file: dict[str, Any]) -> dict[str, Any]:
    """Write a numeric version, as that of the local store, as the number that format 1 calls ``mtime_ns``."""
    version = file["version"]
    time_ns = int(version) if len(version) <= 19 and version.isdecimal() else -1
    if not (0 <= time_ns < 2**63 and str(time_ns) == version):
        return file
    return {"mtime_ns" if key == "version" else key: time_ns if key == "version" else file[key] for key in file}


def _without_times(manifest: Any) -> None:
    """Read ``mtime_ns`` as a version; a value of another shape is left to the validation."""
    checkpoint = manifest.get("checkpoint")
    files = checkpoint.get("files") if isinstance(checkpoint, dict) else None
    for file in files if isinstance(files, list) else ():
        time_ns = file.get("mtime_ns") if isinstance(file, dict) else None
        if type(time_ns) is int:
            if not 0 <= time_ns < 2**63:
                raise Unreadable("it holds an impossible number")
            file["version"] = str(file.pop("mtime_ns"))


def _refuse_constant(name: str) -> None:
    raise Unreadable(f"{name} is not JSON")


def _refuse_limits(limits: Mapping[str, int | None]) -> None:
    for name, value in limits.items():
        least = 1 if name in INTERVALS else 0
        if name not in LIMITS or (value is not None and not least <= value < 2**63):
            raise Unreadable(f"it holds an impossible limit: {name}")


def _refuse_numbers(manifest: Manifest) -> None:
    """Refuse impossible numbers: negative ones, and those that SQL cannot hold."""
    checkpoint = manifest.checkpoint
    numbers = [checkpoint.sequence, checkpoint.saved_after, checkpoint.facts.epoch or 0, checkpoint.facts.step or 0]
    told = [(each.mode, each.modified_ns) for each in checkpoint.files]
    told += [(each.mode, each.modified_ns) for each in checkpoint.folders]
    numbers += [modified_ns or 0 for _, modified_ns in told]
    if not all(0 <= (mode or 0) <= 0o777 for mode, _ in told):
        raise Unreadable("it holds impossible permissions")
    numbers += [file.size_bytes for file in checkpoint.files]
    if not all(0 <= number < 2**63 for number in numbers):
        raise Unreadable("it holds an impossible number")
    if not all(0 < len(file.version) <= _MAX_VERSION and file.version.isprintable() for file in checkpoint.files):
        raise Unreadable("it holds an impossible version")
    for chunk in (chunk for found in manifest.maps.values() for chunk in found.chunks):
        if not 0 < chunk.length <= CHUNK_MAX_BYTES or not _DIGEST.fullmatch(chunk.digest):
            raise Unreadable("it holds a chunk of an impossible length or digest")


def _refuse_times(*times: datetime | None) -> None:
    """Refuse times that do not exist in UTC, such as some in the last hours of the year 9999."""
    for at in times:
        try:
            if at is not None:
                at.astimezone(UTC)
        except (OverflowError, ValueError) as error:
            raise Unreadable("it holds an impossible time") from error


def _agree(checkpoint: Checkpoint, maps: Any) -> None:
    """Refuse a manifest whose digests, sizes and paths do not follow from its own chunk lists."""
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
