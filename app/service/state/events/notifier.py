"""Notifier: wakes the event feed after a commit; thread-safe."""

import threading


class Notifier:
    """Remembers that there is news, for the one thread that waits. Any thread may notify."""

    def __init__(self) -> None:
        self._news = threading.Event()
        self.closed = False

    def notify(self) -> None:
        """Wake the waiting thread; one that is busy finds the news when it waits next."""
        if not self._news.is_set():
            self._news.set()

    def close(self) -> None:
        """Wake the waiting thread, and let none wait from now on: the server is stopping."""
        self.closed = True
        self._news.set()

    def wait(self, seconds: float) -> None:
        """Wait until there is news, or for that time. News of before the call is found at once, and only once."""
        self._news.wait(seconds)
        if not self.closed:
            self._news.clear()
