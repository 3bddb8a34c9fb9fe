"""The bar itself. Only imported where one is shown."""

from typing import Any

from tqdm import tqdm


class Bar(tqdm):  # type: ignore[type-arg]
    """A bar of tqdm that lets go of the lock of all bars, whatever comes of showing it.

    That of tqdm keeps the lock where it cannot write, or is interrupted; whoever shows a bar in another thread then
    waits for ever.
    """

    def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
        """Show it anew."""
        if nolock:
            super().refresh(nolock=True)
            return
        with self.get_lock():  # type: ignore[no-untyped-call]
            super().refresh(nolock=True)
