"""The files of a copy: the files of a checkpoint without some, some under new paths. Pure: no catalog, no disk."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from app.core import names
from app.core.errors import FileNotInCheckpoint, InvalidRequest
from app.core.models import Checkpoint, FileMap, Folder, Save, UploadFile, is_folder
from app.service.lifecycle.edit import Change

_NO_CHANGE = Change({}, {})


@dataclass(frozen=True, slots=True)
class CopyRequest:
    """The place of a copy, and its differences from the source.

    Parameters
    ----------
    drop : set of str
        Files, and folders with all that is in them, to leave out.
    rename : mapping of str to str
        New paths of files and folders. The closest one counts.
    change : Change
        Facts that differ from those of the source. A pin is not copied.
    """

    directory: str
    name: str
    save_id: str = ""
    drop: frozenset[str] = frozenset()
    rename: Mapping[str, str] = field(default_factory=dict)
    change: Change = _NO_CHANGE


@dataclass(frozen=True, slots=True)
class Copied:
    """The save of a copy, and for each of its files the path and the position in the source, in rising order."""

    save: Save
    origins: Mapping[str, tuple[str, int]]


def copied(source: Checkpoint, maps: Mapping[str, FileMap], wanted: CopyRequest, token_id: str) -> Copied:
    """Give the save that makes a copy.

    Raises
    ------
    FileNotInCheckpoint
        The source has no file or folder that is to be dropped or renamed.
    InvalidRequest
        Nothing would be left; something would be dropped and renamed; or two files would have one path, or a file that
        of a folder.
    InvalidName
        A path would be too long.
    """
    _refuse_unknown(source, wanted)
    rename = wanted.rename if source.is_folder else {source.name: wanted.name, **wanted.rename}
    files: list[UploadFile] = []
    origins: dict[str, tuple[str, int]] = {}
    for place, file in enumerate(source.files):
        if _closest(file.path, wanted.drop) is not None:
            continue
        path, found = _renamed(file.path, rename), maps[file.path]
        if path in origins:
            raise InvalidRequest(f"{origins[path][0]!r} and {file.path!r} would both be {path!r}.")
        origins[path] = (file.path, place)
        files.append(UploadFile(path, file.size_bytes, found.chunks, found.tensors, file.mode, file.modified_ns))
    if not files:
        raise InvalidRequest(f"Nothing is left of {source.directory}/{source.name}: all its files are dropped.")
    folders = _folders(source, wanted, rename) if is_folder(wanted.name, files) else ()
    _refuse_files_as_folders(origins, folders)
    save = Save(
        directory=wanted.directory,
        name=wanted.name,
        save_id=wanted.save_id,
        facts=wanted.change.applied_to(replace(source.facts, pinned=False)),
        files=tuple(files),
        base=source.id,
        token_id=token_id,
        folders=folders,
    )
    return Copied(save, origins)


def _refuse_unknown(source: Checkpoint, wanted: CopyRequest) -> None:
    known = {path for file in source.files for path in _and_above(file.path)}
    known.update(path for folder in source.folders for path in _and_above(folder.path))
    for path in (*sorted(wanted.drop), *wanted.rename):
        if path not in known:
            raise FileNotInCheckpoint(f"{source.directory}/{source.name} has no file or folder {path!r}.", path=path)
    for path in wanted.rename:
        if _closest(path, wanted.drop) is not None:
            raise InvalidRequest(f"{path!r} is dropped and renamed; do one of both.")


def _refuse_files_as_folders(files: Mapping[str, object], folders: Sequence[Folder]) -> None:
    above = {each for path in files for each in _and_above(path) if each != path}
    above.update(each for folder in folders for each in _and_above(folder.path))
    if taken := sorted(above & files.keys()):
        raise InvalidRequest(f"{taken[0]!r} would be a file and a folder.")


def _folders(source: Checkpoint, wanted: CopyRequest, rename: Mapping[str, str]) -> tuple[Folder, ...]:
    found: dict[str, Folder] = {}
    for folder in source.folders:
        if _closest(folder.path, wanted.drop) is None:
            path = _renamed(folder.path, rename)
            found.setdefault(path, replace(folder, path=path))
    return tuple(found.values())


def _renamed(path: str, rename: Mapping[str, str]) -> str:
    closest = _closest(path, rename)
    return path if closest is None else names.file_path(rename[closest] + path[len(closest) :])


def _closest(path: str, among: Container[str]) -> str | None:
    """Return the path itself or the closest folder above it that is among some paths."""
    return next((each for each in _and_above(path) if each in among), None)


def _and_above(path: str) -> Iterator[str]:
    """Yield a path and the folders above it, the closest first."""
    while path:
        yield path
        path = path.rpartition("/")[0]
