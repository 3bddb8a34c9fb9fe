"""One save, from its beginning to where it is durable: on the server, or in the spool while the server is away."""

import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from .._api import identity
from .._api.retry import Patience, is_transient
from .._api.server import Server
from .._api.wire import Committed
from .._runtime.frames import is_executing
from .._runtime.interruption import is_one, reraise
from .._runtime.process import Owner
from .._spool import item as _items
from .._spool import siblings
from .._spool.courier import Courier
from .._spool.queue import Item, Queue
from .._spool.spool import Spool
from .._torchfile.writer.layout import Layout
from .._transfer import upload
from .._transfer.upload_source import ReuseHistory
from ..errors import HoldfastError, HoldfastWarning, NotAllowed, OutOfSpace, warn
from . import shutdown
from .background import Background

_CUTS, _CUT_EVERY_S = 20, 0.05

log = logging.getLogger("holdfast")
_accepted: set[tuple[str, str, str]] = set()
"""The server, directory and name of the token of every save that a server has taken from this process."""


class Saving:
    """Saves to one directory.

    Parameters
    ----------
    server : Server
        Where to.
    directory : str
        The server's name of the directory.
    spool : Spool or None
        Where to keep checkpoints while the server is away. None: nowhere, an error is raised instead.
    progress : bool or None
        Whether to show bars.
    drain_s : float
        How long, in seconds, the end of the process may be put off for saves.
    """

    def __init__(
        self, server: Server, directory: str, spool: Spool | None, progress: bool | None, drain_s: float
    ) -> None:
        self.server = server
        self.progress = progress
        self.drain_s = drain_s
        self.reuse_history = ReuseHistory()
        self._accepted_as = (server.url, directory, server.credential.key)
        self.jobs: list[Job] = []
        self._spool = spool
        self.queue: Queue | None = spool.queue(server.url, directory) if spool is not None else None
        self._others: list[Queue] = []
        self._absorbed: set[Queue] = set()
        self._is_awake = False
        self._has_met_others = False
        self._owner = Owner()

    @property
    def _courier(self) -> Courier | None:
        """Who delivers; in a forked process another one, as threads are not inherited."""
        return Courier.of(self.server, self._spool) if self._spool is not None else None

    def goes_on(self, error: HoldfastError) -> bool:
        """Whether a save that has met this error may be kept on this machine and delivered later.

        A token that was good for a save of this process may end, or be replaced; that must not end the job. Where none
        was, it is a mistake in the job's settings.
        """
        if is_transient(error) or error.status == 507:
            return True
        return isinstance(error, NotAllowed) and self._accepted_as in _accepted

    def begin(self) -> None:
        """Whoever uses the server delivers what waits for it, once."""
        self._own()
        courier = self._courier
        if courier is not None and not self._is_awake:
            self._is_awake = True
            if courier.waiting() or courier.may_have_more():
                courier.wake()

    def must_wait(self) -> bool:
        """Whether a save goes to the spool without asking the server."""
        if self.queue is None:
            return False
        must = self.queue.has_items() or self.server.outage.is_on or shutdown.is_requested()
        if not must:
            self._meet_others()
        return any(queue.has_items() for queue in self._related()) or must

    def _meet_others(self) -> None:
        """Find out, once, whose what waits under other URLs is, so that the first save does not overtake it.

        No other URL is asked if the server itself does not answer, nor once `_identity.PATIENCE_S` have passed.
        """
        if self._has_met_others or self.queue is None:
            return
        self._has_met_others = True
        self._others = siblings.others(self.queue)
        end = time.monotonic() + identity.PATIENCE_S
        waiting = (other for other in self._others if other.has_items() and time.monotonic() < end)
        siblings.meet(self.server, waiting)

    @property
    def queues(self) -> list[Queue]:
        """Its queue, and those for the same directory of the same server under other URLs."""
        return [self.queue, *self._related()] if self.queue is not None else []

    def _related(self) -> list[Queue]:
        """The queues of the same server under other URLs in which something has waited since it was first used."""
        if self.queue is None:
            return []
        self._others = list(dict.fromkeys([*self._others, *siblings.others(self.queue)]))
        found = [other for other in self._others if siblings.is_same(self.queue, other)]
        for other in found:
            if other not in self._absorbed:
                self._absorbed.add(other)
                self.queue.absorb(other)
        return found

    def send(
        self,
        save: Mapping[str, Any],
        layout: Layout,
        hurried: threading.Event,
        reserved: Callable[[int], object] = lambda saved_after: None,
    ) -> Committed:
        """Save to the server itself; once it is hurried, nothing that fails is tried again.

        It is tried however long the server has been away: whoever asks has nobody else to turn to. Where that is as the
        spool is full, one attempt has to do.
        """
        outage = self.server.outage
        patience = Patience(0.0 if outage.is_on and self.queue is not None else self.server.patience_s, hurried)
        try:
            committed = upload.send(
                self.server,
                save,
                layout,
                patience=patience,
                history=self.reuse_history,
                progress=self.progress,
                reserved=reserved,
            )
        except HoldfastError as error:
            if not is_transient(error) and not (isinstance(error, NotAllowed) and self.goes_on(error)):
                outage.end()
            elif not hurried.is_set():  # else it may be us who broke it off
                outage.begin(error)
            raise
        outage.end()
        _accepted.add(self._accepted_as)
        if self.queue is not None:
            self.queue.learn(committed.checkpoint.sequence)
        if self._courier is not None and any(queue.has_items() for queue in self._related()):
            self._courier.wake()  # only now it is known whose they are
        return committed

    def keep(self, save: Mapping[str, Any], layout: Layout) -> Item:
        """Put a save into the spool, and have it delivered."""
        courier = self._courier
        assert self.queue is not None
        assert courier is not None
        item = self.queue.put(save, layout)
        self._is_awake = True
        courier.wake()
        return item

    def waiting(self, directory: str, name: str) -> Item | None:
        """The newest checkpoint of this name that waits here for the server."""
        if self._spool is None:
            return None
        queue = self._spool.queue(self.server.url, directory)
        queues = [queue, *(other for other in siblings.others(queue) if siblings.is_same(queue, other))]
        return next((item for item in siblings.newest_first(queues, parked=False) if item.name == name), None)

    def give_up(self) -> None:
        """Forget what waits or was refused; a delivery that is under way ends first, or is left behind."""
        if self.queue is not None:
            self._others = siblings.others(self.queue)
            siblings.meet(self.server, self._others)
        for queue in self.queues:
            queue.clear()
            with queue.claimed(wait_s=self.server.timeout_s):
                queue.clear()

    def finish(self, background: Background, timeout_s: float | None) -> None:
        """Wait for saves in the background, deliver what can be delivered, and name what still waits."""
        self._own()
        limit_s = self.drain_s if timeout_s is None else timeout_s
        end = time.monotonic() + limit_s
        is_done = background.wait(limit_s)
        lost = [] if is_done else [job for job in list(self.jobs) if job.is_alive() and not job.rescue()]
        courier = self._courier
        if courier is not None and any(queue.has_items() for queue in self.queues):
            courier.finish(end)
            shutdown.name_what_waits(self.queues)
        if lost:
            what = ", ".join(job.what for job in lost)
            warn(f"{what} is not saved yet, and is lost where the process ends before it is")

    def deliver_before_the_end(self) -> None:
        """Once the process was told to end, wait until what was just kept is delivered, if the server answers."""
        courier = self._courier
        if courier is not None and shutdown.is_requested():
            courier.finish(time.monotonic() + self.drain_s)

    def _own(self) -> None:
        """In a forked child, what is under way is the parent's."""
        if not self._owner.is_this_process:
            self._owner, self.jobs, self._is_awake = Owner(), [], False

    def tell_of_outage(self, because: HoldfastError | None) -> None:
        """Warn, once, that the server is away."""
        outage = self.server.outage
        because = because or outage.because  # a delivery may have been the first to notice
        if self.queue is not None and because is not None and not outage.is_reported:
            outage.is_reported = True
            why, where = str(because).rstrip("."), self.queue.spool.folder
            if isinstance(because, NotAllowed):
                why = f"{why}, though it has let this job save before; {self.server.credential.advice}"
            warn(
                f"{why}. Until that is over, checkpoints are kept in {where}, and delivered afterwards by this "
                "process, by the next one that uses the server, or by 'holdfast sync'."
            )


