"""Download of single files: each chunk is fetched once, and verified before it is used."""

import os
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from .._api import digests
from .._api.retry import READERS_PATIENCE, RetryDeadline, is_transient
from .._api.server import Reader, Server, read_into
from .._api.wire import Chunk, FileChunks, Range
from .._runtime.parallel import CONNECTIONS, in_parallel
from .._torchfile.reader.file_memory import FileMemory
from .._torchfile.reader.load_state import load_state
from ..errors import HoldfastError, IntegrityError, ServerUnreachable
from . import destination
from .cache import Cache, NewEntry, OpenEntries
from .download_buffers import Buffer, FileBuffer, Window
from .progress import Progress

JOB_BYTES = 32 * 1024 * 1024
"""The size, in bytes, of one request, so that several connections have work."""

READ_BYTES = 1024 * 1024
"""The size, in bytes, up to which adjacent chunks are read at once."""


def file_state(
    server: Server,
    file: FileChunks,
    *,
    only: Collection[str] | None = None,
    cache: Cache | None = None,
    attached: memoryview | None = None,
    progress: bool | None = None,
    **load: Any,
) -> Any:
    """Return the state in a file; ``load`` is passed to `load_state.load_state`.

    Parameters
    ----------
    attached : memoryview, optional
        The bytes of the file that came with the facts of its checkpoint; those that were altered are fetched.

    Raises
    ------
    IntegrityError
        The bytes are not those that were saved.
    """
    memory = FileMemory(file.size_bytes)
    with _Fetching(server, file, memory, cache if only is None else None, progress) as fetching:
        fetching.attached = attached
        if only is not None and cache is not None:
            fetching.sources = cache.sources(file)
        return load_state(memory, fetching.fetch, only=only, **load)


def parts_of(server: Server, file: FileChunks, spans: list[tuple[int, int]]) -> FileMemory:
    """Return memory of the size of a file that holds the chunks in which these bytes are, each verified."""
    memory = FileMemory(file.size_bytes)
    with _Fetching(server, file, memory, None, False) as fetching:
        fetching.fetch(spans)
    return memory


def into_stream(server: Server, file: FileChunks, write: Callable[[memoryview], object], progress: bool | None) -> None:
    """Pass the bytes of a file to ``write`` in order, each verified before; `IntegrityError` if they are altered."""
    window = Window()
    with (
        _Fetching(server, file, window, None, False) as fetching,
        Progress(f"load {file.path}", file.size_bytes, progress) as bar,
    ):
        for start, stop in window.cut(file.chunks, CONNECTIONS * JOB_BYTES):
            fetching.fetch([(start, stop)])
            write(window.view(start, stop - start))
            bar.moved(stop - start)


def into_buffer(server: Server, file: FileChunks, start: int, stop: int, target: Buffer) -> None:
    """Fetch the chunks that these bytes of a file are in into a buffer, each verified."""
    with _Fetching(server, file, target, None, False) as fetching:
        fetching.fetch([(start, stop)])


def into_file(server: Server, file: FileChunks, to: Path, cache: Cache | None, progress: bool | None) -> None:
    """Download one file of a checkpoint to a path, where it replaces a plain file once it is verified.

    `destination.stream_at` describes the cases of a pipe, a device, and anything else.
    """
    stream = destination.stream_at(to)
    if stream is not None:
        with stream:
            into_stream(server, file, stream.write, progress)
        return
    with destination.replaced(to) as temporary, temporary.open("xb") as opened:
        _fill(server, file, opened.fileno(), cache, progress)
        file.attributes.apply(temporary)
        os.fsync(opened.fileno())


def into_new_file(server: Server, file: FileChunks, to: Path, cache: Cache | None, bar: Progress) -> None:
    """Download one file of a checkpoint to a new path: verified, but not durable. ``bar`` counts its bytes."""
    with to.open("xb") as opened:
        _fill(server, file, opened.fileno(), cache, False, bar)
    file.attributes.apply(to)


def _fill(
    server: Server,
    file: FileChunks,
    descriptor: int,
    cache: Cache | None,
    progress: bool | None,
    bar: Progress | None = None,
) -> None:
    os.truncate(descriptor, file.size_bytes)
    with _Fetching(server, file, FileBuffer(descriptor), cache, progress, bar) as fetching:
        fetching.fetch([(0, file.size_bytes)])


