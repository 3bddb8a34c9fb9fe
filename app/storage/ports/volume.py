"""The port to the disk below a store, if there is one; an object store has none."""

from typing import Protocol


class Volume(Protocol):
    """Space of bounded size, which the server watches so that a full disk changes nothing that was acknowledged."""

    shares_blocks: bool
    """True if files can share blocks, so that a copy takes no space."""

    def free_bytes(self) -> int:
        """Return the space that is free at the moment."""

    def capacity_bytes(self) -> int:
        """Return the space of the empty volume."""

    def keep_reserve_file(self) -> None:
        """Set a little space aside, if there is plenty, for `drop_reserve_file`."""

    def drop_reserve_file(self) -> bool:
        """Give up the reserve file if hardly any other space is left; return whether one was given up."""
