"""The place of a download: a checkpoint's file or folder, or one of its files, is put where the user asked for it."""

from pathlib import Path

from .._api.server import Server
from .._api.wire import Checkpoint, FileChunks
from .._arguments.name_mapping import safe_components
from .._transfer import download
from .._transfer.cache import Cache
from .._transfer.contents import contents_of
from .._transfer.folders.download_folder import into_files
from ..errors import CheckpointNotFound

CACHE_BYTES = 20 * 2**30
"""The number of bytes that a cache may hold by default."""


def file_named(server: Server, checkpoint: Checkpoint, path: str) -> FileChunks:
    """Return one file of a checkpoint; raise `CheckpointNotFound` (``file_not_found``) if it has none of that path."""
    for file in contents_of(server, checkpoint).files:
        if file.path == path:
            return file
    raise CheckpointNotFound(f"{checkpoint.name} has no file {path!r}", code="file_not_found")


def put_at(
    server: Server,
    checkpoint: Checkpoint,
    target: Path,
    *,
    is_folder: bool,
    file: FileChunks | None = None,
    cache: Cache | None = None,
    progress: bool | None = None,
) -> Path:
    """Download a checkpoint, or one of its files, verified; return the place of the file or folder.

    An existing folder receives it under its own name. Anything else is the place itself, where a file is replaced.

    Parameters
    ----------
    is_folder : bool
        Whether the target can only be a folder, which is made if it is missing.

    Raises
    ------
    IntegrityError
        The bytes are not those that were saved.
    InvalidRequest, FileExistsError
        The target cannot be replaced; it is left unchanged.
    """
    into_folder = is_folder and not target.is_dir()
    name = file.path.rpartition("/")[2] if file is not None else checkpoint.name
    if target.is_dir() or (into_folder and file is not None):
        target = target.joinpath(*safe_components(name))
    if file is None:
        return into_files(server, checkpoint, target, into_folder=into_folder, cache=cache, progress=progress)
    download.into_file(server, file, target, cache, progress)
    return target
