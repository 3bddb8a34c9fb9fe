"""The tqdm bar; imported only where one is shown."""

from typing import Any

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """A bar of tqdm that releases the lock of all bars even if showing it fails.

    Tqdm's own bar keeps the lock if it cannot write or is interrupted, and every other bar then waits for ever.
    """

    def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
        """Show the bar again."""
        if nolock:
            super().refresh(nolock=True)
            return
        with self.get_lock():  # type: ignore[no-untyped-call]
            super().refresh(nolock=True)
