"""Couriers: deliver in the background what waits in the spool for a server."""

import logging
import threading
import time
from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from .._api.retry import Backoff, RetryDeadline, is_transient
from .._api.server import Server
from .._runtime.forks import ProcessLocal
from .._runtime.threads import start
from ..errors import HoldfastError
from . import disposal, url_aliases
from .delivery import Outcome, deliver
from .item import SpooledCheckpoint
from .queue import Queue
from .spool import Spool

log = logging.getLogger("holdfast")

_FAILURE = 500
_POLL_S = 1.0
_ATTEMPTS, _ATTEMPTS_S = 5, 60.0
"""The failures of the server over a checkpoint, and the seconds since the first, after which it is passed over."""


class Courier:
    """Delivers what waits for one server, on a thread that lives while something waits. Thread-safe."""

    _all: ClassVar[ProcessLocal[dict[tuple[object, ...], "Courier"]]] = ProcessLocal(dict)

    def __init__(self, server: Server, spool: Spool) -> None:
        self._server = server
        self._spool = spool
        self._guard = threading.Lock()
        self._stopping = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._is_woken_again = False
        self._attempts = 0
        self._was_woken = self._has_tidied = False
        self._hanging_attempt: int | None = None
        self._blocked: set[str] = set()
        self._failures: dict[str, tuple[int, float]] = {}
        """By the id of a save: the number of failures of the server over it, and the time of the first."""
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, server: Server, spool: Spool) -> "Courier":
        """Return the courier for a server and a token, or token file: the same for all managers of this process."""
        key, couriers = (server.url, server.credential.key, spool.folder), cls._all.get()
        return couriers.get(key) or couriers.setdefault(key, cls(server.again(), spool))

    @classmethod
    def all(cls) -> list["Courier"]:
        """Return the couriers of this process that were woken."""
        return [courier for courier in list(cls._all.get().values()) if courier._was_woken]

    def waiting(self) -> list[Queue]:
        """Return the queues in which something waits."""
        return [queue for queue in self._spool.queues(self._server.url) if queue.has_items()]

    def may_have_more(self) -> bool:
        """Tell if something waits under another URL, which may be of the same server."""
        return any(queue.has_items() for queue in self._elsewhere())

    def _elsewhere(self) -> list[Queue]:
        return [queue for queue in self._spool.queues() if queue.server != self._server.url]

    def wake(self) -> None:
        """Deliver on a thread what waits. Idempotent."""
        with self._guard:
            self._is_woken_again = self._was_woken = True
            if self._thread is not None:
                return
            self._idle.clear()
            self._stopping.clear()
            self._thread = thread = threading.Thread(target=self._run, name="holdfast-courier", daemon=True)
            try:
                start(thread)
            finally:
                if thread.ident is None:  # the interpreter is ending, or a signal came before the thread
                    self._thread = None
                    self._idle.set()

    def finish(self, end: float) -> None:
        """Try at once, and block until all is delivered or the server does not answer.

        Parameters
        ----------
        end : float
            The time, of `time.monotonic`, to block until at most.
        """
        seen = self._attempts
        if self._hanging_attempt == seen:  # an earlier call has waited for this attempt in vain
            return
        self.wake()
        self._stopping.set()
        while time.monotonic() < end:
            if self._idle.wait(0.02):
                return
            if self._attempts > seen and (self._server.circuit.is_open or self._blocked):
                return
        self._hanging_attempt = seen if self._attempts == seen else None

    def _run(self) -> None:
        waits = Backoff()
        if not self._has_tidied:
            self._has_tidied = True
            disposal.tidy(self._spool.every_queue(), self._spool.folder)
        while True:
            with self._guard:
                self._is_woken_again = False
            failure = self._identify_others()
            queues = self.waiting()
            with self._guard:
                if not queues and not self._is_woken_again:
                    self._thread = None
                    self._idle.set()
                    return
            outcomes = self._round(queues) if failure is None else [Outcome(error=failure)]
            self._attempts += 1
            if any(outcome.delivered or outcome.parked for outcome in outcomes):
                waits.reset()
            elif any(outcome.is_claimed_by_other for outcome in outcomes):
                self._rest(min(waits.next_s(), _POLL_S))
            else:
                self._rest(waits.next_s())

    def _identify_others(self) -> HoldfastError | None:
        """Identify the servers of other URLs; return the failure of this one to answer, which opens its circuit."""
        patience = RetryDeadline(self._patience_s, self._stopping)
        while True:
            waiting = (queue for queue in self._elsewhere() if queue.has_items())
            failure = url_aliases.identify(self._server, waiting, self._server.timeout_s)
            if failure is None:
                return None
            try:
                patience.wait(failure)
            except HoldfastError:
                self._server.circuit.trip(failure)
                return failure

    @property
    def _patience_s(self) -> float:
        """The time, in seconds, for which a request is retried: none while the server is known to be away."""
        return 0.0 if self._server.circuit.is_open else self._server.patience_s

    def _rest(self, seconds: float) -> None:
        """Wait before the next round; no longer if the token changes meanwhile."""
        end, used = time.monotonic() + seconds, self._server.token
        while (left_s := end - time.monotonic()) > 0 and self._server.token == used:
            if self._stopping.wait(min(left_s, _POLL_S)):
                break
        self._stopping.clear()

    def _round(self, queues: list[Queue]) -> list[Outcome]:
        """Go through the queues once, directory by directory."""
        outcomes: list[Outcome] = []
        for directory in dict.fromkeys(queue.directory for queue in queues):
            for queue, items in url_aliases.turns(partial(self._spool.queues, self._server.url, directory)):
                outcomes.append(self._attempt(queue, items))
                if not outcomes[-1].is_progress:
                    break
        return outcomes

    def _attempt(self, queue: Queue, items: Sequence[SpooledCheckpoint]) -> Outcome:
        try:
            outcome = deliver(
                queue,
                self._server,
                patience_s=self._patience_s,
                report=_log,
                stopping=self._stopping,
                gives_up=self._gives_up,
                items=items,
            )
        except Exception:  # a thread that ended here would end all deliveries
            log.exception("what waits in %s cannot be delivered", queue.folder)
            return Outcome()
        if queue.server != self._server.url and outcome.delivered:
            self._spool.queue(self._server.url, queue.directory).absorb(queue)
        error = outcome.error
        if error is not None and is_transient(error):
            self._server.circuit.trip(error)
        elif error is not None and queue.directory not in self._blocked:
            self._blocked.add(queue.directory)
            log.warning("checkpoints of %r wait in %s: %s", queue.directory, queue.folder, error)
        elif error is None:
            self._blocked.discard(queue.directory)
        return outcome

    def _gives_up(self, item: SpooledCheckpoint, error: HoldfastError) -> bool:
        """Tell if the server fails repeatedly over this checkpoint, while it answers other requests."""
        if error.status != _FAILURE or "code" not in error.problem:
            return False
        count, since = self._failures.get(item.save_id, (0, time.monotonic()))
        self._failures[item.save_id] = count + 1, since
        if count + 1 < _ATTEMPTS or time.monotonic() - since < _ATTEMPTS_S:
            return False
        try:
            self._server.call("GET", "/v1/info")
        except HoldfastError:
            return False
        del self._failures[item.save_id]
        return True


def _log(item: SpooledCheckpoint, what: str) -> None:
    log.info("%s (it waited in %s)", what, item.folder)
