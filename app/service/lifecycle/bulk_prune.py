"""Prune runs over one directory or a prefix: dry runs in pages, real runs at once. Their answers are bounded."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from app.core.errors import DirectoryNotFound, InvalidRequest
from app.core.models import PolicyRequest
from app.service.lifecycle.remove import Removals
from app.service.lifecycle.retention_verdicts import Tally, VerdictFilter, VerdictPage

MOST_JUDGED = 100_000
"""The number of checkpoints after which a page of a dry run ends with the present directory."""


class PageStart(NamedTuple):
    """The place where a page of a dry run begins: after a directory, or after a position in it."""

    directory: str
    saved_after: int = -1
    sequence: int = -1

    @classmethod
    def at(cls, key: tuple[Any, ...] | None) -> Self | None:
        """The place that a page token holds."""
        if key is None:
            return None
        if not isinstance(key[0], str) or not all(isinstance(number, int) for number in key[1:]):
            raise InvalidRequest("page_token: it belongs to another listing, or is damaged.")
        return cls(*key)

    @property
    def position(self) -> tuple[int, int] | None:
        """The position in the directory after which to continue; None if the directory is done."""
        return (self.saved_after, self.sequence) if self.sequence >= 0 else None


@dataclass(slots=True)
class PruneRun:
    """The result of a run, or of a page of it. ``omitted`` counts the verdicts of a real run that are not listed."""

    pages: list[VerdictPage] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    omitted: int = 0
    following: PageStart | None = None


def dry_run(
    removals: Removals,
    directory: str | None,
    prefix: str,
    *,
    policy: PolicyRequest | None,
    begin: PageStart | None,
    limit: int,
    shown: VerdictFilter,
) -> PruneRun:
    """Judge a directory, or all below a prefix, until a page is full; changes nothing."""
    found, listed = PruneRun(), 0
    for name, after in _places(removals, directory, prefix, begin):
        if listed >= limit or len(found.pages) >= limit or found.tally.stays + found.tally.goes >= MOST_JUDGED:
            found.following = PageStart(found.pages[-1].directory.name)
            break
        try:
            page = removals.preview(name, policy, after=after, limit=limit - listed, shown=shown)
        except DirectoryNotFound:
            if directory is not None:
                raise
            continue  # it was removed concurrently
        found.pages.append(page)
        found.tally.merge(page.tally)
        listed += len(page.verdicts)
        if page.following is not None:
            found.following = PageStart(name, *page.following)
            break
    return found


def real_run(removals: Removals, directory: str | None, prefix: str, *, limit: int, shown: VerdictFilter) -> PruneRun:
    """Prune a directory, or all below a prefix; lists as many verdicts as fit, whatever is removed."""
    found, listed = PruneRun(), 0
    for name, _ in _places(removals, directory, prefix, None):
        is_listed = listed < limit and len(found.pages) < limit
        try:
            page = removals.prune(name, limit=max(1, limit - listed), shown=shown if is_listed else "none")
        except DirectoryNotFound:
            if directory is not None:
                raise
            continue
        found.tally.merge(page.tally)
        if is_listed:
            found.pages.append(page)
            listed += len(page.verdicts)
    stays, goes = found.tally.stays, found.tally.goes
    found.omitted = {"all": stays + goes, "staying": stays, "going": goes, "none": 0}[shown] - listed
    return found


def _places(
    removals: Removals, directory: str | None, prefix: str, begin: PageStart | None
) -> Iterator[tuple[str, tuple[int, int] | None]]:
    """Iterate over the directories to judge, the first of them perhaps from a position on."""
    if directory is not None:
        if begin is None or begin.position is not None:
            yield directory, begin.position if begin is not None else None
        return
    if begin is not None and begin.position is not None:
        yield begin.directory, begin.position
    for name in removals.directories(prefix, after=begin.directory if begin is not None else ""):
        yield name, None
