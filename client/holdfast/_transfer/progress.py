"""Progress bars for long transfers on a terminal."""

import os
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from .._runtime.interruption import reraise, suppress

LONG_BYTES = 32 * 1024 * 1024
"""The size, in bytes, below which a transfer shows no bar."""
_DELAY_S = 0.5


class Progress:
    """The progress of one transfer as a bar of tqdm: moved bytes, their rate, and reused bytes.

    Parameters
    ----------
    what : str
        The label of the bar.
    total_bytes : int
        The number of bytes to come.
    shown : bool or None
        True to show it. None: as ``HOLDFAST_PROGRESS`` says (``1`` or ``0``), else if standard error is a terminal.
    """

    def __init__(self, what: str, total_bytes: int, shown: bool | None = None) -> None:
        self._bar: Any = None
        self._guard = threading.Lock()
        self.moved_bytes = self._reused_bytes = 0
        if total_bytes < LONG_BYTES or not _is_wanted(shown):
            return
        from .progress_bar import Bar

        with suppress(OSError, ValueError, AttributeError):  # standard error is unusable
            self._bar = Bar(
                desc=what,
                total=total_bytes,
                unit="B",
                unit_scale=True,
                unit_divisor=1024,
                delay=0 if shown else _DELAY_S,
                dynamic_ncols=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._guard:
            self._show(lambda bar: bar.close())

    def moved(self, count: int) -> None:
        """Count bytes that were moved. Thread-safe."""
        with self._guard:
            self.moved_bytes += count
            self._show(lambda bar: bar.update(count))

    def reused(self, count: int) -> None:
        """Count bytes that need not be moved."""
        if count > 0:
            with self._guard:
                self._reused_bytes += count
                self._show(self._show_reused)
                self._show(lambda bar: bar.update(count))

    def _show_reused(self, bar: Any) -> None:
        shown = bar.format_sizeof(self._reused_bytes, "B", 1024)
        bar.set_postfix_str(f"{shown} reused", refresh=False)

    def _show(self, change: Callable[[Any], object]) -> None:
        """Change the bar; drop it if it can no longer be shown, and let the transfer continue."""
        try:
            if self._bar is not None:
                change(self._bar)
        except (OSError, ValueError) as error:  # for example, standard error was closed, or its disk is full
            reraise(error)
            self._bar.disable, self._bar = True, None


def _is_wanted(shown: bool | None) -> bool:
    if shown is not None:
        return shown
    setting = os.environ.get("HOLDFAST_PROGRESS", "")
    if setting:
        return setting not in ("0", "false", "no", "off")
    with suppress(AttributeError, ValueError):
        return sys.stderr.isatty()
    return False
