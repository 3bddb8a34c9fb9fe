"""Fan-out: hands a burst of payloads to its watchers on their event loop, a few at a time.

Between two slices the event loop serves requests, so a thousand watchers delay none of them by more than one slice.
"""

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress

from app.core.models import Event
from app.service.state.events.event_format import EventFormat
from app.service.state.events.watcher import Watcher

SLICE = 16
"""The number of watchers that are woken in one iteration of the event loop."""
WAIT_S = 5.0
"""The longest wait for an event loop that does not answer, in seconds."""


class Payload:
    """The events of one prefix in one burst, serialised once for each format."""

    def __init__(self, events: Sequence[Event], encoded: "EncodedEvents") -> None:
        self._events = events
        self._encoded = encoded
        self._joined: dict[EventFormat, bytes] = {}

    def prepare(self, form: EventFormat) -> None:
        """Serialise the events in a format, on the calling thread."""
        if form not in self._joined:
            self._joined[form] = form.join([self._encoded.of(event, form) for event in self._events])

    def after(self, event_id: int, form: EventFormat) -> bytes:
        """Return the bytes of the events after an id; empty if there are none."""
        if event_id < self._events[0].id:
            return self._joined[form]
        later = [self._encoded.of(event, form) for event in self._events if event.id > event_id]
        return form.join(later) if later else b""


class EncodedEvents:
    """The events of one burst, each serialised once for each format, however many prefixes it is within."""

    def __init__(self) -> None:
        self._encoded: dict[tuple[EventFormat, int], bytes] = {}

    def of(self, event: Event, form: EventFormat) -> bytes:
        """Return the bytes of an event."""
        key = form, event.id
        if key not in self._encoded:
            self._encoded[key] = form.encode(event)
        return self._encoded[key]


Delivery = tuple[Watcher, Payload | bytes]


def deliver(deliveries: Sequence[Delivery]) -> None:
    """Hand payloads to their watchers, and wait until each has begun to send. Called on a thread of its own."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Delivery]] = {}
    for delivery in deliveries:
        by_loop.setdefault(delivery[0].loop, []).append(delivery)
    for loop, of_loop in by_loop.items():
        slices = _Slices(loop, of_loop)
        with suppress(RuntimeError):  # the event loop is closed, and with it the connections
            loop.call_soon_threadsafe(slices.run)
            slices.done.wait(WAIT_S)


class _Slices:
    def __init__(self, loop: asyncio.AbstractEventLoop, deliveries: Sequence[Delivery]) -> None:
        self._loop, self._deliveries, self._begun = loop, deliveries, 0
        self.done = threading.Event()

    def run(self) -> None:
        begin, self._begun = self._begun, self._begun + SLICE
        for watcher, payload in self._deliveries[begin : self._begun]:
            data = payload if isinstance(payload, bytes) else payload.after(watcher.after, watcher.form)
            if data:
                watcher.put(data)
        is_last = self._begun >= len(self._deliveries)
        self._loop.call_soon(self.done.set if is_last else self.run)  # behind the tasks that were woken just now
