"""What has arrived of one upload under way, and who is writing to it."""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, field

from app.core import spans
from app.core.errors import UploadBusy
from app.core.models import Chunk, Upload, UploadFile
from app.core.spans import Run, Span, joined

Spans = tuple[Span, ...]

_NOTHING = Span(0, 0)

GLANCE_S = 0.5
"""How long somebody who does not wait may find the record in use, in seconds: longer than a change of it takes."""


@dataclass
class Transfer:
    """What has arrived of one upload, and what is promised because the server copies it from another checkpoint.

    ``changing`` guards this record; bytes are written outside it, by whoever is `writing`.
    """

    upload: Upload
    changing: threading.Condition = field(default_factory=threading.Condition)
    arrived: dict[str, Spans] = field(default_factory=dict)
    promised: dict[str, Spans] = field(default_factory=dict)
    copying: list[Future[None]] = field(default_factory=list)
    deferred: bool = False
    """Whether the promised bytes are not copied before the commit asks for them, as they may never be needed."""
    coming_bytes: int = 0
    """How many bytes a body says that it has, where the upload does not say it."""
    touched_at: float = field(default_factory=time.monotonic)
    _arrived_bytes: int = 0
    _hashed: dict[str, dict[int, Chunk]] = field(default_factory=dict)
    _writing: list[tuple[str, Span]] = field(default_factory=list)
    _closed: bool = False
    _ended: bool = False
    _index: tuple[Sequence[UploadFile], Mapping[str, UploadFile], int | None] = ((), {}, 0)
    """Of which files what was last asked, by their paths; and how many bytes they have. There may be thousands."""

    def file(self, path: str) -> UploadFile | None:
        """The file of the upload at a path."""
        return self._indexed()[0].get(path)

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
        """Let no more bytes in: what is hashed and sealed from here on stays as it is.

        Raises
        ------
        UploadBusy
            Somebody else has closed it; or, without waiting, bytes are being written or hashed.
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
        """How many bytes there will be; None where nobody has said it."""
        declared = self._indexed()[1]
        return declared if declared is not None else self.coming_bytes or None

    @property
    def arrived_bytes(self) -> int:
        """How many bytes have arrived."""
        return self._arrived_bytes

    @property
    def to_come_bytes(self) -> int:
        """How many of them have not arrived, as far as somebody has said how many there will be."""
        return max(0, (self.declared_bytes or 0) - self._arrived_bytes)

    @property
    def to_copy_bytes(self) -> int:
        """How many bytes are promised because the server copies them, unless that may never be necessary."""
        promised = dict(self.promised)
        return 0 if self.deferred else sum(map(spans.total, promised.values()))

    @property
    def is_closed(self) -> bool:
        """Whether it is being committed or given up."""
        return self._closed

    def reopen(self) -> None:
        """The commit was refused: bytes may come again, unless this record has ended."""
        with self.changing:
            self._closed = self._ended

    def end(self) -> None:
        """Nothing of this is true any more: it stays closed for those who still hold it."""
        with self.changing:
            self._closed = self._ended = True

    @contextmanager
    def writing(self, path: str, span: Span) -> Iterator[None]:
        """Bytes of a span are written: nobody else writes them, or closes the upload, before they are noted.

        `UploadBusy` where it is closed already.
        """
        with self.writing_files({path: span}):
            yield

    @contextmanager
    def writing_files(self, wanted: Mapping[str, Span]) -> Iterator[None]:
        """As `writing`, for one span of each of several files."""
        ours = list(wanted.items())
        with self.changing:
            while not self._closed and any(spans.meet([at], wanted.get(path, _NOTHING)) for path, at in self._writing):
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

    def note(self, path: str, offset: int, chunks: Sequence[Chunk]) -> None:
        """Record that consecutive chunks lie on disk. Hashes of what they overwrote no longer hold."""
        with self.changing:
            span = Span(offset, offset + sum(chunk.length for chunk in chunks))
            hashed = self._hashed.setdefault(path, {})
            if spans.meet(self.arrived.get(path, ()), span):
                for start in [s for s, other in hashed.items() if s < span.stop and s + other.length > span.start]:
                    del hashed[start]
            for chunk in chunks:
                hashed[offset] = chunk
                offset += chunk.length
            before = self.arrived.get(path, ())
            self.arrived[path] = joined([*before, span])
            self._arrived_bytes += spans.total(self.arrived[path]) - spans.total(before)

    def disown(self, path: str, span: Span) -> None:
        """Let a range count as missing again, whatever lies on disk there."""
        with self.changing:
            hashed = self._hashed.get(path, {})
            for start in [s for s, other in hashed.items() if s < span.stop and s + other.length > span.start]:
                del hashed[start]
            before = self.arrived.get(path, ())
            sides = [side for had in before for side in _beside(had, span)]
            self.arrived[path] = joined(sides)
            self._arrived_bytes -= spans.total(before) - spans.total(self.arrived[path])

    def holds(self, path: str, offset: int, chunks: Iterable[Chunk]) -> bool:
        """Whether just these chunks lie there already."""
        with self.changing:
            hashed = self._hashed.get(path, {})
            return all(hashed.get(offset + start) == chunk for start, chunk in spans.placed(chunks))

    def has_any(self, path: str, span: Span) -> bool:
        """Whether any of these bytes have arrived."""
        with self.changing:
            return spans.meet(self.arrived.get(path, ()), span)

    def takes(self, path: str, offset: int, chunks: Sequence[Chunk]) -> bool:
        """Whether these chunks belong there, as far as their digests have been told."""
        file = self.file(path)
        if file is None or file.chunks is None or not file.is_hashed:
            return True
        span = Span(offset, offset + sum(chunk.length for chunk in chunks))
        return spans.chunks_within(file.chunks, span) == tuple(chunks)

    def missing(self, file: UploadFile, limit: int) -> list[Span]:
        """What has neither arrived nor is promised of a file, in ranges of at most ``limit`` bytes."""
        with self.changing:
            have = [*self.arrived.get(file.path, ()), *self.promised.get(file.path, ())]
        return spans.missing(have, file.size_bytes, file.chunks, limit) if file.size_bytes is not None else []

    def promise(self, runs: Iterable[tuple[str, Run]]) -> None:
        """These runs, each of the file at its path, will be copied."""
        found: dict[str, list[Span]] = {}
        for path, run in runs:
            found.setdefault(path, []).append(run.span)
        with self.changing:
            for path, taken in found.items():
                self.promised[path] = joined([*self.promised.get(path, ()), *taken])

    def break_promises(self) -> None:
        """What was to be copied and has not arrived is missing."""
        with self.changing:
            self.promised, self.deferred = {}, False

    def stop_copying(self) -> None:
        """Break the promises, and return when nothing is copied any more: soon, as what is not begun is dropped.

        `UploadBusy` where promises are being made.
        """
        self._enter(wait=False)
        try:
            self.break_promises()
        finally:
            self.changing.release()
        wait([copying for copying in self.copying if not copying.cancel()])

    def close_after_copying(self) -> None:
        """Close when nothing is being copied any more; what could not be copied is then missing."""
        while True:
            wait(self.copying)
            with self.changing:
                if all(copying.done() for copying in self.copying):
                    self.close()
                    if self.copying:
                        self.break_promises()
                    return

    def chunks_of(self, path: str, size_bytes: int) -> tuple[Chunk, ...] | None:
        """The chunks as they were hashed on arrival, if they make up the whole file."""
        found, offset = [], 0
        hashed = self._hashed.get(path, {})
        while offset < size_bytes:
            chunk = hashed.get(offset)
            if chunk is None:
                return None
            found.append(chunk)
            offset += chunk.length
        return tuple(found) if offset == size_bytes else None

    def learn(self, upload: Upload) -> None:
        """The digests of the chunks are told at last: only what has them counts as arrived."""
        with self.changing:
            self._wait_for_writers()
            self.upload, self._arrived_bytes = upload, 0
            for file in upload.files:
                before, self.arrived[file.path] = self._hashed.get(file.path, {}), ()
                self._hashed[file.path] = {}
                for offset, chunk in spans.placed(file.chunks or ()):
                    if before.get(offset) == chunk:
                        self.note(file.path, offset, [chunk])

    def _enter(self, *, wait: bool) -> None:
        if not self.changing.acquire(timeout=-1 if wait else GLANCE_S):
            raise UploadBusy(f"Upload {self.upload.id} is receiving bytes.")

    def _wait_for_writers(self) -> None:
        while self._writing:
            self.changing.wait()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UploadBusy(f"Upload {self.upload.id} is being committed.")


def _beside(had: Span, taken: Span) -> list[Span]:
    """What is left of a span without another one."""
    sides = [Span(had.start, min(had.stop, taken.start)), Span(max(had.start, taken.stop), had.stop)]
    return [side for side in sides if side.start < side.stop]
