"""PyTorch Lightning: a callback that saves to Holdfast, resumes from it, and survives preemption; and a `CheckpointIO`.

The callback replaces ``ModelCheckpoint``: the server prunes, so that nothing is deleted by a rank that may die.

Decides when a trainer saves, and with which facts. May import everything of the client and `lightning`; never writes a
checkpoint to the local disk.
"""

from .callback import HoldfastCheckpoint
from .checkpoint_io import HoldfastCheckpointIO

__all__ = ["HoldfastCheckpoint", "HoldfastCheckpointIO"]
