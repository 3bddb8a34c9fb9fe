"""CheckpointManager: the interface of local checkpoint managers, with the checkpoints on a Holdfast server."""

import math
import os
import secrets
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, Final, Literal

from . import _download, _names, _upload, _values
from ._cache import Cache
from ._directory import Best, RemoteDirectory
from ._http import Server
from ._loading import Loading
from ._wire import Checkpoint, Committed
from .errors import CheckpointNotFound, NotImproved, warn

Mode = Literal["min", "max"]


class _Unset:
    def __repr__(self) -> str:
        return "'loss' where mode='min', else None"


_UNSET: Final = _Unset()


class CheckpointManager:
    """Saves checkpoints to a server, which keeps the last and the best ones, and loads them from any machine.

    Constructing a manager sends nothing and changes nothing on the server. Its limits travel with each `save`.

    Parameters
    ----------
    checkpoint_dir : str or Path
        What the job calls its directory. On the server it has the same name without its anchor, behind
        ``HOLDFAST_PREFIX`` where that is set: ``/scratch/me/run`` becomes ``scratch/me/run``.
    max_checkpoints : int or None
        How many of the newest regular checkpoints stay; None keeps all. The newest always stays.
    max_best_checkpoints : int or None
        How many of the best checkpoints stay, of all kinds; None keeps all that can be ranked.
    mode : {'min', 'max'}
        Whether a smaller or a larger metric is better.
    server : str, optional
        The server's URL. Default: ``HOLDFAST_URL``, else ``http://127.0.0.1:8420``.
    token : str, optional
        The server's token. Default: ``HOLDFAST_TOKEN``.
    monitor : str or None, optional
        The metadata value that stands in for ``metric`` where a save gives none and is not flagged ``is_best``.
        Default: ``"loss"`` where ``mode="min"``, nothing where ``mode="max"``.
    keep_every_epochs : int, optional
        Regular checkpoints of every so many epochs stay, too.
    timeout_s : float
        How long, in seconds, the server may be silent before it counts as unreachable.
    base : str or Path, optional
        A checkpoint, by a path as `load` takes it, whose bytes a save need not send again: the pretrained model of a
        fine-tuning, say. What this directory's own checkpoints hold is never sent again.
    progress : bool, optional
        Whether long transfers show a bar. Default: ``HOLDFAST_PROGRESS`` (``1`` or ``0``), else on a terminal only.
    cache_dir : str or Path, optional
        A folder where loaded checkpoints are kept, so that loading them again costs no transfer, and loading one that
        is much like them a small one. Default: ``HOLDFAST_CACHE``, else none.
    cache_max_bytes : int
        How much may lie there; the least recently used goes first.

    Attributes
    ----------
    checkpoint_dir : Path
    max_checkpoints, max_best_checkpoints : int or None
    mode : str

    Raises
    ------
    ValueError
        ``mode`` is neither ``"min"`` nor ``"max"``, a limit is negative, or ``checkpoint_dir`` names no directory.

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
        monitor: str | _Unset | None = _UNSET,
        keep_every_epochs: int | None = None,
        timeout_s: float = 300.0,
        base: str | PurePath | None = None,
        progress: bool | None = None,
        cache_dir: str | Path | None = None,
        cache_max_bytes: int = 20 * 2**30,
    ) -> None:
        if mode not in ("min", "max"):
            raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
        self.checkpoint_dir = Path(checkpoint_dir)
        self.max_checkpoints = _limit("max_checkpoints", max_checkpoints, least=0)
        self.max_best_checkpoints = _limit("max_best_checkpoints", max_best_checkpoints, least=0)
        self.mode: Mode = mode
        self.keep_every_epochs = _limit("keep_every_epochs", keep_every_epochs, least=1)
        self.monitor = ("loss" if mode == "min" else None) if isinstance(monitor, _Unset) else monitor
        self._prefix = os.environ.get("HOLDFAST_PREFIX", "")
        directory = _names.directory_name(self.checkpoint_dir, self._prefix)
        self._remote = RemoteDirectory(Server(server, token, timeout_s), directory)
        self._warned: set[str] = set()
        self._memory = _upload.Memory()
        self._base = base
        self._base_id: str | None = ""
        self._progress = progress
        folder = cache_dir or os.environ.get("HOLDFAST_CACHE")
        self._cache = Cache(Path(folder).expanduser(), cache_max_bytes) if folder else None

    # saving

    def save(
        self,
        state: Any,
        epoch: int | None = None,
        metric: float | None = None,
        is_best: bool = False,
        **metadata: Any,
    ) -> Path:
        """Save a state; when this returns, it is durable on the server, and older ones have been let go.

        Parameters
        ----------
        state : dict
            Whatever ``torch.save`` takes; usually a dict of ``state_dict()`` results. It is stored as it is.
        epoch : int, optional
            Names the checkpoint ``checkpoint_epoch_0100.pt``. Without it, the UTC time does. Saving an epoch again
            replaces its checkpoint.
        metric : float, optional
            What ranks it. NaN and the infinities are stored but never best. Default: see ``monitor``.
        is_best : bool
            Flags a checkpoint without a metric as one of the best.
        **metadata
            Further JSON values; tensors and NumPy values of one element become numbers.

        Returns
        -------
        Path
            ``checkpoint_dir / name``. The file lies on the server; `download` puts a copy on this machine.

        Raises
        ------
        TypeError
            A metric, an epoch or a metadata value cannot be stored. Nothing was sent.
        ModeConflict
            The directory ranks in the other mode.
        CheckpointExists
            A pinned checkpoint has that name, or something else has.
        ServerUnreachable
            The server did not answer.

        Examples
        --------
        >>> manager = CheckpointManager("runs/save")
        >>> manager.save({"step": 1}, epoch=3, loss=0.2)
        PosixPath('runs/save/checkpoint_epoch_0003.pt')
        >>> manager.load_best()
        {'step': 1}
        """
        metric_value = _values.metric(metric)
        if metric_value is None and not is_best:
            metric_value = _values.monitored(self.monitor, metadata)
        facts = _facts("regular", epoch, metric_value, metadata, is_best=is_best)
        return self._save(state, "checkpoint", facts)

    def save_best_if_improved(
        self, state: Any, metric: float, epoch: int | None = None, **metadata: Any
    ) -> Path | None:
        """Save a state only if its metric is strictly better than the best that the server holds.

        The server decides, before any byte is sent and again at commit.

        Parameters
        ----------
        state : dict
            Whatever ``torch.save`` takes.
        metric : float
            What is compared. NaN or an infinity is never better: None, with a warning.
        epoch : int, optional
            Names the checkpoint ``best_epoch_0100.pt``.
        **metadata
            As for `save`.

        Returns
        -------
        Path or None
            The checkpoint's path, or None where nothing was saved.

        Examples
        --------
        >>> manager = CheckpointManager("runs/best", mode="max")
        >>> manager.save_best_if_improved({"step": 1}, metric=0.8, epoch=1)
        PosixPath('runs/best/best_epoch_0001.pt')
        >>> print(manager.save_best_if_improved({"step": 2}, metric=0.7, epoch=2))
        None
        """
        value = _values.metric(metric)
        if value is None:
            raise TypeError("save_best_if_improved needs a metric")
        facts = _facts("best", epoch, value, metadata)
        if not math.isfinite(value):
            warn(f"a metric of {value} is never the best: nothing was saved")
            return None
        try:
            return self._save(state, "best", {**facts, "only_if_improved": True})
        except NotImproved:
            return None

    # loading

    def load(
        self,
        checkpoint_path: str | PurePath,
        *,
        map_location: Any = None,
        weights_only: bool = True,
        only: Collection[str] | None = None,
    ) -> Any:
        """Load a checkpoint by its name, or by the path that `save` returned.

        Parameters
        ----------
        checkpoint_path : str or Path
            A bare name lies in this manager's directory; a path in the directory that it names.
        map_location
            As for ``torch.load``.
        weights_only : bool
            As for ``torch.load``. Turning it off lets the checkpoint run code: only for files that you trust.
        only : collection of str, optional
            The keys of the state to load, such as ``("model",)``: only their tensors are fetched, and the result has
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
            It holds more than weights and plain values; the message says how to proceed.
        IntegrityError
            The bytes are not those that were saved.
        KeyError
            The state has not all the keys of ``only``.

        Examples
        --------
        >>> manager = CheckpointManager("runs/load")
        >>> path = manager.save({"step": 7}, epoch=7)
        >>> manager.load(path) == manager.load("checkpoint_epoch_0007.pt") == {"step": 7}
        True
        """
        return self._loading(map_location, weights_only, only).found(lambda: self._find(checkpoint_path))

    def load_best(
        self, *, map_location: Any = None, weights_only: bool = True, only: Collection[str] | None = None
    ) -> Any:
        """Load the best checkpoint of the directory, or None where none can be called best.

        The directory's own mode decides; where this manager's differs, it warns. For the other parameters see `load`.
        """
        return self._loading(map_location, weights_only, only).found(self._best_checkpoint)

    def load_latest(
        self, *, map_location: Any = None, weights_only: bool = True, only: Collection[str] | None = None
    ) -> Any:
        """Load the newest checkpoint of the directory, or None where it holds none. For the parameters see `load`.

        Where the bytes of the newest are not those that were saved, the newest one that is intact is loaded instead,
        with a warning that names both.

        Raises
        ------
        IntegrityError
            No checkpoint of the directory is intact.
        """
        return self._loading(map_location, weights_only, only).latest()

    def download(self, checkpoint_path: str | PurePath, to: str | Path = ".") -> Path:
        """Put a checkpoint's file, or its folder of files, on this machine, verified.

        Parameters
        ----------
        checkpoint_path : str or Path
            As for `load`.
        to : str or Path
            Where to put it; an existing folder receives it under its own name.

        Returns
        -------
        Path
            Where it lies.
        """
        checkpoint = self._find(checkpoint_path)
        target = Path(to)
        target = target.joinpath(*_names.components(checkpoint.name)) if target.is_dir() else target
        return _download.into_files(self._remote.server, checkpoint, target, cache=self._cache, progress=self._progress)

    # looking

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
        """The metric of the best checkpoint; None where there is none, or where it is only flagged.

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

    # removing

    def cleanup_all(self, *, include_pinned: bool = False) -> None:
        """Remove all checkpoints that the directory holds at this moment; later saves stand.

        Parameters
        ----------
        include_pinned : bool
            Also remove pinned ones, which otherwise stay and are named in a warning.
        """
        pinned = self._remote.clear(include_pinned=include_pinned)
        if pinned:
            warn(f"pinned checkpoints stay in {self._remote.name!r}: {', '.join(pinned)}")

    # below

    def _save(self, state: Any, stem: str, facts: Mapping[str, Any]) -> Path:
        save_id = secrets.token_hex(16)
        name = _names.checkpoint_name(stem, facts["epoch"], datetime.now(UTC), save_id)
        policy = {
            "mode": self.mode,
            "max_checkpoints": self.max_checkpoints,
            "max_best_checkpoints": self.max_best_checkpoints,
            "keep_every_epochs": self.keep_every_epochs,
        }
        save = {**facts, "directory": self._remote.name, "name": name, "save_id": save_id, "policy": policy}
        if self._base is not None:
            save["base"] = self._base_checkpoint(self._base)
        self._heed(_upload.save(self._remote.server, save, state, self._memory, self._progress), policy)
        return self.checkpoint_dir / name

    def _heed(self, committed: Committed, asked: Mapping[str, Any]) -> None:
        """Tell the user what the server has to say beyond "saved"."""
        other, where = committed.other_writer, self._remote.name
        if other is not None:
            self._warn_once(
                f"another process ({other}) saved to {where!r} a moment ago. If that is another job, give each its "
                "own checkpoint_dir, or set HOLDFAST_PREFIX; if it is this job before a restart, all is well."
            )
        in_force = {name: committed.policy[name] for name in committed.policy["set_by_operator"]}
        stronger = [f"{name}={value}" for name, value in in_force.items() if value != asked.get(name)]
        if stronger:
            self._warn_once(f"an operator's limits are in force for {where!r}: {', '.join(stronger)}")

    def _best(self) -> Best | None:
        best = self._remote.best(self.mode)
        if best is not None and best.mode != self.mode:
            self._warn_once(
                f"{self._remote.name!r} ranks by mode={best.mode!r}; this manager's mode={self.mode!r} is not used"
            )
        return best

    def _warn_once(self, message: str) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warn(message)

    def _find(self, checkpoint_path: str | PurePath) -> Checkpoint:
        directory, name = _names.located(checkpoint_path, self.checkpoint_dir, self._prefix)
        return RemoteDirectory(self._remote.server, directory).named(name)

    def _base_checkpoint(self, base: str | PurePath) -> str | None:
        """The id of the base, asked for once. Without it, a save costs more and is a save all the same."""
        if self._base_id == "":
            try:
                self._base_id = self._find(base).id
            except CheckpointNotFound:
                self._base_id = None
                self._warn_once(f"there is no checkpoint {str(base)!r} to serve as base; everything is sent")
        return self._base_id

    def _loading(self, map_location: Any, weights_only: bool, only: Collection[str] | None) -> Loading:
        return Loading(self._remote, self._cache, self._progress, map_location, weights_only, only)

    def _best_checkpoint(self) -> Checkpoint | None:
        best = self._best()
        return best.checkpoint if best is not None else None


def _facts(
    kind: str, epoch: Any, metric: float | None, metadata: Mapping[str, Any], *, is_best: bool = False
) -> dict[str, Any]:
    return {
        "kind": kind,
        "epoch": _values.epoch(epoch),
        "metric": _values.number_to_wire(metric),
        "is_best": bool(is_best),
        "metadata": _values.metadata(metadata),
    }


def _limit(name: str, value: int | None, *, least: int) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        raise ValueError(f"{name} must be None or an integer of at least {least}, not {value!r}")
    return value
