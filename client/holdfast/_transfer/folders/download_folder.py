"""Download of whole checkpoints: a folder is filled under a temporary name, synced once, and then renamed."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ..._api import digests
from ..._api.retry import READERS_PATIENCE, RetryDeadline, is_transient
from ..._api.server import Server, read_into
from ..._api.wire import Batch, Checkpoint, FileChunks
from ..._arguments.name_mapping import safe_components
from ..._runtime.file_attributes import FileAttributes
from ..._runtime.parallel import in_parallel
from ...errors import HoldfastError, ServerUnreachable
from .. import destination, download, fsync
from ..cache import Cache
from ..contents import contents_of
from ..progress import Progress
from . import target

_LARGE_BYTES = download.JOB_BYTES
"""Larger files are fetched one after another, each over several connections."""


def into_files(
    server: Server,
    checkpoint: Checkpoint,
    to: Path,
    *,
    into_folder: bool = False,
    cache: Cache | None = None,
    progress: bool | None = None,
) -> Path:
    """Download a checkpoint's file or folder to a path; existing files are replaced once all are verified.

    A folder that is there already keeps its other files.

    Parameters
    ----------
    into_folder : bool
        True if the path is that of a folder: a checkpoint of one file gets its own name below it.

    Returns
    -------
    Path
        The place of the file or folder.

    Raises
    ------
    IntegrityError
        The bytes are not those that were saved, or a file's path leads out of the checkpoint.
    FileExistsError
        The checkpoint is a folder and a file is at the path; or a folder is where a file belongs.
    """
    files, batches, folders = contents_of(server, checkpoint)
    if [file.path for file in files] == [checkpoint.name]:
        to = to.joinpath(*safe_components(checkpoint.name)) if into_folder else to
        download.into_file(server, files[0], to, cache, progress)
        return to
    places = {file.path: Path(*safe_components(file.path)) for file in files}
    attributes = {Path(*safe_components(path)) if path else Path(): like for path, like in folders.items()}
    _refuse_conflicts(to, places.values())
    parent = to if to.is_dir() else to.parent
    with target.new_folder(parent, to.name) as new, target.watched(new.path) as disk:
        aside = new.path
        for folder in sorted({place.parent for place in places.values()} | attributes.keys()):
            (aside / folder).mkdir(parents=True, exist_ok=True)
        with Progress(f"load {checkpoint.name}", checkpoint.size_bytes, progress) as bar:
            _Filling(server, files, {path: aside / place for path, place in places.items()}, cache, bar).run(batches)
        disk.sync([aside / place for place in places.values()], target.folders_in(aside))
        _put(aside, to, attributes)
    return to


def as_whole(
    server: Server,
    checkpoint: Checkpoint,
    parent: Path,
    *,
    overwrite: bool,
    keep_replaced: bool,
    cache: Cache | None = None,
    progress: bool | None = None,
) -> tuple[Path, Path | None]:
    """Download a checkpoint that is a folder, under its own name into a folder, where it appears as a whole.

    Returns
    -------
    Path, Path or None
        Its place, and the path at which a folder is kept that was replaced. See `target.put_whole`, also for the
        errors.
    """
    to = parent.joinpath(*safe_components(checkpoint.name))
    files, batches, folders = contents_of(server, checkpoint)

    def fill(places: Mapping[str, Path]) -> None:
        with Progress(f"load {checkpoint.name}", checkpoint.size_bytes, progress) as bar:
            _Filling(server, files, places, cache, bar).run(batches)

    chunks = {file.path: file.chunks for file in files}
    return to, target.put_whole(to, chunks, folders, fill, overwrite=overwrite, keep_replaced=keep_replaced)


class _Filling:
    """The files of a checkpoint being fetched into a new folder."""

    def __init__(
        self,
        server: Server,
        files: Sequence[FileChunks],
        places: Mapping[str, Path],
        cache: Cache | None,
        bar: Progress,
    ) -> None:
        self._server = server
        self._files = {file.path: file for file in files}
        self._places = places
        self._cache = cache
        self._bar = bar
        self._patience = RetryDeadline(READERS_PATIENCE * server.patience_s)

    def run(self, batches: Sequence[Batch]) -> None:
        """Fetch everything over several connections: small files in batches, others one by one."""
        sizes = {path: file.size_bytes for path, file in self._files.items()}
        batches = [batch for batch in batches if batch.is_of(sizes)]
        self._all_of(batches)
        batched = {path for batch in batches for path, _ in batch.parts}
        single = [file for path, file in self._files.items() if path not in batched]
        in_parallel([file for file in single if file.size_bytes <= _LARGE_BYTES], self._fetch)
        for file in single:
            if file.size_bytes > _LARGE_BYTES:
                self._fetch(file)

    def _all_of(self, batches: Sequence[Batch]) -> None:
        arrived: set[str] = set()

        def fetch(batch: Batch) -> None:
            self._fetch_batch(batch)
            arrived.add(batch.url)
            self._patience.progress()

        while todo := [batch for batch in batches if batch.url not in arrived]:
            try:
                in_parallel(todo, fetch)
            except HoldfastError as error:
                if not is_transient(error):
                    raise
                self._patience.wait(error)

    def _fetch_batch(self, batch: Batch) -> None:
        whole = memoryview(bytearray(batch.length))
        with self._server.fetch(batch.as_range) as reader:
            if not read_into(reader, whole):
                raise ServerUnreachable(f"{len(batch.parts)} files did not arrive completely")
        start = 0
        for path, length in batch.parts:
            data = whole[start : start + length]
            start += length
            if _is_whole(self._files[path], data):
                self._places[path].write_bytes(data)
                self._files[path].attributes.apply(self._places[path])
                self._bar.moved(length)
            else:  # altered on its way or on the server, which the fetch of the single file finds out
                self._fetch(self._files[path])

    def _fetch(self, file: FileChunks) -> None:
        self._places[file.path].unlink(missing_ok=True)
        download.into_new_file(self._server, file, self._places[file.path], self._cache, self._bar)


def _is_whole(file: FileChunks, data: memoryview) -> bool:
    return all(
        digests.of_chunk(data[chunk.offset : chunk.offset + chunk.length]) == chunk.digest for chunk in file.chunks
    )


def _refuse_conflicts(to: Path, places: Iterable[Path]) -> None:
    """Refuse existing files and folders that the checkpoint cannot replace."""
    if to.is_dir():
        for place in places:
            destination.refuse_member(to / place)
    elif os.path.lexists(to):
        destination.refuse_member(to)
        raise FileExistsError(f"{to} is not a folder, but the checkpoint is one")


def _put(aside: Path, to: Path, attributes: Mapping[Path, FileAttributes]) -> None:
    """Rename a folder to its destination; if a folder is there already, move the files into it."""
    if not to.is_dir():
        try:
            aside.rename(to)
        except OSError:
            if not to.is_dir():  # another process has made it in between
                raise
        else:
            _give(to, attributes)
            fsync.sync(to.parent)
            return
    made = []
    for where, _, names in os.walk(aside):
        inner = Path(where).relative_to(aside)
        folder = to / inner
        if not folder.is_dir():
            folder.mkdir(parents=True)
            made.append(inner)
        for name in names:
            Path(where, name).replace(folder / name)
        fsync.sync(folder)
    _give(to, {inner: attributes[inner] for inner in made if inner in attributes})


def _give(top: Path, attributes: Mapping[Path, FileAttributes]) -> None:
    """Restore the attributes of folders, the innermost first, as each restore changes the parent."""
    for inner in sorted(attributes, reverse=True):
        attributes[inner].apply(top / inner)
