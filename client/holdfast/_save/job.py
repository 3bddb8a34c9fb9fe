"""One save, from its start until it is durable: on the server, or in the spool while the server is unreachable."""

import logging
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import FrameType
from typing import Any

from .._api.wire import Committed
from .._runtime.forks import Owner
from .._runtime.frames import is_executing
from .._runtime.interruption import is_raised_by_handler, reraise
from .._spool import item as _items
from .._spool.folder_item import Content
from .._spool.item import SpooledCheckpoint
from ..errors import HoldfastError, HoldfastWarning, IntegrityError, OutOfSpace
from . import drain, shutdown
from .target import SaveTarget

_ABORTS, _ABORT_EVERY_S = 20, 0.05

log = logging.getLogger("holdfast")


class SaveJob:
    """One logical save. One thread calls `run`; others may wait for it, or spill it to the spool while it is alive.

    Parameters
    ----------
    target : SaveTarget
        The destination.
    save : mapping
        The facts of the save, as they are sent.
    content : Content
        The bytes.
    close : callable
        Called when they are no longer read.
    waits : callable
        Tells if a thread will still call `run`.
    """

    def __init__(
        self,
        target: SaveTarget,
        save: Mapping[str, Any],
        content: Content,
        close: Callable[[], object] = lambda: None,
        waits: Callable[["SaveJob"], bool] = lambda job: False,
    ) -> None:
        self.what = f"{save['directory']}/{save['name']}"
        self.policy: Mapping[str, Any] = save["policy"]
        self.because: HoldfastError | None = None
        """The reason for which it is in the spool."""
        self._target = target
        self._save = save
        self._content = content
        self._close = close
        self._waits = waits
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._durable = threading.Event()
        self._stopping = threading.Event()
        self._runner: int | None = None
        self._call: tuple[Owner, FrameType] | None = None
        """The process and the frame in which `run` is executed."""
        self._item: SpooledCheckpoint | None = None
        self._saved_after: int | None = None
        """The sequence that it follows; None before its turn. Later saves of other writers do not change it."""

    def begin(self) -> None:
        """Register it: from here on it is made durable if the process ends."""
        if self not in self._target.jobs:
            self._target.jobs[:] = [job for job in self._target.jobs if job.is_alive()]
            self._target.jobs.append(self)
        shutdown.watch_over(self, self._target.drain_s)  # also by the main thread, which alone can watch for signals

    def is_alive(self) -> bool:
        """Tell if it is still to be saved, and its bytes are still those of the call.

        A save that Ctrl-C interrupted is not, at whatever point that came: training continues and changes the tensors.
        """
        if self._ended.is_set():
            return False
        call = self._call
        if call is not None:
            return call[0].is_this_process and is_executing(call[1])  # in a forked child, the thread is the parent's
        return self._waits(self)

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is durable, or has failed and reported that; False after so many seconds."""
        return self._durable.wait(timeout_s)

    def stop_retrying(self) -> None:
        """Let the next failure be the last one."""
        self._stopping.set()

    # saving

    def run(self) -> Committed | None:
        """Save; durable when this returns. None if it is in the spool.

        Raises
        ------
        HoldfastError
            The server refused.
        OutOfSpace
            The server is unreachable, and the spool cannot take the save, either (``spool_failed``).
        """
        try:
            self._call = Owner(), sys._getframe()
            self._runner = threading.get_ident()
            self.begin()
            return self._save_somewhere()
        except (KeyboardInterrupt, SystemExit):  # raised by a handler of the user's, which may not know of this save
            if drain.is_requested():
                self.spill_to_spool()
            raise
        finally:
            self._end()

    def _save_somewhere(self) -> Committed | None:
        """Save to the server, or else put it into the spool and return None."""
        if self._item is not None:  # it was spilled before its turn came
            return None
        try:
            if self._is_spooled_at_once():
                return None
            committed = self._target.send(self._save, self._content, self._stopping, self._reserved, self._saved_after)
        except HoldfastError as error:
            if self._target.queue is None or not self._target.may_spool(error):
                raise
            self._put_into_spool(error)
            return None
        except HoldfastWarning:  # made an error by the user
            raise
        except Exception as error:
            if is_raised_by_handler(error):
                self.spill_to_spool()
                raise
            self._put_into_spool_despite(error)
            return None
        with self._guard:
            if self._item is not None:  # it was spilled while it was being sent, and has arrived all the same
                _items.discard(self._item.folder)
        return committed

    def _is_spooled_at_once(self) -> bool:
        """Put it into the spool if the server is not to be asked; False if it is."""
        must_spool = self._target.must_spool(is_final=True)
        self._saved_after = self._target.queue.known if self._target.queue is not None else None
        if must_spool:
            with suppress(OutOfSpace):  # the server may have room all the same
                self._put_into_spool(None)
                return True
        return False

    def _reserved(self, saved_after: int) -> None:
        """Keep the place in the order that the server has given it, wherever it ends."""
        self._saved_after = saved_after
        if self._target.queue is not None:
            self._target.queue.learn(saved_after)

    def _end(self) -> None:
        with self._guard:  # from here on, no thread reads the content
            self._ended.set()
            self._durable.set()
        self._call = None  # the frame refers to the job
        with suppress(ValueError):  # a forked child removes a job of its parent
            self._target.jobs.remove(self)
        drain.remove(self)
        self._close()

    # the spool

    def spill_to_spool(self) -> bool:
        """Write it to the spool unless it has ended; False if it is durable nowhere."""
        if not self.is_alive():
            return True
        with self._guard:
            if not self.is_alive() or self._item is not None:
                return True
            if self._target.queue is None:
                return False
            try:
                self._item = self._put()
            except Exception as error:  # any failure: the other saves are to be written all the same
                log.warning("%s could not be written to the spool: %s", self.what, error)
                return False
        self._durable.set()
        self._give_up_sending()
        return True

    def _put(self) -> SpooledCheckpoint:
        place = {} if self._saved_after is None else {"saved_after": self._saved_after}
        return self._target.put({**self._save, **place}, self._content)

    def _give_up_sending(self) -> None:
        """End the attempt that is under way, so that later saves have their turn: the courier sends this one."""
        self.stop_retrying()
        for _ in range(_ABORTS if self._runner not in {None, threading.get_ident()} else 0):
            self._target.server.abort()
            if self._ended.wait(_ABORT_EVERY_S):
                return

    def _put_into_spool(self, because: HoldfastError | None) -> None:
        """Put it into the spool, if it is not there.

        Parameters
        ----------
        because : HoldfastError or None
            The failure to send it; None if sending was not tried.
        """
        with self._guard:
            if self._item is None:
                self.because = because
                try:
                    self._item = self._put()
                except IntegrityError:  # a folder was changed meanwhile
                    raise
                except OSError as error:
                    reraise(error)
                    why = f"{because}, and " if because is not None else ""
                    raise OutOfSpace(
                        f"{why}{self.what} could not be kept on this machine: {error}", code="spool_failed"
                    ) from error

    def _put_into_spool_despite(self, error: Exception) -> None:
        """Put it into the spool although the client itself has failed; that error is raised if this fails, too."""
        if self._target.queue is None:
            raise error
        try:
            self._put_into_spool(HoldfastError(f"{type(error).__name__}: {error}", code="client_failed"))
        except Exception as failure:
            raise error from failure
        log.error("%s could not be sent", self.what, exc_info=error)
