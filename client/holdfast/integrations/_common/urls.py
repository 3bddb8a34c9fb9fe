"""URLs of checkpoints, as frameworks take them for paths: ``holdfast://DIRECTORY/NAME``."""

from os import PathLike
from pathlib import PurePosixPath

from ...errors import InvalidRequest

SCHEME = "holdfast://"


def split_url(url: str | PathLike[str], *, is_new: bool = False) -> tuple[str, str]:
    """Return the directory and the name in ``holdfast://DIRECTORY/NAME``.

    Parameters
    ----------
    is_new : bool
        Whether a checkpoint is to be saved there, for which ``@best`` and ``@latest`` are no names.

    Raises
    ------
    InvalidRequest
        It is no such URL.
    """
    text = str(url)
    if not text.startswith(SCHEME):
        hint = "; Path turns the two slashes into one: give a text" if text.startswith("holdfast:/") else ""
        raise InvalidRequest(f"{text!r} is not holdfast://DIRECTORY/NAME{hint}", code="invalid_name")
    path = PurePosixPath(text.removeprefix(SCHEME))
    if len(path.parts) < 2:
        raise InvalidRequest(f"{text!r} names no checkpoint: give holdfast://DIRECTORY/NAME", code="invalid_name")
    if is_new and path.name.startswith("@"):
        raise InvalidRequest(f"{path.name!r} stands for a checkpoint that is there: give a name", code="invalid_name")
    return str(path.parent), path.name
