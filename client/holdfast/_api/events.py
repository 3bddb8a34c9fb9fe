"""The stream of a server's events: a broken stream is opened again, and continues after the last event."""

import json
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

from ..errors import HoldfastError
from .retry import Backoff, RetryDeadline, is_transient
from .server import Server, parse_errors

Json = dict[str, Any]


class Interruption(NamedTuple):
    """An interruption of a stream, in words, and whether events may have been missed."""

    message: str
    is_loss: bool


class EventStream:
    """The events of directories at and below a prefix, each once, until it is stopped.

    Parameters
    ----------
    since : int or None
        The id of the event after which it begins; None begins with the next event.
    stopping : threading.Event
        Once it is set, the stream ends, at the next line or failure.
    report : callable
        Is given each interruption, once for a server that is away.
    patience_s : float, optional
        The time, in seconds, for which the first connection is retried. Default: without end. Later ones always are.
    """

    def __init__(
        self,
        server: Server,
        prefix: str,
        since: int | None,
        *,
        stopping: threading.Event,
        report: Callable[[Interruption], object],
        patience_s: float | None = None,
    ) -> None:
        self._server, self._prefix, self._last = server, prefix, since
        self._stopping, self._report = stopping, report
        self._waits = Backoff()
        self._first = RetryDeadline(patience_s, stopping) if patience_s is not None else None
        self._is_away = self._has_begun = False

    def positions(self) -> Generator[Json | None, None, None]:
        """Yield the events, and None once a connection stands and its position is known.

        Raises
        ------
        HoldfastError
            The server refused: the token, the prefix, or a position whose following events are no longer kept
            (``events_trimmed``). If it drops events amid the stream, that is reported, and newer ones follow.
        ServerUnreachable
            The first connection failed for ``patience_s``.
        """
        while not self._stopping.is_set():
            try:
                yield from self._connected()
                self._stopping.wait(self._waits.next_s())  # the server is stopping
            except HoldfastError as error:
                if not self._stopping.is_set():
                    self._recover(error)

    def _connected(self) -> Iterator[Json | None]:
        headers = {"Last-Event-ID": str(self._last)} if self._last is not None else {}
        with self._server.listen("/v1/events", params={"prefix": self._prefix}, headers=headers) as lines:
            self._is_away, self._has_begun = False, True
            if self._last is not None:
                yield None
            for event in _parsed(self._until_stopped(lines)):
                self._waits.reset()
                with parse_errors():
                    self._last = int(event["id"])
                    found = {"id": self._last, **json.loads(event["data"])} if "data" in event else None
                yield found

    def _until_stopped(self, lines: Iterator[str]) -> Iterator[str]:
        for line in lines:
            if self._stopping.is_set():
                return
            yield line

    def _recover(self, error: HoldfastError) -> None:
        """Wait before the next attempt, or go on after the events that are gone; raise what no attempt can change."""
        if error.code == "events_trimmed" and self._has_begun:
            self._last = int(error.problem["last_trimmed_id"])
            said = "later events are no longer kept, or the catalog was rebuilt; going on with newer ones"
            self._report(Interruption(said, is_loss=True))
            return
        if not is_transient(error):
            raise error
        if self._first is not None and not self._has_begun:
            self._first.wait(error)
            return
        if not self._is_away:
            self._is_away = True
            missed = "" if self._last is not None else "; events until it is reached are not shown"
            self._report(Interruption(f"{error}; trying again{missed}", is_loss=self._last is None))
        self._stopping.wait(self._waits.next_s(error))


def _parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    """Yield the server-sent events of a stream, and the id that it begins with; ignore an event that is cut off."""
    found: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if name:
            found[name] = value.removeprefix(" ")
        elif not line:
            if "id" in found:
                yield found
            found = {}
