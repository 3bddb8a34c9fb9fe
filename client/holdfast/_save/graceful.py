"""GracefulStop: lets a training loop save once more when a signal asks the process to end."""

import signal
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, Self

from .._runtime import signal_thread
from . import shutdown


class GracefulStop:
    """Tells a training loop that it should save once more and end, as ``with GracefulStop() as stop:``.

    While it is entered, the signals do not end the process; ``stop.requested`` becomes true instead. A former handler
    that is a function is called as well. A forked child, such as a worker of a data loader, leaves it at once: there,
    the signals have the effect that they had before.

    Parameters
    ----------
    signals : iterable of signal.Signals
        The signals that ask for the end. SLURM sends others than SIGTERM with ``--signal``.

    Examples
    --------
    >>> import os, signal
    >>> with GracefulStop() as stop:
    ...     for step in range(1000):
    ...         if stop.requested:
    ...             break
    ...         if step == 3:
    ...             os.kill(os.getpid(), signal.SIGTERM)
    >>> step, stop.signal.name
    (4, 'SIGTERM')
    """

    def __init__(self, signals: Iterable[signal.Signals] = (signal.SIGTERM,)) -> None:
        self.signals = tuple(signals)
        self.signal: signal.Signals | None = None
        """The signal that came first, or None."""
        self._former: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    def __enter__(self) -> Self:
        for number in self.signals:
            self._former[number] = signal.signal(number, self._on_signal)
        shutdown.enter(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutdown.leave(self)

    def leave(self) -> None:
        """Put the former handlers back, except where other code has set its own in the meantime."""
        for number, former in self._former.items():
            if signal.getsignal(number) == self._on_signal:
                signal.signal(number, signal.SIG_DFL if former is None else former)
        self._former = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: note it, make durable what is under way, and call the former handler."""
        signal_thread.called(number)
        self.signal = self.signal or signal.Signals(number)
        shutdown.start_draining()
        former = self._former.get(number)
        if callable(former) and former is not signal.default_int_handler:
            former(number, frame)
