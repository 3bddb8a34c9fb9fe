"""Progress of one open upload: the bytes that arrived, those that will be copied, and the writes under way."""

import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.core import spans
from app.core.errors import FileNotInCheckpoint, InvalidRequest, UploadBusy
from app.core.models import Chunk, Upload, UploadFile
from app.core.spans import ChunkRun, Span, merged

Spans = tuple[Span, ...]

_NOTHING = Span(0, 0)

PEEK_S = 0.5
"""The longest that a non-blocking caller waits for the record, in seconds: longer than any change of it takes."""


@dataclass
class UploadProgress:
    """The bytes of one upload that have arrived, and those that the server plans to copy from other checkpoints.

    ``changing`` guards this record. Bytes are written without holding it, in a `writing` block.
    """

    upload: Upload
    changing: threading.Condition = field(default_factory=threading.Condition)
    arrived: dict[str, Spans] = field(default_factory=dict)
    planned: dict[str, Spans] = field(default_factory=dict)
    copying: list[Future[None]] = field(default_factory=list)
    deferred: bool = False
    """If true, the planned bytes are copied only if the commit needs them."""
    announced_bytes: int = 0
    """The length of the body in bytes, if the upload declares no size."""
    touched_at: float = field(default_factory=time.monotonic)
    _arrived_bytes: int = 0
    _hashed: dict[str, dict[int, Chunk]] = field(default_factory=dict)
    _writing: list[tuple[str, Span]] = field(default_factory=list)
    _closed: bool = False
    _ended: bool = False
    _generations: Counter[str] = field(default_factory=Counter)
    _index: tuple[Sequence[UploadFile], Mapping[str, UploadFile], int | None] = ((), {}, 0)
    """The files that were indexed last, the index by path, and their total size; there may be thousands."""

    def file(self, path: str) -> UploadFile | None:
        """Find a file of the upload by its path."""
        return self._indexed()[0].get(path)

    def file_at(self, place: int) -> UploadFile | None:
        """Find a file of the upload by its place in the declared order."""
        return self.upload.files[place] if place < len(self.upload.files) else None

    def files_of(self, writer: str | None = None) -> Sequence[UploadFile]:
        """Return the files: all of them, as there is one writer."""
        return self.upload.files

    def places_of(self, files: Iterable[UploadFile]) -> Mapping[str, int]:
        """Return the places of files, by their paths."""
        wanted = {file.path for file in files}
        return {file.path: place for place, file in enumerate(self.upload.files) if file.path in wanted}

    def refuse_attempt(self, attempt: int | None) -> None:
        """Raise `InvalidRequest` if a request names an attempt, of which only shared uploads have several."""
        if attempt is not None:
            raise InvalidRequest(f"Upload {self.upload.id} is not shared, and has no attempts.")

    def generation(self, path: str) -> int:
        """Return a number that changes when another file gets this path."""
        return self._generations[path]

    def refuse_replaced(self, path: str, generation: int) -> None:
        """Refuse bytes of a file that was renamed or removed meanwhile; called in a `writing` block.

        Raises
        ------
        FileNotInCheckpoint
        """
        if self._generations[path] != generation:
            raise FileNotInCheckpoint(f"The file {path!r} was renamed or removed while its bytes came.")

    def _replaced(self, path: str) -> None:
        self._generations[path] += 1

    def _may_write(self) -> bool:
        """Tell if bytes may be written now, or only later."""
        return True

    def _indexed(self) -> tuple[Mapping[str, UploadFile], int | None]:
        files = self.upload.files
        known, by_path, declared = self._index
        if known is not files:
            sizes = [file.size_bytes for file in files if file.size_bytes is not None]
            by_path = {file.path: file for file in files}
            declared = sum(sizes) if len(sizes) == len(files) else None
            self._index = (files, by_path, declared)
        return by_path, declared

    def close(self, *, wait: bool = True) -> None:
        """Refuse further bytes, so that the content no longer changes while it is hashed and sealed.

        Raises
        ------
        UploadBusy
            It is closed already; or, without waiting, bytes are being written or hashed.
        """
        self._enter(wait=wait)
        try:
            self._refuse_closed()
            if self._writing and not wait:
                raise UploadBusy(f"Upload {self.upload.id} is receiving bytes.")
            self._closed = True
            self._wait_for_writers()
        finally:
            self.changing.release()

    @property
    def declared_bytes(self) -> int | None:
        """The total size in bytes; None if neither the upload nor a body declares it."""
        declared = self._indexed()[1]
        return declared if declared is not None else self.announced_bytes or None

    @property
    def arrived_bytes(self) -> int:
        """The number of bytes that have arrived."""
        return self._arrived_bytes

    @property
    def expected_bytes(self) -> int:
        """The number of declared bytes that have not arrived."""
        return max(0, (self.declared_bytes or 0) - self._arrived_bytes)

    @property
    def planned_bytes(self) -> int:
        """The number of bytes that the server copies; 0 while the copies are deferred."""
        planned = dict(self.planned)
        return 0 if self.deferred else sum(map(spans.total, planned.values()))

    @property
    def is_closed(self) -> bool:
        """True while the upload is being committed or aborted."""
        return self._closed

    def reopen(self) -> None:
        """Accept bytes again after a refused commit, unless this record has ended."""
        with self.changing:
            self._closed = self._ended

    def end(self) -> None:
        """Close this record for good: it is stale, and threads may still hold it."""
        with self.changing:
            self._closed = self._ended = True

    @contextmanager
    def writing(self, path: str, span: Span) -> Iterator[None]:
        """Reserve a span for writing: no other thread writes it or closes the upload until the block ends.

        Raises
        ------
        UploadBusy
            The upload is closed.
        """
        with self.writing_files({path: span}):
            yield

    @contextmanager
    def writing_files(self, wanted: Mapping[str, Span]) -> Iterator[None]:
        """Reserve one span in each of several files, as `writing` does."""
        ours = list(wanted.items())
        with self.changing:
            while not self._closed and (
                not self._may_write()
                or any(spans.intersect([at], wanted.get(path, _NOTHING)) for path, at in self._writing)
            ):
                self.changing.wait()
            self._refuse_closed()
            self.touched_at = time.monotonic()
            self._writing += ours
        try:
            yield
        finally:
            with self.changing:
                done = set(ours)
                self._writing = [each for each in self._writing if each not in done]
                self.changing.notify_all()

    def record(self, path: str, offset: int, chunks: Sequence[Chunk]) -> None:
        """Record consecutive chunks that were written, and forget the hashes of those that they overwrote."""
        with self.changing:
            span = Span(offset, offset + sum(chunk.length for chunk in chunks))
            hashed = self._hashed.setdefault(path, {})
            if spans.intersect(self.arrived.get(path, ()), span):
                for start in [s for s, other in hashed.items() if s < span.stop and s + other.length > span.start]:
                    del hashed[start]
            for chunk in chunks:
                hashed[offset] = chunk
                offset += chunk.length
            before = self.arrived.get(path, ())
            self.arrived[path] = merged([*before, span])
            self._arrived_bytes += spans.total(self.arrived[path]) - spans.total(before)

    def record_unseen(self, path: str, found: Iterable[Span]) -> None:
        """Count ranges that came past the server as arrived; nothing is known of their bytes."""
        with self.changing:
            before = self.arrived.get(path, ())
            after = merged([*before, *found])
            if after != before:
                self.arrived[path] = after
                self._arrived_bytes += spans.total(after) - spans.total(before)
                self.touched_at = time.monotonic()

    def forget(self, path: str, span: Span) -> None:
        """Count a range as missing again, whatever bytes lie on the disk."""
        with self.changing:
            hashed = self._hashed.get(path, {})
            for start in [s for s, other in hashed.items() if s < span.stop and s + other.length > span.start]:
                del hashed[start]
            before = self.arrived.get(path, ())
            sides = [side for had in before for side in _beside(had, span)]
            self.arrived[path] = merged(sides)
            self._arrived_bytes -= spans.total(before) - spans.total(self.arrived[path])

    def holds(self, path: str, offset: int, chunks: Iterable[Chunk]) -> bool:
        """Tell if exactly these chunks have arrived at an offset."""
        with self.changing:
            hashed = self._hashed.get(path, {})
            return all(hashed.get(offset + start) == chunk for start, chunk in spans.placed(chunks))

    def has_any(self, path: str, span: Span) -> bool:
        """Tell if any of these bytes have arrived."""
        with self.changing:
            return spans.intersect(self.arrived.get(path, ()), span)

    def accepts(self, path: str, offset: int, chunks: Sequence[Chunk]) -> bool:
        """Tell if these chunks agree with the digests that the client has declared."""
        file = self.file(path)
        if file is None or file.chunks is None or not file.is_hashed:
            return True
        span = Span(offset, offset + sum(chunk.length for chunk in chunks))
        return spans.chunks_within(file.chunks, span) == tuple(chunks)

    def missing(self, file: UploadFile, limit: int) -> list[Span]:
        """List the ranges of a file that have neither arrived nor are planned, each of at most ``limit`` bytes."""
        with self.changing:
            have = [*self.arrived.get(file.path, ()), *self.planned.get(file.path, ())]
        return spans.missing(have, file.size_bytes, file.chunks, limit) if file.size_bytes is not None else []

    def plan(self, runs: Iterable[tuple[str, ChunkRun]]) -> None:
        """Plan to copy runs of chunks, each into the file at its path."""
        found: dict[str, list[Span]] = {}
        for path, run in runs:
            found.setdefault(path, []).append(run.span)
        with self.changing:
            for path, taken in found.items():
                self.planned[path] = merged([*self.planned.get(path, ()), *taken])

    def cancel_planned(self) -> None:
        """Drop the planned copies: their ranges are missing unless they have arrived."""
        with self.changing:
            self.planned, self.deferred = {}, False

    def stop_copying(self) -> None:
        """Drop the planned copies, and return soon: as soon as the copy that is running has ended.

        Raises
        ------
        UploadBusy
            Copies are being planned.
        """
        self._enter(wait=False)
        try:
            self.cancel_planned()
        finally:
            self.changing.release()
        wait([copying for copying in self.copying if not copying.cancel()])

    def close_after_copying(self) -> None:
        """Wait for the running copies, then close; ranges that could not be copied are missing."""
        while True:
            wait(self.copying)
            with self.changing:
                if all(copying.done() for copying in self.copying):
                    self.close()
                    if self.copying:
                        self.cancel_planned()
                    return

    def chunks_of(self, path: str, size_bytes: int) -> tuple[Chunk, ...] | None:
        """Give the chunks of a file as they were hashed on arrival; None unless they cover the whole file."""
        found, offset = [], 0
        hashed = self._hashed.get(path, {})
        while offset < size_bytes:
            chunk = hashed.get(offset)
            if chunk is None:
                return None
            found.append(chunk)
            offset += chunk.length
        return tuple(found) if offset == size_bytes else None

    def set_digests(self, upload: Upload) -> None:
        """Take over digests that the client declares late: only chunks that match them count as arrived."""
        with self.changing:
            self._wait_for_writers()
            self.upload, self._arrived_bytes = upload, 0
            for file in upload.files:
                before, self.arrived[file.path] = self._hashed.get(file.path, {}), ()
                self._hashed[file.path] = {}
                for offset, chunk in spans.placed(file.chunks or ()):
                    if before.get(offset) == chunk:
                        self.record(file.path, offset, [chunk])

    def _enter(self, *, wait: bool) -> None:
        if not self.changing.acquire(timeout=-1 if wait else PEEK_S):
            raise UploadBusy(f"Upload {self.upload.id} is receiving bytes.")

    def _wait_for_writers(self) -> None:
        while self._writing:
            self.changing.wait()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UploadBusy(f"Upload {self.upload.id} is being committed.")


def _beside(had: Span, taken: Span) -> list[Span]:
    """Subtract one span from another."""
    sides = [Span(had.start, min(had.stop, taken.start)), Span(max(had.start, taken.stop), had.stop)]
    return [side for side in sides if side.start < side.stop]
