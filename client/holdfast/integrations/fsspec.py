"""The files of a server for everything that opens files through `fsspec`: ``holdfast://runs/a/@best``.

>>> import fsspec
>>> with fsspec.open("holdfast://runs/opened/model.bin", "wb") as file:
...     file.write(b"weights")
7
>>> fsspec.filesystem("holdfast").cat("runs/opened/@latest")
b'weights'
"""

import errno
import os
from glob import has_magic
from typing import Any

from fsspec import AbstractFileSystem
from fsspec.config import apply_config

from .._api.retry import PATIENCE_S
from .._api.server import TIMEOUT_S, Server
from .._arguments import checks
from .._arguments.name_mapping import prefix_of
from .._connection.base_url import base_url_of
from .._filesystem.made_directories import MadeDirectories
from .._filesystem.names import ALIASES
from .._filesystem.reader import Reader
from .._filesystem.store import Store, unchangeable
from ..errors import InvalidRequest
from ._fsspec_writer import WritingFileSystem

__all__ = ["HoldfastFileSystem"]


_OF_FSSPEC = {
    *("asynchronous", "loop", "batch_size", "use_listings_cache", "listings_expiry_time", "max_paths"),
    *("skip_instance_cache", "auto_mkdir"),
}
"""The options that fsspec itself gives or takes."""


class _CachedBySettings(type(AbstractFileSystem)):  # type: ignore[misc]
    """Makes one file system for the same settings: those of the environment are among them."""

    @property
    def _environment(cls) -> tuple[str | None, ...]:
        return tuple(os.environ.get(name) for name in ("HOLDFAST_TOKEN", "HOLDFAST_TOKEN_FILE"))

    def __call__(cls, *args: Any, **settings: Any) -> Any:
        settings = apply_config(cls, settings)
        settings["server"] = base_url_of(settings.get("server")).url
        if settings.get("prefix") is None:
            settings["prefix"] = os.environ.get("HOLDFAST_PREFIX") or ""
        return super().__call__(*args, **settings)


