"""Quota claims: what open uploads will add to their directories, checked at reservation, arrival and seal."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from app.catalog import Session
from app.catalog.reports import expected_prune
from app.core import quotas, ranking
from app.core.errors import QuotaExceeded
from app.core.models import Checkpoint, Directory, File, Manifest, PolicyRequest, Upload
from app.core.quotas import Excess, Quota, Usage
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import ACTIVE_S
from app.service.state.transitions import live_count, policy_after


@dataclass
class Claim:
    """The usage that the commit of an upload will add to its directory, as far as it is known."""

    directory: str
    change: Usage
    undeclared_bytes: int = 0
    is_sealed: bool = False
    moved_at: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> Usage:
        return self.change + Usage(0, self.undeclared_bytes)


class QuotaClaims:
    """Enforces the quotas. Usage that exceeds a quota already is left alone.

    Reservations, seals and restorations are checked within transactions that exclude each other, so that no two of
    them take the same room. An admitted claim is remembered until the catalog counts it.
    """

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules
        self._guard = threading.Lock()
        self._claims: dict[str, Claim] = {}

    def claim(self, session: Session, directory: Directory, upload: Upload) -> None:
        """Claim the usage of an upload, within the transaction that records it.

        The claim must fit beside the present usage and the claims of other active uploads. Checkpoints that the commit
        will replace or prune make room.

        Raises
        ------
        QuotaExceeded
        """
        if self._is_unlimited(upload.directory):
            return
        change = _change(session, directory, _expected(directory, upload), upload.policy)
        self._admit(session, upload.id, Claim(upload.directory, change))

    def extend(self, upload: Upload, undeclared_bytes: int = 0) -> None:
        """Renew a claim whose upload brought bytes, and extend it to the size so far if none is declared.

        Raises
        ------
        QuotaExceeded
        """
        claim = self._claims.get(upload.id)
        if claim is None:
            return
        claim.moved_at = time.monotonic()
        if undeclared_bytes > claim.undeclared_bytes:
            with self._context.catalog.reading() as session, self._guard:
                self._check(session, upload.id, replace(claim, undeclared_bytes=undeclared_bytes))
                claim.undeclared_bytes = undeclared_bytes

    def seal(self, directory: Directory, manifest: Manifest) -> None:
        """Claim the final usage of an upload that is about to be sealed; it then counts before all open uploads.

        Raises
        ------
        QuotaExceeded
        """
        checkpoint = manifest.checkpoint
        if self._is_unlimited(checkpoint.directory):
            return
        with self._context.catalog.writing() as session:
            change = _change(session, directory, checkpoint, manifest.policy)
            self._admit(session, checkpoint.id, Claim(checkpoint.directory, change, is_sealed=True))

    def unseal(self, upload_id: str) -> None:
        """Count the claim of an upload as one that is not sealed any more."""
        with self._guard:
            if claim := self._claims.get(upload_id):
                claim.is_sealed = False

    def admit_restoration(self, session: Session, removed: Checkpoint) -> None:
        """Check that a removed checkpoint fits, within the transaction that restores it.

        Raises
        ------
        QuotaExceeded
        """
        with self._guard:
            self._check(session, removed.id, Claim(removed.directory, Usage.of([removed])))

    def release(self, upload_id: str) -> None:
        """Release the claim of an upload that has ended."""
        with self._guard:
            self._claims.pop(upload_id, None)

    def usage(self, prefix: str) -> Iterable[tuple[Quota, Usage]]:
        """List the quotas at and below a prefix, each with its usage."""
        within = [quota for quota in self._rules.quotas if Quota(prefix).covers(quota.prefix)]
        with self._context.catalog.reading() as session:
            return [(quota, session.counters.usage(quota.prefix)) for quota in within]

    def _is_unlimited(self, directory: str) -> bool:
        return not quotas.covering(self._rules.quotas, directory)

    def _admit(self, session: Session, upload_id: str, claim: Claim) -> None:
        with self._guard:
            self._check(session, upload_id, claim)
            self._claims[upload_id] = claim

    def _check(self, session: Session, upload_id: str, claim: Claim) -> None:
        """Check a claim against every quota; a sealed claim ignores those of uploads that are merely open."""
        for quota in quotas.covering(self._rules.quotas, claim.directory):
            beside = [other for key, other in self._beside(session, quota) if key != upload_id]
            used = session.counters.usage(quota.prefix)
            for other in beside:
                if other.is_sealed or not claim.is_sealed:
                    used += Usage(max(0, other.wanted.checkpoints), max(0, other.wanted.size_bytes))
            if (found := quotas.excess(quota, used, claim.wanted)) is not None:
                raise _refusal(found)

    def _beside(self, session: Session, quota: Quota) -> Iterable[tuple[str, Claim]]:
        """List the claims under a quota that count: of active or sealed uploads that the catalog does not count yet."""
        lately = time.monotonic() - ACTIVE_S
        counting = {
            key: claim
            for key, claim in self._claims.items()
            if quota.covers(claim.directory) and (claim.is_sealed or claim.moved_at > lately)
        }
        committed = session.uploads.committed_of(counting)
        return [(key, claim) for key, claim in counting.items() if key not in committed]


def _refusal(found: Excess) -> QuotaExceeded:
    """Make the refusal. ``used`` is a sum over the prefix: it reveals no directory in it."""
    where = f"{found.prefix!r}" if found.prefix else "the whole server"
    return QuotaExceeded(
        f"{found.wanted} more {found.unit} do not fit: of the {found.limit} {found.unit} that {where} may hold, "
        f"{found.used} are used or claimed by open uploads (HOLDFAST_QUOTAS).",
        prefix=found.prefix,
        unit=found.unit,
        limit=found.limit,
        used=found.used,
        wanted=found.wanted,
    )


def _expected(directory: Directory, upload: Upload) -> Checkpoint:
    """Give the checkpoint that an upload will become, as far as it is declared."""
    sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
    return Checkpoint(
        id=upload.id,
        directory=upload.directory,
        name=upload.name,
        save_id=upload.save_id,
        sequence=sequence,
        saved_after=ranking.saved_after(upload.saved_after, sequence),
        facts=upload.facts,
        files=tuple(File(file.path, file.size_bytes or 0, "", "") for file in upload.files),
        digest="",
        created_at=upload.created_at,
    )


def _change(session: Session, directory: Directory, checkpoint: Checkpoint, asked: PolicyRequest) -> Usage:
    """Compute the usage that a commit adds to its directory, less the checkpoints that it replaces or prunes."""
    current = session.checkpoints.named(checkpoint.directory, checkpoint.name)
    policy = policy_after(session, directory, checkpoint, asked)
    change = Usage.of([checkpoint]) - Usage.of([current] if current is not None else [])
    if policy.keeps_everything:
        return change
    judged = session.directories.judged(directory.name)
    counted = live_count(session, directory.name, policy)
    for row in expected_prune.going(
        session.connection, directory.name, policy, judged, checkpoint, current, live_count=counted
    ):
        change -= Usage(1, row.size_bytes)
    return change
