"""Destinations of saves: one directory on its server, and the spool that holds its checkpoints during an outage."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from .._api import identity
from .._api.directory import RemoteDirectory
from .._api.retry import RetryDeadline, is_transient
from .._api.server import Server
from .._api.wire import Committed
from .._runtime.forks import Owner
from .._runtime.interruption import suppress
from .._spool import url_aliases
from .._spool.courier import Courier
from .._spool.folder_item import Content
from .._spool.item import SpooledCheckpoint
from .._spool.queue import Queue
from .._spool.spool import Spool
from .._transfer import upload
from .._transfer.folders.local_files import LocalFiles
from .._transfer.upload_source import ReuseHistory
from ..errors import CheckpointNotFound, HoldfastError, NotAllowed, warn
from . import drain
from .background import WorkQueue

_INSUFFICIENT_STORAGE = 507
T = TypeVar("T")
_accepted: set[tuple[str, str, str]] = set()
"""The server, directory and name of the token of every save that a server has accepted from this process."""


class SaveTarget:
    """The destination of one manager's saves. Thread-safe.

    Parameters
    ----------
    server : Server
        The server of the directory.
    directory : str
        The server's name of the directory.
    spool : Spool or None
        The folder that holds checkpoints while the server is unreachable. None: an error is raised instead.
    progress : bool or None
        Whether to show progress bars.
    drain_s : float
        The time, in seconds, by which saves may delay the end of the process.
    """

    def __init__(
        self, server: Server, directory: str, spool: Spool | None, progress: bool | None, drain_s: float
    ) -> None:
        self.server = server
        self.drain_s = drain_s
        self.queue: Queue | None = spool.queue(server.url, directory) if spool is not None else None
        self.jobs: list[drain.SaveUnderWay] = []
        """The jobs of this process that save to here and have not ended."""
        self._progress = progress
        self._reuse_history = ReuseHistory()
        self._accepted_as = (server.url, directory, server.credential.key)
        self._spool = spool
        self._others: list[Queue] = []
        self._absorbed: set[Queue] = set()
        self._is_awake = False
        self._has_looked = self._has_identified = False
        self._owner = Owner()

    @property
    def courier(self) -> Courier | None:
        """The courier that delivers from the spool; a forked process has another one, as it inherits no thread."""
        return Courier.of(self.server, self._spool) if self._spool is not None else None

    @property
    def queues(self) -> list[Queue]:
        """Its queue, and those for the same directory of the same server under other URLs."""
        self._find_others()
        return [self.queue, *self._aliases()] if self.queue is not None else []

    def begin(self) -> None:
        """Start to deliver what waits for the server, once: every user of the server does."""
        self._own()
        courier = self.courier
        if courier is not None and not self._is_awake:
            self._is_awake = True
            if courier.waiting() or courier.may_have_more():
                courier.wake()

    # the decision between server and spool

    def may_spool(self, error: HoldfastError) -> bool:
        """Tell if a save that has met this error may be kept in the spool and delivered later.

        A token that was good for a save of this process may expire, or be replaced; that must not end the job. If no
        save was accepted before, the refusal is a mistake in the job's settings.
        """
        if is_transient(error) or error.status == _INSUFFICIENT_STORAGE:
            return True
        return isinstance(error, NotAllowed) and self._accepted_as in _accepted

    def must_spool(self, *, is_final: bool = False) -> bool:
        """Tell if a save goes to the spool without asking the server.

        Parameters
        ----------
        is_final : bool
            Whether a save is decided by it. Then the spool is searched for queues of other URLs, in which another
            process may have put an earlier save; otherwise those count that earlier saves have found.
        """
        if self.queue is None:
            return False
        if is_final or not self._has_looked:
            self._find_others()
        must = self.queue.has_items() or self.server.circuit.is_open or drain.is_requested()
        if not must:
            self._identify_others()
        return any(queue.has_items() for queue in self._aliases()) or must

    def _find_others(self) -> None:
        self._has_looked = True
        if self.queue is not None:
            self._others = list(dict.fromkeys([*self._others, *url_aliases.others(self.queue)]))

    def _identify_others(self) -> None:
        """Identify, once, the servers of other URLs, so that the first save does not overtake what waits for them.

        No other URL is asked if the server itself does not answer, nor once `identity.PATIENCE_S` have passed.
        """
        if self._has_identified:
            return
        self._has_identified = True
        end = time.monotonic() + identity.PATIENCE_S
        waiting = (other for other in self._others if other.has_items() and time.monotonic() < end)
        url_aliases.identify(self.server, waiting)

    def _aliases(self) -> list[Queue]:
        """The queues of the same server under other URLs, as far as they were found and identified."""
        if self.queue is None:
            return []
        found = [other for other in self._others if url_aliases.is_same(self.queue, other)]
        for other in found:
            if other not in self._absorbed:
                self._absorbed.add(other)
                self.queue.absorb(other)
        return found

    # the two destinations

    def send(
        self,
        save: Mapping[str, Any],
        content: Content,
        stopping: threading.Event,
        reserved: Callable[[int], object] = lambda saved_after: None,
        known: int | None = None,
    ) -> Committed:
        """Save to the server itself.

        It is tried however long the server has been away, as the caller has no alternative. With a spool, the reason is
        that the spool is full; then one attempt has to suffice.

        Parameters
        ----------
        stopping : threading.Event
            Once it is set, no failure is retried.
        reserved : callable
            Called with the sequence that the save follows, as soon as the server has reserved its place.
        known : int, optional
            The last sequence that the job knew of when the save began.
        """
        circuit = self.server.circuit
        patience = RetryDeadline(
            0.0 if circuit.is_open and self.queue is not None else self.server.patience_s, stopping
        )
        try:
            how: dict[str, Any] = {"patience": patience, "progress": self._progress, "reserved": reserved}
            if isinstance(content, LocalFiles):
                how["before_commit"] = content.refuse_changed
                if content.guards_name:
                    how["precondition"] = self._state_of_name(save)
                committed = upload.send_files(self.server, save, content, **how, known=known)
            else:
                committed = upload.send(self.server, save, content, **how, known=known, history=self._reuse_history)
        except HoldfastError as error:
            if not is_transient(error) and not (isinstance(error, NotAllowed) and self.may_spool(error)):
                circuit.close()
            elif not stopping.is_set():  # otherwise this client may have cut the connection itself
                circuit.trip(error)
            raise
        circuit.close()
        _accepted.add(self._accepted_as)
        if self.queue is not None:
            self.queue.learn(committed.checkpoint.sequence)
        if (courier := self.courier) is not None and any(queue.has_items() for queue in self._aliases()):
            courier.wake()  # the servers of some may be identified only now
        return committed

    def _state_of_name(self, save: Mapping[str, Any]) -> dict[str, str]:
        """Return the precondition that what has the name of a save now is still there, or still nothing."""
        try:
            return {"If-Match": f'"{RemoteDirectory(self.server, save["directory"]).named(save["name"]).digest}"'}
        except CheckpointNotFound:
            return {"If-None-Match": "*"}

    def put(self, save: Mapping[str, Any], content: Content) -> SpooledCheckpoint:
        """Put a save into the spool, and start to deliver it."""
        courier = self.courier
        assert self.queue is not None
        assert courier is not None
        item = self.queue.put(save, content)
        self._is_awake = True
        courier.wake()
        return item

    def places_to_hold(self, path: Path) -> Iterator[Path]:
        """Yield the folders in which what is at a path may be held: the queue of the spool, and the one it is in."""
        if self.queue is not None:
            with suppress(OSError):
                self.queue.prepare()
                yield self.queue.folder
        yield path.absolute().parent

    def spill_up_to(self, last: drain.SaveUnderWay) -> None:
        """Write a save under way to the spool, after the earlier ones: there, too, they are in the order of saving."""
        for job in list(self.jobs):
            job.spill_to_spool()
            if job is last:
                return

    # what waits

    def waiting(self, directory: str, name: str) -> SpooledCheckpoint | None:
        """The newest checkpoint of this name that waits here for the server."""
        if self._spool is None:
            return None
        queue = self._spool.queue(self.server.url, directory)
        queues = [queue, *(other for other in url_aliases.others(queue) if url_aliases.is_same(queue, other))]
        return next((item for item in url_aliases.newest_first(queues, parked=False) if item.name == name), None)

    def while_waiting(self, directory: str, name: str, load: Callable[[SpooledCheckpoint], T]) -> T | None:
        """Load the newest checkpoint of this name that waits here; None if none does, or it is delivered meanwhile."""
        while (waiting := self.waiting(directory, name)) is not None:
            try:
                return load(waiting)
            except FileNotFoundError:
                if waiting.folder.exists():
                    raise
        return None

    def discard_waiting(self) -> None:
        """Discard what waits or was refused. A delivery that is under way ends first, or is left to itself."""
        if self.queue is not None:
            self._others = url_aliases.others(self.queue)
            url_aliases.identify(self.server, self._others)
        for queue in self.queues:
            queue.clear()
            with queue.claimed(wait_s=self.server.timeout_s):
                queue.clear()

    def finish(self, background: WorkQueue, timeout_s: float | None) -> None:
        """Wait for background saves, deliver what can be delivered, and log what still waits.

        Parameters
        ----------
        timeout_s : float or None
            The time, in seconds, that this may take; None: ``drain_s``.
        """
        self._own()
        limit_s = self.drain_s if timeout_s is None else timeout_s
        end = time.monotonic() + limit_s
        is_done = background.wait(limit_s)
        lost = [] if is_done else [job for job in list(self.jobs) if job.is_alive() and not job.spill_to_spool()]
        courier = self.courier
        if courier is not None and any(queue.has_items() for queue in self.queues):
            courier.finish(end)
            drain.log_waiting(self.queues)
        if lost:
            what = ", ".join(job.what for job in lost)
            warn(f"{what} is not saved yet, and is lost if the process ends before it is")

    def deliver_before_the_end(self) -> None:
        """If the process was asked to end, wait until the spooled save is delivered, or the server does not answer."""
        courier = self.courier
        if courier is not None and drain.is_requested():
            courier.finish(time.monotonic() + self.drain_s)

    def warn_of_outage(self, because: HoldfastError | None) -> None:
        """Warn, once for an outage, that checkpoints are kept in the spool."""
        circuit = self.server.circuit
        because = because or circuit.because  # a delivery may have been the first to notice
        if self.queue is not None and because is not None and not circuit.is_reported:
            circuit.is_reported = True
            why, where = str(because).rstrip("."), self.queue.spool.folder
            if isinstance(because, NotAllowed):
                why = f"{why}, though it has let this job save before; {self.server.credential.advice}"
            warn(
                f"{why}. Until that is over, checkpoints are kept in {where}, and delivered afterwards by this "
                "process, by the next one that uses the server, or by 'holdfast sync'."
            )

    def _own(self) -> None:
        """Leave to the parent, in a forked child, what was under way there."""
        if not self._owner.is_this_process:
            self._owner, self.jobs, self._is_awake = Owner(), [], False
