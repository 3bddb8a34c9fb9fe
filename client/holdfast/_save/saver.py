"""The saves of one manager: decides if this process saves, from the state or a snapshot of it, and warns."""

import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .._api.directory import Best, RemoteDirectory
from .._arguments.name_mapping import checkpoint_name
from .._runtime.interruption import reraise
from .._spool.folder_item import Content
from .._torchfile.writer.layout import Layout, layout_of
from .._transfer.folders.local_files import LocalFiles
from ..errors import (
    CheckpointExists,
    CheckpointNotFound,
    HoldfastError,
    HoldfastWarning,
    NotAllowed,
    NotImproved,
    WarnOnce,
    warn,
)
from . import drain, outcome, weights_only_check
from .background import WorkQueue
from .distributed import NonZeroRank, rank_of_process
from .folder import held_files
from .job import SaveJob
from .snapshot import Staging
from .target import SaveTarget

log = logging.getLogger("holdfast")


class Saver:
    """The saves of one manager.

    Parameters
    ----------
    remote : RemoteDirectory
        The directory.
    target : SaveTarget
        The destination that makes one save durable.
    background : bool
        Whether saves return as soon as they have a snapshot.
    max_pending : int
        The number of snapshots that may exist at a time.
    rank : int or None
        The rank of this process, if it was given.
    find_base : callable or None
        Returns the id of the checkpoint whose bytes need not be sent again.
    warn_once : WarnOnce
        Gives the warnings.
    """

    def __init__(
        self,
        remote: RemoteDirectory,
        target: SaveTarget,
        *,
        background: bool,
        max_pending: int,
        rank: int | None,
        find_base: Callable[[], str] | None,
        warn_once: WarnOnce,
    ) -> None:
        self.target = target
        self.background = WorkQueue(max_pending)
        self._remote = remote
        self._is_in_background = background
        self._rank = rank
        self._find_base = find_base
        self._base_id: str | None = None
        self._warn_once = warn_once
        self._staging = Staging()
        self._non_zero_rank = NonZeroRank()
        self._has_asked_best = False
        self._is_spool_checked = False
        self._known_limits = {"mode", "max_checkpoints", "max_best_checkpoints", "keep_every_epochs"}
        """The names in a policy that every server knows, and those that its replies have shown since."""

    def save(
        self, state: Any, stem: str, facts: Mapping[str, Any], policy: Mapping[str, Any], *, wait: bool | None
    ) -> str:
        """Save a state, or leave it to rank 0; returns the checkpoint's name."""
        self.background.raise_error()
        save_id = secrets.token_hex(16)
        counters = facts["epoch"], facts.get("step")
        name = facts.get("name") or checkpoint_name(stem, *counters, datetime.now(UTC), save_id)
        self.save_as(name, state, facts, policy, save_id=save_id, wait=wait)
        return name

    def save_as(
        self,
        name: str,
        state: Any,
        facts: Mapping[str, Any],
        policy: Mapping[str, Any],
        *,
        save_id: str | None = None,
        wait: bool | None = None,
    ) -> None:
        """Save a state under a name, or leave it to rank 0. Every public way to save a state leads here."""
        if not self.is_ours("save"):
            return
        save = self._begun(name, facts, policy, save_id)
        if self._waits(wait):
            self.background.wait()
            layout = layout_of(state)
            self._run(SaveJob(self.target, save, layout))
        else:
            with self.background.reserved_place(), ExitStack() as failing:
                snapshot = self._staging.snapshot()
                failing.callback(snapshot.close)
                layout = layout_of(state, snapshot.copied)
                failing.pop_all()
                self._queue(save, layout, snapshot.close)
        self._warn_of_loading(layout)

    def save_files_as(
        self,
        name: str,
        path: Path,
        files_at: Callable[[Path, str], LocalFiles],
        facts: Mapping[str, Any],
        policy: Mapping[str, Any],
        *,
        wait: bool | None = None,
    ) -> None:
        """Save a local file or folder under a name, or leave it to rank 0.

        In the background, the files are held under names of their own: when this returns, they may be deleted. If they
        cannot be held, they are saved before this returns.

        Parameters
        ----------
        files_at : callable
            Returns the files of a path, for a checkpoint of this name, or raises what is wrong with it.
        """
        self.background.raise_error()
        if not self.is_ours("save"):
            return
        files = files_at(path, name)
        save = {**self._begun(name, facts, policy), **files.about_folders}
        if not self._waits(wait):
            with self.background.reserved_place():
                if (held := held_files(files, self.target.places_to_hold(path))) is not None:
                    self._queue(save, held.files, held.close)
                    return
        self.background.wait()
        self._run(SaveJob(self.target, save, files))

    def _begun(
        self, name: str, facts: Mapping[str, Any], policy: Mapping[str, Any], save_id: str | None = None
    ) -> dict[str, Any]:
        """Return the facts of a save as they are sent, once the deliveries of earlier ones have begun."""
        self.target.begin()
        self._check_spool()
        save = {**facts, "directory": self._remote.name, "name": name, "policy": self._known(policy)}
        save["save_id"] = save_id or secrets.token_hex(16)
        if self._find_base is not None and not self.target.must_spool():
            save["base"] = self._base(self._find_base)
        return save

    def _queue(self, save: Mapping[str, Any], content: Content, close: Callable[[], object]) -> None:
        """Let the background thread save what is held, and close it."""
        job = SaveJob(self.target, save, content, close, waits=self.background.holds)
        self.background.do(save["name"], lambda: self._run_later(job), job)
        job.begin()
        if drain.is_requested() and not job.wait(drain.GRACE_S):  # the process may end at any moment
            self.target.spill_up_to(job)

    def may_improve(
        self,
        metric: float,
        mode: str,
        *,
        epoch: int | None,
        step: int | None,
        name: str | None = None,
        wait: bool | None,
    ) -> bool:
        """Tell if a metric is worth a save; on another rank, if rank 0 saves it.

        If that is decided later, or on another rank, it is a guess from what the server holds now.
        """
        is_ours = self.is_ours("save")
        if is_ours and self._waits(wait):
            return True
        if is_ours:
            best = None if self.target.must_spool() else self._guess_best(mode, 0.0)
        else:
            best = self._guess_best(mode, self._remote.server.patience_s)
        if name is None and (epoch is not None or step is not None):
            name = checkpoint_name("best", epoch, step, datetime.now(UTC), "")
        return self._non_zero_rank.improves(metric, best, "" if is_ours else name)

    def pending(self) -> list[str]:
        """Return the names of the checkpoints that are not on the server yet."""
        waiting = [name for queue in self.target.queues for name in queue.names()]
        return list(dict.fromkeys([*waiting, *self.background.pending]))

    def close(self, timeout_s: float | None) -> None:
        """Wait for what is under way, deliver what can be delivered, and raise errors that no caller has been given."""
        self.target.finish(self.background, timeout_s)
        self.background.raise_errors()

    def discard_waiting(self) -> None:
        """Wait for what is under way, and discard what waits."""
        self.background.wait()
        self.target.discard_waiting()

    def _known(self, policy: Mapping[str, Any]) -> dict[str, Any]:
        """Return a policy without unset limits of which no reply has shown yet that the server knows them."""
        return {name: value for name, value in policy.items() if value is not None or name in self._known_limits}

    def _warn_of_loading(self, layout: Layout) -> None:
        for message in weights_only_check.warnings_of(self._remote.name, layout):
            self._warn_once(message)

    def _waits(self, wait: bool | None) -> bool:
        return not self._is_in_background if wait is None else wait

    def is_ours(self, deed: str) -> bool:
        """Tell if this process is the one of its job that saves and removes; warn once if it is not.

        Parameters
        ----------
        deed : str
            The deed, as a verb, for the warning.
        """
        rank = rank_of_process(self._rank)
        if rank:
            self._warn_once(
                f"rank {rank} does not {deed}; rank 0 of the job does. If every rank is to {deed}, in a directory "
                "of its own, give rank=0 to each."
            )
        return not rank

    def _check_spool(self) -> None:
        """Warn beforehand, not in the middle of an outage, that the spool cannot be written."""
        queue = self.target.queue
        if queue is not None and not self._is_spool_checked:
            self._is_spool_checked = True
            try:
                queue.prepare()
            except OSError as error:
                reraise(error)
                self._warn_once(
                    f"checkpoints cannot be kept in {queue.spool.folder} should the server be away: {error}. Set "
                    "HOLDFAST_SPOOL to a folder that can be written."
                )

    def _guess_best(self, mode: str, patience_s: float) -> Best | None:
        """Return the best checkpoint that the server holds, or None if that cannot be known soon."""
        circuit = self._remote.server.circuit
        if not circuit.allows_attempt:
            return None
        try:
            best = self._remote.within(patience_s).best(mode)
            self._has_asked_best = True
        except HoldfastError as error:
            may_continue = self._has_asked_best and isinstance(error, NotAllowed)
            if not (may_continue or self.target.may_spool(error)):
                raise
            if patience_s:
                circuit.trip(error)
            return None
        circuit.close()
        return best

    def _base(self, find: Callable[[], str]) -> str | None:
        """Return the id of the base, asked for once. Without it, a save sends more, and succeeds all the same."""
        if self._base_id is None:
            try:
                self._base_id = find()
            except CheckpointNotFound as error:
                self._base_id = ""
                self._warn_once(f"{error}, to serve as base; everything is sent")
            except HoldfastError as error:
                if not self.target.may_spool(error):
                    raise
        return self._base_id or None

    def _run(self, job: SaveJob) -> None:
        """Run a save, and warn the user of what is worth knowing about its outcome."""
        try:
            committed = job.run()
        except CheckpointExists as error:
            if error.code != "superseded":
                raise
            warn(f"{job.what} is not kept: another process began a later save of that name and has ended it")
            return
        if committed is None:
            self.target.warn_of_outage(job.because)
            self.target.deliver_before_the_end()
            return
        if committed.removed_at is not None and not committed.repeated:
            warn(f"{job.what} is not kept: later saves of other processes ended before it, and the limits keep those")
        self._known_limits |= committed.policy.keys()
        for message in outcome.warnings_of(committed, self._remote.name, job.policy):
            self._warn_once(message)

    def _run_later(self, job: SaveJob) -> None:
        try:
            self._run(job)
        except NotImproved:
            pass
        except HoldfastWarning as warning:  # made an error by the user; the save itself did not fail
            log.warning("%s", warning)
