"""Serving: follows the best or the latest checkpoint of a directory, for a process that loads it when it changes."""

import logging
import time
from collections.abc import Generator, Iterator
from typing import Any, Literal, get_args

from ._options import Mode
from ._query.connected import AnyDirectory
from ._query.infos import CheckpointInfo
from .client import Client
from .errors import CheckpointNotFound, ServerUnreachable

log = logging.getLogger("holdfast")

Which = Literal["best", "latest"]
_AGAIN_S = 1.0


def watch(
    directory: AnyDirectory, which: Which = "best", *, by: str | None = None, mode: Mode | None = None, **settings: Any
) -> Iterator[CheckpointInfo]:
    """Follow the best, or the latest, checkpoint of a directory: the one that is there now, then each that succeeds it.

    Of several that succeed each other while the caller is at work, only the last is given. An outage is survived: the
    iteration waits, with a line in the log, until the server answers. It has no end of its own; ``close()`` of the
    iterator, or its deletion, ends the connection.

    Parameters
    ----------
    directory : str, Path or DirectoryInfo
        The directory, which need not exist yet.
    which : {'best', 'latest'}
        The checkpoint to follow.
    by, mode : str, optional
        As for `Client.best`; only for ``"best"``.
    **settings
        The settings of the `Client`: ``server``, ``token`` and so on.

    Returns
    -------
    iterator of CheckpointInfo
        ``Client.download`` and ``CheckpointManager.load`` fetch one.

    Raises
    ------
    ServerUnreachable
        The server did not answer when the iteration began.
    ValueError
        ``which`` is neither. Nothing was sent.

    Examples
    --------
    >>> from holdfast import CheckpointManager, watch
    >>> manager = CheckpointManager("runs/served")
    >>> best = watch("runs/served")
    >>> path = manager.save({}, epoch=1, loss=0.5)
    >>> next(best).epoch
    1
    >>> paths = [manager.save({}, epoch=epoch, loss=loss) for epoch, loss in [(2, 0.7), (3, 0.2)]]
    >>> next(best).epoch
    3
    """
    if which not in get_args(Which):
        raise ValueError(f"which must be 'best' or 'latest', not {which!r}")
    if which == "latest" and (by is not None or mode is not None):
        raise ValueError("by and mode rank the best checkpoint; which='latest' takes neither")
    return _follow(Client(**settings), directory, {"by": by, "mode": mode} if which == "best" else None)


def _follow(
    client: Client, directory: AnyDirectory, ranking: dict[str, Any] | None
) -> Generator[CheckpointInfo, None, None]:
    last, watched = "", client._lookup.shown(client._directory(directory))
    with client:
        events = client.watch(directory)  # before the first look, so that no change is missed
        while True:
            found = _look(client, directory, ranking)
            if found is not None and found.id != last:
                last = found.id
                yield found
            while next(events).directory != watched:
                pass  # an event of a directory below


def _look(client: Client, directory: AnyDirectory, ranking: dict[str, Any] | None) -> CheckpointInfo | None:
    """Return the checkpoint that is there now, or None; wait until the server answers."""
    while True:
        try:
            return client.latest(directory) if ranking is None else client.best(directory, **ranking)
        except CheckpointNotFound:
            return None
        except ServerUnreachable as error:
            log.warning("%s; the checkpoint to serve is asked for again", error)
            time.sleep(_AGAIN_S)
