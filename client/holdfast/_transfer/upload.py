"""Upload of a checkpoint: reserve, send the missing ranges, commit; a small one in a single request."""

import logging
import os
import secrets
import socket
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from .._api.retry import RetryDeadline, is_transient
from .._api.server import Server, parse_errors
from .._api.wire import SMALL_CHECKPOINT_BYTES, Batch, Committed, Range, Upload
from .._runtime.file_attributes import FileAttributes
from .._runtime.forks import ProcessLocal
from .._runtime.parallel import in_parallel
from ..errors import HoldfastError, IntegrityError, InvalidRequest, ServerUnreachable
from .progress import Progress
from .upload_source import ReuseHistory, Source

log = logging.getLogger("holdfast")

MOST_REFUSED_COMMITS = 5  # the most commits for which the server may lack a planned copy
_SMALL_TENSORS = 2000
"""The most tensors of a checkpoint that goes with its facts in one request: their index goes along."""
_NO_SUCH_ROUTE = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}
"""The refusals of a server that knows no such request."""
_COPIED_BYTES_PER_S = 32 * 1024 * 1024  # a commit waits for copies on the server's disk, which may be a slow one


def send(
    server: Server,
    save: Mapping[str, Any],
    source: Source,
    *,
    patience: RetryDeadline,
    history: ReuseHistory | None = None,
    progress: bool | None = None,
    reserved: Callable[[int], object] = lambda saved_after: None,
    known: int | None = None,
) -> Committed:
    """Upload a checkpoint of one file; it is durable on the server when this returns.

    Parameters
    ----------
    save : mapping
        The body of ``POST /v1/uploads`` without the files and the writer.
    source : Source
        The file.
    patience : RetryDeadline
        The time that retries may take.
    history : ReuseHistory, optional
        The last save of this writer.
    progress : bool, optional
        True to show a bar.
    reserved : callable
        Called with the place in the order that the server has given the save.
    known : int, optional
        The last sequence that the job knew of when the save began: its place if the server could not reserve one.

    Raises
    ------
    HoldfastError
        The server refused, or could not be reached; see `retry.is_transient`.
    IntegrityError
        The state was changed while it was being saved.
    """
    history = history or ReuseHistory()
    with Progress(f"save {save['name']}", source.size_bytes, progress) as bar:
        sending = _Sending(server, save, {None: source}, patience, bar, history=history, reserved=reserved, known=known)
        committed = sending.run(hash_first=history.expects_reuse(source))
    history.remember(source, reused=bar.moved_bytes < source.size_bytes)
    return committed


def send_files(
    server: Server,
    save: Mapping[str, Any],
    files: Mapping[str | None, Source],
    *,
    patience: RetryDeadline,
    progress: bool | None = None,
    reserved: Callable[[int], object] = lambda saved_after: None,
    known: int | None = None,
    before_commit: Callable[[], object] = lambda: None,
    precondition: Mapping[str, str] | None = None,
) -> Committed:
    """Upload a checkpoint of files by their paths within it; the path of a single file is None.

    They are hashed first, so that a repeated save of the same id sends only what has not arrived. ``before_commit`` is
    called once everything has arrived; its exceptions are raised. ``precondition`` has headers such as ``If-Match``.
    For the other parameters and errors see `send`.
    """
    size_bytes = sum(source.size_bytes for source in files.values())
    with Progress(f"save {save['name']}", size_bytes, progress) as bar:
        sending = _Sending(
            server,
            save,
            files,
            patience,
            bar,
            reserved=reserved,
            known=known,
            before_commit=before_commit,
            precondition=precondition,
        )
        return sending.run(hash_first=True)


