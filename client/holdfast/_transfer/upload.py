"""Send a checkpoint: reserve, send what is missing, commit."""

import logging
import os
import secrets
import socket
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .._api.retry import Patience, is_transient
from .._api.server import Server, parse_errors
from .._api.wire import Batch, Committed, Range, Upload
from .._runtime.file_attributes import Likeness
from .._runtime.parallel import in_parallel
from .._runtime.process import ProcessLocal
from ..errors import HoldfastError, IntegrityError, InvalidRequest, ServerUnreachable
from .progress import Progress
from .upload_source import ReuseHistory, Source

log = logging.getLogger("holdfast")

MOST_REFUSED_COMMITS = 5  # how often a commit may find that the server could not copy what it promised
_COPIED_BYTES_PER_S = 32 * 1024 * 1024  # a commit waits for copies on the server's disk, which may be a slow one


def send(
    server: Server,
    save: Mapping[str, Any],
    source: Source,
    *,
    patience: Patience,
    history: ReuseHistory | None = None,
    progress: bool | None = None,
    reserved: Callable[[int], object] = lambda saved_after: None,
) -> Committed:
    """Send a checkpoint of one file; durable on the server when this returns.

    Parameters
    ----------
    save : mapping
        What the API's ``POST /v1/uploads`` takes, without the files and the writer.
    source : Source
        The file.
    patience : Patience
        How long to go on where the server is away.
    history : ReuseHistory, optional
        What is remembered of the save before.
    progress : bool, optional
        Whether to show a bar.
    reserved : callable
        Called with the place in the order that the server has given the save.

    Raises
    ------
    HoldfastError
        The server refused, or could not be reached; `_retry.passes` tells these apart.
    IntegrityError
        The state was changed while it was being saved.
    """
    history = history or ReuseHistory()
    with Progress(f"save {save['name']}", source.size_bytes, progress) as bar:
        sending = _Sending(server, save, {None: source}, patience, bar, history=history, reserved=reserved)
        committed = sending.run(hash_first=history.expects_reuse(source))
    history.remember(source, reused=bar.moved_bytes < source.size_bytes)
    return committed


def send_files(
    server: Server,
    save: Mapping[str, Any],
    files: Mapping[str | None, Source],
    *,
    patience: Patience,
    progress: bool | None = None,
    before_commit: Callable[[], object] = lambda: None,
) -> Committed:
    """Send a checkpoint of files by their paths within it; None for the only one, which bears the checkpoint's name.

    They are hashed first, so that a repeated save of the same id sends what has not arrived, and nothing else. What
    ``before_commit`` raises, once all has arrived, is raised. For the other parameters, and the errors, see `send`.
    """
    size_bytes = sum(source.size_bytes for source in files.values())
    with Progress(f"save {save['name']}", size_bytes, progress) as bar:
        return _Sending(server, save, files, patience, bar, before_commit=before_commit).run(hash_first=True)


