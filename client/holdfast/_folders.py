"""Checkpoints that are local files or folders: the part of a `CheckpointManager` that saves and loads them."""

from collections.abc import Callable, Iterable, Mapping
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
    from ._transfer.folders.local_files import LocalFiles


class Folders:
    """The methods of a manager for local files and folders, and what they share with those for states."""

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
        from ._save.folder import folder_to_save

        source = local("folder", checks.path("folder", folder))
        given = {"epoch": epoch, "step": step, "metric": metric, "is_best": is_best, "tags": tags, "pinned": pinned}
        facts = self._facts({**given, "name": name, "retention": retention}, metadata, wait)
        return self._save_files(source, folder_to_save, facts, wait)

    def save_file(
        self,
        file: str | Path,
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
        """Save a file of another library (``.keras``, ``.gguf``, ``.safetensors``), as `save_folder` saves a folder.

        Bytes that the directory's checkpoints hold already are not sent again. A background save holds the file by a
        link, so it may be deleted or replaced at once; do not write into it before `wait`.

        Parameters
        ----------
        file : str or Path
            The file, complete. A link counts as what it leads to.
        epoch, metric, is_best, step, tags, pinned, retention, wait, **metadata
            As for `save`. The metric, too, has its default from ``monitor``.
        name : str, optional
            Its name, in place of the file's own. A checkpoint of that name is replaced.

        Returns
        -------
        Path
            ``checkpoint_dir / name``. `download` puts a copy on this machine; `load` takes torch and safetensors files,
            and NumPy's.

        Raises
        ------
        FileNotFoundError, IsADirectoryError
            There is no such file, or it is a folder. Nothing was sent.
        TypeError, ValueError
            A fact cannot be stored, or the file is empty, or a pipe or another special file. Nothing was sent.
        IntegrityError
            The file was changed or removed while it was being sent; no checkpoint has become of it.
        HoldfastError
            As for `save`.

        Examples
        --------
        >>> from pathlib import Path
        >>> from holdfast import CheckpointManager
        >>> written = Path("model.gguf").write_bytes(b"GGUF" + bytes(8))
        >>> manager = CheckpointManager("runs/files")
        >>> manager.save_file("model.gguf", epoch=3, loss=0.25, name="epoch-3.gguf")
        PosixPath('runs/files/epoch-3.gguf')
        >>> manager.download("epoch-3.gguf", to="got.gguf").stat().st_size
        12
        """
        from ._save.folder import file_to_save

        source = local("file", checks.path("file", file))
        given = {"epoch": epoch, "step": step, "metric": metric, "is_best": is_best, "tags": tags, "pinned": pinned}
        facts = self._facts({**given, "name": name, "retention": retention}, metadata, wait)
        return self._save_files(source, file_to_save, facts, wait)

    def _save_files(
        self, source: Path, files_at: "Callable[[Path, str], LocalFiles]", facts: dict[str, Any], wait: bool | None
    ) -> Path:
        from ._save.folder import name_of

        called: str = facts.pop("name", None) or name_of(source)
        self._saver.save_files_as(called, source, files_at, facts, self._policy, wait=checks.choice("wait", wait))
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

    def _download_waiting(self, checkpoint_path: str | PurePath, target: Path, *, is_folder: bool) -> Path | None:
        """Put a checkpoint of one file that waits in the spool at a place; None if none of that name waits."""
        from ._load_folders import put_waiting

        given = checks.path("checkpoint_path", checkpoint_path, may_be_empty=True)
        place = locate(given, self.checkpoint_dir, self._prefix)
        return self._saver.target.while_waiting(*place, lambda item: put_waiting(item, target, is_folder=is_folder))

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
