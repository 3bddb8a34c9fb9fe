"""Spooled checkpoints of local files: those of a folder in a folder of their own, beside the facts of the save.

A single file becomes an item like that of a state, see `item`, which every client delivers and loads.

::

    000000000012-4194304-<save_id>/
      files/model.safetensors
      files/optimizer/state.pt
      item.json                             with the chunks and the attributes of each file
"""

import fcntl
import os
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from .._api.digests import of_chunk
from .._runtime.file_attributes import FileAttributes
from .._runtime.interruption import suppress
from .._runtime.parallel import in_parallel
from .._transfer import fsync
from .._transfer.file_source import FileSource
from .._transfer.folders.local_files import KEPT_BYTES, LocalFiles
from .._transfer.upload_source import Readable
from ..errors import IntegrityError
from . import item as _items
from .item import SpooledFile

FILES = "files"
_FICLONE = 0x40049409
_THREADS = 4


Content = Readable | LocalFiles
"""The content of a save: one file, or the files of a folder."""


def write(folder: Path, save: Mapping[str, Any], source: Content, about: Mapping[str, Any]) -> None:
    """Write a folder that holds a checkpoint, all of it durable except the folder's own name.

    Several files are copied, as the job may write into its own after the save. The copies share blocks with them if the
    file system can; a large file that only this process has a name for is linked.

    Raises
    ------
    IntegrityError
        A file was changed meanwhile. Nothing is left.
    OSError
        It cannot be written; nothing of it is left.
    """
    if not isinstance(source, LocalFiles):
        return _items.write(folder, save, source, about)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        disk = fsync.FileSystem(folder)
        try:
            _write(folder, save, source, about, disk)
        finally:
            disk.close()
        fsync.sync(folder)
    except BaseException:
        _items.discard(folder)
        raise


def _write(
    folder: Path, save: Mapping[str, Any], source: LocalFiles, about: Mapping[str, Any], disk: fsync.FileSystem
) -> None:
    top = folder / FILES
    places = {path: top / path if path is not None else folder / _items.FILE for path in source}
    folders = sorted({place.parent for place in places.values()} | _parents(places.values(), top))
    for each in folders:
        each.mkdir(mode=0o700, exist_ok=True)
    linked: list[Path] = []

    def keep(path: str | None) -> None:
        if _keep(source[path], places[path], may_link=source.is_held):
            linked.append(places[path])

    in_parallel(places, keep, threads=_THREADS)
    source.refuse_changed()
    facts = {"version": _items.VERSION, **about, "save": dict(save), **_described(source)}
    in_parallel(linked, fsync.sync, threads=_THREADS)  # written by another process: only their own sync tells of errors
    jobs = [
        partial(disk.sync, set(places.values()).difference(linked), reversed(folders)),
        partial(_items.write_facts, folder, facts),
    ]
    in_parallel(jobs, lambda job: job())


def _parents(places: Iterable[Path], top: Path) -> set[Path]:
    return {above for place in places for above in place.parents if top in above.parents}


def _keep(source: FileSource, to: Path, *, may_link: bool) -> bool:
    """Give a file a place in the spool; return True if it is a link."""
    if may_link and source.size_bytes > KEPT_BYTES:
        with suppress(OSError):  # another file system, or one without links
            if Path(source.path).stat().st_nlink == 1:
                os.link(source.path, to)
                return True
    with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", 0) as sink:
        if not (source.size_bytes > KEPT_BYTES and _is_cloned(source, sink.fileno())):
            for place in range(len(source.spans)):
                data = source.read_again(place)
                while data:
                    data = data[sink.write(data) :]
            return False
    copied = source.at(to)
    for place in range(len(copied.spans)):
        copied.read_again(place)
    return False


def _is_cloned(source: FileSource, descriptor: int) -> bool:
    """Let a new file share the blocks of another one, if the file system can."""
    with suppress(OSError), Path(source.path).open("rb") as opened:
        fcntl.ioctl(descriptor, _FICLONE, opened.fileno())
        return os.fstat(descriptor).st_size == source.size_bytes
    os.ftruncate(descriptor, 0)
    return False


def _described(source: LocalFiles) -> dict[str, Any]:
    """Return the facts of the files; those of a folder change the version of the item."""
    if None in source:
        return _described_file(source[None])
    files = [{"path": path, **_described_file(each)} for path, each in source.items()]
    return {"version": _items.VERSION_OF_FOLDERS, "size_bytes": source.size_bytes, "files": files}


def _described_file(source: FileSource) -> dict[str, Any]:
    return {
        "size_bytes": source.size_bytes,
        "chunks": [[chunk.length, chunk.digest] for chunk in source.chunks()],
        "tensors": source.tensors,
        **source.attributes.as_json(),
    }


def opened(folder: Path, facts: Mapping[str, Any]) -> "SpooledFile | SpooledFiles":
    """Return what waits in the folder of a checkpoint, by its facts, to be sent: its file, open, or its files.

    Raises
    ------
    IntegrityError
        A file has another length than it was written with.
    FileNotFoundError
        It is no longer there.
    """
    if is_of_folder(facts):
        return SpooledFiles(folder, facts)
    return SpooledFile(folder / _items.FILE, facts)


def is_of_folder(facts: Mapping[str, Any]) -> bool:
    """Tell by its facts if a checkpoint is one of several files."""
    return facts.get("version") == _items.VERSION_OF_FOLDERS


class SpooledFiles(dict[str | None, SpooledFile]):
    """The files of a spooled checkpoint by their paths within it, to be sent or put on this machine.

    Parameters
    ----------
    folder : Path
        The folder of the checkpoint.
    facts : mapping
        The result of `item.read_facts`.

    Raises
    ------
    IntegrityError
        A file has another length than it was written with.
    FileNotFoundError
        A file, or the whole checkpoint, is no longer there.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        super().__init__()
        for about in facts["files"]:
            self[about["path"]] = SpooledFile(folder / FILES / about["path"], about, stays_open=False)
        self.attributes = {each.get("path", ""): FileAttributes.from_json(each) for each in _folders(facts)}
        """Those of the folders, by their paths."""

    def __enter__(self) -> "SpooledFiles":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two reads."""

    def has_changed(self) -> bool:
        """Tell if a file differs from what was written."""
        return any(file.has_changed() for file in self.values())

    def copy_to(self, places: Mapping[str, Path]) -> None:
        """Write the files to new paths, verified, with their attributes.

        Raises
        ------
        IntegrityError
            The bytes are not those that were saved.
        """

        def copy(path: str) -> None:
            with places[path].open("xb") as sink:
                write_verified(self[path], sink.write)
            self[path].attributes.apply(places[path])

        in_parallel(places, copy, threads=_THREADS)


def write_verified(file: SpooledFile, write: Callable[[memoryview], object]) -> None:
    """Pass all bytes of a file to ``write``; `IntegrityError` if they are not those that were saved."""
    for place in range(len(file.spans)):
        data, digest = file.read(place)
        if of_chunk(data) != digest:
            raise IntegrityError(f"the bytes of {file.what} are not those saved")
        write(data)


def _folders(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(facts["save"].get("folders") or ())
