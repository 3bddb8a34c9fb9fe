"""The context of every use case, and the rules that an operator sets for them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from app.catalog import Catalog
from app.core.limits import MOST, Limits
from app.core.quotas import Quota
from app.service.state.events.notifier import Notifier
from app.storage.ports import Storage


@dataclass(frozen=True)
class Context:
    """The catalog, the storage, the clock and the notifier of one root."""

    catalog: Catalog
    storage: Storage
    clock: Callable[[], datetime]
    notifier: Notifier = field(default_factory=Notifier)

    @property
    def is_stopping(self) -> bool:
        """True once the server stops: running requests may end, new uploads are refused."""
        return self.notifier.closed


@dataclass(frozen=True)
class Rules:
    """The settings that use cases decide by.

    Attributes
    ----------
    lease : timedelta
        The time without progress after which an upload is aborted.
    writer_window : timedelta
        The time after a save during which its writer counts as active.
    undo_window : timedelta
        The time for which a removed checkpoint can be restored; zero purges it at once.
    reserve_bytes : int
        The free space of the disk that uploads may not use.
    most_uploads : int
        The number of open uploads that one token may have.
    copy_catalog_every : timedelta
        The time between two copies of the catalog; zero for no copies.
    keep_events, keep_audit : timedelta or None
        The time for which events and lines of the audit are kept; None for ever.
    keep_removed : timedelta or None
        The time for which the facts of a removed checkpoint and its saves are kept; None for ever.
    """

    lease: timedelta = timedelta(hours=24)
    writer_window: timedelta = timedelta(minutes=1)
    undo_window: timedelta = timedelta()
    reserve_bytes: int = 0
    most_uploads: int = 1000
    copy_catalog_every: timedelta = timedelta()
    keep_events: timedelta | None = None
    keep_audit: timedelta | None = None
    keep_removed: timedelta | None = None
    quotas: tuple[Quota, ...] = ()
    limits: Limits = MOST

    def restorable_since(self, now: datetime) -> datetime | None:
        """Give the earliest time of removal that can still be undone; None without an undo window."""
        return now - self.undo_window if self.undo_window else None
