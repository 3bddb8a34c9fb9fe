"""Bytes that a directory's checkpoints hold already are not sent again: the server copies them, after the reply."""

import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from heapq import nlargest

from app.catalog import Query
from app.core import batches, digests, spans
from app.core.errors import Altered, Refusal
from app.core.models import Checkpoint, Chunk, Upload, UploadFile
from app.core.spans import Run, Span
from app.runtime.thread_priority import BULK, set_niceness
from app.service.query.find import Content, Finding
from app.service.state.context import Context
from app.service.state.upload_progress import Transfer
from app.storage.port import Partial

logger = logging.getLogger("holdfast")

SOURCES = 32
"""How many checkpoints of a directory are looked at, the newest first."""
RUN_BYTES = 64 * 1024 * 1024
MAPS_KEPT = 64
THREADS = 2
MANY_SMALL = 256
"""From how many files of a batch's size on these are sent again: that costs less than to find each and to copy it."""
MOST_OPEN = 256
"""The number of files held open for the copies of one upload, the largest first; what others hold is sent again."""

Held = Mapping[str, Sequence[Chunk]]


class _Wanted:
    """The chunks of an upload that have not arrived and that nobody was found to hold."""

    def __init__(self, transfer: Transfer) -> None:
        self._chunks: dict[str, list[tuple[int, Chunk]]] = {}
        self._paths: dict[Chunk, set[str]] = {}
        for file in _to_copy(transfer.upload.files):
            for offset, chunk in spans.placed(file.chunks or ()):
                if not transfer.holds(file.path, offset, [chunk]):
                    self._chunks.setdefault(file.path, []).append((offset, chunk))
                    self._paths.setdefault(chunk, set()).add(file.path)

    def __bool__(self) -> bool:
        return bool(self._paths)

    def any_of(self, held: Iterable[Chunk]) -> bool:
        """Whether a file holds any of them."""
        return not self._paths.keys().isdisjoint(held)

    def runs(self, held: Sequence[Chunk]) -> list[tuple[str, Run]]:
        """Which of them a file holds, with the path that wants them."""
        return [(path, run) for path in self._wanting(held) for run in spans.runs(self._chunks[path], held, RUN_BYTES)]

    def remove(self, held: Sequence[Chunk]) -> None:
        """They were found: nobody wants them any more."""
        found = set(held)
        for path in self._wanting(held):
            self._chunks[path] = [(offset, chunk) for offset, chunk in self._chunks[path] if chunk not in found]
        for chunk in found:
            self._paths.pop(chunk, None)

    def _wanting(self, held: Sequence[Chunk]) -> list[str]:
        return sorted({path for chunk in held for path in self._paths.get(chunk, ())})


@dataclass
class _Copies:
    """What is to be copied into one upload, and the open files that it comes from."""

    transfer: Transfer
    todo: deque[tuple[Content, str, Run]] = field(default_factory=deque)
    sources: ExitStack = field(default_factory=ExitStack)
    open: int = 0
    working: int = THREADS


