"""Watching: the events of directories for a script, from the moment of the call, until the client is closed."""

import logging
import threading
from collections.abc import Generator, Iterator

from .._api.events import EventStream, Interruption
from .._api.retry import READERS_PATIENCE
from .._api.server import Server, parse_errors
from ..errors import warn
from .infos import Shown
from .lookup import Json
from .reports import Event

log = logging.getLogger("holdfast")


def follow(server: Server, prefix: str, since: int | None, stopping: threading.Event, shown: Shown) -> Iterator[Event]:
    """Open a stream over connections of its own, which end with it; return its events as they arrive.

    Raises
    ------
    HoldfastError
        As `EventStream.positions`.
    """
    patience_s = READERS_PATIENCE * server.patience_s
    stream = EventStream(server, prefix, since, stopping=stopping, report=_report, patience_s=patience_s)
    found = stream.positions()
    next(found, None)  # the position is known from here on, and so are refusals
    return _events(server, found, shown)


def _events(server: Server, found: Generator[Json | None, None, None], shown: Shown) -> Iterator[Event]:
    try:
        for each in found:
            if each is not None:
                with parse_errors():
                    event = Event.from_json(each, shown)
                yield event
    finally:
        found.close()
        server.close()


def _report(interruption: Interruption) -> None:
    """Warn of events that may have been missed, and log a server that is away: the stream goes on without a loss."""
    if interruption.is_loss:
        warn(interruption.message)
    else:
        log.warning("%s", interruption.message)