class Job:
    """One logical save. One thread calls `run`; others may wait for it, or rescue it, as long as it is alive.

    Parameters
    ----------
    close : callable
        Called when the layout is read no more.
    waits : callable
        Whether a thread will still call `run`.
    """

    def __init__(
        self,
        saving: Saving,
        save: Mapping[str, Any],
        layout: Layout,
        close: Callable[[], object] = lambda: None,
        waits: Callable[["Job"], bool] = lambda job: False,
    ) -> None:
        self.what = f"{save['directory']}/{save['name']}"
        self._saving = saving
        self._save = save
        self._layout = layout
        self._close = close
        self._waits = waits
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._safe = threading.Event()
        self._hurried = threading.Event()
        self._runner: int | None = None
        self._call: tuple[Owner, FrameType] | None = None
        """The process and the frame in which it is run."""
        self._item: Item | None = None
        self._place: int | None = None
        """After which sequence it was saved; None before its turn. Nothing that other writers do later moves it."""
        self.policy: Mapping[str, Any] = save["policy"]
        self.because: HoldfastError | None = None
        """Why it lies in the spool."""

    def begin(self) -> None:
        """Let it be known that it is to be saved: from here on it is brought to safety when the process ends."""
        if self not in self._saving.jobs:
            self._saving.jobs[:] = [job for job in self._saving.jobs if job.is_alive()]
            self._saving.jobs.append(self)
        shutdown.began(self, self._saving.drain_s)  # also by the main thread, which alone can watch for signals

    def is_alive(self) -> bool:
        """Tell if it is still to be saved, and its bytes are those that were to be.

        A save that Ctrl-C interrupted is gone, wherever that hit it: training goes on and changes the tensors.
        """
        if self._ended.is_set():
            return False
        call = self._call
        if call is not None:
            return call[0].is_this_process and is_executing(call[1])  # in a forked child, the thread is the parent's
        return self._waits(self)

    def run(self) -> Committed | None:
        """Save; durable when this returns. None where it lies in the spool.

        Raises
        ------
        HoldfastError
            The server refused.
        OutOfSpace
            The server is away, and the spool cannot take it, either (``spool_failed``).
        """
        try:
            self._call = Owner(), sys._getframe()
            self._runner = threading.get_ident()
            self.begin()
            if self._item is not None:  # it was rescued before its turn came
                return None
            has_to_wait = self._saving.must_wait()
            self._place = self._saving.queue.known if self._saving.queue is not None else None
            if has_to_wait:
                with suppress(OutOfSpace):  # the server may have room all the same
                    self._keep(None)
                    return None
            try:
                committed = self._saving.send(self._save, self._layout, self._hurried, self._reserved)
            except HoldfastError as error:
                if self._saving.queue is None or not self._saving.goes_on(error):
                    raise
                if self._item is None:
                    self._keep(error)
                return None
            except HoldfastWarning:  # made an error by the user
                raise
            except Exception as error:
                if is_one(error):
                    self.rescue()
                    raise
                self._keep_in_spite_of(error)
                return None
            with self._guard:
                if self._item is not None:  # it was rescued while it was on its way, and has arrived all the same
                    _items.discard(self._item.folder)
            return committed
        except (KeyboardInterrupt, SystemExit):  # from a handler of the user's, who may not have thought of this save
            if shutdown.is_requested():
                self.rescue()
            raise
        finally:
            with self._guard:  # nobody reads the layout from here on
                self._ended.set()
                self._safe.set()
            self._call = None  # the frame holds the job
            with suppress(ValueError):  # in a forked child it was the parent's
                self._saving.jobs.remove(self)
            shutdown.ended(self)
            self._close()

    def wait(self, timeout_s: float) -> bool:
        """Whether it is durable within so many seconds, or has failed and said so."""
        return self._safe.wait(timeout_s)

    def hurry(self) -> None:
        """Try nothing again that fails from here on."""
        self._hurried.set()

    def rescue(self) -> bool:
        """Write it to the spool, if it has not ended; whether it is durable somewhere now, or gone."""
        if not self.is_alive():
            return True
        with self._guard:
            if not self.is_alive() or self._item is not None:
                return True
            if self._saving.queue is None:
                return False
            try:
                self._item = self._put()
            except Exception as error:  # whatever it is, others are to be rescued all the same
                log.warning("%s could not be written to the spool: %s", self.what, error)
                return False
        self._safe.set()
        self._give_up_sending()
        return True

    def _reserved(self, saved_after: int) -> None:
        """The server has given it a place in the order, which it keeps wherever it ends."""
        self._place = saved_after
        if self._saving.queue is not None:
            self._saving.queue.learn(saved_after)

    def _put(self) -> Item:
        place = {} if self._place is None else {"saved_after": self._place}
        return self._saving.keep({**self._save, **place}, self._layout)

    def _give_up_sending(self) -> None:
        """Let others have their turn: the courier sends this one."""
        self.hurry()
        for _ in range(_CUTS if self._runner not in {None, threading.get_ident()} else 0):
            self._saving.server.abort()
            if self._ended.wait(_CUT_EVERY_S):
                return

    def _keep_in_spite_of(self, error: Exception) -> None:
        """Keep it although the client itself has failed; the error is raised where it cannot be kept, either."""
        if self._saving.queue is None:
            raise error
        try:
            self._keep(HoldfastError(f"{type(error).__name__}: {error}", code="client_failed"))
        except Exception as failure:
            raise error from failure
        log.error("%s could not be sent", self.what, exc_info=error)

    def _keep(self, because: HoldfastError | None) -> None:
        self.because = because
        with self._guard:
            if self._item is None:
                try:
                    self._item = self._put()
                except OSError as error:
                    reraise(error)
                    why = f"{because}, and " if because is not None else ""
                    raise OutOfSpace(
                        f"{why}{self.what} could not be kept on this machine: {error}", code="spool_failed"
                    ) from error
