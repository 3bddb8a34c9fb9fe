"""Resuming: finds the newest usable state, on the server, in the spool or in the cache."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from ._api.retry import is_transient
from ._api.wire import Checkpoint
from ._load import Loader
from ._load_folders import FolderLoader
from ._runtime.interruption import reraise
from ._spool import url_aliases
from ._spool.item import SpooledCheckpoint
from ._spool.queue import Queue
from .errors import HoldfastError, IntegrityError, warn

KINDS = ("regular", "best")


class _Gone(Exception):
    """A checkpoint has left the spool before it was read."""


class Resumer:
    """Finds the newest state of a directory.

    Regular checkpoints come first, in any place, as those of `save_best_if_improved` may be parts of a state. What
    waits in the spool was saved after all that its writer knew of. So it is newer than the server's latest, unless a
    writer that knew more saved that one.

    Parameters
    ----------
    loader : Loader or FolderLoader
        Loads the states, or puts folders on this machine.
    kinds : sequence of str
        The kinds of checkpoints to take, the preferred one first.
    """

    def __init__(self, loader: Loader | FolderLoader, kinds: Sequence[str] = KINDS) -> None:
        self._loader = loader
        self._kinds = kinds
        self._queues = [loader.queue] if loader.queue is not None else []
        self._missing: set[Path] = set()
        self._passed_over: set[Path] = set()

    def state(self) -> Any:
        """Load the newest usable state, or return None if there is none.

        Raises
        ------
        HoldfastError
            The server may hold one, but it cannot be loaded, and none is on this machine.
        """
        if self._loader.queue is not None:
            self._include_others(self._loader.queue)
        while True:
            with suppress(_Gone):
                return self._newest()

    def _include_others(self, own: Queue) -> None:
        """Include what waits under other URLs of the same server; warn of what may be of the same server."""
        others = url_aliases.others(own)
        url_aliases.identify(self._loader.remote.server, others)
        for queue in others:
            is_same = url_aliases.is_same(own, queue, is_only_read=True)
            if is_same:
                self._queues.append(queue)
            elif is_same is None:
                warn(
                    f"checkpoints of {queue.directory!r} wait in {queue.folder} for {queue.server}, and are not "
                    f"considered for {own.server}. If that is the same server, run 'holdfast sync' first."
                )

    def _newest(self) -> Any:
        """Load the newest regular state; only if there is none, that of the newest best one, which may be a part."""
        failure: HoldfastError | None = None
        for kind in self._kinds:
            found, because = self._of_kind(kind, failure)
            if found is not None:
                if failure is not None:
                    warn(f"{failure}. No regular checkpoint can be had; a best one is used, which may be a part")
                return found[0]
            failure = because
        if failure is not None:
            raise failure
        return None

    def _of_kind(self, kind: str, before: HoldfastError | None) -> tuple[tuple[Any] | None, HoldfastError | None]:
        """Load the newest usable state of a kind, or return the reason for which one may exist and cannot be loaded.

        Parameters
        ----------
        before : HoldfastError or None
            The reason for another kind. A server that was unreachable then is not asked again.
        """
        failure = before if before is not None and is_transient(before) else None
        latest: Checkpoint | None = None
        if failure is None:
            try:
                latest = self._loader.newest(kind)
            except HoldfastError as error:
                if not is_transient(error):
                    raise
                failure = error
        loaded = self._loader.noted(kind) if failure is not None else None
        after = latest.saved_after if latest is not None else loaded["saved_after"] if loaded is not None else None
        newer, older = self._waiting(kind, after, latest.save_id if latest is not None else "")
        for item in newer:
            if (found := self._spooled(item)) is not None:
                return found, before
        if failure is None:
            try:
                state = self._loader.latest(kind) if latest is not None else None
                return (state,) if state is not None else None, before
            except HoldfastError as error:
                if not (is_transient(error) or isinstance(error, IntegrityError)):
                    raise
                failure = error
        return self._on_this_machine(older, loaded, failure), failure

    def _waiting(
        self, kind: str, after: int | None, latest_save: str
    ) -> tuple[list[SpooledCheckpoint], list[SpooledCheckpoint]]:
        """List what waits or is parked, newest first: what is newer than ``after``, and the rest.

        Parameters
        ----------
        after : int or None
            The sequence that the server's latest checkpoint was saved after; None if that is not known.
        latest_save : str
            The id of the save that it came from. If that still waits here, as its answer was lost, what was saved
            after it is newer, wherever the server has put it.
        """
        newer: list[SpooledCheckpoint] = []
        older: list[SpooledCheckpoint] = []
        parked = {item for queue in self._queues for item in queue.parked()}
        arrived = {
            item.folder.parent: item for each in self._queues for item in each.items() if item.save_id == latest_save
        }
        delivered_after = {queue.folder: queue.delivered_after for queue in self._queues}
        for item in list(url_aliases.newest_first(self._queues)):
            try:
                facts = item.facts()
                save = facts["save"]
            except (HoldfastError, OSError) as error:
                reraise(error)
                self._pass_over(item, error)
                continue
            if save.get("kind", "regular") != kind or not self._loader.takes(facts):
                continue
            saved_after = max(save["saved_after"], delivered_after.get(item.folder.parent, 0))
            is_newer = after is None or saved_after > after or (saved_after == after and item not in parked)
            before = arrived.get(item.folder.parent)
            is_newer = is_newer or (before is not None and item > before)
            (newer if is_newer else older).append(item)
        return newer, older

    def _spooled(self, item: SpooledCheckpoint) -> tuple[Any] | None:
        try:
            return (self._loader.spooled(item),)
        except OSError as error:
            reraise(error)
            is_of_target = isinstance(self._loader, FolderLoader) and not isinstance(
                error, HoldfastError | FileNotFoundError
            )
            if is_of_target:  # another checkpoint would fare no better
                raise
            self._pass_over(item, error)
            return None

    def _pass_over(self, item: SpooledCheckpoint, error: Exception) -> None:
        """Leave out what cannot be read. What has left the spool meanwhile has all looked up again."""
        if isinstance(error, FileNotFoundError) and item.folder not in self._missing:
            self._missing.add(item.folder)
            raise _Gone
        if item.folder not in self._passed_over:
            self._passed_over.add(item.folder)
            warn(f"{item.folder} cannot be used: {error}")

    def _on_this_machine(
        self, older: list[SpooledCheckpoint], loaded: dict[str, Any] | None, failure: HoldfastError
    ) -> tuple[Any] | None:
        """Load without the server: what was loaded last, or else what waits and is older than that."""
        if loaded is not None:
            try:
                state = self._loader.cached(loaded["file_digest"])
            except IntegrityError as error:
                warn(f"{loaded['name']} cannot be used from the cache: {error}")
            else:
                warn(f"{failure}. {loaded['name']} is taken from the cache; the server may hold newer ones.")
                return (state,)
        for item in older:
            if (found := self._spooled(item)) is not None:
                warn(f"{failure}. {item.name} is taken from {item.folder}; the server may hold newer ones.")
                return found
        return None
