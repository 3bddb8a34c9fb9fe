"""Checkpoints of training jobs on a Holdfast server, through the interface that training scripts already use.

>>> from holdfast import CheckpointManager
>>> manager = CheckpointManager("runs/experiment/checkpoints", max_checkpoints=2)
>>> manager.save({"weights": [0.5]}, epoch=1, loss=0.4)
PosixPath('runs/experiment/checkpoints/checkpoint_epoch_0001.pt')
>>> manager.load_best()
{'weights': [0.5]}

Importing this package imports neither torch nor any web framework; torch comes with the first save or load.

Decides which names are public.
May import `errors`, `manager`, `cleanup` and `_save.graceful`; never the server.
"""

from ._save.graceful import GracefulStop
from .cleanup import save_checkpoint_with_cleanup
from .errors import (
    CheckpointExists,
    CheckpointNotFound,
    HoldfastError,
    HoldfastWarning,
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

__version__ = "0.1.0"

__all__ = [
    "CheckpointExists",
    "CheckpointManager",
    "CheckpointNotFound",
    "GracefulStop",
    "HoldfastError",
    "HoldfastWarning",
    "IntegrityError",
    "InvalidRequest",
    "MissingPackage",
    "ModeConflict",
    "NotAllowed",
    "NotImproved",
    "OutOfSpace",
    "ServerFailed",
    "ServerUnreachable",
    "UnreadableCheckpoint",
    "UnsafeCheckpoint",
    "__version__",
    "save_checkpoint_with_cleanup",
]
