"""Reading: the queries of a `Client`, its downloads, and the events that it watches."""

import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from .._arguments import checks
from .._options import Mode, checked_mode
from .._transfer.destination import local, names_folder
from . import filters
from .connected import AnyCheckpoint, AnyDirectory, Connected
from .infos import CheckpointInfo, DirectoryInfo
from .listing import Listing
from .lookup import wire
from .placing import file_named, put_at
from .reports import Event
from .watching import follow


class Reading(Connected):
    """The part of a `Client` that only reads."""

    def directories(self, prefix: AnyDirectory | None = None) -> Listing[DirectoryInfo]:
        """List the directories at and below a prefix, by name, also those that are empty.

        Parameters
        ----------
        prefix : str, Path or DirectoryInfo, optional
            The prefix, by whole components. Default: all that the client reaches.

        Returns
        -------
        Listing of DirectoryInfo
            A sequence that reads further pages as they are needed.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> path = CheckpointManager("sweep/a", mode="max").save({}, epoch=1, metric=0.5)
        >>> [(found.name, found.count, found.policy.mode) for found in Client().directories("sweep")]
        [('sweep/a', 1, 'max')]
        """
        asked = {"prefix": self._below("prefix", prefix)}
        return self._listing(DirectoryInfo, "/v1/directories", "directories", asked, None)

    def directory(self, name: AnyDirectory) -> DirectoryInfo:
        """Return a directory: its policy, its counts, and its latest and best checkpoint.

        Raises
        ------
        CheckpointNotFound
            There is no such directory.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> path = CheckpointManager("runs/described", max_checkpoints=5).save({}, epoch=1)
        >>> found = Client().directory("runs/described")
        >>> found.count, found.latest.epoch, found.best, found.policy.max_checkpoints
        (1, 1, None, 5)
        """
        found = self._lookup.ask(f"/v1/directories/{quote(self._directory(name))}")
        return self._parsed(DirectoryInfo.from_json, found)

    def checkpoints(
        self,
        directory: AnyDirectory,
        *,
        order_by: str = "position",
        by: str | None = None,
        mode: Mode | None = None,
        name: str | None = None,
        kind: str | None = None,
        retention: str | None = None,
        tag: str | None = None,
        pinned: bool | None = None,
        is_best: bool | None = None,
        epoch_min: int | None = None,
        epoch_max: int | None = None,
        step_min: int | None = None,
        step_max: int | None = None,
        metric_min: float | None = None,
        metric_max: float | None = None,
        include_removed: bool = False,
        limit: int | None = None,
    ) -> Listing[CheckpointInfo]:
        """List the checkpoints of a directory, filtered and sorted. A filter that is None matches everything.

        Parameters
        ----------
        order_by : str
            ``"position"`` (oldest first), ``"best"``, ``"epoch"``, ``"step"``, ``"metric"``, ``"created_at"``,
            ``"name"`` or ``"size_bytes"``; a leading ``-`` reverses all but ``"best"``, which leaves out what has no
            rank.
        by, mode : str, optional
            For ``order_by="best"``: the numeric metadata value that ranks, and ``"min"`` or ``"max"``. Default: the
            metric, and the directory's mode.
        name, kind, retention, tag : str, optional
            Only checkpoints of this name, kind or retention, or with this tag.
        pinned, is_best : bool, optional
            Only checkpoints that are pinned or flagged, or, if False, only those that are not.
        epoch_min, epoch_max, step_min, step_max, metric_min, metric_max : number, optional
            The bounds, which are included. What has no such value matches none.
        include_removed : bool
            Whether to list removed ones as well, for as long as the server keeps their facts.
        limit : int, optional
            The most entries to list.

        Returns
        -------
        Listing of CheckpointInfo
            A sequence that reads further pages as they are needed.

        Raises
        ------
        CheckpointNotFound
            There is no such directory.
        TypeError, ValueError
            A filter cannot be meant. Nothing was sent.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> manager = CheckpointManager("runs/listed")
        >>> for epoch, loss in enumerate([0.9, 0.3, 0.5]):
        ...     path = manager.save({}, epoch=epoch, loss=loss, lr=0.1)
        >>> found = Client().checkpoints("runs/listed", order_by="best", limit=2)
        >>> [(each.epoch, each.metric, each.metadata["lr"]) for each in found]
        [(1, 0.3, 0.1), (2, 0.5, 0.1)]
        """
        given = {name: value for name, value in locals().items() if name not in {"self", "directory", "limit"}}
        asked = {"directory": self._directory(directory), **filters.query_of(given)}
        limit = checks.limit("limit", limit, least=0)
        return self._listing(CheckpointInfo, "/v1/checkpoints", "checkpoints", asked, limit)

    def best(self, directory: AnyDirectory, by: str | None = None, mode: Mode | None = None) -> CheckpointInfo:
        """Return the best checkpoint of a directory.

        Parameters
        ----------
        by : str, optional
            The numeric metadata value that ranks. Default: the metric.
        mode : {'min', 'max'}, optional
            Whether a smaller or a larger value is better. Default: the directory's mode.

        Raises
        ------
        CheckpointNotFound
            There is no such directory, or nothing in it can be ranked.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> manager = CheckpointManager("runs/ranked")
        >>> for epoch, accuracy in enumerate([0.7, 0.9]):
        ...     path = manager.save({}, epoch=epoch, loss=epoch, accuracy=accuracy)
        >>> Client().best("runs/ranked").epoch, Client().best("runs/ranked", by="accuracy", mode="max").epoch
        (0, 1)
        """
        asked = {"by": checks.text("by", by), "mode": None if mode is None else checked_mode(mode)}
        found = self._lookup.ask("/v1/checkpoints/best", directory=self._directory(directory), **asked)
        return self._parsed(CheckpointInfo.from_json, found)

    def latest(self, directory: AnyDirectory) -> CheckpointInfo:
        """Return the latest checkpoint of a directory; raise `CheckpointNotFound` if it holds none."""
        found = self._lookup.ask("/v1/checkpoints/latest", directory=self._directory(directory))
        return self._parsed(CheckpointInfo.from_json, found)

    def checkpoint(self, checkpoint: AnyCheckpoint) -> CheckpointInfo:
        """Return the facts of a checkpoint as they are now.

        Parameters
        ----------
        checkpoint : str, Path or CheckpointInfo
            ``DIRECTORY/NAME``, ``DIRECTORY/best``, ``DIRECTORY/latest``, an id, or earlier facts. A removed
            checkpoint is found by its id only, and ``removed_at`` is set.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> path = CheckpointManager("runs/one").save({}, epoch=1, lr=0.1)
        >>> found = Client().checkpoint(path)
        >>> found.path, found.metadata, found == Client().checkpoint(found.id)
        ('runs/one/checkpoint_epoch_0001.pt', {'lr': 0.1}, True)
        """
        return self._parsed(CheckpointInfo.from_json, self._found(checkpoint))

    def download(self, checkpoint: AnyCheckpoint, to: str | Path = ".", file: str | None = None) -> Path:
        """Put a checkpoint's file, or its folder of files, on this machine, verified.

        With ``HOLDFAST_CACHE``, whole checkpoints go through the cache as those of a manager do.

        Parameters
        ----------
        checkpoint : str, Path or CheckpointInfo
            As for `checkpoint`.
        to : str or Path
            The target. An existing folder receives the checkpoint under its own name, and so does a new folder, for a
            path that ends with a slash, if the checkpoint is a file. A plain file is replaced; a pipe or a device is
            written into.
        file : str, optional
            The path of the only file to fetch, of a checkpoint with several.

        Returns
        -------
        Path
            The path of the file or folder.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint or file, or its bytes are gone.
        IntegrityError
            The bytes are not those that were saved.
        InvalidRequest, FileExistsError
            The target cannot be replaced, or is a pipe without a reader; it is left unchanged.

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> path = CheckpointManager("runs/fetched").save({}, epoch=1, loss=0.5)
        >>> Client().download("runs/fetched/best", "best.pt")
        PosixPath('best.pt')
        """
        target = local("to", to)
        path = checks.path("file", file) if file is not None else None
        found, server = wire(self._found(checkpoint)), self._lookup.server
        wanted = file_named(server, found, path) if path is not None else None
        cache = self._cache if path is None else None
        return put_at(server, found, target, is_folder=names_folder(to), file=wanted, cache=cache)

    def watch(self, directory: AnyDirectory | None = None, *, since: int | None = None) -> Iterator[Event]:
        """Follow the events of the directories at and below one, or of all; each comes once, in the order of ids.

        The stream stands when this returns, so nothing that happens later is missed. A broken connection is opened
        again, without end and with a line in the log, and the events go on after the last one. The server keeps events
        for a limited time: if some were dropped meanwhile, a `HoldfastWarning` says so, and newer ones follow. `close`
        ends the iteration.

        Parameters
        ----------
        directory : str, Path or DirectoryInfo, optional
            The directory, or a prefix of directories. Default: all that the client reaches.
        since : int, optional
            The id of the event to begin after; 0 begins with the oldest. Default: begin now.

        Returns
        -------
        iterator of Event
            It has no end of its own.

        Raises
        ------
        ServerUnreachable
            The first connection failed for three times ``patience_s``.
        CheckpointNotFound
            Events after ``since`` are no longer kept, or no event has that id (``events_trimmed``).

        Examples
        --------
        >>> from holdfast import CheckpointManager, Client
        >>> events = Client().watch("runs/watched")
        >>> path = CheckpointManager("runs/watched").save({}, epoch=1)
        >>> event = next(events)
        >>> event.type, event.directory, event.data["name"]
        ('checkpoint.saved', 'runs/watched', 'checkpoint_epoch_0001.pt')
        """
        prefix, since = self._below("directory", directory), checks.limit("since", since, least=0)
        server = self._lookup.server.again()
        self._watched.add(server)
        return follow(server, prefix, since, self._stopping, self._lookup.shown)

    def close(self) -> None:
        """End what `watch` has returned, and close the connections. A later call opens new ones."""
        stopping, self._stopping = self._stopping, threading.Event()
        stopping.set()
        for server in list(self._watched):
            server.abort()
        self._lookup.server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
