"""How what waits in a spool reaches its server: in order, each exactly once, by a thread in the background."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from .._api.retry import Backoff, Patience, is_refused_for_now, is_transient
from .._api.server import Server
from .._api.wire import Committed
from .._runtime.process import ProcessLocal
from .._transfer import upload
from ..errors import HoldfastError, IntegrityError
from . import disposal, siblings
from . import item as _items
from .queue import Item, Queue
from .spool import Spool

log = logging.getLogger("holdfast")

_FAILURE = 500
_LOOK_EVERY_S = 1.0
_ATTEMPTS, _ATTEMPTS_S = 5, 60.0
"""The times and the seconds for which the server may fail over a checkpoint before those behind it have their turn."""
_UNWANTED = {
    "not_improved": "its metric is not better than that of the best",
    "superseded": "another save of that name is newer",
}
"""What the server answers to a save that has lost its point; nothing is amiss then."""


@dataclass
class Outcome:
    """What came of an attempt to deliver a queue.

    Attributes
    ----------
    delivered : int
        How many checkpoints the server has now, or did not want because they were no improvement.
    parked : list of (Item, Exception)
        What it refused.
    error : HoldfastError or None
        Why the rest still waits.
    is_claimed_by_other : bool
        Whether the rest waits because another process is at it.
    """

    delivered: int = 0
    parked: list[tuple[Item, Exception]] = field(default_factory=list)
    error: HoldfastError | None = None
    is_claimed_by_other: bool = False

    @property
    def is_progress(self) -> bool:
        """Tell if something has left the queue, and nothing stands against what follows."""
        return bool(self.delivered or self.parked) and self.error is None


def deliver(
    queue: Queue,
    server: Server,
    *,
    patience_s: float = 0.0,
    progress: bool | None = False,
    told: Callable[[Item, str], object] = lambda item, what: None,
    hurried: threading.Event | None = None,
    gives_up: Callable[[Item, HoldfastError], bool] = lambda item, error: False,
    items: Sequence[Item] | None = None,
) -> Outcome:
    """Send what waits in a queue, the oldest first, until nothing waits or something stands against it.

    What the server refuses is parked, and the next one follows; what is about this client's rights or the server's
    space, and what does not arrive, ends it.

    Parameters
    ----------
    patience_s : float
        How long to go on with one checkpoint where the server is away.
    told : callable
        Is told what has become of each checkpoint.
    hurried : threading.Event, optional
        Once it is set, nothing that fails is tried again.
    gives_up : callable
        Says of a failure that may pass whether to park the checkpoint all the same.
    items : sequence of Item, optional
        The only ones to send; see `_kin.turns`.
    """
    outcome = Outcome()
    with queue.claimed() as mine:
        outcome.is_claimed_by_other = not mine
        while mine and outcome.error is None and (batch := queue.items() if items is None else items):
            for item in batch:
                try:
                    _try(queue, item, server, Patience(patience_s, hurried), progress, told, outcome, gives_up)
                except OSError as failure:
                    what = f"{item.folder} cannot be read or moved: {failure}"
                    outcome.error = IntegrityError(what, code=_items.UNREADABLE)
                if outcome.error is not None:
                    break
            if items is not None:
                break
    return outcome


def _try(
    queue: Queue,
    item: Item,
    server: Server,
    patience: Patience,
    progress: bool | None,
    told: Callable[[Item, str], object],
    outcome: Outcome,
    gives_up: Callable[[Item, HoldfastError], bool],
) -> None:
    """Deliver one checkpoint, or park it, or say what stands against that."""
    try:
        _deliver(queue, item, server, patience, progress, told)
        outcome.delivered += 1
    except HoldfastError as error:
        waits = is_transient(error) or is_refused_for_now(error) or error.code == _items.UNREADABLE
        if waits and not gives_up(item, error):
            outcome.error = error
        else:
            _park(queue, item, error, outcome)
    except FileNotFoundError as error:
        if item.folder.exists():  # else it was dropped, or given up
            _park(queue, item, error, outcome)
    except (ValueError, TypeError) as error:  # it can never be sent
        _park(queue, item, error, outcome)


def _deliver(
    queue: Queue,
    item: Item,
    server: Server,
    patience: Patience,
    progress: bool | None,
    told: Callable[[Item, str], object],
) -> None:
    save, file = queue.open(item)
    with file:
        try:
            committed = upload.send(server, save, file, patience=patience, progress=progress)
        except IntegrityError as error:
            if error.code == _items.UNREADABLE:
                raise
            raise IntegrityError(f"the file was changed while it waited: {error}", code=error.code) from error
        except HoldfastError as error:
            if error.code not in _UNWANTED:
                raise
            told(item, f"{save['directory']}/{save['name']} is not kept: {_UNWANTED[error.code]}")
        else:
            queue.learn(committed.checkpoint.sequence)
            told(item, _told(committed))
    server.outage.end()
    if not _items.discard(item.folder):
        raise PermissionError("it has arrived, and would be sent again and again")


def _told(committed: Committed) -> str:
    name = f"{committed.checkpoint.directory}/{committed.checkpoint.name}"
    return f"{name} is delivered" + (", and not kept: newer ones are there" if committed.removed_at else "")


def _park(queue: Queue, item: Item, error: Exception, outcome: Outcome) -> None:
    name = item.name or "a checkpoint"
    place = queue.park(item, error)
    outcome.parked.append((item, error))
    log.warning("%s of %r cannot be delivered, and lies in %s now: %s", name, queue.directory, place, error)


class Courier:
    """Delivers what waits for one server, on a thread that lives as long as something waits."""

    _all: ClassVar[ProcessLocal[dict[tuple[object, ...], "Courier"]]] = ProcessLocal(dict)

    def __init__(self, server: Server, spool: Spool) -> None:
        self._server = server
        self._spool = spool
        self._guard = threading.Lock()
        self._hurried = threading.Event()
        self._idle = threading.Event()
        self._idle.set()
        self._is_asked_again = False
        self._attempts = 0
        self._was_woken = self._has_tidied = False
        self._hangs: int | None = None
        self._blocked: set[str] = set()
        self._failures: dict[str, tuple[int, float]] = {}
        """The number of times that the server has failed over a checkpoint, by its save's id, and since when."""
        self._thread: threading.Thread | None = None

    @classmethod
    def of(cls, server: Server, spool: Spool) -> "Courier":
        """The courier for a server and a token, or a file of one; the same for all managers of this process."""
        key, couriers = (server.url, server.credential.key, spool.folder), cls._all.get()
        return couriers.get(key) or couriers.setdefault(key, cls(server.again(), spool))

    @classmethod
    def all(cls) -> list["Courier"]:
        """Those of this process that have had to see to something."""
        return [courier for courier in list(cls._all.get().values()) if courier._was_woken]

    def waiting(self) -> list[Queue]:
        """The queues in which something waits."""
        return [queue for queue in self._spool.queues(self._server.url) if queue.has_items()]

    def may_have_more(self) -> bool:
        """Tell if something waits under another URL, which may be one of the same server."""
        return any(queue.has_items() for queue in self._elsewhere())

    def _elsewhere(self) -> list[Queue]:
        return [queue for queue in self._spool.queues() if queue.server != self._server.url]

    def wake(self) -> None:
        """Something may wait: see to it, on a thread."""
        with self._guard:
            self._is_asked_again = self._was_woken = True
            if self._thread is not None:
                return
            self._idle.clear()
            self._hurried.clear()
            self._thread = threading.Thread(target=self._run, name="holdfast-courier", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is ending
                self._thread = None
                self._idle.set()

    def finish(self, end: float) -> None:
        """Try at once, and wait until nothing waits any more or the server does not answer.

        Parameters
        ----------
        end : float
            The time, of `time.monotonic`, at which to wait no longer.
        """
        seen = self._attempts
        if self._hangs == seen:  # this attempt was waited for already, in vain
            return
        self.wake()
        self._hurried.set()
        while time.monotonic() < end:
            if self._idle.wait(0.02):
                return
            if self._attempts > seen and (self._server.outage.is_on or self._blocked):
                return
        self._hangs = seen if self._attempts == seen else None

    def _run(self) -> None:
        waits = Backoff()
        if not self._has_tidied:
            self._has_tidied = True
            disposal.tidy(self._spool.every_queue(), self._spool.folder)
        while True:
            with self._guard:
                self._is_asked_again = False
            siblings.meet(self._server, (queue for queue in self._elsewhere() if queue.has_items()))
            queues = self.waiting()
            with self._guard:
                if not queues and not self._is_asked_again:
                    self._thread = None
                    self._idle.set()
                    return
            outcomes = self._round(queues)
            if any(outcome.delivered or outcome.parked for outcome in outcomes):
                waits.reset()
            elif any(outcome.is_claimed_by_other for outcome in outcomes):
                self._rest(min(waits.next_s(), _LOOK_EVERY_S))
            else:
                self._rest(waits.next_s())

    def _rest(self, seconds: float) -> None:
        """Wait before the next round; no longer where another token is there meanwhile."""
        end, used = time.monotonic() + seconds, self._server.token
        while (left_s := end - time.monotonic()) > 0 and self._server.token == used:
            if self._hurried.wait(min(left_s, _LOOK_EVERY_S)):
                break
        self._hurried.clear()

    def _round(self, queues: list[Queue]) -> list[Outcome]:
        """Go through the queues once, directory by directory; what came of it."""
        outcomes: list[Outcome] = []
        for directory in dict.fromkeys(queue.directory for queue in queues):
            for queue, items in siblings.turns(partial(self._spool.queues, self._server.url, directory)):
                outcomes.append(self._attempt(queue, items))
                if not outcomes[-1].is_progress:
                    break
        self._attempts += 1
        return outcomes

    def _attempt(self, queue: Queue, items: Sequence[Item]) -> Outcome:
        try:
            patience_s = 0.0 if self._server.outage.is_on else self._server.patience_s
            outcome = deliver(
                queue,
                self._server,
                patience_s=patience_s,
                told=_log,
                hurried=self._hurried,
                gives_up=self._gives_up,
                items=items,
            )
        except Exception:  # a thread that ends here would end all deliveries
            log.exception("what waits in %s cannot be delivered", queue.folder)
            return Outcome()
        if queue.server != self._server.url and outcome.delivered:
            self._spool.queue(self._server.url, queue.directory).absorb(queue)
        error = outcome.error
        if error is not None and is_transient(error):
            self._server.outage.begin(error)
        elif error is not None and queue.directory not in self._blocked:
            self._blocked.add(queue.directory)
            log.warning("checkpoints of %r wait in %s: %s", queue.directory, queue.folder, error)
        elif error is None:
            self._blocked.discard(queue.directory)
        return outcome

    def _gives_up(self, item: Item, error: HoldfastError) -> bool:
        """Tell if the server fails over this checkpoint again and again, while it answers other requests."""
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


def _log(item: Item, what: str) -> None:
    log.info("%s (it waited in %s)", what, item.folder)
