"""CheckpointManager: the interface of a local checkpoint manager, with the checkpoints on a Holdfast server."""

import math
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path, PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ._api.directory import Best, RemoteDirectory
from ._api.mode import change_mode
from ._api.retry import PATIENCE_S
from ._api.server import TIMEOUT_S, Server
from ._api.wire import Checkpoint
from ._arguments import checks, values
from ._arguments.keyword_warnings import KeywordWarnings
from ._arguments.name_mapping import configured_prefix, directory_name, locate
from ._arguments.state_keys import requested_keys
from ._folders import Folders
from ._options import UNSET, Mode, Unset, cache_of, checked_mode, monitored_value, spool_of
from ._save.background import in_full
from ._save.drain import DRAIN_S
from ._save.facts import facts_of
from ._save.saver import Saver
from ._save.target import SaveTarget
from ._spool.spool import MAX_BYTES, MAX_SHARE
from ._transfer.destination import NoReader, local, names_folder
from .errors import NotImproved, WarnOnce, warn

if TYPE_CHECKING:
    from ._load import Loader
    from ._shared.save import SharedSave


class CheckpointManager(Folders):
    """Saves checkpoints to a server, which keeps the last and the best ones, and loads them on any machine.

    Constructing a manager sends nothing and changes nothing on the server. Its limits travel with each `save`.

    Parameters
    ----------
    checkpoint_dir : str or Path
        The job's name of its directory. On the server it has the same name without its anchor, preceded by
        ``HOLDFAST_PREFIX`` if that is set: ``/scratch/me/run`` becomes ``scratch/me/run``.
    max_checkpoints : int or None
        The number of newest regular checkpoints to keep; None keeps all. The newest is always kept.
    max_best_checkpoints : int or None
        The number of best checkpoints to keep, of all kinds; None keeps all that can be ranked.
    mode : {'min', 'max'}
        Whether a smaller or a larger metric is better.
    server : str, optional
        The server's URL. Default: ``HOLDFAST_URL``, else ``http://127.0.0.1:8420``.
    token : str, optional
        The server's token. Default: the content of ``token_file``, else ``HOLDFAST_TOKEN``, else the content of the
        file ``HOLDFAST_TOKEN_FILE``.
    token_file : str or Path, optional
        A file that holds the token, such as a mounted secret. It is read again when it changes, so that a token may
        expire while the job runs.
    monitor : str or None, optional
        The metadata value that stands in for ``metric`` if a save gives none and is not flagged ``is_best``.
        Default: ``"loss"`` if ``mode="min"``, nothing if ``mode="max"``.
    keep_every_epochs : int, optional
        The interval, in epochs, at which regular checkpoints are kept, too.
    keep_every_steps : int, optional
        The interval, in steps, at which regular checkpoints are kept, too.
    timeout_s : float
        The time, in seconds, that the server may be silent before a request counts as failed.
    patience_s : float
        The time, in seconds, that a save retries an unreachable server before it goes to the spool. Loading retries
        three times as long.
    on_unreachable : {'spool', 'raise'}
        What a save does then: keep the checkpoint on this machine until it can be delivered, or raise an error.
    spool_dir : str or Path, optional
        The folder that keeps checkpoints while the server is unreachable. Default: ``HOLDFAST_SPOOL``, else
        ``~/.local/state/holdfast/spool``.
    spool_max_bytes : int
        The number of bytes that may wait there.
    spool_max_share : float
        The share of its disk that may wait, from 0 to 1.
    background : bool
        Whether `save` returns as soon as it has a snapshot of the state.
    max_pending : int
        The number of snapshots at a time; one more save is blocked.
    rank : int, optional
        The rank of this process in its job; only rank 0 saves. Default: from ``torch.distributed`` or ``RANK``.
    drain_s : float
        The time, in seconds, by which saves under way may delay the end of the process.
    base : str or Path, optional
        A checkpoint whose bytes a save need not send again, by a path as `load` takes it: the pretrained model of a
        fine-tuning, for example. The bytes of this directory's own checkpoints are never sent again.
    progress : bool, optional
        Whether long transfers show a bar. Default: ``HOLDFAST_PROGRESS`` (``1`` or ``0``), else on a terminal only.
    cache_dir : str or Path, optional
        A folder that keeps loaded checkpoints, so that loading them again needs no transfer, and loading a similar one
        a small transfer. Default: ``HOLDFAST_CACHE``, else none.
    cache_max_bytes : int
        The number of bytes that the cache may hold; the least recently used are evicted.

    Attributes
    ----------
    checkpoint_dir : Path
    max_checkpoints, max_best_checkpoints : int or None
    mode : str

    Raises
    ------
    ValueError
        An argument is invalid: ``mode`` is neither ``"min"`` nor ``"max"``, a limit is negative, ``checkpoint_dir``
        names no directory, or a setting cannot work: the URL, the token or its file, the prefix, a proxy or
        certificates that are needed (`InvalidRequest`, ``invalid_setting``).
    TypeError
        An argument has the wrong type.

    Examples
    --------
    >>> manager = CheckpointManager("runs/digits/checkpoints", max_checkpoints=2, max_best_checkpoints=1)
    >>> for epoch, loss in enumerate([0.9, 0.3, 0.5, 0.4]):
    ...     path = manager.save({"epoch": epoch}, epoch=epoch, loss=loss)
    >>> path
    PosixPath('runs/digits/checkpoints/checkpoint_epoch_0003.pt')
    >>> manager.load_best(), manager.load_latest()
    ({'epoch': 1}, {'epoch': 3})
    >>> [checkpoint["epoch"] for checkpoint in manager.checkpoints]
    [1, 2, 3]
    """

    def __init__(
        self,
        checkpoint_dir: str | Path,
        max_checkpoints: int | None = 3,
        max_best_checkpoints: int | None = 3,
        mode: Mode = "min",
        *,
        server: str | None = None,
        token: str | None = None,
        token_file: str | Path | None = None,
        monitor: str | Unset | None = UNSET,
        keep_every_epochs: int | None = None,
        keep_every_steps: int | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        on_unreachable: Literal["spool", "raise"] = "spool",
        spool_dir: str | Path | None = None,
        spool_max_bytes: int = MAX_BYTES,
        spool_max_share: float = MAX_SHARE,
        background: bool = False,
        max_pending: int = 2,
        rank: int | None = None,
        drain_s: float = DRAIN_S,
        base: str | PurePath | None = None,
        progress: bool | None = None,
        cache_dir: str | Path | None = None,
        cache_max_bytes: int = 20 * 2**30,
    ) -> None:
        self.mode: Mode = checked_mode(mode)
        if on_unreachable not in ("spool", "raise"):
            raise ValueError(f"on_unreachable must be 'spool' or 'raise', not {on_unreachable!r}")
        self.checkpoint_dir = Path(checks.path("checkpoint_dir", checkpoint_dir))
        self.max_checkpoints = checks.limit("max_checkpoints", max_checkpoints, least=0)
        self.max_best_checkpoints = checks.limit("max_best_checkpoints", max_best_checkpoints, least=0)
        self.keep_every_epochs = checks.limit("keep_every_epochs", keep_every_epochs, least=1)
        self.keep_every_steps = checks.limit("keep_every_steps", keep_every_steps, least=1)
        self.monitor = monitored_value(monitor, mode)
        self._prefix = configured_prefix()
        directory = directory_name(self.checkpoint_dir, self._prefix)
        if base is not None:
            locate(checks.path("base", base), self.checkpoint_dir, self._prefix)
        timeout_s = checks.seconds("timeout_s", timeout_s, may_be_zero=False)
        patience_s = checks.seconds("patience_s", patience_s)
        where = Server(server, token, timeout_s, patience_s, token_file=token_file)
        self._remote = RemoteDirectory(where, directory)
        self._warn_once = WarnOnce()
        self._keyword_warnings = KeywordWarnings(
            self.monitor, is_default=isinstance(monitor, Unset), warn_once=self._warn_once
        )
        spool = spool_of(spool_dir, spool_max_bytes, spool_max_share)
        self._saver = Saver(
            self._remote,
            SaveTarget(
                self._remote.server,
                directory,
                spool if on_unreachable == "spool" else None,
                checks.choice("progress", progress),
                checks.seconds("drain_s", drain_s),
            ),
            background=checks.switch("background", background),
            max_pending=checks.count("max_pending", max_pending, least=1),
            rank=checks.limit("rank", rank, least=0),
            find_base=None if base is None else lambda: self._find(base, patience_s=0.0).id,
            warn_once=self._warn_once,
        )
        self._progress = progress
        self._cache = cache_of(cache_dir, cache_max_bytes)

    # saving

    def save(
        self,
        state: Any,
        epoch: int | None = None,
        metric: float | None = None,
        is_best: bool = False,
        *,
        step: int | None = None,
        tags: str | Iterable[str] | None = None,
        pinned: bool = False,
        retention: Literal["policy", "manual"] = "policy",
        name: str | None = None,
        wait: bool | None = None,
        **metadata: Any,
    ) -> Path:
        """Save a state; when this returns, it is durable on the server, and the server has pruned older ones.

        While the server is unreachable, it is durable in the spool instead, with a warning, and is delivered later. A
        background save is neither yet: `wait` blocks until it is.

        Parameters
        ----------
        state : dict
            Any object that ``torch.save`` takes, usually a dict of ``state_dict()`` results. It is stored unchanged.
        epoch : int, optional
            Names the checkpoint ``checkpoint_epoch_0100.pt``. Without epoch and step, the UTC time names it. Saving an
            epoch again replaces its checkpoint.
        metric : float, optional
            The value that ranks it. NaN and the infinities are stored but never best. Default: see ``monitor``.
        is_best : bool
            Flags a checkpoint without a metric as one of the best.
        step : int, optional
            The number of optimizer steps so far, over all epochs. It becomes part of the name,
            ``checkpoint_epoch_0003_step_00012000.pt``: two steps of one epoch are two checkpoints.
        tags : list of str, optional
            Its tags; a single string is one tag.
        pinned : bool
            Whether it is kept regardless of the limits, until it is unpinned.
        retention : {'policy', 'manual'}
            ``"manual"``: no limit removes it, nor counts it; it stays until it is deleted or replaced.
        name : str, optional
            Its name, in place of one from the epoch. A checkpoint of that name is replaced.
        wait : bool, optional
            Whether to return only when it is durable. Default: not if the manager saves in the background.
        **metadata
            Further JSON values; tensors and NumPy values of one element become numbers. A keyword that looks like a
            misspelt parameter of this method is kept, with a warning.

        Returns
        -------
        Path
            ``checkpoint_dir / name``. The file is on the server; `download` puts a copy on this machine.

        Raises
        ------
        TypeError, ValueError
            A metric, an epoch, a step, a tag, a name or a metadata value cannot be stored. Nothing was sent.
        ModeConflict
            The directory ranks in the other mode.
        CheckpointExists
            A pinned checkpoint has that name, or something else on the server has it.
        ServerUnreachable
            The server did not answer, and ``on_unreachable`` is ``"raise"``.
        OutOfSpace
            The server did not answer, and the spool cannot take it, either.
        HoldfastError
            Also for an earlier background save: the next save, or `wait`, raises its error.

        Examples
        --------
        >>> manager = CheckpointManager("runs/save")
        >>> manager.save({"step": 1}, epoch=3, loss=0.2)
        PosixPath('runs/save/checkpoint_epoch_0003.pt')
        >>> manager.load_best()
        {'step': 1}
        """
        given = {"epoch": epoch, "step": step, "metric": metric, "is_best": is_best, "tags": tags, "pinned": pinned}
        facts = self._facts({**given, "name": name, "retention": retention}, metadata, wait)
        if isinstance(state, str | PurePath) and Path(state).exists():
            self._warn_once(f"{str(state)!r} itself is saved, a path: save_file() and save_folder() save what is there")
        return self._save(state, "checkpoint", facts, wait)

    def shared_save(
        self,
        name: str,
        *,
        save_id: str,
        writer: str,
        writers: Iterable[str] | None = None,
        attempt: int = 0,
        commit_when_ready: bool = False,
        epoch: int | None = None,
        step: int | None = None,
        metric: float | None = None,
        is_best: bool = False,
        tags: str | Iterable[str] | None = None,
        pinned: bool = False,
        retention: Literal["policy", "manual"] = "policy",
        if_match: str | None = None,
        if_none_match: str | None = None,
        **metadata: Any,
    ) -> "SharedSave":
        """Begin this process's part of a checkpoint that several processes fill, a folder of files.

        Every rank calls it with the same arguments but ``writer``; the ``rank`` of the manager does not matter. Nothing
        goes to the spool.

        Parameters
        ----------
        name : str
            The name of the checkpoint.
        save_id : str
            8 to 64 letters, digits, ``_`` and ``-`` that name this save, the same on every rank and in every attempt.
        writer : str
            The name of this process among the writers, such as ``"rank-0"``.
        writers : list of str, optional
            The writers that the commit waits for.
        attempt : int
            Which attempt of the job this is. A higher one takes over what has arrived, and fences off the lower ones.
        commit_when_ready : bool
            Whether the server commits as soon as all ``writers`` are ready.
        epoch, step, metric, is_best, tags, pinned, retention, **metadata
            As for `save`, and the same on every rank.
        if_match, if_none_match : str, optional
            The digest of the checkpoint that this one may replace or must not meet, or ``"*"`` for any.

        Returns
        -------
        SharedSave

        Raises
        ------
        TypeError, ValueError
            An argument cannot be used. Nothing was sent.

        Examples
        --------
        >>> manager = CheckpointManager("runs/sharded")
        >>> for rank in (0, 1):
        ...     part = manager.shared_save("step-1", save_id="job-7-step-1", writer=f"rank-{rank}", step=1)
        ...     part.add(f"shard-{rank}.bin", bytes(100))
        ...     part.ready()
        >>> part.commit(writers=["rank-0", "rank-1"])
        PosixPath('runs/sharded/step-1')
        """
        from ._shared.begin import begin

        given = {"epoch": epoch, "step": step, "metric": metric, "is_best": is_best, "tags": tags, "pinned": pinned}
        facts = self._facts({**given, "name": name, "retention": retention}, metadata, None)
        save = {**facts, "directory": self._remote.name, "policy": self._policy, "save_id": save_id}
        terms = {"writers": writers, "attempt": attempt, "commit_when_ready": commit_when_ready}
        headers = {"If-Match": if_match, "If-None-Match": if_none_match}
        return begin(self._remote.server, self.checkpoint_dir / name, save, writer, terms, headers)

    def save_best_if_improved(
        self,
        state: Any,
        metric: float,
        epoch: int | None = None,
        *,
        step: int | None = None,
        tags: str | Iterable[str] | None = None,
        pinned: bool = False,
        name: str | None = None,
        wait: bool | None = None,
        **metadata: Any,
    ) -> Path | None:
        """Save a state only if its metric is strictly better than the best that the server holds.

        The server decides, before any bytes are sent and again at commit. While it is unreachable, the state goes to
        the spool, the path is returned, and the server decides at delivery.

        Parameters
        ----------
        state : dict
            Any object that ``torch.save`` takes.
        metric : float
            The value to compare. NaN or an infinity is never better: nothing is saved, with a warning.
        epoch : int, optional
            Names the checkpoint ``best_epoch_0100.pt``.
        step, tags, pinned, name, wait, **metadata
            As for `save`.

        Returns
        -------
        Path or None
            The checkpoint's path, or None if nothing was saved.

        Examples
        --------
        >>> manager = CheckpointManager("runs/best", mode="max")
        >>> manager.save_best_if_improved({"step": 1}, metric=0.8, epoch=1)
        PosixPath('runs/best/best_epoch_0001.pt')
        >>> print(manager.save_best_if_improved({"step": 2}, metric=0.7, epoch=2))
        None
        """
        value = values.metric(metric)
        if value is None:
            raise TypeError("save_best_if_improved needs a metric")
        about: dict[str, Any] = {"tags": tags, "pinned": pinned, "name": name}
        facts = facts_of("best", epoch, step, value, metadata, **about)
        self._keyword_warnings.check_keywords({"epoch": epoch, "step": step, **about, "wait": wait}, metadata)
        if not math.isfinite(value):
            warn(f"a metric of {value} is never the best: nothing was saved")
            return None
        counters = {"epoch": facts["epoch"], "step": facts.get("step")}
        if not self._saver.may_improve(value, self.mode, **counters, name=name, wait=wait):
            return None
        try:
            return self._save(state, "best", {**facts, "only_if_improved": True}, wait)
        except NotImproved:
            return None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Block until all background saves are durable, on the server or in the spool.

        Parameters
        ----------
        timeout_s : float, optional
            The longest time to wait, in seconds.

        Returns
        -------
        bool
            False if they are not durable in time.

        Raises
        ------
        HoldfastError
            One of them was refused, or could not be made durable.

        Examples
        --------
        >>> with CheckpointManager("runs/background", background=True) as manager:
        ...     path = manager.save({"step": 1}, epoch=1)
        ...     manager.wait(), manager.pending
        (True, [])
        """
        ended = self._saver.background.wait(checks.timeout("timeout_s", timeout_s))
        self._saver.background.raise_error()
        return ended

    @property
    def pending(self) -> list[Path]:
        """The paths of checkpoints that are not on the server yet: in the background, or in the spool."""
        return [self.checkpoint_dir / name for name in self._saver.pending()]

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for background saves, deliver what can be delivered, and log what still waits.

        Parameters
        ----------
        timeout_s : float, optional
            The time, in seconds, that this may take. Default: ``drain_s``.
        """
        self._saver.close(checks.timeout("timeout_s", timeout_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failure:
            if error is None:
                raise
            warn(f"a checkpoint was not saved. {in_full(failure)}")

    # loading

    def load(
        self,
        checkpoint_path: str | PurePath,
        *,
        map_location: Any = None,
        weights_only: bool = True,
        only: Iterable[Any] | None = None,
    ) -> Any:
        """Load a checkpoint by its name, or by the path that `save` returned.

        Parameters
        ----------
        checkpoint_path : str or Path
            A bare name is looked up in this manager's directory; a path, in the directory that it names.
        map_location
            As for ``torch.load``.
        weights_only : bool
            As for ``torch.load``. False lets the checkpoint run code: only for files that you trust.
        only : iterable, optional
            The keys of the state to load, such as ``("model",)``. Only their tensors are fetched, and the result holds
            only them.

        Returns
        -------
        dict
            The state as it was saved, every byte verified.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint (a ``FileNotFoundError``).
        UnsafeCheckpoint
            It holds more than weights and plain values; the message explains how to proceed.
        UnreadableCheckpoint
            Torch cannot load it.
        MissingPackage
            Torch, or a package that the checkpoint needs, is not installed.
        IntegrityError
            The bytes are not those that were saved.
        KeyError
            The state lacks a key of ``only``.

        Examples
        --------
        >>> manager = CheckpointManager("runs/load")
        >>> path = manager.save({"step": 7}, epoch=7)
        >>> manager.load(path) == manager.load("checkpoint_epoch_0007.pt") == {"step": 7}
        True
        """
        loader = self._loader(map_location, weights_only, only)
        given = checks.path("checkpoint_path", checkpoint_path, may_be_empty=True)
        place = locate(given, self.checkpoint_dir, self._prefix)
        loaded = self._saver.target.while_waiting(*place, lambda item: (loader.spooled(item),))
        if loaded is not None:
            return loaded[0]
        return loader.found(lambda: self._find(checkpoint_path, with_bytes=loader.takes_bytes))

    def load_best(
        self, *, map_location: Any = None, weights_only: bool = True, only: Iterable[Any] | None = None
    ) -> Any:
        """Load the best checkpoint of the directory, or return None if none is ranked or flagged as best.

        The directory's own mode decides; it warns if this manager's differs. For the other parameters see `load`.
        """
        loader = self._loader(map_location, weights_only, only)
        return loader.found(lambda: self._best_checkpoint(with_bytes=loader.takes_bytes))

    def load_latest(
        self, *, map_location: Any = None, weights_only: bool = True, only: Iterable[Any] | None = None
    ) -> Any:
        """Load the newest checkpoint of the directory, of either kind, or return None if it holds none.

        For the parameters see `load`.

        If the newest one is corrupt, the newest intact one is loaded instead, with a warning that names both.

        Raises
        ------
        IntegrityError
            No checkpoint of the directory is intact.
        """
        return self._loader(map_location, weights_only, only).latest()

    def resume(self, *, to: str | Path | None = None, map_location: Any = None, weights_only: bool = True) -> Any:
        """Load the newest usable state from the server, the spool or the cache; or put the newest folder below ``to``.

        It works while the server is unreachable. Every state is verified; a corrupt one is skipped, with a warning. A
        checkpoint of `save_best_if_improved`, which may hold only the model, is loaded only if no regular one can be.

        Parameters
        ----------
        to : str or Path, optional
            The folder that receives the newest regular checkpoint that is a folder, under its own name, as by
            `load_folder`. If it is there already, nothing is transferred. A folder of that name with other content is
            kept under a hidden name beside it, with a warning.
        map_location, weights_only
            As for `load`; not with ``to``.

        Returns
        -------
        dict, Path or None
            The state, or with ``to`` the path of the folder; None if there is none.

        Raises
        ------
        ServerUnreachable
            The server is unreachable, and nothing usable is on this machine.

        Examples
        --------
        >>> manager = CheckpointManager("runs/resume")
        >>> state = manager.resume() or {"step": 0}
        >>> path = manager.save({"step": state["step"] + 1}, epoch=1)
        >>> CheckpointManager("runs/resume").resume()
        {'step': 1}
        """
        from ._resume import Resumer

        self._saver.background.wait()
        if to is not None:
            return self._resumed_folder(to)
        return Resumer(self._loader(map_location, weights_only, None)).state()

    def download(self, checkpoint_path: str | PurePath, to: str | Path = ".") -> Path:
        """Put a checkpoint's file, or its folder of files, on this machine, verified.

        A file that waits in the spool is taken from there.

        Parameters
        ----------
        checkpoint_path : str or Path
            As for `load`.
        to : str or Path
            The target. An existing folder receives the checkpoint under its own name, and so does a new folder, for a
            path that ends with a slash, if the checkpoint is a file. A plain file is replaced. A pipe or a device is
            written into; a pipe without a reader receives nothing, with a warning.

        Returns
        -------
        Path
            The path of the file or folder.

        Raises
        ------
        InvalidRequest
            The target is a link, a socket or something else that is no plain file; it is left unchanged.
        """
        from ._query.placing import put_at

        target = local("to", to)
        try:
            if (place := self._download_waiting(checkpoint_path, target, is_folder=names_folder(to))) is not None:
                return place
            checkpoint = self._find(checkpoint_path)
            return put_at(
                self._remote.server,
                checkpoint,
                target,
                is_folder=names_folder(to),
                cache=self._cache,
                progress=self._progress,
            )
        except NoReader as error:
            warn(str(error))
        return target

    # listing

    @property
    def checkpoints(self) -> list[dict[str, Any]]:
        """Metadata of the regular checkpoints, oldest first, as the server has them now."""
        found = self._remote.checkpoints(kind="regular", order_by="position")
        return [checkpoint.as_dict(self.checkpoint_dir) for checkpoint in found]

    @property
    def best_checkpoints(self) -> list[dict[str, Any]]:
        """Metadata of the best ``max_best_checkpoints`` checkpoints of all kinds, best first."""
        best = self._best()
        if best is None:
            return []
        ranked = islice(self._remote.checkpoints(order_by="best", mode=best.mode), self.max_best_checkpoints)
        return [checkpoint.as_dict(self.checkpoint_dir) for checkpoint in ranked]

    def get_best_metric(self) -> float | None:
        """Return the metric of the best checkpoint; None if there is none, or if it is only flagged.

        Examples
        --------
        >>> manager = CheckpointManager("runs/metric")
        >>> print(manager.get_best_metric())
        None
        >>> path = manager.save({}, epoch=1, metric=0.5)
        >>> manager.get_best_metric()
        0.5
        """
        best = self._best_checkpoint()
        return best.metric if best is not None else None

    def find(self, *, limit: int | None = None, **filters: Any) -> list[dict[str, Any]]:
        """Return the metadata of the checkpoints that match filters, as `checkpoints` does.

        Parameters
        ----------
        limit : int, optional
            The most checkpoints to return.
        **filters
            The filters and ``order_by`` of `Client.checkpoints`, but not ``include_removed``. Without any, all
            checkpoints of both kinds are returned, oldest first.

        Raises
        ------
        TypeError, ValueError
            There is no such filter, or its value cannot be meant. Nothing was sent.

        Examples
        --------
        >>> manager = CheckpointManager("runs/found")
        >>> for epoch, loss in enumerate([0.9, 0.3, 0.5]):
        ...     path = manager.save({}, epoch=epoch, loss=loss, tags="even" if epoch % 2 == 0 else None)
        >>> [found["epoch"] for found in manager.find(tag="even", order_by="metric", metric_max=0.6)]
        [2]
        """
        from ._query.filters import query_of

        if "include_removed" in filters:
            raise TypeError("find() has no include_removed: Client.checkpoints lists removed checkpoints")
        query, limit = query_of(filters), checks.limit("limit", limit, least=0)
        found = islice(self._remote.checkpoints(**query), limit)
        return [checkpoint.as_dict(self.checkpoint_dir) for checkpoint in found]

    # changing and removing

    def pin(self, checkpoint_path: str | PurePath) -> None:
        """Pin a checkpoint on the server: the limits keep it, and nothing replaces it, until it is unpinned.

        The path is one as for `load`. Background saves end first; a checkpoint in the spool is not on the server yet.
        In a distributed job, only rank 0 changes anything; `unpin`, `tag`, `untag` and `delete` do the same.

        Raises
        ------
        CheckpointNotFound
            The server has no such checkpoint.
        """
        self._change(checkpoint_path, "pin", lambda found: {"pinned": True})

    def unpin(self, checkpoint_path: str | PurePath) -> None:
        """Unpin a checkpoint: the limits may remove it at the next save. See `pin`."""
        self._change(checkpoint_path, "unpin", lambda found: {"pinned": False})

    def tag(self, checkpoint_path: str | PurePath, *tags: str) -> None:
        """Add tags to a checkpoint. See `pin`."""
        from ._query.changes import checked_tags, tags_after

        added = checked_tags(tags)
        self._change(checkpoint_path, "tag", lambda found: {"tags": tags_after(found.tags, add=added)})

    def untag(self, checkpoint_path: str | PurePath, *tags: str) -> None:
        """Remove tags from a checkpoint; those that it does not have are ignored. See `pin`."""
        from ._query.changes import checked_tags, tags_after

        removed = checked_tags(tags)
        self._change(checkpoint_path, "untag", lambda found: {"tags": tags_after(found.tags, remove=removed)})

    def delete(self, checkpoint_path: str | PurePath) -> None:
        """Delete a checkpoint from the server. See `pin`.

        Raises
        ------
        CheckpointNotFound
            The server has no such checkpoint.
        CheckpointExists
            It is pinned.

        Examples
        --------
        >>> manager = CheckpointManager("runs/deleted")
        >>> path = manager.save({}, epoch=1)
        >>> manager.delete(path)
        >>> manager.checkpoints
        []
        """
        from ._query import changes

        found = self._to_change(checkpoint_path, "delete")
        if found is not None:
            changes.delete(self._remote.server, found.id)

    def cleanup_all(self, *, include_pinned: bool = False) -> None:
        """Remove all checkpoints that the directory holds at this moment, and those that wait; later saves are kept.

        In a distributed job, only rank 0 does so.

        Parameters
        ----------
        include_pinned : bool
            Whether to remove pinned ones as well, which are otherwise kept and named in a warning.
        """
        if not self._saver.is_ours("remove"):
            return
        self._saver.discard_waiting()
        pinned = self._remote.clear(include_pinned=include_pinned)
        if pinned:
            warn(f"pinned checkpoints are kept in {self._remote.name!r}: {', '.join(pinned)}")

    # ranking

    def set_mode(self, mode: Mode, *, dry_run: bool = False) -> dict[str, Any]:
        """Rank the directory by another mode from now on, or only report what that would change. The limits stay.

        This needs a token with the scope ``admin``; a dry run, one with ``delete``. In a distributed job, only rank 0
        changes anything.

        Parameters
        ----------
        mode : {'min', 'max'}
            Whether a smaller or a larger metric is better.
        dry_run : bool
            Whether to only report, and change nothing.

        Returns
        -------
        dict
            ``best``: the names of the best checkpoints by that mode, best first. ``goes``: the names of those that the
            policy does not keep then, and which go at the next save or prune. Also ``directory``, ``mode``, ``before``
            and ``dry_run``.

        Raises
        ------
        NotAllowed
            The token lacks that scope.
        """
        mode = checked_mode(mode)
        is_trial = checks.switch("dry_run", dry_run)
        done = change_mode(self._remote, mode, dry_run=is_trial or not self._saver.is_ours("rank"))
        if not is_trial:
            self.mode = mode
        return done

    # helpers

    def _save(self, state: Any, stem: str, facts: Mapping[str, Any], wait: bool | None) -> Path:
        wait = checks.choice("wait", wait)
        return self.checkpoint_dir / self._saver.save(state, stem, facts, self._policy, wait=wait)

    def _best(self, *, with_bytes: bool = False) -> Best | None:
        best = self._remote.best(self.mode, with_bytes=with_bytes)
        if best is not None and best.mode != self.mode:
            self._warn_once(
                f"{self._remote.name!r} ranks by mode={best.mode!r}; this manager's mode={self.mode!r} is not used"
            )
        return best

    def _find(
        self, checkpoint_path: str | PurePath, patience_s: float | None = None, *, with_bytes: bool = False
    ) -> Checkpoint:
        given = checks.path("checkpoint_path", checkpoint_path, may_be_empty=True)
        directory, name = locate(given, self.checkpoint_dir, self._prefix)
        remote = RemoteDirectory(self._remote.server, directory, patience_s=patience_s)
        return remote.with_bytes(remote.named(name)) if with_bytes else remote.named(name)

    def _to_change(self, checkpoint_path: str | PurePath, deed: str) -> Checkpoint | None:
        """Return a checkpoint that this process is to change; None if another rank of the job is."""
        locate(checks.path("checkpoint_path", checkpoint_path), self.checkpoint_dir, self._prefix)
        if not self._saver.is_ours(deed):
            return None
        self._saver.background.wait()
        return self._find(checkpoint_path)

    def _change(
        self, checkpoint_path: str | PurePath, deed: str, facts: Callable[[Checkpoint], Mapping[str, Any]]
    ) -> None:
        from ._query import changes

        found = self._to_change(checkpoint_path, deed)
        if found is not None:
            changes.patch(self._remote.server, found.id, facts(found))

    def _loader(self, map_location: Any, weights_only: bool, only: Iterable[Any] | None) -> "Loader":
        from ._load import Loader  # a job that only saves needs none of what reads

        keys = requested_keys(only)
        self._saver.target.begin()
        queue = self._saver.target.queue
        return Loader(self._remote, self._cache, self._progress, map_location, weights_only, keys, queue)

    def _best_checkpoint(self, *, with_bytes: bool = False) -> Checkpoint | None:
        best = self._best(with_bytes=with_bytes)
        return best.checkpoint if best is not None else None
