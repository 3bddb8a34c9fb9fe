"""Checkpoints that are folders: the part of a `CheckpointManager` that saves and loads them."""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from ._api.directory import RemoteDirectory
from ._arguments import checks, values
from ._arguments.keyword_warnings import KeywordWarnings
from ._arguments.name_mapping import locate
from ._options import Mode
from ._save.facts import facts_of
from ._save.saver import Saver
from ._transfer.cache import Cache
from ._transfer.destination import local

if TYPE_CHECKING:
    from ._load_folders import FolderLoader


class Folders:
    """The methods of a manager for checkpoints that are folders, and what they share with those for states."""

    checkpoint_dir: Path
    max_checkpoints: int | None
    max_best_checkpoints: int | None
    keep_every_epochs: int | None
    keep_every_steps: int | None
    mode: Mode
    monitor: str | None
    _remote: RemoteDirectory
    _saver: Saver
    _keyword_warnings: KeywordWarnings
    _cache: Cache | None
    _progress: bool | None
    _prefix: str

    def save_folder(
        self,
        folder: str | Path,
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
        """Save a folder as one checkpoint of several files; when this returns, it is durable, as after `save`.

        Files whose bytes the directory's checkpoints hold already are not sent again. Links count as what they lead to;
        permissions and times are kept. While the server is unreachable, a copy of the folder waits in the spool.

        A background save is not durable yet, but the folder may be deleted: its files are held by links in the spool's
        folder, or in a hidden folder beside it. Write into none of its files before `wait`, or the save fails; a
        library that replaces files by new ones is safe.

        Parameters
        ----------
        folder : str or Path
            The folder, complete.
        epoch, metric, is_best, step, tags, pinned, retention, wait, **metadata
            As for `save`. The metric, too, has its default from ``monitor``.
        name : str, optional
            Its name, in place of the folder's own. A checkpoint of that name is replaced.

        Returns
        -------
        Path
            ``checkpoint_dir / name``. `load_folder` puts a copy on this machine.

        Raises
        ------
        FileNotFoundError, NotADirectoryError
            There is no such folder, or it is a file. Nothing was sent.
        TypeError, ValueError
            A fact cannot be stored, or the folder holds no file, a pipe or another special file, a link that leads
            nowhere, or a name that the server does not take. Nothing was sent.
        IntegrityError
            A file was changed, removed or added while the folder was being sent; no checkpoint has become of it.
        HoldfastError
            As for `save`.

        Examples
        --------
        >>> from pathlib import Path
        >>> from holdfast import CheckpointManager
        >>> Path("out/checkpoint-500").mkdir(parents=True)
        >>> written = Path("out/checkpoint-500/model.safetensors").write_bytes(bytes(8))
        >>> manager = CheckpointManager("runs/folders")
        >>> manager.save_folder("out/checkpoint-500", step=500, loss=0.25)
        PosixPath('runs/folders/checkpoint-500')
        >>> [path.name for path in manager.load_folder("checkpoint-500", to="restored").iterdir()]
        ['model.safetensors']
        """
        from ._save.folder import name_of

        source = local("folder", checks.folder("folder", folder))
        given = {"epoch": epoch, "step": step, "metric": metric, "is_best": is_best, "tags": tags, "pinned": pinned}
        facts = self._facts({**given, "name": name, "retention": retention}, metadata, wait)
        called = facts.pop("name", None) or name_of(source)
        self._saver.save_folder_as(called, source, facts, self._policy, wait=checks.choice("wait", wait))
        return self.checkpoint_dir / called

    def load_folder(
        self,
        checkpoint_path: str | PurePath | None = None,
        to: str | Path = ".",
        *,
        which: Literal["latest", "best"] = "latest",
        overwrite: bool = False,
    ) -> Path | None:
        """Put a checkpoint that is a folder on this machine, verified and durable; it appears whole or not at all.

        Parameters
        ----------
        checkpoint_path : str or Path, optional
            As for `load`. Default: the one that ``which`` names.
        to : str or Path
            The folder that receives it, under the checkpoint's name; made if it is missing.
        which : {'latest', 'best'}
            Without a path: the newest folder of the directory, as `load_latest` chooses, or the best one. Checkpoints
            of a single file do not count.
        overwrite : bool
            Whether a folder of that name with other content is replaced as a whole, with all that is in it. Without,
            it is left alone, and an error is raised. A folder of the same content is never written again, and a file
            or a link never replaced.

        Returns
        -------
        Path or None
            ``to / name``; None if the directory holds no such folder.

        Raises
        ------
        CheckpointNotFound
            There is no checkpoint at the path.
        InvalidRequest
            The checkpoint is a single file (``single_file``), or a link is at the target.
        FileExistsError
            Something else is at the target.
        IntegrityError
            The bytes are not those that were saved. Nothing is left at the target.

        Examples
        --------
        >>> from pathlib import Path
        >>> from holdfast import CheckpointManager
        >>> Path("made").mkdir()
        >>> written = Path("made/weights.bin").write_bytes(bytes(8))
        >>> manager = CheckpointManager("runs/loaded")
        >>> path = manager.save_folder("made", epoch=1, loss=0.5, name="checkpoint-1")
        >>> manager.load_folder(path, to="got"), manager.load_folder(which="best", to="got")
        (PosixPath('got/checkpoint-1'), PosixPath('got/checkpoint-1'))
        """
        if which not in ("latest", "best"):
            raise ValueError(f"which must be 'latest' or 'best', not {which!r}")
        loader = self._folder_loader(to, overwrite=checks.switch("overwrite", overwrite))
        if checkpoint_path is not None:
            place = locate(checks.path("checkpoint_path", checkpoint_path), self.checkpoint_dir, self._prefix)
            waiting = self._saver.target.while_waiting(*place, loader.spooled)
            return waiting or loader.found(lambda: RemoteDirectory(self._remote.server, place[0]).named(place[1]))
        if which == "latest":
            return loader.latest()
        best = self._remote.best(self.mode)
        return loader.found(lambda: loader.best(best.mode)) if best is not None else None

    def _folder_loader(self, to: str | Path, **how: bool) -> "FolderLoader":
        from ._load_folders import FolderLoader

        self._saver.target.begin()
        return FolderLoader(
            self._remote, self._cache, self._progress, local("to", to), queue=self._saver.target.queue, **how
        )

    def _resumed_folder(self, to: str | Path) -> Path | None:
        """Put the newest usable folder on this machine; see `CheckpointManager.resume`."""
        from ._resume import Resumer

        loader = self._folder_loader(to, overwrite=True, keep_replaced=True)
        found: Path | None = Resumer(loader, ("regular",)).state()
        return found

    def _facts(self, given: Mapping[str, Any], metadata: Mapping[str, Any], wait: bool | None) -> dict[str, Any]:
        """Return the facts of a regular save as JSON, and warn of keywords that look misspelt.

        Parameters
        ----------
        given : mapping
            The arguments of the save that are facts, by name.
        """
        metric, is_flagged = values.metric(given["metric"]), values.flag("is_best", given["is_best"])
        is_monitored = metric is None and not is_flagged
        if is_monitored:
            metric = values.monitored(self.monitor, metadata)
        about = {name: given[name] for name in ("tags", "pinned", "name", "retention")}
        facts = facts_of("regular", given["epoch"], given["step"], metric, metadata, is_best=is_flagged, **about)
        named = {name: value for name, value in given.items() if name != "retention"}
        self._keyword_warnings.check_keywords({**named, "is_best": is_flagged, "wait": wait}, metadata)
        if is_monitored:
            self._keyword_warnings.check_monitor(facts["metadata"])
        return facts

    @property
    def _policy(self) -> dict[str, Any]:
        """The limits that each save sends."""
        return {
            "mode": self.mode,
            "max_checkpoints": self.max_checkpoints,
            "max_best_checkpoints": self.max_best_checkpoints,
            "keep_every_epochs": self.keep_every_epochs,
            "keep_every_steps": self.keep_every_steps,
        }