class _Sending:
    """One save on its way."""

    def __init__(
        self,
        server: Server,
        save: Mapping[str, Any],
        files: Mapping[str | None, Source],
        patience: Patience,
        bar: Progress,
        *,
        history: ReuseHistory | None = None,
        reserved: Callable[[int], object] = lambda saved_after: None,
        before_commit: Callable[[], object] = lambda: None,
    ) -> None:
        self._history = history or ReuseHistory()
        self._before_commit = before_commit
        self._server = server
        self._save = {"writer": writer(), **save}
        self._files = files
        self._size_bytes = sum(source.size_bytes for source in files.values())
        self._bar = bar
        self._reserved = reserved
        self._patience = patience
        self._hashed = False
        self._step = ""
        self._doubts: dict[str, str] = {}
        """With which code a step was refused the last time."""
        self._refusals = 0
        self._sends_attributes = True
        """Until a server refuses to know what files and folders are like."""
        self._sent: set[tuple[str | None, int]] = set()
        """Of which files, and from where on, ranges have arrived."""

    def run(self, *, hash_first: bool) -> Committed:
        """The checkpoint, once it is durable; what fails is tried again as long as that makes sense."""
        first, was_there = True, False
        while True:
            try:
                self._step = "reserve"
                upload = self._reserve(hashed=hash_first or not first)
                self._doubts.pop(self._step, None)
                if first:
                    first, was_there = False, upload.committed
                    self._bar.reused(self._size_bytes - upload.missing_bytes)
                self._step = "send"
                self._send_all(upload)
                self._before_commit()
                self._step = "commit"
                return replace(self._commit(upload.id), was_there=was_there)
            except HoldfastError as error:
                self._patience.wait(error) if is_transient(error) else self._doubt(error)

    def _doubt(self, error: HoldfastError) -> None:
        """Go on where a refusal may come of what was altered on its way; raise it where it stands."""
        if error.code == "digest_mismatch":
            for source in self._files.values():
                if source.has_changed():
                    what = getattr(source, "what", "the state")
                    raise IntegrityError(f"{what} was changed while it was being saved", code=error.code) from error
            self._patience.wait(ServerUnreachable(f"what is sent is altered on its way: {error}", code=error.code))
        elif error.code == "ranges_missing":
            self._refusals += 1
            if self._refusals > MOST_REFUSED_COMMITS:
                what = f"what is sent does not arrive, though the answers say so: {error}"
                self._patience.wait(ServerUnreachable(what, code=error.code))
        elif error.status in {None, 409, 410, 507} or self._doubts.get(self._step) == error.code:
            raise error
        else:
            self._doubts[self._step] = error.code

    def _reserve(self, *, hashed: bool) -> Upload:
        """A place for the save, or what is missing there by now.

        The digests tell a server that was restarted what it has already.
        """
        self._hashed = hashed
        tensors = sum(len(source.tensors or ()) for source in self._files.values())
        limit = self._history.index_limit
        sends_index = tensors > 0 and (limit is None or tensors < limit)
        files = [
            {
                **_called(path),
                "size_bytes": source.size_bytes,
                "chunks": _digests(source) if hashed else [{"length": length} for _, length in source.spans],
                "tensors": source.tensors if sends_index else None,
                **(likeness(source) if self._sends_attributes else {}),
            }
            for path, source in self._files.items()
        ]
        body = {**self._save, "files": files}
        if not self._sends_attributes:
            body.pop("folders", None)
        try:
            answer = self._server.call("POST", "/v1/uploads", body=body)
        except InvalidRequest as error:
            if error.code == "too_large" and sends_index:  # the index is a convenience
                log.info("the index of %d tensors is too large for the server and is left out", tensors)
                self._history.index_limit = tensors
                return self._reserve(hashed=hashed)
            told = self._sends_attributes and any(likeness(source) for source in self._files.values())
            if error.code != "invalid_request" or not told:
                raise
            self._sends_attributes = False
            return self._reserve(hashed=hashed)
        with parse_errors():
            upload = Upload.from_json(answer)
        if upload.saved_after is not None:  # also where the upload expires while this process is suspended
            self._save["saved_after"] = upload.saved_after
            self._reserved(upload.saved_after)
        return upload

    def _send_all(self, upload: Upload) -> None:
        """Send what is missing, in rounds where it is more than the server lists at once.

        A round in which the server asks for nothing new is the last: the commit then says what is missing.
        """
        asked: set[tuple[str, int]] = set()
        while True:
            before = len(asked)
            asked.update((wanted.file, wanted.offset) for wanted in upload.missing)
            if len(asked) == before:
                return
            self._send_listed(upload)
            if upload.missing_count <= len(upload.missing):
                return
            with parse_errors():
                upload = Upload.from_json(self._server.call("GET", f"/v1/uploads/{upload.id}"))

    def _send_listed(self, upload: Upload) -> None:
        """Send small files in batches where the server takes these, the rest range by range."""
        sizes = {path: source.size_bytes for path, source in self._files.items() if path is not None}
        batches = [batch for batch in upload.batches if batch.is_of(sizes)]
        in_parallel(batches, self._send_batch)
        sent = {path for batch in batches for path, _ in batch.parts}
        in_parallel([wanted for wanted in upload.missing if wanted.file not in sent], self._send)

    def _send_batch(self, batch: Batch) -> None:
        data = bytearray()
        for path, length in batch.parts:
            source, filled = self._files[path], len(data)
            for place in range(len(source.spans)):
                data += source.read(place)[0]
                if len(data) >= filled + length:
                    break
        self._server.send(batch.as_range, [data])
        self._bar.moved(len(data))
        self._arrived(batch.url, 0)

    def _send(self, wanted: Range) -> None:
        path = wanted.file if wanted.file in self._files else None
        spans = self._files[path].spans if path in self._files else []
        place = bisect_left(spans, (wanted.offset, 0))
        if place == len(spans) or spans[place][0] != wanted.offset:
            raise IntegrityError(f"the server asks for bytes from {wanted.offset}, where no chunk begins")
        self._server.send(wanted, self._pieces(self._files[path], place, wanted.length))
        self._arrived(path, wanted.offset)

    def _arrived(self, what: str | None, offset: int) -> None:
        self._doubts.pop("send", None)
        if (what, offset) not in self._sent:  # what is lost again and again is no progress
            self._sent.add((what, offset))
            self._patience.progress()

    def _pieces(self, source: Source, place: int, length: int) -> Iterator[memoryview]:
        while length > 0:
            data, _ = source.read(place)
            yield data
            self._bar.moved(len(data))
            length -= len(data)
            place += 1

    def _commit(self, upload_id: str) -> Committed:
        body = None
        if not self._hashed:
            body = {"files": [{**_called(path), "chunks": _digests(source)} for path, source in self._files.items()]}
        longer_s = self._size_bytes / _COPIED_BYTES_PER_S
        answer = self._server.call("POST", f"/v1/uploads/{upload_id}/commit", body=body, longer_s=longer_s)
        with parse_errors():
            return Committed.from_json(answer)


def likeness(source: Source) -> dict[str, Any]:
    """What a file is like where it lies, for those that lie somewhere."""
    found = getattr(source, "likeness", None)
    return found.as_json() if isinstance(found, Likeness) else {}


def _called(path: str | None) -> dict[str, str]:
    return {"path": path} if path is not None else {}


def _digests(source: Source) -> list[dict[str, Any]]:
    return [{"length": chunk.length, "digest": chunk.digest} for chunk in source.chunks()]


def writer() -> str:
    """Who saves: this process, under a name that no other one has."""
    return _writer.get()


def _new_writer() -> str:
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"{host[:100]}:{os.getpid()}:{secrets.token_hex(4)}"


_writer = ProcessLocal(_new_writer)
