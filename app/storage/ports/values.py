"""Values that cross the storage ports, and the one error of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from app.core.models import Directory, Manifest, RemovedBecause, Version

Buffer = bytes | bytearray | memoryview


class NotDurable(OSError):
    """The store failed to make bytes durable. A retry proves nothing: Linux forgets the pages that it did not write."""


@dataclass(frozen=True, slots=True)
class SurveyedRecord:
    """One record as a survey found it: a directory, a manifest, or a fault in words.

    ``warning`` says in words why a record that can be read may have been changed since it was written.
    """

    key: str
    directory: Directory | None = None
    manifest: Manifest | None = None
    fault: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class RecordTimes:
    """The times at which the records of one directory were last written, in ns since the epoch, by name of manifest.

    They are compared with times of the server's own clock. A store with another clock gives times that are too late
    rather than too early: a record that seems newer than the catalog is read, an older one is not. ``record_ns`` is
    that of the directory's own record; None if it has none.
    """

    directory: str
    record_ns: int | None
    manifests: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Trashed:
    """A removed checkpoint whose bytes are in the trash, according to its manifest there."""

    manifest: Manifest
    removed_at: datetime
    because: RemovedBecause


@dataclass(frozen=True, slots=True)
class InventoryEntry:
    """One entry of an inventory: a file, a folder, or a thing that a store never writes.

    The objects of an object store are plain files, and nothing else is there.
    """

    key: str
    is_folder: bool
    size_bytes: int
    version: Version
    is_plain: bool
    """True for a file; False for a link, a pipe or the like."""
    hidden: str | None = None
    """The reason why this folder could not be listed; None if it could, and for everything that is no folder."""