class Borrowing:
    """Finds what need not be sent, and copies it."""

    def __init__(self, context: Context, finding: Finding) -> None:
        self._context = context
        self._finding = finding
        self._guard = threading.Lock()
        self._maps: OrderedDict[str, Held] = OrderedDict()
        self._closing = threading.Event()
        self._workers = ThreadPoolExecutor(
            THREADS, thread_name_prefix="holdfast-copying", initializer=lambda: set_niceness(BULK)
        )

    def promise(self, transfer: Transfer) -> None:
        """Promise what others hold of an upload whose digests are known, and begin to copy it.

        Where the content stands already under the same name, nothing is copied unless the commit finds it gone.
        """
        upload = transfer.upload
        if not upload.may_borrow or not any(file.is_hashed for file in upload.files):
            return
        with self._context.catalog.reading() as session:
            standing = session.checkpoints.named(upload.directory, upload.name)
        if standing is not None and standing.digest == digests.of_save(upload):
            transfer.deferred = True
            transfer.promised = {file.path: (Span(0, file.size_bytes or 0),) for file in upload.files}
        else:
            self.begin(transfer)

    def make_up(self, transfer: Transfer) -> None:
        """Copy after all what was deferred, unless somebody else does so or commits at the same time."""
        with transfer.changing:
            if transfer.deferred and not transfer.is_closed:
                self.begin(transfer)

    def begin(self, transfer: Transfer) -> None:
        """Copy what others hold, in the background; what cannot be copied becomes missing."""
        copies, wanted = _Copies(transfer), _Wanted(transfer)
        transfer.deferred, transfer.promised = False, {}
        for checkpoint in self._sources(transfer.upload):
            if not wanted:
                break
            with suppress(Refusal, OSError):
                self._plan(copies, wanted, checkpoint)
        if not copies.todo:
            copies.sources.close()
            return
        transfer.copying = [self._workers.submit(self._work, copies) for _ in range(THREADS)]
        for copying in transfer.copying:
            copying.add_done_callback(lambda _: self._done(copies))

    def close(self) -> None:
        """Stop copying; what is unfinished is begun again after the next start."""
        self._closing.set()
        self._workers.shutdown(wait=True)

    def _sources(self, upload: Upload) -> Iterator[Checkpoint]:
        """Where to look: the base first, then the directory's newest checkpoints."""
        with self._context.catalog.reading() as session:
            base = session.checkpoints.get(upload.base) if upload.base is not None else None
            newest = session.checkpoints.page(Query(upload.directory, order_by="-position"), after=None, limit=SOURCES)
        if base is not None and base.removed_at is None:
            yield base
        yield from newest.checkpoints

    def _plan(self, copies: _Copies, wanted: _Wanted, checkpoint: Checkpoint) -> None:
        maps = self._map(checkpoint)
        useful = [path for path, held in maps.items() if wanted.any_of(held)]
        useful = nlargest(MOST_OPEN - copies.open, useful, key=lambda path: sum(chunk.length for chunk in maps[path]))
        if not useful:
            return
        for content in self._finding.open_intact(checkpoint.id, useful):
            copies.sources.callback(content.opened.close)
            copies.open += 1
            runs = wanted.runs(maps[content.file.path])
            copies.todo.extend((content, path, run) for path, run in runs)
            copies.transfer.promise(runs)
            wanted.remove(maps[content.file.path])

    def _map(self, checkpoint: Checkpoint) -> Held:
        """The chunks of a checkpoint; those of the last few are remembered."""
        with self._guard:
            if found := self._maps.get(checkpoint.id):
                self._maps.move_to_end(checkpoint.id)
                return found
        loaded = {path: found.chunks for path, found in self._finding.maps(checkpoint.id)[1].items()}
        with self._guard:
            self._maps[checkpoint.id] = loaded
            while len(self._maps) > MAPS_KEPT:
                self._maps.popitem(last=False)
        return loaded

    def _work(self, copies: _Copies) -> None:
        try:
            with suppress(IndexError):
                while copies.transfer.promised and not self._closing.is_set():
                    self._copy(copies.transfer, *copies.todo.popleft())
        except (OSError, Refusal) as error:  # the client sends what is missing then
            logger.warning("upload %s: not everything could be copied: %s", copies.transfer.upload.id, error)

    def _done(self, copies: _Copies) -> None:
        with self._guard:
            copies.working -= 1
            last = copies.working == 0
        if last:
            copies.sources.close()

    def _copy(self, transfer: Transfer, content: Content, path: str, run: Run) -> None:
        with self._context.storage.partial(transfer.upload, path) as partial:
            if self._share(transfer, partial, content, path, run):
                return
            with transfer.writing(path, run.span):
                partial.allocate(run.span)  # so that a run that does not fit takes nothing of what others need
            for offset, chunk in spans.placed(run.chunks):
                data = _read(content, run.source + offset, chunk)
                target = Span(run.span.start + offset, run.span.start + offset + chunk.length)
                with transfer.writing(path, target):
                    if not transfer.holds(path, target.start, [chunk]):
                        partial.write(target.start, data)
                        transfer.note(path, target.start, [chunk])

    def _share(self, transfer: Transfer, partial: Partial, content: Content, path: str, run: Run) -> bool:
        """Share the blocks of a run where the file system can; not over bytes that have arrived.

        They are not read: a file is what was saved as long as its size and its time of last change say so.
        """
        with transfer.writing(path, run.span):
            if transfer.has_any(path, run.span) or not partial.share(content.opened, run.source, run.span):
                return False
            if not content.opened.is_as_opened():
                return False
            transfer.note(path, run.span.start, run.chunks)
        return True


def _to_copy(files: Sequence[UploadFile]) -> Iterable[UploadFile]:
    """The files of an upload whose bytes are worth looking for: without the small ones, where these are many."""
    large = [file for file in files if (file.size_bytes or 0) > batches.SMALL_BYTES]
    return files if len(files) - len(large) < MANY_SMALL else large


def _read(content: Content, offset: int, chunk: Chunk) -> bytes:
    """A chunk of a source. `Altered` where it is not what it was."""
    data = content.opened.read(offset, chunk.length)
    if digests.of_chunk(data) != chunk.digest:
        raise Altered(f"{content.checkpoint.directory}/{content.checkpoint.name} was changed on the disk")
    return data