class _Fetching:
    """One file being fetched, with the chunks that have arrived."""

    def __init__(
        self,
        server: Server,
        file: FileChunks,
        target: Buffer,
        cache: Cache | None,
        progress: bool | None,
        bar: Progress | None = None,
    ) -> None:
        self._server = server
        self._file = file
        self._target = target
        self._cache = cache
        self._starts = [chunk.offset for chunk in file.chunks]
        self._range_starts = [wanted.offset for wanted in file.ranges]
        self._have = [False] * len(file.chunks)
        self._altered_once: set[int] = set()
        self._patience = RetryDeadline(READERS_PATIENCE * server.patience_s)
        self._progress = progress
        self._common_bar = bar
        self._bar = Progress("", 0)
        self._stack = ExitStack()
        self.sources: OpenEntries | None = None
        self.attached: memoryview | None = None
        self._new_entry: NewEntry | None = None

    def __enter__(self) -> "_Fetching":
        if self._cache is not None:
            self.sources = self._cache.sources(self._file)
            if not all(self.sources.has(chunk) for chunk in self._file.chunks):
                self._new_entry = self._cache.keep(self._file)
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self.sources is not None:
            self.sources.close()
        if self._new_entry is not None:
            if error is None and all(self._have):
                self._new_entry.finish()
            self._new_entry.close()
        if self._cache is not None:
            self._cache.evict()

    def fetch(self, spans: list[tuple[int, int]]) -> None:
        """Fetch the chunks that these bytes are in, unless they have arrived."""
        wanted = [place for start, stop in spans for place in self._places(start, stop)]
        todo = sorted({place for place in wanted if not self._have[place]})
        total = sum(self._file.chunks[place].length for place in todo)
        own = Progress(f"load {self._file.path}", total, self._progress)
        with own if self._common_bar is None else nullcontext(self._common_bar) as self._bar:
            if self.sources is not None:
                in_parallel(_grouped([p for p in todo if self.sources.has(self._file.chunks[p])], 16), self._recall)
            if self.attached is not None:
                self._detach(self.attached, todo)
            while todo := [place for place in todo if not self._have[place]]:
                try:
                    in_parallel(self._jobs(todo), self._fetch)
                except HoldfastError as error:
                    if not is_transient(error):
                        raise
                    self._patience.wait(error)

    def _places(self, start: int, stop: int) -> range:
        if start >= stop:
            return range(0)
        return range(bisect_right(self._starts, start) - 1, bisect_right(self._starts, stop - 1))

    def _jobs(self, todo: list[int]) -> Iterator[list[int]]:
        """Group chunks into requests: consecutive ones within one of the server's ranges."""
        job: list[int] = []
        length = 0
        for place in todo:
            chunk = self._file.chunks[place]
            same = job and place == job[-1] + 1 and self._range_of(chunk) is self._range_of(self._file.chunks[job[0]])
            if job and not (same and length + chunk.length <= JOB_BYTES):
                yield job
                job, length = [], 0
            job.append(place)
            length += chunk.length
        if job:
            yield job

    def _range_of(self, chunk: Chunk) -> Range:
        place = bisect_right(self._range_starts, chunk.offset) - 1
        if place >= 0:
            wanted = self._file.ranges[place]
            if chunk.offset + chunk.length <= wanted.offset + wanted.length:
                return wanted
        raise IntegrityError(f"the server gave no range for {self._file.path!r} from {chunk.offset}")

    def _fetch(self, job: list[int]) -> None:
        chunks = [self._file.chunks[place] for place in job]
        start, stop = chunks[0].offset, chunks[-1].offset + chunks[-1].length
        found = self._range_of(chunks[0])
        headers = {**found.headers, "Range": f"bytes={start}-{stop - 1}"}
        with self._server.fetch(replace(found, headers=headers, offset=start, length=stop - start)) as reader:
            for places in self._together(job):
                self._receive(reader, places)
        self._patience.progress()

    def _together(self, job: list[int]) -> Iterator[list[int]]:
        """Group the chunks of a request that are read at once: small ones together, as each read costs a call."""
        together: list[int] = []
        length = 0
        for place in job:
            length += self._file.chunks[place].length
            if together and length > READ_BYTES:
                yield together
                together, length = [], self._file.chunks[place].length
            together.append(place)
        yield together

    def _receive(self, reader: Reader, places: list[int]) -> None:
        """Read adjacent chunks, and verify each."""
        chunks = [self._file.chunks[place] for place in places]
        view = self._target.view(chunks[0].offset, sum(chunk.length for chunk in chunks))
        if not read_into(reader, view):
            raise ServerUnreachable(f"{self._file.path!r} did not arrive completely")
        for place, chunk in zip(places, chunks, strict=True):
            own = view[chunk.offset - chunks[0].offset :][: chunk.length]
            if digests.of_chunk(own) != chunk.digest:
                raise self._altered(chunk)
            self._arrived(place, own)
            self._bar.moved(chunk.length)

    def _detach(self, data: memoryview, places: list[int]) -> None:
        """Take chunks from the bytes that came with the facts; altered ones are fetched."""
        for place in places:
            chunk = self._file.chunks[place]
            own = data[chunk.offset : chunk.offset + chunk.length]
            if len(own) == chunk.length and digests.of_chunk(own) == chunk.digest:
                view = self._target.view(chunk.offset, chunk.length)
                view[:] = own
                self._arrived(place, view)
                self._bar.moved(chunk.length)

    def _altered(self, chunk: Chunk) -> HoldfastError:
        """Return the error for altered bytes: transient the first time, permanent the second."""
        what = f"the bytes of {self._file.path!r} from {chunk.offset} are not those that were saved"
        if chunk.offset in self._altered_once:
            return IntegrityError(what)
        self._altered_once.add(chunk.offset)
        return ServerUnreachable(what)

    def _recall(self, places: list[int]) -> None:
        """Take chunks from the cache; invalid ones are fetched."""
        assert self.sources is not None
        for place in places:
            chunk = self._file.chunks[place]
            view = self._target.view(chunk.offset, chunk.length)
            if self.sources.read(chunk, view) and digests.of_chunk(view) == chunk.digest:
                self._arrived(place, view)
                self._bar.reused(chunk.length)
            else:
                self.sources.reject(chunk)

    def _arrived(self, place: int, view: memoryview) -> None:
        offset = self._file.chunks[place].offset
        if isinstance(self._target, FileBuffer):
            os.pwrite(self._target.descriptor, view, offset)
        if self._new_entry is not None:
            self._new_entry.write(offset, view)
        self._have[place] = True


def _grouped(places: list[int], count: int) -> Iterator[list[int]]:
    return (places[start : start + count] for start in range(0, len(places), count))
