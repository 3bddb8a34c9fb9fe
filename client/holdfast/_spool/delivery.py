"""Delivery of a queue to its server: in order, each checkpoint exactly once; what the server refuses is parked."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .._api.retry import RetryDeadline, is_refused_for_now, is_transient
from .._api.server import Server
from .._api.wire import Committed
from .._runtime.interruption import reraise
from .._transfer import upload
from ..errors import HoldfastError, IntegrityError
from . import item as _items
from .folder_item import SpooledFiles
from .item import SpooledCheckpoint
from .queue import Queue

log = logging.getLogger("holdfast")

_UNWANTED = {
    "not_improved": "its metric is not better than that of the best",
    "superseded": "another save of that name is newer",
}
"""The codes by which the server refuses a save that is no longer of use; this is no failure."""


@dataclass
class Outcome:
    """The result of an attempt to deliver a queue.

    Attributes
    ----------
    delivered : int
        The number of checkpoints that the server has now, or did not want because they were no improvement.
    parked : list of (SpooledCheckpoint, Exception)
        The checkpoints that it refused.
    error : HoldfastError or None
        The failure for which the rest still waits.
    is_claimed_by_other : bool
        Whether the rest waits because another process delivers it.
    """

    delivered: int = 0
    parked: list[tuple[SpooledCheckpoint, Exception]] = field(default_factory=list)
    error: HoldfastError | None = None
    is_claimed_by_other: bool = False

    @property
    def is_progress(self) -> bool:
        """Whether something has left the queue, and no failure holds up what follows."""
        return bool(self.delivered or self.parked) and self.error is None


def deliver(
    queue: Queue,
    server: Server,
    *,
    patience_s: float = 0.0,
    progress: bool | None = False,
    report: Callable[[SpooledCheckpoint, str], object] = lambda item, what: None,
    stopping: threading.Event | None = None,
    gives_up: Callable[[SpooledCheckpoint, HoldfastError], bool] = lambda item, error: False,
    items: Sequence[SpooledCheckpoint] | None = None,
) -> Outcome:
    """Send what waits in a queue, the oldest first, until it is empty or a failure ends the attempt.

    What the server refuses is parked, and the next one follows. A failure ends the attempt if it is transient, or about
    this client's rights or the server's space.

    Parameters
    ----------
    patience_s : float
        The time, in seconds, for which one checkpoint is retried while the server is unreachable.
    report : callable
        Called with each checkpoint that has left the queue, and what became of it.
    stopping : threading.Event, optional
        Once it is set, no failure is retried.
    gives_up : callable
        Decides of a transient failure if the checkpoint is parked all the same.
    items : sequence of SpooledCheckpoint, optional
        The only ones to send; see `url_aliases.turns`.
    """
    outcome = Outcome()
    with queue.claimed() as is_claimed:
        outcome.is_claimed_by_other = not is_claimed
        while is_claimed and outcome.error is None and (batch := queue.items() if items is None else items):
            for item in batch:
                attempt = _Attempt(queue, item, server, RetryDeadline(patience_s, stopping), progress, report)
                try:
                    attempt.run(outcome, gives_up)
                except OSError as failure:
                    reraise(failure)
                    what = f"{item.folder} cannot be read or moved: {failure}"
                    outcome.error = IntegrityError(what, code=_items.UNREADABLE)
                if outcome.error is not None:
                    break
            if items is not None:
                break
    return outcome


@dataclass
class _Attempt:
    """An attempt to deliver one checkpoint."""

    queue: Queue
    item: SpooledCheckpoint
    server: Server
    patience: RetryDeadline
    progress: bool | None
    report: Callable[[SpooledCheckpoint, str], object]

    def run(self, outcome: Outcome, gives_up: Callable[[SpooledCheckpoint, HoldfastError], bool]) -> None:
        """Deliver the checkpoint, or park it, or note the failure for which it still waits."""
        try:
            self._deliver()
            outcome.delivered += 1
        except HoldfastError as error:
            waits = is_transient(error) or is_refused_for_now(error) or error.code == _items.UNREADABLE
            if waits and not gives_up(self.item, error):
                outcome.error = error
            else:
                self._park(error, outcome)
        except FileNotFoundError as error:
            if self.item.folder.exists():  # otherwise it was dropped, or discarded
                self._park(error, outcome)
        except (ValueError, TypeError) as error:  # it can never be sent
            reraise(error)
            self._park(error, outcome)

    def _deliver(self) -> None:
        save, file = self.queue.open(self.item)
        # What was saved later comes later in the order, also if the answer to the save before it was lost.
        save = {**save, "saved_after": max(save.get("saved_after", 0), self.queue.delivered_after)}
        with file:
            try:
                how: dict[str, Any] = {"patience": self.patience, "progress": self.progress}
                if isinstance(file, SpooledFiles):
                    committed = upload.send_files(self.server, save, file, **how)
                else:
                    committed = upload.send(self.server, save, file, **how)
            except IntegrityError as error:
                if error.code == _items.UNREADABLE:
                    raise
                raise IntegrityError(f"the file was changed while it waited: {error}", code=error.code) from error
            except HoldfastError as error:
                if error.code not in _UNWANTED:
                    raise
                self.report(self.item, f"{save['directory']}/{save['name']} is not kept: {_UNWANTED[error.code]}")
            else:
                place = committed.checkpoint.saved_after
                self.queue.learn(committed.checkpoint.sequence, delivered_after=place)
                self.report(self.item, _described(committed))
        self.server.circuit.close()
        if not _items.discard(self.item.folder):
            raise PermissionError("it has arrived, and would be sent again and again")

    def _park(self, error: Exception, outcome: Outcome) -> None:
        name, directory = self.item.name or "a checkpoint", self.queue.directory
        place = self.queue.park(self.item, error)
        outcome.parked.append((self.item, error))
        log.warning("%s of %r cannot be delivered, and is in %s now: %s", name, directory, place, error)


def _described(committed: Committed) -> str:
    name = f"{committed.checkpoint.directory}/{committed.checkpoint.name}"
    return f"{name} is delivered" + (", and not kept: newer ones are there" if committed.removed_at else "")
