"""The storage of Ray Train and Ray Tune on a server: ``RunConfig(storage_filesystem=filesystem(), ...)``."""

from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

from .fsspec import HoldfastFileSystem

__all__ = ["filesystem"]


def filesystem(**settings: Any) -> PyFileSystem:
    """Return the tree of a server as a file system of Arrow, as Ray takes it.

    Ray sends it to its workers. They use the same server and prefix; a token of the environment must be in theirs, too.

    Parameters
    ----------
    **settings
        Those of `HoldfastFileSystem`: ``server``, ``token``, ``token_file``, ``prefix``, ``timeout_s``, ``patience_s``.

    Returns
    -------
    pyarrow.fs.PyFileSystem
        For ``RunConfig(storage_filesystem=..., storage_path="runs/a")``, ``ray.train.Checkpoint(path, ...)``, and
        whatever else takes an Arrow file system.
    """
    return PyFileSystem(FSSpecHandler(HoldfastFileSystem(**settings)))
