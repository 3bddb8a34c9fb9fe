"""Verdicts on a directory of any size: counts over all of it, full verdicts for one page; in bounded memory."""

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Literal

from app.catalog import Session
from app.catalog.reports import ranks
from app.catalog.reports.ranks import LiveCheckpoint, Position
from app.core import retention
from app.core.models import Directory
from app.core.retention import Rank, Reason, Verdict

VerdictFilter = Literal["all", "staying", "going", "none"]
"""The verdicts that a page lists."""


@dataclass(slots=True)
class Tally:
    """Counts of the checkpoints of a directory that stay and that go, and their bytes."""

    stays: int = 0
    goes: int = 0
    kept_bytes: int = 0
    freed_bytes: int = 0

    def add(self, size_bytes: int, *, goes: bool) -> None:
        """Count a checkpoint."""
        if goes:
            self.goes, self.freed_bytes = self.goes + 1, self.freed_bytes + size_bytes
        else:
            self.stays, self.kept_bytes = self.stays + 1, self.kept_bytes + size_bytes

    def merge(self, other: "Tally") -> None:
        """Count what another tally counted."""
        self.stays, self.goes = self.stays + other.stays, self.goes + other.goes
        self.kept_bytes, self.freed_bytes = self.kept_bytes + other.kept_bytes, self.freed_bytes + other.freed_bytes


@dataclass(frozen=True, slots=True)
class VerdictPage:
    """A page of verdicts on one directory, newest first.

    ``tally`` counts the whole directory if the page begins with its newest checkpoint, and is empty on later pages,
    so that sums over pages are right. ``following`` is the position after which the next page begins.
    """

    directory: Directory
    verdicts: tuple[Verdict, ...]
    tally: Tally = field(default_factory=Tally)
    following: Position | None = None


def page_of_verdicts(
    session: Session, directory: Directory, *, shown: VerdictFilter = "all", after: Position | None = None, limit: int
) -> VerdictPage:
    """Judge a directory by its policy, and give up to ``limit`` of the verdicts, as many as fit into one answer."""
    tally, is_counted = Tally(), after is not None
    if not is_counted and directory.policy.keeps_everything:
        totals = session.counters.totals(directory.name)
        tally, is_counted = Tally(stays=totals.count, kept_bytes=totals.size_bytes), True
    listed: list[tuple[LiveCheckpoint, tuple[Reason, ...]]] = []
    with closing(with_reasons(session, directory, after)) as found:
        for live, reasons in found:
            if not is_counted:
                tally.add(live.size_bytes, goes=not reasons)
            if len(listed) <= limit and shown in ("all", "staying" if reasons else "going"):
                listed.append((live, reasons))
            if is_counted and (len(listed) > limit or shown == "none"):
                break
    fitting = session.checkpoints.fitting([live.id for live, _ in listed[:limit]])
    page = listed[: len(fitting)]
    following = page[-1][0].position if len(listed) > len(page) else None
    return VerdictPage(directory, _verdicts(session, directory, page), tally, following)


def ids_to_remove(session: Session, directory: Directory) -> list[str]:
    """List the ids of the checkpoints that do not stay."""
    with closing(with_reasons(session, directory)) as found:
        return [live.id for live, reasons in found if not reasons]


def with_reasons(
    session: Session, directory: Directory, after: Position | None = None
) -> Generator[tuple[LiveCheckpoint, tuple[Reason, ...]], None, None]:
    """Iterate over live checkpoints, newest first, with the reasons why they stay.

    The rank in a reason `best` may be wrong: to rank all of them would take memory in proportion to the directory.
    """
    policy, connection = directory.policy, session.connection
    is_limited = policy.max_best_checkpoints is not None
    best = ranks.best_ranks(connection, directory.name, policy) if is_limited else {}
    last = ranks.count_regular(connection, directory.name, after) if after is not None else 0
    newest = ranks.newest(connection, directory.name)
    with closing(ranks.newest_first(connection, directory.name, after)) as found:
        for live in found:
            is_counted = not live.facts.is_manual
            is_regular = live.kind == "regular" and is_counted
            last += is_regular
            rank = best.get(live.id) if is_limited else 1 if live.is_ranked and is_counted else None
            own = Rank(live.id == newest, last if is_regular else None, rank)
            yield live, retention.reasons(live.facts, own, policy)


def _verdicts(
    session: Session, directory: Directory, page: list[tuple[LiveCheckpoint, tuple[Reason, ...]]]
) -> tuple[Verdict, ...]:
    ids = [live.id for live, _ in page]
    best = ranks.best_ranks(session.connection, directory.name, directory.policy, set(ids)) if ids else {}
    known = {checkpoint.id: checkpoint for checkpoint in session.checkpoints.some(ids)}
    return tuple(
        Verdict(
            known[live.id],
            tuple(replace(reason, rank=best[live.id]) if reason.code == "best" else reason for reason in reasons),
        )
        for live, reasons in page
        if live.id in known  # not one whose row cannot be read
    )
