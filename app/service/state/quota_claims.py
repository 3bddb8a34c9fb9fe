"""Whether quotas allow a save: asked before its bytes come, as they come, and again before it is sealed."""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from app.catalog import Session
from app.core import quotas, ranking, retention
from app.core.errors import QuotaExceeded
from app.core.models import Checkpoint, Directory, File, Manifest, PolicyRequest, Upload
from app.core.quotas import Excess, Quota, Usage
from app.service.state.context import Context, Rules
from app.service.state.open_uploads import ACTIVE_S
from app.service.state.transitions import policy_after


@dataclass
class Claim:
    """What the commit of an upload will add to its directory, as far as that is known."""

    directory: str
    change: Usage
    undeclared_bytes: int = 0
    is_sealed: bool = False
    moved_at: float = field(default_factory=time.monotonic)

    @property
    def wanted(self) -> Usage:
        return self.change + Usage(0, self.undeclared_bytes)


class Allowance:
    """Lets no more be kept than the quotas say. What is there already stays, however much it is.

    Reservations, seals and restorations are judged within transactions that exclude each other, so that no two of them
    take the same room; what they were allowed is remembered until the catalog says it.
    """

    def __init__(self, context: Context, rules: Rules) -> None:
        self._context = context
        self._rules = rules
        self._guard = threading.Lock()
        self._claims: dict[str, Claim] = {}

    def claim(self, session: Session, directory: Directory, upload: Upload) -> None:
        """Let an upload begin, or go on, within the transaction that records it.

        What its commit will add must fit beside what is kept and what other uploads that moved a moment ago will add.
        What the commit will replace or prune makes room.

        Raises
        ------
        QuotaExceeded
        """
        if self._is_free(upload.directory):
            return
        change = _change(session, directory, _promised(directory, upload), upload.policy)
        self._admit(session, upload.id, Claim(upload.directory, change))

    def moved(self, upload: Upload, undeclared_bytes: int = 0) -> None:
        """Bytes of an upload came. Of one whose size is not declared, it has or will have so many.

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
                self._judge(session, upload.id, replace(claim, undeclared_bytes=undeclared_bytes))
                claim.undeclared_bytes = undeclared_bytes

    def seal(self, directory: Directory, manifest: Manifest) -> None:
        """Let an upload be sealed, if the quotas hold when it is committed; no other is let have its room.

        Raises
        ------
        QuotaExceeded
        """
        checkpoint = manifest.checkpoint
        if self._is_free(checkpoint.directory):
            return
        with self._context.catalog.writing() as session:
            change = _change(session, directory, checkpoint, manifest.policy)
            self._admit(session, checkpoint.id, Claim(checkpoint.directory, change, is_sealed=True))

    def unseal(self, upload_id: str) -> None:
        """The seal was taken back."""
        with self._guard:
            if claim := self._claims.get(upload_id):
                claim.is_sealed = False

    def restore(self, session: Session, removed: Checkpoint) -> None:
        """Let a removed checkpoint live again, within the transaction that says so. `QuotaExceeded` if not."""
        with self._guard:
            self._judge(session, removed.id, Claim(removed.directory, Usage.of([removed])))

    def drop(self, upload_id: str) -> None:
        """The upload has ended."""
        with self._guard:
            self._claims.pop(upload_id, None)

    def figures(self, prefix: str) -> Iterable[tuple[Quota, Usage]]:
        """The quotas at and below a prefix, and what is kept under each."""
        within = [quota for quota in self._rules.quotas if Quota(prefix).covers(quota.prefix)]
        with self._context.catalog.reading() as session:
            return [(quota, session.directories.usage(quota.prefix)) for quota in within]

    def _is_free(self, directory: str) -> bool:
        return not quotas.covering(self._rules.quotas, directory)

    def _admit(self, session: Session, upload_id: str, claim: Claim) -> None:
        with self._guard:
            self._judge(session, upload_id, claim)
            self._claims[upload_id] = claim

    def _judge(self, session: Session, upload_id: str, claim: Claim) -> None:
        """What is about to be committed gives way to nothing that is merely under way."""
        for quota in quotas.covering(self._rules.quotas, claim.directory):
            beside = [other for key, other in self._beside(session, quota) if key != upload_id]
            used = session.directories.usage(quota.prefix)
            for other in beside:
                if other.is_sealed or not claim.is_sealed:
                    used += Usage(max(0, other.wanted.checkpoints), max(0, other.wanted.size_bytes))
            if (found := quotas.excess(quota, used, claim.wanted)) is not None:
                raise _refusal(found)

    def _beside(self, session: Session, quota: Quota) -> Iterable[tuple[str, Claim]]:
        """The claims under a quota that count: those that moved a moment ago, unless the catalog has them already."""
        lately = time.monotonic() - ACTIVE_S
        counting = {
            key: claim
            for key, claim in self._claims.items()
            if quota.covers(claim.directory) and (claim.is_sealed or claim.moved_at > lately)
        }
        committed = session.uploads.committed_of(counting)
        return [(key, claim) for key, claim in counting.items() if key not in committed]


def _refusal(found: Excess) -> QuotaExceeded:
    """What whoever saves is told. ``used`` is a sum over the prefix: it names no directory in it."""
    where = f"{found.prefix!r}" if found.prefix else "the whole server"
    return QuotaExceeded(
        f"{found.wanted} more {found.unit} do not fit: of the {found.limit} {found.unit} that {where} may hold, "
        f"{found.used} are used or promised to uploads under way (HOLDFAST_QUOTAS).",
        prefix=found.prefix,
        unit=found.unit,
        limit=found.limit,
        used=found.used,
        wanted=found.wanted,
    )


def _promised(directory: Directory, upload: Upload) -> Checkpoint:
    """The checkpoint that an upload will be, as far as is declared."""
    sequence = ranking.next_sequence(directory.sequence, upload.saved_after)
    return Checkpoint(
        id=upload.id,
        directory=upload.directory,
        name=upload.name,
        save_id=upload.save_id,
        sequence=sequence,
        saved_after=ranking.saved_after(upload.saved_after, sequence),
        facts=upload.facts,
        files=tuple(File(file.path, file.size_bytes or 0, "", 0) for file in upload.files),
        digest="",
        created_at=upload.created_at,
    )


def _change(session: Session, directory: Directory, checkpoint: Checkpoint, asked: PolicyRequest) -> Usage:
    """What a commit adds to its directory, less what it replaces and what the policy then removes."""
    standing = session.checkpoints.named(checkpoint.directory, checkpoint.name)
    policy = policy_after(session, directory, checkpoint, asked)
    if policy.keeps_everything:
        return Usage.of([checkpoint]) - Usage.of([standing] if standing is not None else [])
    before = session.checkpoints.live(checkpoint.directory)
    after = [live for live in before if live.name != checkpoint.name]
    verdicts = retention.judge([*after, checkpoint], policy)
    return Usage.of(verdict.checkpoint for verdict in verdicts if verdict.stays) - Usage.of(before)
