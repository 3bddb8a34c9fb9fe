"""Deduplication: chunks that the directory already holds are not uploaded again; the server copies them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from heapq import nlargest
from typing import NamedTuple

from app.catalog import ListFilter
from app.core import batches, digests, spans
from app.core.errors import Altered, Refusal
from app.core.models import Checkpoint, Chunk, Upload, UploadFile
from app.core.spans import ChunkRun, Span
from app.service.query.contents import Contents, VerifiedFile
from app.service.query.lookup import Lookups
from app.service.state.caches import Caches
from app.service.state.context import Context
from app.service.state.running_copies import CopyPlan, RunningCopies
from app.service.state.upload_progress import UploadProgress
from app.storage.ports import Partial

SOURCES = 32
"""The number of checkpoints of a directory that are searched, newest first."""
RUN_BYTES = 64 * 1024 * 1024
MANY_SMALL = 256
"""The number of batch-sized files from which on they are uploaded: that costs less than to find and copy each."""
MOST_OPEN = 256
"""The number of files held open for the copies of one upload, largest first; chunks of the others are uploaded."""

ChunkMaps = Mapping[str, Sequence[Chunk]]


class _Wanted:
    """The chunks of an upload that have not arrived and for which no source was found yet."""

    def __init__(self, progress: UploadProgress) -> None:
        self._chunks: dict[str, list[tuple[int, Chunk]]] = {}
        self._paths: dict[Chunk, set[str]] = {}
        for file in _to_copy(progress.upload.files):
            for offset, chunk in spans.placed(file.chunks or ()):
                if not progress.holds(file.path, offset, [chunk]):
                    self._chunks.setdefault(file.path, []).append((offset, chunk))
                    self._paths.setdefault(chunk, set()).add(file.path)

    def __bool__(self) -> bool:
        return bool(self._paths)

    def any_of(self, held: Iterable[Chunk]) -> bool:
        """Tell if a file that holds these chunks holds a wanted one."""
        return not self._paths.keys().isdisjoint(held)

    def runs(self, held: Sequence[Chunk]) -> list[tuple[str, ChunkRun]]:
        """List the runs of wanted chunks that a file holds, each with the path that wants it."""
        return [(path, run) for path in self._wanting(held) for run in spans.runs(self._chunks[path], held, RUN_BYTES)]

    def remove(self, held: Sequence[Chunk]) -> None:
        """Take out chunks whose source was found."""
        found = set(held)
        for path in self._wanting(held):
            self._chunks[path] = [(offset, chunk) for offset, chunk in self._chunks[path] if chunk not in found]
        for chunk in found:
            self._paths.pop(chunk, None)

    def _wanting(self, held: Sequence[Chunk]) -> list[str]:
        return sorted({path for chunk in held for path in self._paths.get(chunk, ())})


class _Copy(NamedTuple):
    progress: UploadProgress
    content: VerifiedFile
    path: str
    run: ChunkRun


class Deduplication:
    """Finds the chunks that need not be uploaded, and copies them in the background."""

    def __init__(
        self, context: Context, lookups: Lookups, contents: Contents, caches: Caches, copies: RunningCopies
    ) -> None:
        self._context = context
        self._lookups = lookups
        self._contents = contents
        self._caches = caches
        self._copies = copies

    def plan(self, progress: UploadProgress) -> None:
        """Plan the copies of an upload whose digests are known, and start them.

        If the same content is already live under the same name, the copies are deferred: the commit needs them only
        if that content is gone by then.
        """
        upload = progress.upload
        if not upload.may_dedup or not any(file.is_hashed for file in upload.files):
            return
        with self._context.catalog.reading() as session:
            current = session.checkpoints.named(upload.directory, upload.name)
        if current is not None and current.digest == digests.of_save(upload):
            progress.deferred = True
            progress.planned = {file.path: (Span(0, file.size_bytes or 0),) for file in upload.files}
        else:
            self._start(progress)

    def copy_deferred(self, progress: UploadProgress) -> None:
        """Start deferred copies, unless another thread has started them or is committing."""
        with progress.changing:
            if progress.deferred and not progress.is_closed:
                self._start(progress)

    def _start(self, progress: UploadProgress) -> None:
        plan, wanted = CopyPlan[_Copy](progress), _Wanted(progress)
        progress.deferred, progress.planned = False, {}
        for checkpoint in self._sources(progress.upload):
            if not wanted:
                break
            with suppress(Refusal, OSError):
                self._add(plan, wanted, checkpoint)
        if plan.jobs:
            self._copies.start(plan, self._copy)
        else:
            plan.sources.close()

    def _sources(self, upload: Upload) -> Iterator[Checkpoint]:
        """Give the checkpoints to search: the declared base, then the newest ones of the directory."""
        with self._context.catalog.reading() as session:
            base = session.checkpoints.get(upload.base) if upload.base is not None else None
            newest = session.checkpoints.page(
                ListFilter(upload.directory, order_by="-position"), after=None, limit=SOURCES
            )
        if base is not None and base.removed_at is None:
            yield base
        yield from newest.checkpoints

    def _add(self, plan: CopyPlan[_Copy], wanted: _Wanted, checkpoint: Checkpoint) -> None:
        maps = self._chunk_maps(checkpoint)
        useful = [path for path, held in maps.items() if wanted.any_of(held)]
        useful = nlargest(
            MOST_OPEN - plan.open_files, useful, key=lambda path: sum(chunk.length for chunk in maps[path])
        )
        if not useful:
            return
        for content in self._contents.open_intact(checkpoint.id, useful):
            plan.sources.callback(content.opened.close)
            plan.open_files += 1
            runs = wanted.runs(maps[content.file.path])
            plan.jobs.extend(_Copy(plan.progress, content, path, run) for path, run in runs)
            plan.progress.plan(runs)
            wanted.remove(maps[content.file.path])

    def _chunk_maps(self, checkpoint: Checkpoint) -> ChunkMaps:
        maps = self._caches.chunk_maps.get(checkpoint.id)
        if maps is None:
            maps = {path: found.chunks for path, found in self._lookups.maps(checkpoint.id)[1].items()}
            self._caches.chunk_maps.put(checkpoint.id, maps)
        return maps

    def _copy(self, copy: _Copy) -> None:
        progress, content, path, run = copy
        with self._context.storage.content.partial(progress.upload, path) as partial:
            if self._share(partial, copy):
                return
            with progress.writing(path, run.span):
                partial.allocate(run.span)  # so that a run that does not fit takes no space from other uploads
            for offset, chunk in spans.placed(run.chunks):
                data = _read(content, run.source + offset, chunk)
                target = Span(run.span.start + offset, run.span.start + offset + chunk.length)
                with progress.writing(path, target):
                    if not progress.holds(path, target.start, [chunk]):
                        partial.write(target.start, data)
                        progress.record(path, target.start, [chunk])

    def _share(self, partial: Partial, copy: _Copy) -> bool:
        """Share the blocks of a run if the file system can; not over bytes that have arrived.

        Shared blocks are not read: an unchanged size and version prove that the file is what was saved.
        """
        progress, content, path, run = copy
        with progress.writing(path, run.span):
            if progress.has_any(path, run.span) or not partial.share(content.opened, run.source, run.span):
                return False
            if not content.opened.is_as_opened():
                return False
            progress.record(path, run.span.start, run.chunks)
        return True


def _to_copy(files: Sequence[UploadFile]) -> Iterable[UploadFile]:
    """Give the files of an upload whose chunks are worth searching: no small ones if these are many."""
    large = [file for file in files if (file.size_bytes or 0) > batches.SMALL_BYTES]
    return files if len(files) - len(large) < MANY_SMALL else large


def _read(content: VerifiedFile, offset: int, chunk: Chunk) -> bytes:
    """Read a chunk of a source; `Altered` if its digest is another."""
    data = content.opened.read(offset, chunk.length)
    if digests.of_chunk(data) != chunk.digest:
        raise Altered(f"{content.checkpoint.directory}/{content.checkpoint.name} was changed on the disk")
    return data
