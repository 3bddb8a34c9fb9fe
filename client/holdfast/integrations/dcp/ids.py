"""Ids of checkpoints for torch.distributed.checkpoint: ``holdfast://DIRECTORY/NAME``."""

from os import PathLike
from pathlib import PurePosixPath

from ...errors import InvalidRequest

SCHEME = "holdfast://"


def split_id(checkpoint_id: str | PathLike[str]) -> tuple[str, str]:
    """Return the directory and the name in ``holdfast://DIRECTORY/NAME``.

    Raises
    ------
    InvalidRequest
        It is no such URL.
    """
    text = str(checkpoint_id)
    if not text.startswith(SCHEME):
        hint = "; Path turns the two slashes into one: give a text" if text.startswith("holdfast:/") else ""
        raise InvalidRequest(f"{text!r} is not holdfast://DIRECTORY/NAME{hint}", code="invalid_name")
    path = PurePosixPath(text.removeprefix(SCHEME))
    if len(path.parts) < 2:
        raise InvalidRequest(f"{text!r} names no checkpoint: give holdfast://DIRECTORY/NAME", code="invalid_name")
    return str(path.parent), path.name
