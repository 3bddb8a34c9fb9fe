"""A session: one transaction, the rows that it can reach, and the sums that go with their changes."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from sqlalchemy import Connection

from app.catalog.reports.levels import LevelRows
from app.catalog.reports.statistics import Statistics, statistics
from app.catalog.rows.audit import AuditRows
from app.catalog.rows.checkpoints import CheckpointRows
from app.catalog.rows.counters import CounterRows
from app.catalog.rows.directories import DirectoryRows
from app.catalog.rows.events import EventRows
from app.catalog.rows.horizons import HorizonRows
from app.catalog.rows.rollups import RollupRows
from app.catalog.rows.shared.files import SharedFileRows
from app.catalog.rows.shared.writers import SharedWriterRows
from app.catalog.rows.tokens import TokenRows
from app.catalog.rows.uploads import UploadRows


@dataclass
class Session:
    """One transaction and the rows it can reach."""

    connection: Connection

    @cached_property
    def directories(self) -> DirectoryRows:
        return DirectoryRows(self.connection)

    @cached_property
    def checkpoints(self) -> CheckpointRows:
        return CheckpointRows(self.connection, self.counters, self.rollups)

    @cached_property
    def counters(self) -> CounterRows:
        return CounterRows(self.connection)

    @cached_property
    def rollups(self) -> RollupRows:
        return RollupRows(self.connection)

    @cached_property
    def levels(self) -> LevelRows:
        return LevelRows(self.connection)

    @cached_property
    def uploads(self) -> UploadRows:
        return UploadRows(self.connection)

    @cached_property
    def shared_files(self) -> SharedFileRows:
        return SharedFileRows(self.connection)

    @cached_property
    def shared_writers(self) -> SharedWriterRows:
        return SharedWriterRows(self.connection)

    @cached_property
    def events(self) -> EventRows:
        return EventRows(self.connection)

    @cached_property
    def audit(self) -> AuditRows:
        return AuditRows(self.connection)

    @cached_property
    def horizons(self) -> HorizonRows:
        return HorizonRows(self.connection)

    @cached_property
    def tokens(self) -> TokenRows:
        return TokenRows(self.connection)

    def statistics(self, undo_begins: datetime | None = None, *, prefix: str = "") -> Statistics:
        return statistics(self.connection, self.counters, undo_begins, prefix)

    def write_sums(self) -> None:
        """Write the sums of checkpoints that the changes so far have changed."""
        self.counters.write()
        self.rollups.write()
