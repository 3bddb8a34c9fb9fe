"""Which root this is, and how it stood when it was last opened: what tells a catalog of its own from any other."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR

from app.core.errors import Refusal
from app.core.models import Mark
from app.storage.local import layout
from app.storage.local.survey import survey
from app.storage.local.tree import Tree
from app.storage.port import Records

_MARK_MAX_BYTES = 4096
_ID = re.compile(r"[0-9a-f]{32}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RECORD = ".json"


def holds_records(tree: Tree) -> bool:
    """Whether anything below a root is a record of Holdfast's, although the root itself does not say which layout."""
    if any(tree.names(folder) for folder in (layout.INCOMING, layout.TRASH)):
        return True
    return any(found.manifest or found.directory for found in survey(tree))


def other_root(tree: Tree) -> str | None:
    """Another root that holds this folder or lies in it; None where there is none."""
    for parent in tree.root.parents:
        if parent.joinpath(*layout.FORMAT).is_file():
            return str(parent)
    for folder, names, _ in os.walk(tree.root):
        if Path(folder) != tree.root and layout.OWN in names and Path(folder).joinpath(*layout.FORMAT).is_file():
            return folder
    return None


def mark(tree: Tree) -> Mark | None:
    """What the last opening left here; None where nothing that can be believed lies here."""
    with suppress(OSError, Refusal, ValueError, TypeError, KeyError, RecursionError):
        found = tree.stat(layout.OPENED)
        if found is not None and found.st_size <= _MARK_MAX_BYTES:
            said = json.loads(tree.read(layout.OPENED))
            if _ID.fullmatch(said["root"]) and _ID.fullmatch(said["opening"]):
                return Mark(said["root"], said["opening"])
    return None


def put_mark(tree: Tree, opened: Mark) -> None:
    """Leave word of an opening, durably."""
    tree.write(layout.OPENED, json.dumps({"root": opened.root, "opening": opened.opening}).encode())


def records(tree: Tree, *, skip: frozenset[str] = frozenset()) -> Iterator[Records]:
    """Which records lie in each directory, and when they were last written; nothing is read.

    ``skip`` are paths that need not be looked into, as folders of checkpoints.
    """
    with tree.folder(()) as folder:
        yield from _below(folder, "", skip)


def _below(folder: int, where: str, skip: frozenset[str]) -> Iterator[Records]:
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    for name in names:
        path = f"{where}/{name}" if where else name
        if path in skip or (name == layout.OWN and not where):
            continue
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError:  # it is gone, or nobody may look into it, which `fsck` says
            continue
        try:
            if name == layout.OWN:
                yield _records(inner, where)
            else:
                yield from _below(inner, path, skip)
        finally:
            os.close(inner)


def _records(folder: int, directory: str) -> Records:
    manifests: dict[str, int] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(_RECORD) and not entry.name.startswith("."):
                found = entry.stat(follow_symlinks=False)
                if not S_ISDIR(found.st_mode):
                    manifests[entry.name.removesuffix(_RECORD)] = found.st_mtime_ns
    return Records(directory, manifests.pop("directory", None), manifests)
