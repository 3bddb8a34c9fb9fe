"""Edits: change the facts of a checkpoint or the policy of a directory. Bytes never change."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from app.core import limits
from app.core.errors import DirectoryNotFound, NameTaken, PolicyChanged
from app.core.models import LIMITS, NO_PRECONDITION, Checkpoint, Directory, Facts, Manifest, PolicyRequest, Precondition
from app.service.state.context import Context, Rules
from app.service.state.get_or_refuse import live_checkpoint, require_expected
from app.service.state.rewrite_records import rewrite_directory, rewrite_manifest


@dataclass(frozen=True, slots=True)
class Change:
    """New values of facts, by name; and metadata to merge, in which None drops a key."""

    facts: Mapping[str, Any]
    metadata: Mapping[str, Any]

    @property
    def named(self) -> list[str]:
        """The names of the changed facts and metadata."""
        return sorted([*self.facts, *(f"metadata.{key}" for key in self.metadata)])

    def applied_to(self, facts: Facts) -> Facts:
        """Give the facts after the change; `InvalidRequest` if the metadata would exceed its bounds."""
        merged = {**facts.metadata, **self.metadata}
        kept = {key: value for key, value in merged.items() if value is not None or key not in self.metadata}
        return replace(facts, metadata=limits.bounded_metadata(kept), **dict(self.facts))


class Edits:
    """Applies changes, and announces them as events."""

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules

    def apply(self, checkpoint_id: str, change: Change, expected: Precondition = NO_PRECONDITION) -> Checkpoint:
        """Pin, tag or correct a checkpoint. Ranking follows at once, retention at the next save or prune.

        Raises
        ------
        CheckpointNotFound, CheckpointRemoved, PreconditionFailed
        TooLarge, InvalidRequest
            The tags or the metadata exceed their bounds.
        """
        with self._context.catalog.reading() as session:
            directory = live_checkpoint(session, checkpoint_id).directory
        with self._context.catalog.lock(directory):
            with self._context.catalog.writing() as session:
                before = live_checkpoint(session, checkpoint_id)
                require_expected(expected, directory, before.name, before)
                after = replace(before, facts=change.applied_to(before.facts))
                tags = change.facts.get("tags", ())
                self._rules.limits.admit_facts(tags, after.facts.metadata if change.metadata else {})
                session.checkpoints.change(after)
                session.events.add(
                    "checkpoint.changed",
                    at=self._context.clock(),
                    directory=directory,
                    checkpoint_id=checkpoint_id,
                    name=after.name,
                    changed=change.named,
                )
                maps = session.checkpoints.maps(checkpoint_id)
            rewrite_manifest(self._context, Manifest(after, maps))
        self._context.notifier.notify()
        return after

    def set_policy(
        self, name: str, wanted: PolicyRequest, *, is_expected: Callable[[str | None], bool] = lambda etag: True
    ) -> Directory:
        """Set a directory's policy on behalf of its operator; the directory need not exist yet.

        Limits in the request become the operator's, which no save can change; saves may set the others.

        Parameters
        ----------
        is_expected : callable
            Tells, by the entity tag of the present policy (None for a directory that does not exist), if it may be
            changed.

        Raises
        ------
        PolicyChanged
            The present policy is another one.
        DirectoryNotFound
            The directory is unknown and the request sets nothing.
        NameTaken
            A part of the name is a checkpoint.
        """
        now = self._context.clock()
        with self._context.catalog.lock(name):
            with self._context.catalog.writing() as session:
                known = session.directories.get(name)
                if not is_expected(known.policy.etag if known is not None else None):
                    found = f"The policy of {name!r} is not the one" if known is not None else f"There is no {name!r}"
                    raise PolicyChanged(f"{found} that the precondition names; nothing was changed.", directory=name)
                if known is None and wanted == PolicyRequest():
                    raise DirectoryNotFound(f"There is no directory {name!r}, and no policy for it.", directory=name)
                if known is None and (taken := session.directories.taken_by_checkpoint(name)):
                    raise NameTaken(f"{name!r} cannot be a directory: {taken!r} is a checkpoint.")
                before = known or Directory(name, created_at=now, sequence=session.checkpoints.largest_sequence(name))
                after = replace(before, policy=before.policy.set_by_operator(wanted))
                self._context.storage.records.make_directory(after)
                session.directories.put(after)
                session.directories.mark_record_stale(name, True)
                policy = {"mode": after.policy.mode, **{limit: getattr(after.policy, limit) for limit in LIMITS}}
                session.events.add("directory.policy_changed", at=now, directory=name, policy=policy)
            rewrite_directory(self._context, name)
        self._context.notifier.notify()
        return after