class _Sending:
    """One upload."""

    def __init__(
        self,
        server: Server,
        save: Mapping[str, Any],
        files: Mapping[str | None, Source],
        patience: RetryDeadline,
        bar: Progress,
        *,
        history: ReuseHistory | None = None,
        reserved: Callable[[int], object] = lambda saved_after: None,
        known: int | None = None,
        before_commit: Callable[[], object] = lambda: None,
        precondition: Mapping[str, str] | None = None,
    ) -> None:
        self._precondition = precondition
        self._history = history or ReuseHistory()
        self._before_commit = before_commit
        self._server = server
        self._save = {"writer": writer(), **save}
        self._files = files
        self._size_bytes = sum(source.size_bytes for source in files.values())
        self._bar = bar
        self._reserved = reserved
        self._known = known
        self._patience = patience
        self._hashed = False
        self._step = ""
        self._last_refusals: dict[str, str] = {}
        """The code of the last refusal of each step."""
        self._refused_commits = 0
        self._sends_attributes = True
        """False once a server has refused the attributes of files and folders."""
        self._sent: set[tuple[str | None, int]] = set()
        """The file and offset of the ranges that have arrived."""

    def run(self, *, hash_first: bool) -> Committed:
        """Return the checkpoint once it is durable; retry transient failures."""
        if self._is_small() and (committed := self._run_at_once()) is not None:
            return committed
        first, was_there = True, False
        while True:
            try:
                self._step = "reserve"
                upload = self._reserve(hashed=hash_first or not first)
                self._last_refusals.pop(self._step, None)
                if first:
                    first, was_there = False, upload.committed
                    self._bar.reused(self._size_bytes - upload.missing_bytes)
                self._step = "send"
                self._send_all(upload)
                self._before_commit()
                self._step = "commit"
                return replace(self._commit(upload.id), was_there=was_there)
            except HoldfastError as error:
                self._patience.wait(error) if is_transient(error) else self._wait_or_raise(error)

    def _is_small(self) -> bool:
        is_plain = "base" not in self._save and not any(attributes_of(source) for source in self._files.values())
        fits = self._size_bytes <= SMALL_CHECKPOINT_BYTES and self._tensors() <= _SMALL_TENSORS
        return self._history.takes_small_saves and fits and is_plain

    def _run_at_once(self) -> Committed | None:
        """Send facts and bytes in one request, again after transient failures; None if the server knows no such one."""
        first, self._step = True, "commit"
        while True:
            try:
                committed = self._send_at_once()
            except HoldfastError as error:
                if _NO_SUCH_ROUTE.get(error.status or 0) == error.code:
                    self._history.takes_small_saves = False
                    return None
                self._patience.wait(error) if is_transient(error) else self._wait_or_raise(error)
                first = False
                self._keep_place()
            else:
                self._bar.moved(self._size_bytes)
                return replace(committed, was_there=first and committed.repeated)

    def _keep_place(self) -> None:
        """Keep the place that this save had when it began, as the failed attempt has left no reservation on the server.

        That is before all that others have saved after the last sequence that was known, and after that one: of two
        saves with the same place, the later commit counts as newer.
        """
        if self._known:
            self._save.setdefault("saved_after", self._known - 1)

    def _send_at_once(self) -> Committed:
        data = bytearray()
        for source in self._files.values():
            for place in range(len(source.spans)):
                data += source.read(place)[0]
        self._before_commit()
        sends_index = self._sends_index()
        body = {**self._save, "files": self._described(hashed=True, sends_index=sends_index)}
        try:
            answer = self._server.call(
                "POST", "/v1/saves", body=body, data=bytes(data), precondition=self._precondition
            )
        except InvalidRequest as error:
            if error.code == "too_large" and sends_index:
                self._leave_out_index()
                return self._send_at_once()
            raise
        with parse_errors():
            return Committed.from_json(answer)

    def _wait_or_raise(self, error: HoldfastError) -> None:
        """Wait if a refusal may be due to bytes altered on their way; raise it otherwise."""
        if error.code == "digest_mismatch":
            for source in self._files.values():
                if source.has_changed():
                    what = getattr(source, "what", "the state")
                    raise IntegrityError(f"{what} was changed while it was being saved", code=error.code) from error
            self._patience.wait(ServerUnreachable(f"sent bytes are altered on their way: {error}", code=error.code))
        elif error.code == "ranges_missing":
            self._refused_commits += 1
            if self._refused_commits > MOST_REFUSED_COMMITS:
                what = f"sent ranges do not arrive, though the responses say so: {error}"
                self._patience.wait(ServerUnreachable(what, code=error.code))
        elif error.status in {None, 409, 410, 412, 507} or self._last_refusals.get(self._step) == error.code:
            raise error
        else:
            self._last_refusals[self._step] = error.code

    def _reserve(self, *, hashed: bool) -> Upload:
        """Reserve the upload, or ask for the ranges that are still missing.

        The digests tell a server that was restarted what it has already.
        """
        self._hashed = hashed
        sends_index = self._sends_index()
        files = self._described(hashed=hashed, sends_index=sends_index)
        body = {**self._save, "files": files}
        if not self._sends_attributes:
            body.pop("folders", None)
        try:
            answer = self._server.call("POST", "/v1/uploads", body=body, precondition=self._precondition)
        except InvalidRequest as error:
            if error.code == "too_large" and sends_index:
                self._leave_out_index()
                return self._reserve(hashed=hashed)
            has_attributes = self._sends_attributes and any(attributes_of(source) for source in self._files.values())
            if error.code != "invalid_request" or not has_attributes:
                raise
            self._sends_attributes = False
            return self._reserve(hashed=hashed)
        with parse_errors():
            upload = Upload.from_json(answer)
        if upload.saved_after is not None:  # kept also if the upload expires while this process is suspended
            self._save["saved_after"] = upload.saved_after
            self._reserved(upload.saved_after)
        return upload

    def _described(self, *, hashed: bool, sends_index: bool) -> list[dict[str, Any]]:
        """Return the files as the server is told of them."""
        return [
            {
                **_called(path),
                "size_bytes": source.size_bytes,
                "chunks": chunks_to_json(source) if hashed else [{"length": length} for _, length in source.spans],
                "tensors": source.tensors if sends_index else None,
                **(attributes_of(source) if self._sends_attributes else {}),
            }
            for path, source in self._files.items()
        ]

    def _tensors(self) -> int:
        return sum(len(source.tensors or ()) for source in self._files.values())

    def _sends_index(self) -> bool:
        tensors, limit = self._tensors(), self._history.index_limit
        return tensors > 0 and (limit is None or tensors < limit)

    def _leave_out_index(self) -> None:
        """Leave out the index from now on, which is optional, as the server has refused it."""
        self._history.index_limit = tensors = self._tensors()
        log.info("the index of %d tensors is too large for the server and is left out", tensors)

    def _send_all(self, upload: Upload) -> None:
        """Send the missing ranges, in rounds if there are more than the server lists at once.

        A round in which the server asks for nothing new is the last: the commit then says what is missing.
        """
        sender = RangeSender(self._server, self._files, moved=self._bar.moved, arrived=self._arrived)
        asked: set[tuple[str, int]] = set()
        while True:
            before = len(asked)
            asked.update((wanted.file, wanted.offset) for wanted in upload.missing)
            if len(asked) == before:
                return
            sender.send_listed(upload)
            if upload.missing_count <= len(upload.missing):
                return
            with parse_errors():
                upload = Upload.from_json(self._server.call("GET", f"/v1/uploads/{upload.id}"))

    def _arrived(self, what: str | None, offset: int) -> None:
        self._last_refusals.pop("send", None)
        if (what, offset) not in self._sent:  # a range that is lost again and again is no progress
            self._sent.add((what, offset))
            self._patience.progress()

    def _commit(self, upload_id: str) -> Committed:
        body = None
        if not self._hashed:
            body = {
                "files": [{**_called(path), "chunks": chunks_to_json(source)} for path, source in self._files.items()]
            }
        longer_s = self._size_bytes / _COPIED_BYTES_PER_S
        answer = self._server.call("POST", f"/v1/uploads/{upload_id}/commit", body=body, longer_s=longer_s)
        with parse_errors():
            return Committed.from_json(answer)


