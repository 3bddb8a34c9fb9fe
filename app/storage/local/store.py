"""The storage of one root: every local port, over one tree of files and one lock."""

from pathlib import Path

from app.storage.local.adoption import LocalAdoption
from app.storage.local.content_store import LocalContentStore
from app.storage.local.disk.tree import Tree
from app.storage.local.record_store import LocalRecordStore
from app.storage.local.root import Root
from app.storage.local.root_marks import LocalRootMarks
from app.storage.local.volume import LocalVolume
from app.storage.ports import Storage


class LocalStorage(Storage):
    """The storage ports on a local file system.

    Parameters
    ----------
    only_look : bool
        The root is not taken for this process, and nothing can be changed.
    must_exist : bool
        A folder that is no root is refused, instead of made one.

    Raises
    ------
    StartupError
        The root cannot be used, another process has it, or its layout is unknown.
    """

    content: LocalContentStore
    records: LocalRecordStore
    marks: LocalRootMarks
    volume: LocalVolume
    adoption: LocalAdoption

    def __init__(self, root: Path, *, version: str, only_look: bool = False, must_exist: bool = False) -> None:
        opened = Root(root, version=version, only_look=only_look, must_exist=must_exist)
        records = LocalRecordStore(opened.tree)
        super().__init__(
            content=LocalContentStore(opened, records),
            records=records,
            marks=LocalRootMarks(opened),
            volume=opened.volume,
            adoption=LocalAdoption(opened.tree),
            release=opened.close,
        )
        self.tree: Tree = opened.tree
