"""The times of all records below a root, for the comparison with the catalog at each start: nothing is read."""

import os
from collections.abc import Iterator
from stat import S_ISDIR

from app.storage.local import layout
from app.storage.local.disk.tree import Tree
from app.storage.ports import RecordTimes

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RECORD = ".json"


def record_times(tree: Tree, *, skip: frozenset[str] = frozenset()) -> Iterator[RecordTimes]:
    """Yield the times of the records of each directory.

    ``skip`` are paths that need not be looked into, as folders of checkpoints.
    """
    with tree.folder(()) as folder:
        yield from _below(folder, "", skip)


def _below(folder: int, where: str, skip: frozenset[str]) -> Iterator[RecordTimes]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        path = f"{where}/{name}" if where else name
        if path in skip or (name == layout.OWN and not where):
            continue
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:  # it is gone, or access is denied, which `fsck` reports
            continue
        try:
            if name == layout.OWN:
                yield _times(inner, where)
            else:
                yield from _below(inner, path, skip)
        finally:
            os.close(inner)


def _times(folder: int, directory: str) -> RecordTimes:
    manifests: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_RECORD) and not entry.name.startswith("."):
                found = entry.stat(follow_symlinks=False)
                if not S_ISDIR(found.st_mode):
                    manifests[entry.name.removesuffix(_RECORD)] = found.st_mtime_ns
    return RecordTimes(directory, manifests.pop("directory", None), manifests)
