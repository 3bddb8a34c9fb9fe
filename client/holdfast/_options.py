"""Options of a manager: checks them and makes the parts that they describe."""

import os
from pathlib import Path
from typing import Any, Final, Literal

from ._arguments import checks
from ._spool.spool import Spool, default_folder
from ._transfer.cache import Cache
from ._transfer.destination import local

Mode = Literal["min", "max"]


class Unset:
    """The default of ``monitor``, which depends on the mode."""

    def __repr__(self) -> str:
        return "'loss' where mode='min', else None"


UNSET: Final = Unset()


def checked_mode(mode: Any) -> Mode:
    """Return a mode, or raise `ValueError` if it is none."""
    if not isinstance(mode, str) or mode not in ("min", "max"):
        raise ValueError(f"mode must be 'min' or 'max', not {mode!r}")
    return mode  # type: ignore[return-value]


def monitored_value(monitor: Any, mode: Mode) -> str | None:
    """Return the name of the metadata value that stands in for a metric."""
    if isinstance(monitor, Unset):
        return "loss" if mode == "min" else None
    return checks.text("monitor", monitor)


def spool_of(spool_dir: Any, max_bytes: Any, max_share: Any) -> Spool:
    """Return the spool in a folder, by default the user's own."""
    folder = local("spool_dir", checks.folder("spool_dir", spool_dir)) if spool_dir is not None else default_folder()
    max_bytes = checks.count("spool_max_bytes", max_bytes, least=0)
    return Spool(folder, max_bytes, checks.share("spool_max_share", max_share))


def cache_of(cache_dir: str | Path | None, max_bytes: Any) -> Cache | None:
    """Return the cache in a folder, by default in ``HOLDFAST_CACHE``; None if there is neither."""
    max_bytes = checks.count("cache_max_bytes", max_bytes, least=0)
    folder = cache_dir or os.environ.get("HOLDFAST_CACHE")
    return Cache(local("cache_dir", checks.folder("cache_dir", folder)), max_bytes) if folder else None
