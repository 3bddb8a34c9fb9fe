"""How a manager saves: whether this process does, from the state itself or a snapshot of it, and what is told then."""

import logging
import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

from .._api.directory import Best, RemoteDirectory
from .._arguments.name_mapping import checkpoint_name
from .._runtime.interruption import reraise
from .._torchfile.writer.layout import Copies, Layout, layout_of
from ..errors import (
    CheckpointExists,
    CheckpointNotFound,
    HoldfastError,
    HoldfastWarning,
    NotAllowed,
    NotImproved,
    Told,
    warn,
)
from . import loadability, shutdown
from .background import Background
from .job import Job, Saving
from .ranks import Followed, rank_of_process
from .snapshot import Staging

log = logging.getLogger("holdfast")


class Saver:
    """The saves of one manager.

    Parameters
    ----------
    remote : RemoteDirectory
        Where to.
    saving : Saving
        How one save becomes durable.
    background : bool
        Whether saves return as soon as they have a snapshot.
    max_pending : int
        How many snapshots there may be.
    rank : int or None
        The rank of this process, where it was given.
    find_base : callable or None
        Gives the id of the checkpoint whose bytes need not be sent again.
    told : Told
        What was said before.
    """

    def __init__(
        self,
        remote: RemoteDirectory,
        saving: Saving,
        *,
        background: bool,
        max_pending: int,
        rank: int | None,
        find_base: Callable[[], str] | None,
        told: Told,
    ) -> None:
        self.saving = saving
        self.background = Background(max_pending)
        self._remote = remote
        self._is_in_background = background
        self._rank = rank
        self._find_base = find_base
        self._base_id: str | None = None
        self._told = told
        self._staging = Staging()
        self._followed = Followed()
        self._has_followed = False
        self._is_spool_seen = False

    def save(
        self, state: Any, stem: str, facts: Mapping[str, Any], policy: Mapping[str, Any], *, wait: bool | None
    ) -> str:
        """Save a state, or let rank 0 do it; the checkpoint's name."""
        self.background.raise_error()
        save_id = secrets.token_hex(16)
        name = facts.get("name") or checkpoint_name(stem, facts["epoch"], datetime.now(UTC), save_id)
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
        """Save a state under a name, or let rank 0 do it. Every public way to save a state comes through here."""
        if not self.is_ours("save"):
            return
        self.saving.begin()
        self._see_to_spool()
        save = {**facts, "directory": self._remote.name, "name": name, "policy": policy}
        save["save_id"] = save_id or secrets.token_hex(16)
        if self._find_base is not None and not self.saving.must_wait():
            save["base"] = self._base(self._find_base)
        if self._waits(wait):
            self.background.wait()
            layout = self._laid_out(state)
            self._run(Job(self.saving, save, layout))
            loadability.tell(self._remote.name, layout)
            return
        with self.background.room(), ExitStack() as failing:
            snapshot = self._staging.snapshot()
            failing.callback(snapshot.close)
            layout = self._laid_out(state, snapshot.copied)
            job = Job(self.saving, save, layout, snapshot.close, waits=self.background.holds)
            failing.pop_all()
            self.background.do(name, lambda: self._run_later(job), job)
            job.begin()
            if shutdown.is_requested() and not job.wait(shutdown.GRACE_S):  # the process may end at any moment
                job.rescue()
        loadability.tell(self._remote.name, layout)

    def may_improve(
        self, metric: float, epoch: int | None, mode: str, *, name: str | None = None, wait: bool | None
    ) -> bool:
        """Whether to save, or on another rank, whether rank 0 will have saved.

        Where that is decided later or elsewhere, it is a guess from what the server holds now.
        """
        is_ours = self.is_ours("save")
        if is_ours and self._waits(wait):
            return True
        if is_ours:
            best = None if self.saving.must_wait() else self._guess_best(mode, 0.0)
        else:
            best = self._guess_best(mode, self._remote.server.patience_s)
        if name is None and epoch is not None:
            name = checkpoint_name("best", epoch, datetime.now(UTC), "")
        return self._followed.improves(metric, best, "" if is_ours else name)

    def pending(self) -> list[str]:
        """The names of what is not on the server yet."""
        waiting = [name for queue in self.saving.queues for name in queue.names()]
        return list(dict.fromkeys([*waiting, *self.background.pending]))

    def close(self, timeout_s: float | None) -> None:
        """Wait for what is under way, deliver what can be delivered, and raise what nobody was told of."""
        self.saving.finish(self.background, timeout_s)
        self.background.raise_errors()

    def give_up(self) -> None:
        """Let what is under way end, and forget what waits."""
        self.background.wait()
        self.saving.give_up()

    def _laid_out(self, state: Any, copied: Copies | None = None) -> Layout:
        """The state's file; a warning where loading it will not give all of the state."""
        layout = layout_of(state, copied)
        for doubt in layout.warnings:
            self._told.once(doubt)
        return layout

    def _waits(self, wait: bool | None) -> bool:
        return not self._is_in_background if wait is None else wait

    def is_ours(self, deed: str) -> bool:
        """Whether this process is the one of its job that saves and removes; it warns once where it is not.

        Parameters
        ----------
        deed : str
            What is to be done, as a verb.
        """
        rank = rank_of_process(self._rank)
        if rank:
            self._told.once(
                f"rank {rank} does not {deed}; rank 0 of the job does. Where every rank is to {deed}, in a directory "
                "of its own, give rank=0 to each."
            )
        return not rank

    def _see_to_spool(self) -> None:
        """Say beforehand, not in the middle of an outage, that nothing can be kept on this machine."""
        queue = self.saving.queue
        if queue is not None and not self._is_spool_seen:
            self._is_spool_seen = True
            try:
                queue.prepare()
            except OSError as error:
                reraise(error)
                self._told.once(
                    f"checkpoints cannot be kept in {queue.spool.folder} should the server be away: {error}. Set "
                    "HOLDFAST_SPOOL to a folder that can be written."
                )

    def _guess_best(self, mode: str, patience_s: float) -> Best | None:
        """What the server holds as the best, or None where that cannot be known soon."""
        outage = self._remote.server.outage
        if not outage.allows_attempt:
            return None
        try:
            best = self._remote.within(patience_s).best(mode)
            self._has_followed = True
        except HoldfastError as error:
            lets_go_on = self._has_followed and isinstance(error, NotAllowed)
            if not (lets_go_on or self.saving.goes_on(error)):
                raise
            if patience_s:
                outage.begin(error)
            return None
        outage.end()
        return best

    def _base(self, find: Callable[[], str]) -> str | None:
        """The id of the base, asked for once. Without it, a save costs more and is a save all the same."""
        if self._base_id is None:
            try:
                self._base_id = find()
            except CheckpointNotFound as error:
                self._base_id = ""
                self._told.once(f"{error}, to serve as base; everything is sent")
            except HoldfastError as error:
                if not self.saving.goes_on(error):
                    raise
        return self._base_id or None

    def _run(self, job: Job) -> None:
        """Let a save happen, and tell the user what is to be said beyond "saved"."""
        try:
            committed = job.run()
        except CheckpointExists as error:
            if error.code != "superseded":
                raise
            warn(f"{job.what} is not kept: another process began a later save of that name and has ended it")
            return
        if committed is None:
            self.saving.tell_of_outage(job.because)
            self.saving.deliver_before_the_end()
            return
        if committed.removed_at is not None and not committed.repeated:
            warn(f"{job.what} is not kept: later saves of other processes ended before it, and the limits keep those")
        other, where = committed.other_writer, self._remote.name
        if other is not None:
            self._told.once(
                f"another process ({other}) saved to {where!r} a moment ago. If that is another job, give each its "
                "own checkpoint_dir, or set HOLDFAST_PREFIX; if it is this job before a restart, all is well."
            )
        if committed.loss is not None:
            self._told.once(f"{committed.loss}. If it was this job before a restart, all is well.")
        in_force = {name: committed.policy[name] for name in committed.policy["set_by_operator"]}
        stronger = [f"{name}={value}" for name, value in in_force.items() if value != job.policy.get(name)]
        if stronger:
            self._told.once(f"an operator's limits are in force for {where!r}: {', '.join(stronger)}")

    def _run_later(self, job: Job) -> None:
        try:
            self._run(job)
        except NotImproved:
            pass
        except HoldfastWarning as warning:  # made an error by whoever wants that; the save is none
            log.warning("%s", warning)
