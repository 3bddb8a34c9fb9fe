"""Records of the trash: the removed checkpoints in it, and the time and reason of each, for a catalog without them."""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import get_args

from app.core.errors import ForeignFile
from app.core.models import Checkpoint, RemovedBecause
from app.storage import manifest as manifests
from app.storage.local import layout
from app.storage.local.disk.tree import Tree
from app.storage.ports import Trashed

_NOTE_MAX_BYTES = 4096


def note(tree: Tree, checkpoint: Checkpoint) -> None:
    """Write the time and reason of a removal beside the bytes of the checkpoint."""
    if checkpoint.removed_at is not None:
        said = {"removed_at": checkpoint.removed_at.isoformat(), "removed_because": checkpoint.removed_because}
        tree.write((*layout.TRASH, checkpoint.id, layout.REMOVED), json.dumps(said).encode())


def trashed(tree: Tree) -> Iterator[Trashed]:
    """Yield every removed checkpoint in the trash that has a readable manifest."""
    for checkpoint_id in tree.names(layout.TRASH):
        path = (*layout.TRASH, checkpoint_id, layout.SEAL)
        try:
            if tree.stat(path) is None:
                continue
            manifest = manifests.load(tree.read(path))
        except (manifests.Unreadable, ForeignFile, OSError):
            continue
        if manifest.checkpoint.id == checkpoint_id:
            yield Trashed(manifest, *_when_and_why(tree, checkpoint_id))


def _when_and_why(tree: Tree, checkpoint_id: str) -> tuple[datetime, RemovedBecause]:
    """Return the note; for a replaced checkpoint, which has none, the time at which it moved to the trash."""
    aside = (*layout.TRASH, checkpoint_id)
    with suppress(OSError, ForeignFile, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        found = tree.stat((*aside, layout.REMOVED))
        if found is not None and found.st_size <= _NOTE_MAX_BYTES:
            said = json.loads(tree.read((*aside, layout.REMOVED)))
            at = datetime.fromisoformat(said["removed_at"])
            if at.tzinfo is not None and said["removed_because"] in get_args(RemovedBecause):
                return at.astimezone(UTC), said["removed_because"]
    folder = tree.stat(aside)
    moved_ns = max(folder.st_mtime_ns, 0) if folder is not None else 0
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moved_ns // 1000), "replaced"
