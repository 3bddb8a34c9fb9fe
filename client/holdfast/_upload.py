"""Send a checkpoint: reserve, send what is missing, commit."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from ._http import Server, understood
from ._parallel import in_parallel
from ._progress import Progress
from ._retry import Patience, passes
from ._wire import Chunk, Committed, Range, Upload
from .errors import HoldfastError, IntegrityError, ServerUnreachable

_SAMPLES = 8
_REFUSALS = 5  # how often a commit may find that the server could not copy what it promised
_COPIED_BYTES_PER_S = 32 * 1024 * 1024  # a commit waits for copies on the server's disk, which may be a slow one
_WRITER: dict[int, str] = {}


class Memory:
    """What a writer remembers of its last save: whether the server could reuse any of it, and its chunks."""

    def __init__(self) -> None:
        self._reused: bool | None = None
        self._digests: set[str] = set()

    def expects_reuse(self, source: "Source") -> bool:
        """Whether to hash before sending: always but after a save of which nothing was reused.

        Even then, a few chunks that are the same as last time say that this save is another.
        """
        return self._reused is not False or not source.sample(_SAMPLES).isdisjoint(self._digests)

    def remember(self, source: "Source", *, reused: bool) -> None:
        """A save was made."""
        self._reused = reused
        self._digests = {chunk.digest for chunk in source.chunks()}


class Source(Protocol):
    """The bytes of a file that is to be sent, in chunks. May be read by several threads.

    Attributes
    ----------
    size_bytes : int
        How long the file is.
    spans : sequence of (int, int)
        Offset and length, in bytes, of every chunk.
    tensors : list of dict or None
        What the file holds, for the server's index.
    """

    size_bytes: int
    tensors: list[dict[str, Any]] | None

    @property
    def spans(self) -> Sequence[tuple[int, int]]: ...

    def read(self, place: int) -> tuple[memoryview, str]:
        """The bytes of a chunk and their BLAKE3 in hex. The bytes hold until this thread reads the next chunk."""

    def chunks(self) -> tuple[Chunk, ...]:
        """Every chunk with its digest."""

    def sample(self, count: int) -> set[str]:
        """The digests of a few chunks."""

    def has_changed(self) -> bool:
        """Whether a chunk is another than it was when it was first read."""


def send(
    server: Server,
    save: Mapping[str, Any],
    source: Source,
    *,
    patience: Patience,
    memory: Memory | None = None,
    progress: bool | None = None,
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
    memory : Memory, optional
        What is remembered of the save before.
    progress : bool, optional
        Whether to show a bar.

    Raises
    ------
    HoldfastError
        The server refused, or could not be reached; `_retry.passes` tells these apart.
    IntegrityError
        The state was changed while it was being saved.
    """
    memory = memory or Memory()
    with Progress(f"save {save['name']}", source.size_bytes, progress) as bar:
        committed = _Sending(server, save, source, patience, bar).run(hash_first=memory.expects_reuse(source))
    memory.remember(source, reused=bar.moved_bytes < source.size_bytes)
    return committed


class _Sending:
    """One save on its way."""

    def __init__(
        self, server: Server, save: Mapping[str, Any], source: Source, patience: Patience, bar: Progress
    ) -> None:
        self._server = server
        self._save = {"writer": writer(), **save}
        self._source = source
        self._bar = bar
        self._places = {offset: place for place, (offset, _) in enumerate(source.spans)}
        self._patience = patience
        self._hashed = False
        self._step = ""
        self._doubts: dict[str, str] = {}
        """With which code a step was refused the last time."""
        self._refusals = 0
        self._sent: set[int] = set()
        """From where on ranges have arrived."""

    def run(self, *, hash_first: bool) -> Committed:
        """The checkpoint, once it is durable; what fails is tried again as long as that makes sense."""
        first = True
        while True:
            try:
                self._step = "reserve"
                upload = self._reserve(hashed=hash_first or not first)
                self._doubts.pop(self._step, None)
                if first:
                    first = False
                    self._bar.reused(self._source.size_bytes - sum(wanted.length for wanted in upload.missing))
                self._step = "send"
                in_parallel(upload.missing, self._send)
                self._step = "commit"
                return self._commit(upload.id)
            except HoldfastError as error:
                self._patience.wait(error) if passes(error) else self._doubt(error)

    def _doubt(self, error: HoldfastError) -> None:
        """Go on where a refusal may come of what was altered on its way; raise it where it stands."""
        if error.code == "digest_mismatch":
            if self._source.has_changed():
                raise IntegrityError("the state was changed while it was being saved", code=error.code) from error
            self._patience.wait(ServerUnreachable(f"what is sent is altered on its way: {error}", code=error.code))
        elif error.code == "ranges_missing" and self._refusals < _REFUSALS:
            self._refusals += 1
        elif error.status in {None, 409, 410, 507} or self._doubts.get(self._step) == error.code:
            raise error
        else:
            self._doubts[self._step] = error.code

    def _reserve(self, *, hashed: bool) -> Upload:
        """A place for the save, or what is missing there by now.

        The digests tell a server that was restarted what it has already.
        """
        self._hashed = hashed
        chunks = self._digests() if hashed else [{"length": length} for _, length in self._source.spans]
        file = {"size_bytes": self._source.size_bytes, "chunks": chunks, "tensors": self._source.tensors}
        answer = self._server.call("POST", "/v1/uploads", body={**self._save, "files": [file]})
        with understood():
            return Upload.from_json(answer)

    def _send(self, wanted: Range) -> None:
        place = self._places.get(wanted.offset)
        if place is None:
            raise IntegrityError(f"the server asks for bytes from {wanted.offset}, where no chunk begins")
        self._server.send(wanted, self._pieces(place, wanted.length))
        self._doubts.pop("send", None)
        if wanted.offset not in self._sent:  # what is lost again and again is no progress
            self._sent.add(wanted.offset)
            self._patience.progress()

    def _pieces(self, place: int, length: int) -> Iterator[memoryview]:
        while length > 0:
            data, _ = self._source.read(place)
            yield data
            self._bar.moved(len(data))
            length -= len(data)
            place += 1

    def _commit(self, upload_id: str) -> Committed:
        body = None if self._hashed else {"files": [{"chunks": self._digests()}]}
        longer_s = self._source.size_bytes / _COPIED_BYTES_PER_S
        answer = self._server.call("POST", f"/v1/uploads/{upload_id}/commit", body=body, longer_s=longer_s)
        with understood():
            return Committed.from_json(answer)

    def _digests(self) -> list[dict[str, Any]]:
        return [{"length": chunk.length, "digest": chunk.digest} for chunk in self._source.chunks()]


def writer() -> str:
    """Who saves: this process, under a name that no other one has."""
    process = os.getpid()
    if process not in _WRITER:
        host = socket.gethostname().encode("ascii", "replace").decode()
        name = f"{host[:100]}:{process}:{secrets.token_hex(4)}"
        return _WRITER.setdefault(process, name)  # another thread may have been first
    return _WRITER[process]
