"""The five storage ports: what the rest of the server may rely on, whichever store keeps the bytes.

Decides the promises of content, records, volume, root marks and adoption; `Storage` holds one of each.
May import `core`; never touches a disk. A new store is a folder beside `local` that passes `test_conformance*.py`.
"""

from app.storage.ports.adoption import CHANGED, Adoption, Entry, ExternalFolder
from app.storage.ports.content_store import ContentStore
from app.storage.ports.files import Opened, Partial, SupportsDescriptor, descriptor_of
from app.storage.ports.record_store import Inventory, RecordStore
from app.storage.ports.root_marks import RootMarks
from app.storage.ports.storage import Storage
from app.storage.ports.values import Buffer, InventoryEntry, NotDurable, RecordTimes, SurveyedRecord, Trashed
from app.storage.ports.volume import Volume

__all__ = [
    "CHANGED",
    "Adoption",
    "Buffer",
    "ContentStore",
    "Entry",
    "ExternalFolder",
    "Inventory",
    "InventoryEntry",
    "NotDurable",
    "Opened",
    "Partial",
    "RecordStore",
    "RecordTimes",
    "RootMarks",
    "Storage",
    "SupportsDescriptor",
    "SurveyedRecord",
    "Trashed",
    "Volume",
    "descriptor_of",
]
