"""Mapping from paths on this machine to names on the server, and default names of checkpoints."""

import os
from datetime import datetime
from pathlib import Path, PurePath

from blake3 import blake3

from .._runtime.redaction import shown_name
from ..errors import IntegrityError, InvalidRequest
from .name_grammar import check_checkpoint, check_directory, check_meant, refused


def prefix_of(given: str | None, what: str = "HOLDFAST_PREFIX") -> str:
    """Return a prefix of all names, without slashes at its ends; empty if none is given. ``what`` names its setting.

    Raises
    ------
    InvalidRequest
        The server does not accept the prefix.
    """
    parts = [part for part in (given or "").strip().split("/") if part]
    check_meant(PurePath(*parts), what)
    return check_directory("/".join(parts), what) if parts else ""


def configured_prefix() -> str:
    """Return the prefix that ``HOLDFAST_PREFIX`` sets; see `prefix_of`."""
    return prefix_of(os.environ.get("HOLDFAST_PREFIX"))


def directory_name(path: PurePath, prefix: str) -> str:
    """Return the server's name of a ``checkpoint_dir``: the prefix, and the path without its anchor.

    Raises
    ------
    InvalidRequest
        Nothing remains of the path, it has a component ``..``, it is a URL or another thing that is no name, or the
        server takes no such name.
    """
    parts = [part for part in path.parts if part != path.anchor]
    if not parts or ".." in parts:
        raise refused(str(path), "checkpoint directory", "it must name a folder, without '..'")
    check_meant(path)
    return check_directory("/".join([*(part for part in prefix.split("/") if part), *parts]))


def locate(path: str | PurePath, own: Path, prefix: str) -> tuple[str, str]:
    """Return the server's directory and the checkpoint's name for the path given to ``load``.

    A bare name belongs to the manager's own directory; a path names its directory.

    Raises
    ------
    InvalidRequest
        It names no checkpoint, or the server takes no such name.
    """
    path = PurePath(path)
    if not path.name or path.name == "..":
        raise InvalidRequest(f"{shown_name(str(path))!r} does not name a checkpoint.", code="invalid_name")
    check_meant(path, "checkpoint")
    parent = path.parent if path.parent.parts else own
    return directory_name(parent, prefix), check_checkpoint(path.name)


def safe_components(path: str) -> list[str]:
    """Split a path that a server gave, and refuse one that would leave its folder.

    Raises
    ------
    IntegrityError
        One does.
    """
    found = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or Path(part).drive or len(Path(part).parts) != 1 for part in found):
        raise IntegrityError(f"the server names a file {path!r}, which is outside of its folder", code="invalid_name")
    return found


def checkpoint_name(stem: str, epoch: int | None, step: int | None, at: datetime, save_id: str) -> str:
    """Return ``<stem>_epoch_0100_step_00012000.pt``, of which either part may be missing.

    Without both, the UTC time and a digest of the save's id stand instead. The digest has twelve digits, so that two
    saves of one second never share a name and replace each other.
    """
    counters = [] if epoch is None else [f"epoch_{epoch:04d}"]
    counters += [] if step is None else [f"step_{step:08d}"]
    if counters:
        return f"{stem}_{'_'.join(counters)}.pt"
    return f"{stem}_{at:%Y%m%dT%H%M%S}_{blake3(save_id.encode()).hexdigest()[:12]}.pt"
