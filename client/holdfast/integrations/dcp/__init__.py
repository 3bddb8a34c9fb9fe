"""torch.distributed.checkpoint: every rank sends its own part into one checkpoint, and reads only what it needs.

Decides how the plans of torch become files of one checkpoint. May import everything of the client and `torch`; never
gathers the state on one rank, and never loads a class that metadata do not need.
"""

from .reader import HoldfastReader
from .writer import HoldfastWriter

__all__ = ["HoldfastReader", "HoldfastWriter"]
