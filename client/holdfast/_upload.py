"""Send a checkpoint: reserve, send what is missing, commit."""

import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from typing import Any

from . import _layout
from ._http import Server
from ._layout import Layout
from ._parallel import Patience, in_parallel
from ._progress import Progress
from ._wire import Committed, Range, Upload
from .errors import HoldfastError, IntegrityError, ServerUnreachable

_SAMPLES = 8
_REFUSALS = 5  # how often a commit may find that the server could not copy what it promised
_WRITER: dict[int, str] = {}


class Memory:
    """What a writer remembers of its last save: whether the server could reuse any of it, and its chunks."""

    def __init__(self) -> None:
        self._reused: bool | None = None
        self._digests: set[str] = set()

    def expects_reuse(self, layout: Layout) -> bool:
        """Whether to hash before sending: always but after a save of which nothing was reused.

        Even then, a few chunks that are the same as last time say that this save is another.
        """
        return self._reused is not False or not layout.sample(_SAMPLES).isdisjoint(self._digests)

    def remember(self, layout: Layout, *, reused: bool) -> None:
        """A save was made."""
        self._reused = reused
        self._digests = {chunk.digest for chunk in layout.chunks()}


def save(
    server: Server, save: Mapping[str, Any], state: Any, memory: Memory | None = None, progress: bool | None = None
) -> Committed:
    """Send a state as a checkpoint of one file; durable on the server when this returns.

    Parameters
    ----------
    save : mapping
        What the API's ``POST /v1/uploads`` takes, without the files and the writer.
    state : dict
        Whatever ``torch.save`` takes.
    memory : Memory, optional
        What is remembered of the save before.
    progress : bool, optional
        Whether to show a bar.

    Raises
    ------
    HoldfastError
        The server refused, or could not be reached.
    """
    memory = memory or Memory()
    layout = _layout.of(state)
    with Progress(f"save {save['name']}", layout.size_bytes, progress) as bar:
        committed = _Sending(server, save, layout, bar).run(hash_first=memory.expects_reuse(layout))
    memory.remember(layout, reused=bar.moved_bytes < layout.size_bytes)
    return committed


class _Sending:
    """One save on its way."""

    def __init__(self, server: Server, save: Mapping[str, Any], layout: Layout, bar: Progress) -> None:
        self._server = server
        self._save = {**save, "writer": writer()}
        self._layout = layout
        self._bar = bar
        self._places = {extent.offset: place for place, extent in enumerate(layout.extents)}
        self._patience = Patience()
        self._hashed = False

    def run(self, *, hash_first: bool) -> Committed:
        upload = self._reserve(hashed=hash_first)
        self._bar.reused(self._layout.size_bytes - sum(wanted.length for wanted in upload.missing))
        refused = 0
        while True:
            try:
                in_parallel(upload.missing, self._send)
                return self._commit(upload.id)
            except ServerUnreachable as error:
                self._patience.wait(error)
            except HoldfastError as error:
                if error.code == "digest_mismatch":
                    raise IntegrityError("the state was changed while it was being saved", code=error.code) from error
                if error.code != "ranges_missing" or refused == _REFUSALS:
                    raise
                refused += 1
            upload = self._again()

    def _reserve(self, *, hashed: bool) -> Upload:
        self._hashed = hashed
        chunks = self._digests() if hashed else [{"length": extent.length} for extent in self._layout.extents]
        file = {"size_bytes": self._layout.size_bytes, "chunks": chunks, "tensors": self._layout.tensors}
        return Upload.from_json(self._server.call("POST", "/v1/uploads", body={**self._save, "files": [file]}))

    def _again(self) -> Upload:
        """What is missing by now. The digests tell a server that was restarted what it has already."""
        while True:
            try:
                return self._reserve(hashed=True)
            except ServerUnreachable as error:
                self._patience.wait(error)

    def _send(self, wanted: Range) -> None:
        place = self._places.get(wanted.offset)
        if place is None:
            raise IntegrityError(f"the server asks for bytes from {wanted.offset}, where no chunk begins")
        self._server.send(wanted, self._pieces(place, wanted.length))
        self._patience.progress()

    def _pieces(self, place: int, length: int) -> Iterator[memoryview]:
        while length > 0:
            data, _ = self._layout.read(place)
            yield data
            self._bar.moved(len(data))
            length -= len(data)
            place += 1

    def _commit(self, upload_id: str) -> Committed:
        body = None if self._hashed else {"files": [{"chunks": self._digests()}]}
        return Committed.from_json(self._server.call("POST", f"/v1/uploads/{upload_id}/commit", body=body))

    def _digests(self) -> list[dict[str, Any]]:
        return [{"length": chunk.length, "digest": chunk.digest} for chunk in self._layout.chunks()]


def writer() -> str:
    """Who saves: this process, under a name that no other one has."""
    process = os.getpid()
    if process not in _WRITER:
        host = socket.gethostname().encode("ascii", "replace").decode()
        name = f"{host[:100]}:{process}:{secrets.token_hex(4)}"
        return _WRITER.setdefault(process, name)  # another thread may have been first
    return _WRITER[process]
