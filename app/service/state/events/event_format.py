"""The bytes that a stream sends, as its route defines them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.core.models import Event


@dataclass(frozen=True, eq=False)
class EventFormat:
    """Serialises events for the streams of one route.

    Attributes
    ----------
    encode : callable
        Serialises one event. Called once for each event, however many streams it goes to.
    join : callable
        Makes one piece of the serialised events of a burst.
    ping : bytes
        Sent to live streams every 15 seconds.
    progress : bytes
        Sent at most once a second if uploads within the prefix received bytes or ended; empty for streams that do not
        tell of uploads.
    """

    encode: Callable[[Event], bytes]
    join: Callable[[Sequence[bytes]], bytes]
    ping: bytes
    progress: bytes = b""