class HoldfastFileSystem(WritingFileSystem, metaclass=_CachedBySettings):
    """The tree of a server as a file system: ``fsspec.filesystem("holdfast")``, or URLs ``holdfast://runs/a/x.pt``.

    A file at ``runs/a/x.pt`` is the checkpoint ``x.pt`` of the directory ``runs/a``; a checkpoint of several files is a
    directory. ``@best`` and ``@latest`` stand for the name of a checkpoint wherever something is read. What is written
    is kept until it is removed (``retention="manual"``), and shown once it is complete.

    Instances can be pickled, shared by threads, and used after a fork. A pickled one knows its server and prefix, and
    its token only if that was given.

    Parameters
    ----------
    server : str, optional
        The server's URL. Default: ``HOLDFAST_URL``, else ``http://127.0.0.1:8420``.
    token, token_file : str, optional
        The token, or a file that holds it. Default: ``HOLDFAST_TOKEN``, else ``HOLDFAST_TOKEN_FILE``.
    prefix : str, optional
        A prefix that stands before every path. Default: ``HOLDFAST_PREFIX``.
    timeout_s : float
        The time, in seconds, that the server may be silent before a request counts as failed.
    patience_s : float
        An unreachable server is tried again for three times this time, in seconds.

    Raises
    ------
    ValueError
        A setting cannot work, or, in every method, a path cannot be stored. Nothing was sent.
    FileExistsError
        In every method that writes: another writer has replaced the file since this one looked at it
        (`CheckpointExists`, ``precondition_failed``), or a directory is there.
    """

    protocol = "holdfast"
    root_marker = ""
    _extra_tokenize_attributes = ("_environment",)

    def __init__(
        self,
        *,
        server: str | None = None,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        prefix: str | None = None,
        timeout_s: float = TIMEOUT_S,
        patience_s: float = PATIENCE_S,
        **options: Any,
    ) -> None:
        if unknown := sorted(options.keys() - _OF_FSSPEC):
            raise TypeError(f"a Holdfast file system has no option {', '.join(map(repr, unknown))}")
        super().__init__(**options)
        timeout_s = checks.seconds("timeout_s", timeout_s, may_be_zero=False)
        patience_s = checks.seconds("patience_s", patience_s)
        api = Server(server, token, timeout_s, patience_s, token_file=token_file)
        self._store = Store(api, prefix_of(prefix, "prefix"))
        self._reader = Reader(api)
        self._made = MadeDirectories.of(api.url, self._store.prefix)

    @property
    def fsid(self) -> str:
        """The server's id, and the prefix."""
        return f"holdfast-{self._store.server.identify()}/{self._store.prefix}"

    # copying

    def cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        """Copy a file on the server, with its facts; no bytes move. Of a directory, make an empty one."""
        path1, path2 = self._strip_protocol(path1), self._strip_protocol(path2)
        entry = self._entry(path1)
        if path1 in self._made or (entry is not None and not entry.is_file):
            self.makedirs(path2, exist_ok=True)
        elif entry is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path1)
        elif path1 != path2:
            self._store.copy(entry, path2, self._seen(path2))

    def copy(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Copy files on the server. A checkpoint of several files, copied as a whole, remains one."""
        path1 = self._resolved(path1)
        if recursive and maxdepth is None and isinstance(path1, str) and isinstance(path2, str):
            entry = self._entry(self._strip_protocol(path1))
            if entry is not None and entry.type == "checkpoint":
                self._store.copy(entry, self._target(path1, path2), None)
                return
        super().copy(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)

    def mv(self, path1: Any, path2: Any, recursive: bool = False, maxdepth: int | None = None, **kwargs: Any) -> None:
        """Move files on the server. A file that is replaced meanwhile stays where it is, beside its copy."""
        before, after = self._strip_protocol(path1), self._strip_protocol(path2)
        self._refuse_alias(before)
        if before == after:
            return
        if f"{after}/".startswith(f"{before}/"):
            raise OSError(errno.EINVAL, f"{before!r} cannot be moved into itself")
        entry = self._entry(before)  # first of all by the very name, which may have brackets
        if entry is None or not (entry.is_file or (recursive and entry.type == "checkpoint" and maxdepth is None)):
            super().mv(path1, path2, recursive=recursive, maxdepth=maxdepth, **kwargs)
            return
        target = self._target(str(path1), str(path2))
        if target != before:
            self._store.copy(entry, target, self._seen(target))
            self._store.remove(entry)

    # removing, and directories

    def rm(self, path: Any, recursive: bool = False, maxdepth: int | None = None) -> None:
        """Remove files; with ``recursive``, also directories. It needs a token with the scope ``delete``."""
        given = path if isinstance(path, list) else [path]
        for each in given:
            self._refuse_alias(self._strip_protocol(each))
        if maxdepth is not None:
            for each in reversed(self.expand_path(given, recursive=recursive, maxdepth=maxdepth)):
                self.rm_file(each)
            return
        for each in given:
            each = self._strip_protocol(each)
            is_pattern = has_magic(each) and self._entry(each) is None and each not in self._made
            for found in self.expand_path(each) if is_pattern else [each]:
                self._remove(found, recursive=recursive)

    def rm_file(self, path: Any) -> None:
        """Remove a file, or an empty directory."""
        self._remove(self._strip_protocol(path), recursive=False)

    _rm = rm_file

    def mkdir(self, path: Any, create_parents: bool = True, **kwargs: Any) -> None:
        """Remember a directory, for as long as this process lives: the server knows those that hold something."""
        self._make(self._strip_protocol(path), create_parents=create_parents, exist_ok=False)

    def makedirs(self, path: Any, exist_ok: bool = False) -> None:
        """Remember a directory, and those that it is in; see `mkdir`."""
        self._make(self._strip_protocol(path), create_parents=True, exist_ok=exist_ok)

    def _make(self, path: str, *, create_parents: bool, exist_ok: bool) -> None:
        found = self._found(path)
        if found is not None:
            if exist_ok and found["type"] == "directory":
                return
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        parent = self._parent(path)
        while parent:
            found = self._found(parent)
            if found is not None and found["type"] == "file":
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), parent)
            if found is None and not create_parents:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), parent)
            parent = self._parent(parent) if found is None else ""
        self._made.add(path)

    def rmdir(self, path: Any) -> None:
        """Forget an empty directory."""
        path = self._strip_protocol(path)
        if not path or self.isfile(path):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if self.ls(path, detail=False):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        self._made.forget(path)

    def _remove(self, path: str, *, recursive: bool) -> None:
        entry = self._entry(path)
        if not path:
            raise ValueError("the root cannot be removed")
        if entry is None and path not in self._made:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if entry is not None and entry.type == "folder":
            raise unchangeable(path)
        if entry is not None and (entry.is_file or (entry.type == "checkpoint" and recursive)):
            self._store.remove(entry)
            return
        if not recursive:
            self.rmdir(path)
            return
        if entry is not None:
            self._store.remove_all(path)
        self._made.forget(path)

    def _target(self, source: str, path: str) -> str:
        """Return the path of a copy of one thing: below a directory that is there, it has the name of its source."""
        target = self._strip_protocol(path)
        if path.endswith("/") or (not source.endswith("/") and self.isdir(target)):
            return f"{target}/{self._strip_protocol(source).rpartition('/')[2]}"
        return str(target)

    def _refuse_alias(self, path: str) -> None:
        for alias in ALIASES:
            if alias in path.split("/"):
                raise InvalidRequest(
                    f"{path!r} is only for reading: {alias} stands for a checkpoint. Give its name",
                    code="invalid_name",
                )
