"""Agreement of catalog and root, checked at each start before anything is changed.

A catalog that is certainly stale is rebuilt from the files. An uncertain one is refused, with instructions.
"""

from collections.abc import Mapping
from pathlib import Path
from secrets import token_hex

from app.catalog import Session
from app.catalog.rows.directories import SaveCounter
from app.core.errors import CatalogUnusable
from app.core.models import ADOPTED, RootMark
from app.service.state.context import Context
from app.storage.ports import RecordTimes

READ_OF_EACH = 3
"""The number of manifests unknown to the catalog that are read in one directory, newest first."""


def reason_to_rebuild(context: Context, place: str, *, closely: bool = True) -> str | None:
    """Give the reason why the catalog must be rebuilt from the files; None if it can be used as it is.

    Parameters
    ----------
    place : str
        The path of the root, for messages.
    closely : bool
        Also compare the newest records of each directory with the rows.

    Raises
    ------
    CatalogUnusable
        It is the catalog of another root, or the files of its root are missing.
    """
    catalog, storage = context.catalog, context.storage
    if catalog.is_new:
        return None if storage.marks.is_new else "the catalog was lost"
    known, here = catalog.marks(), storage.marks.last_opening()
    if here is not None and known and here.root not in {mark.root for mark in known}:
        raise CatalogUnusable(
            f"{catalog.location} is the catalog of another root than {place}. {catalog.how_to_replace(Path(place))}"
        )
    if here is not None and known and here not in known:
        return "the catalog is older than the root, or newer: another one was in use when the root was last open"
    return _Comparison(context, place).why() if closely or here is None or not known else None


def root_id(context: Context) -> str | None:
    """Give the id of the root, which no opening or reindex changes; None for a root that was never marked."""
    here = context.storage.marks.last_opening()
    known = context.catalog.marks()
    return here.root if here is not None else known[0].root if known else None


def mark_pair(context: Context) -> None:
    """Mark root and catalog as a pair from this opening on; the catalog first, as it accepts both marks until then."""
    here = context.storage.marks.last_opening()
    opened = RootMark(root_id(context) or token_hex(16), token_hex(16))
    context.catalog.put_mark(opened, here)
    context.storage.marks.note_opening(opened)


class _Comparison:
    """One comparison of all directories by names and times; only files that are new to the catalog are read."""

    def __init__(self, context: Context, place: str) -> None:
        self._context = context
        self._place = place
        self._sealed = {manifest.checkpoint.id for _, manifest in context.storage.content.sealed()}

    def why(self) -> str | None:
        found_any = shared_any = False
        with self._context.catalog.reading() as session:
            live, written = session.checkpoints.live_names_by_directory(), session.directories.save_counters()
            for found in self._context.storage.records.times(session.checkpoints.folder_paths()):
                names = live.get(found.directory, set())
                found_any = found_any or bool(found.manifests)
                shared_any = shared_any or not names.isdisjoint(found.manifests)
                if why := self._proof(session, found, names, written):
                    return why if shared_any or not live else self._refuse_if_nothing_is_shared(live, why)
        is_elsewhere = not self._context.catalog.is_inside(Path(self._place))
        if live and not shared_any and (found_any or is_elsewhere):
            raise CatalogUnusable(self._nothing_shared())
        return None

    def _refuse_if_nothing_is_shared(self, live: Mapping[str, set[str]], why: str) -> str:
        for found in self._context.storage.records.times(frozenset()):
            if not live.get(found.directory, set()).isdisjoint(found.manifests):
                return why
        raise CatalogUnusable(self._nothing_shared())

    def _nothing_shared(self) -> str:
        catalog = self._context.catalog
        return (
            f"{catalog.location} knows checkpoints, and {self._place} holds none of them: is its disk mounted, and is "
            f"it the root of this catalog? If so: {catalog.how_to_replace(Path(self._place))}"
        )

    def _proof(
        self, session: Session, found: RecordTimes, names: set[str], written: Mapping[str, SaveCounter]
    ) -> str | None:
        """Find proof that the catalog has missed a change of a directory, which a reindex would find."""
        row = written.get(found.directory)
        since_ns = row.last_write_ns if row is not None else -1
        if found.record_ns is not None and found.record_ns > since_ns:
            counter = self._counter(found.directory)
            if counter is not None and counter > (row.sequence if row is not None else 0):
                return f"the record of {found.directory} says more than the catalog"
        times = found.manifests
        unknown = sorted(times.keys() - names, key=lambda name: times[name], reverse=True)[:READ_OF_EACH]
        newest = max(times, key=lambda name: times[name], default=None)
        if newest is not None and newest not in unknown and times[newest] > since_ns:
            unknown.append(newest)
        for name in unknown:
            if self._is_missed(session, found.directory, name):
                return f"the catalog does not know {found.directory}/{name} as its manifest does"
        return None

    def _counter(self, directory: str) -> int | None:
        found = self._context.storage.records.read(directory, None)
        return None if found.directory is None or found.warning else found.directory.sequence

    def _is_missed(self, session: Session, directory: str, name: str) -> bool:
        manifest = self._context.storage.records.read(directory, name).manifest
        if manifest is None or manifest.checkpoint.id in self._sealed:
            return False
        if manifest.checkpoint.save_id.startswith(ADOPTED):
            return False  # an interrupted adoption leaves manifests without rows: the next one continues it
        sequence = session.checkpoints.sequence_of(manifest.checkpoint.id)
        return sequence is None or sequence < manifest.checkpoint.sequence
