"""Files that a framework writes to be saved, or reads once they are loaded: where they are meanwhile."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ..._load_folders import FileLoader
from ..._resume import Resumer
from ..._runtime.interruption import suppress
from ..._spool.held import made_in
from ...manager import CheckpointManager


@contextmanager
def workspace(manager: CheckpointManager) -> Iterator[tuple[Path, bool | None]]:
    """Yield a folder to write into, and ``wait`` for a save from there; the folder is removed at the end.

    It is in the spool's folder, where a background save holds files by links, and from which the next process removes
    what a killed one has left. Without a spool it is a temporary folder, from which nothing is saved in the background.
    """
    with ExitStack() as stack:
        queue = manager._saver.target.queue
        folder = None
        if queue is not None:
            with suppress(OSError):
                queue.prepare()
                folder = made_in(queue.folder, stack)
        if folder is not None:
            yield folder, None
        else:
            yield Path(stack.enter_context(TemporaryDirectory(prefix="holdfast-"))), True


def newest(manager: CheckpointManager, to: Path, suffixes: tuple[str, ...]) -> tuple[Path | None, int | None]:
    """Put the newest usable checkpoint of one file below a folder, from the server or the spool; also its epoch.

    Parameters
    ----------
    suffixes : tuple of str
        The ends of the names of those that count.
    """
    manager._saver.background.wait()
    loader = _loader(manager, to, suffixes)
    place: Path | None = Resumer(loader, ("regular",)).state()
    return place, loader.epochs.get(place.name) if place is not None else None


def best(manager: CheckpointManager, to: Path, suffixes: tuple[str, ...]) -> tuple[Path | None, int | None]:
    """Put the best checkpoint of one file below a folder, as `newest` does the newest."""
    loader = _loader(manager, to, suffixes)
    known = manager._remote.best(manager.mode)
    place = loader.found(lambda: loader.best(known.mode)) if known is not None else None
    return place, loader.epochs.get(place.name) if place is not None else None


def _loader(manager: CheckpointManager, to: Path, suffixes: tuple[str, ...]) -> FileLoader:
    target = manager._saver.target
    target.begin()
    return FileLoader(manager._remote, manager._cache, manager._progress, to, queue=target.queue, suffixes=suffixes)
