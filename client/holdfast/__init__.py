"""Checkpoints of training jobs on a Holdfast server, through the interface that training scripts already use.

>>> from holdfast import CheckpointManager
>>> manager = CheckpointManager("runs/experiment/checkpoints", max_checkpoints=2)
>>> manager.save({"weights": [0.5]}, epoch=1, loss=0.4)
PosixPath('runs/experiment/checkpoints/checkpoint_epoch_0001.pt')
>>> manager.load_best()
{'weights': [0.5]}

Importing this package imports neither torch nor any web framework; torch comes with the first save or load.

Decides which names are public. Those of the query side are imported at their first use, as most jobs only save.
May import `errors`, `manager`, `cleanup`, `client`, `follow`, `_query`, `_shared` and `_save.graceful`; never the
server.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._save.graceful import GracefulStop
from .cleanup import save_checkpoint_with_cleanup
from .errors import (
    AttemptSuperseded,
    CheckpointExists,
    CheckpointNotFound,
    CommitTimeout,
    HoldfastError,
    HoldfastWarning,
    IncompleteCheckpoint,
    IntegrityError,
    InvalidRequest,
    MissingPackage,
    ModeConflict,
    NotAllowed,
    NotImproved,
    OutOfSpace,
    ServerFailed,
    ServerUnreachable,
    UnreadableCheckpoint,
    UnsafeCheckpoint,
)
from .manager import CheckpointManager

if TYPE_CHECKING:
    from ._query.infos import CheckpointInfo, DirectoryInfo, FileInfo, PolicyInfo
    from ._query.listing import Listing
    from ._query.reports import DirectoryPrune, Event, PruneResult, Reason, Verdict
    from ._shared.save import SharedSave
    from ._shared.status import SharedStatus, WriterState
    from .client import Client
    from .follow import watch

__version__ = "0.1.0"

__all__ = [
    "AttemptSuperseded",
    "CheckpointExists",
    "CheckpointInfo",
    "CheckpointManager",
    "CheckpointNotFound",
    "Client",
    "CommitTimeout",
    "DirectoryInfo",
    "DirectoryPrune",
    "Event",
    "FileInfo",
    "GracefulStop",
    "HoldfastError",
    "HoldfastWarning",
    "IncompleteCheckpoint",
    "IntegrityError",
    "InvalidRequest",
    "Listing",
    "MissingPackage",
    "ModeConflict",
    "NotAllowed",
    "NotImproved",
    "OutOfSpace",
    "PolicyInfo",
    "PruneResult",
    "Reason",
    "ServerFailed",
    "ServerUnreachable",
    "SharedSave",
    "SharedStatus",
    "UnreadableCheckpoint",
    "UnsafeCheckpoint",
    "Verdict",
    "WriterState",
    "__version__",
    "save_checkpoint_with_cleanup",
    "watch",
]

_LATER = {
    "Client": "client",
    **dict.fromkeys(("CheckpointInfo", "DirectoryInfo", "FileInfo", "PolicyInfo"), "_query.infos"),
    "Listing": "_query.listing",
    "SharedSave": "_shared.save",
    **dict.fromkeys(("SharedStatus", "WriterState"), "_shared.status"),
    **dict.fromkeys(("DirectoryPrune", "Event", "PruneResult", "Reason", "Verdict"), "_query.reports"),
    "watch": "follow",
}
"""The module of each name that is imported at its first use."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
