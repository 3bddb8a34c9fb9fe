"""One store as the use cases hold it: its ports in one value."""

from collections.abc import Callable
from dataclasses import dataclass, field

from app.storage.ports.adoption import Adoption
from app.storage.ports.content_store import ContentStore
from app.storage.ports.record_store import RecordStore
from app.storage.ports.root_marks import RootMarks
from app.storage.ports.volume import Volume


@dataclass(kw_only=True, eq=False)
class Storage:
    """The ports of one store; ``volume`` and ``adoption`` are None if it has no such thing."""

    content: ContentStore
    records: RecordStore
    marks: RootMarks
    volume: Volume | None = None
    adoption: Adoption | None = None
    release: Callable[[], None] = field(default=lambda: None, repr=False)

    def close(self) -> None:
        """Release the store, so that another process can open it."""
        self.release()
