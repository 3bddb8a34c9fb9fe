"""The artifacts of MLflow's runs on a server: an experiment whose ``artifact_location`` is ``holdfast://runs/mlflow``.

MLflow finds the class by its entry point; nothing has to be imported.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from .._api.server import Server
from .._arguments.name_mapping import configured_prefix
from .._filesystem.names import stripped
from .._filesystem.reader import Reader
from .._filesystem.store import Entry, Store
from .._runtime.file_attributes import FileAttributes
from .._runtime.parallel import in_parallel
from .._transfer import download
from .._transfer.file_source import FileSource
from ..errors import CheckpointNotFound

__all__ = ["HoldfastArtifactRepository"]


class HoldfastArtifactRepository(ArtifactRepository):
    """The artifacts below one URI. Each file is a checkpoint of its own, which no policy removes.

    Its settings are those of the environment: ``HOLDFAST_URL``, ``HOLDFAST_TOKEN``, ``HOLDFAST_TOKEN_FILE`` and
    ``HOLDFAST_PREFIX``.

    Parameters
    ----------
    artifact_uri : str
        The URI, such as ``holdfast://runs/mlflow/<run id>/artifacts``.
    """

    def __init__(self, artifact_uri: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(artifact_uri, *args, **kwargs)
        self._root = stripped(artifact_uri)
        self._store = Store(Server(), configured_prefix())
        self._reader = Reader(self._store.server)

    def log_artifact(self, local_file: str | os.PathLike[str], artifact_path: str | None = None) -> None:
        """Save a file. It replaces an artifact of its name, unless another writer saves there at the same time."""
        verify_artifact_path(artifact_path)
        self._log(Path(local_file), self._path(artifact_path, Path(local_file).name))

    def log_artifacts(self, local_dir: str | os.PathLike[str], artifact_path: str | None = None) -> None:
        """Save the files of a folder. Empty folders are left out."""
        verify_artifact_path(artifact_path)
        top = Path(local_dir)
        files = sorted(Path(where, name) for where, _, names in os.walk(top) for name in names)
        for file in files:
            self._store.check(self._path(artifact_path, file.relative_to(top).as_posix()))
        in_parallel(files, lambda file: self._log(file, self._path(artifact_path, file.relative_to(top).as_posix())))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """List a folder of artifacts; nothing for a file, or where nothing is."""
        found = self._children(self._path(path))
        sizes = {each.path.removeprefix(f"{self._root}/"): each.size_bytes if each.is_file else None for each in found}
        return [FileInfo(name, sizes[name] is None, sizes[name]) for name in sorted(sizes)]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete an artifact, or a folder of them. It needs a token with the scope ``delete``."""
        path = self._path(artifact_path)
        entry = self._entry(path)
        if entry is not None and entry.type == "directory":
            self._store.remove_all(path)
        elif entry is not None:
            self._store.remove(entry)

    def _download_file(self, remote_file_path: str, local_path: str | os.PathLike[str]) -> None:
        entry = self._entry(self._path(remote_file_path))
        if entry is None or not entry.is_file:
            raise CheckpointNotFound(f"there is no artifact {remote_file_path!r}", code="path_not_found")
        download.into_file(self._store.server, self._reader.chunks.of(entry), Path(local_path), None, False)

    def _log(self, file: Path, path: str) -> None:
        source = FileSource(file)
        source.attributes = FileAttributes()
        self._store.check(path)
        entry = self._entry(path)
        seen = entry.etag if entry is not None else None
        self._store.save(path, source, seen, before_commit=source.refuse_changed)

    def _path(self, *parts: str | None) -> str:
        return stripped("/".join([self._root, *(part for part in parts if part)]))

    def _entry(self, path: str) -> Entry | None:
        try:
            return self._store.entry(path)
        except CheckpointNotFound:
            return None

    def _children(self, path: str) -> Iterator[Entry]:
        try:
            entry, entries = self._store.listing(path)
        except CheckpointNotFound:
            return
        yield from () if entry.is_file else entries
