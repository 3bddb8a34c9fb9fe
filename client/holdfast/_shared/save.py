"""SharedSave: one writer's part of a checkpoint that several processes fill."""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from .._api.retry import Backoff
from .._api.server import parse_errors
from .._arguments.name_grammar import check_file
from .._transfer.folders import walk
from .._transfer.folders.local_files import LocalFiles
from ..errors import AttemptSuperseded, CommitTimeout
from .sources import source_of
from .status import SharedStatus

if TYPE_CHECKING:
    from .calls import SharedCalls
    from .sources import Given

_POLL_S = 1.0
"""The longest time between two looks at an upload, in seconds."""


class SharedSave:
    """One writer's part of a checkpoint that several processes fill; `CheckpointManager.shared_save` makes it.

    Each writer adds files, then is `ready`. One of them calls `commit`, or the server commits by itself once all
    expected writers are ready; until then nothing is visible. All methods may be called from several threads. They
    retry an unreachable server for the manager's ``patience_s`` since the last progress, also one that is restarted.

    As a context manager it reserves its place at the beginning of the block. Leaving the block neither commits nor
    aborts: what has arrived stays until its lease ends, so that a restarted job can go on with it.

    Attributes
    ----------
    path : Path
        ``checkpoint_dir / name``, the place of the checkpoint.
    writer : str
        The name of this writer.
    attempt : int
        The attempt of the job that this process belongs to.

    Raises
    ------
    AttemptSuperseded
        From any method: a restarted job has reserved the save with a higher attempt.
    InvalidRequest
        The writers disagree (``writers_disagree``), or the server refuses a name or a value.
    CheckpointExists
        Another writer has a file of that path (``path_taken``).
    CheckpointNotFound
        The upload has expired or was aborted (``upload_not_found``).
    ServerUnreachable, NotAllowed, OutOfSpace
        As for other saves. A shared save never goes to the spool.

    Examples
    --------
    >>> manager = CheckpointManager("runs/shared")
    >>> with manager.shared_save("step-10", save_id="job-1-step-10", writer="rank-0", step=10) as shared:
    ...     shared.add("shard-0.bin", b"weights")
    ...     shared.ready()
    ...     shared.commit()
    PosixPath('runs/shared/step-10')
    """

    def __init__(self, calls: "SharedCalls", path: Path, writer: str, attempt: int) -> None:
        self.path = path
        self.writer = writer
        self.attempt = attempt
        self._calls = calls

    def __enter__(self) -> Self:
        self._calls.upload_id  # noqa: B018 - reserves it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    @property
    def upload_id(self) -> str:
        """The id of the upload, which is the id of the checkpoint, too."""
        return self._calls.upload_id

    def add(self, path: str, source: "Given", *, tensors: list[dict[str, Any]] | None = None) -> None:
        """Send a file; all of its bytes have arrived when this returns.

        The same file again sends only what the server lacks. A file whose content has changed is removed first.

        Parameters
        ----------
        path : str
            Its path within the checkpoint.
        source : str, Path, bytes, memoryview or binary file
            Its content. A path names a local file; an open file is read from its position to its end.
        tensors : list of dict, optional
            Name, dtype, shape, offset and size_bytes of its tensors. Default: those that are found in it.
        """
        self._calls.send({check_file(path): source_of(path, source, tensors)})

    def add_files(self, files: Mapping[str, "Given"]) -> None:
        """Send several files, given by their paths; small ones go together. See `add`."""
        self._calls.send({check_file(path): source_of(path, given) for path, given in files.items()})

    def add_folder(self, folder: str | Path, prefix: str = "") -> None:
        """Send the files of a local folder, below a folder ``prefix`` of the checkpoint. See `add`.

        Raises
        ------
        ValueError
            Something in it cannot be sent, such as a pipe.
        IntegrityError
            A file was changed while it was sent.
        """
        if not walk.found(Path(folder)).files:
            return
        found = LocalFiles(Path(folder), "")
        before = f"{prefix.rstrip('/')}/" if prefix else ""
        self._calls.send({check_file(f"{before}{path}"): source for path, source in found.items()})
        found.refuse_changed()

    def add_state(self, path: str, state: Any) -> None:
        """Send a state as a torch file, without a copy of its tensors, which must not change meanwhile. See `add`."""
        from .._torchfile.writer.layout import layout_of

        self._calls.send({check_file(path): layout_of(state)})

    def rename(self, path: str, to: str) -> None:
        """Rename a file that this writer has added."""
        self._calls.rename(check_file(path), check_file(to))

    def remove(self, path: str) -> None:
        """Remove a file that this writer has added."""
        self._calls.remove(check_file(path))

    def ready(self) -> Path | None:
        """Report that this writer has added all of its files; a writer without files may be ready, too.

        Returns
        -------
        Path or None
            The checkpoint's path if this was the last expected writer and the server has committed.

        Raises
        ------
        InvalidRequest
            Bytes of its files are missing (``ranges_missing``).
        """
        return self._path_of(self._calls.ready())

    def commit(self, writers: Iterable[str] | None = None, files: Iterable[str] | None = None) -> Path:
        """Make the checkpoint, durable when this returns. Idempotent.

        Parameters
        ----------
        writers : list of str, optional
            Writers that must be ready, beside those that were named in the reservation or have added files.
        files : list of str, optional
            Paths of files that there must be, beside others.

        Raises
        ------
        IncompleteCheckpoint
            A writer is not ready (``writers_missing``), or a file is absent (``files_missing``); ``problem`` names
            them.
        """
        self._calls.commit(list(writers or ()), list(files or ()))
        return self.path

    def wait_committed(self, timeout_s: float) -> Path:
        """Wait until another writer, or the server, has made the checkpoint.

        Raises
        ------
        CommitTimeout
            It was not made in time; the message names the missing writers.
        """
        end, waits = time.monotonic() + timeout_s, Backoff()
        while True:
            status = self.status
            if status.is_committed:
                return self.path
            if status.attempt != self.attempt:
                raise AttemptSuperseded(f"attempt {status.attempt} has taken over the save of {self.path}")
            left_s = end - time.monotonic()
            if left_s <= 0:
                missing = ", ".join(status.missing_writers) or "none: all are ready, and no commit came"
                raise CommitTimeout(f"{self.path} was not committed in {timeout_s:g} s; missing writers: {missing}")
            time.sleep(min(waits.next_s(), _POLL_S, left_s))

    def abort(self) -> None:
        """Discard the whole save, with the files of all writers, unless a later attempt has taken it over."""
        self._calls.abort()

    @property
    def status(self) -> SharedStatus:
        """The writers, and which of them are missing, as the server knows it now."""
        answer = self._calls.get()
        with parse_errors():
            return SharedStatus.from_json(answer)

    def _path_of(self, answer: Mapping[str, Any]) -> Path | None:
        with parse_errors():
            return self.path if SharedStatus.from_json(answer).is_committed else None