class RangeSender:
    """Sends the ranges of files that a server lists. Thread-safe.

    Parameters
    ----------
    files : mapping
        The files by their paths; that of a single file is None.
    moved : callable
        Called with the number of bytes that were sent.
    arrived : callable
        Called with the path and the offset of a range that has arrived.
    """

    def __init__(
        self,
        server: Server,
        files: Mapping[str | None, Source] | Mapping[str, Source],
        *,
        moved: Callable[[int], object] = lambda count: None,
        arrived: Callable[[str | None, int], object] = lambda path, offset: None,
    ) -> None:
        self._server = server
        self._files: dict[str | None, Source] = dict(files.items())
        self._moved = moved
        self._arrived = arrived

    def send_listed(self, upload: Upload) -> None:
        """Send small files in batches if the server offers them, the rest range by range."""
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
        self._moved(len(data))
        self._arrived(batch.url, 0)

    def _send(self, wanted: Range) -> None:
        path = wanted.file if wanted.file in self._files else None
        spans = self._files[path].spans if path in self._files else []
        place = bisect_left(spans, (wanted.offset, 0))
        if place == len(spans) or spans[place][0] != wanted.offset:
            raise IntegrityError(f"the server requests bytes from {wanted.offset}, where no chunk begins")
        self._server.send(wanted, self._pieces(self._files[path], place, wanted.length))
        self._arrived(path, wanted.offset)

    def _pieces(self, source: Source, place: int, length: int) -> Iterator[memoryview]:
        while length > 0:
            data, _ = source.read(place)
            yield data
            self._moved(len(data))
            length -= len(data)
            place += 1


def attributes_of(source: Source) -> dict[str, Any]:
    """Return the attributes of a source that is a file."""
    found = getattr(source, "attributes", None)
    return found.as_json() if isinstance(found, FileAttributes) else {}


def _called(path: str | None) -> dict[str, str]:
    return {"path": path} if path is not None else {}


def chunks_to_json(source: Source) -> list[dict[str, Any]]:
    """Return the chunks of a source with their digests, as the server is told of them."""
    return [{"length": chunk.length, "digest": chunk.digest} for chunk in source.chunks()]


def writer() -> str:
    """Return the name of this process as a writer, which no other process has."""
    return _writer.get()


def _new_writer() -> str:
    host = socket.gethostname().encode("ascii", "replace").decode()
    return f"{host[:100]}:{os.getpid()}:{secrets.token_hex(4)}"


_writer = ProcessLocal(_new_writer)
