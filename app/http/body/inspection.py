"""Inspection of a raw body on its way into a sink: detects envelopes and verifies the digests in its headers."""

from typing import Generic, Protocol, TypeVar

from starlette.datastructures import Headers

from app.core import digests
from app.core.errors import BodyAltered
from app.http.body import envelopes

T_co = TypeVar("T_co", covariant=True)


class Sink(Protocol[T_co]):
    """The destination of a body, written into as into an `asyncio.BufferedProtocol`."""

    def get_buffer(self) -> memoryview:
        """Return the buffer for the next bytes; never empty."""

    def buffer_updated(self, count: int, /) -> None:
        """Accept bytes that were written into the buffer."""

    def pause(self) -> None:
        """Release memory, as the next bytes may be long in coming. `get_buffer` is called anew before they come."""

    def finish(self) -> T_co:
        """Complete the body and return its result."""

    def reject(self) -> None:
        """Discard the body, as it is corrupt."""


class ByteReceiver(Protocol):
    """The part of a sink that a connection writes to."""

    def get_buffer(self) -> memoryview: ...
    def buffer_updated(self, count: int, /) -> None: ...
    def pause(self) -> None: ...


class InspectedSink(Generic[T_co]):
    """A sink that refuses wrapped and corrupt bodies, and finishes the sink behind it only for a correct one.

    Parameters
    ----------
    length : int, optional
        Length of the body in bytes. The first bytes are inspected before the last ones are passed on.
    whole : bool
        Whether the body is a whole file. Only then a ``Repr-Digest`` applies, and the body must look like a file.
    """

    def __init__(self, sink: Sink[T_co], headers: Headers, *, length: int | None, whole: bool) -> None:
        self._sink = sink
        self._content_type = headers.get("content-type", "")
        self._declared = digests.DeclaredDigests.of(headers.getlist, whole=whole)
        self._whole = whole
        self._head: bytearray | None = bytearray()
        self._wanted = min(envelopes.HEAD_BYTES, length or envelopes.HEAD_BYTES)
        self._buffer = memoryview(b"")

    def get_buffer(self) -> memoryview:
        self._buffer = self._sink.get_buffer()
        return self._buffer

    def buffer_updated(self, count: int, /) -> None:
        data = self._buffer[:count]
        if self._head is not None:
            self._head += data[: envelopes.HEAD_BYTES - len(self._head)]
            if len(self._head) >= self._wanted:
                self._inspect_head()
        if self._declared is not None:
            self._declared.update(data)
        self._sink.buffer_updated(count)

    def pause(self) -> None:
        self._buffer = memoryview(b"")
        self._sink.pause()

    def finish(self) -> T_co:
        self._inspect_head()
        if self._declared is not None and not self._declared.is_true():
            self._sink.reject()
            raise BodyAltered("The body does not match the digest in its headers and was discarded. Send it again.")
        return self._sink.finish()

    def _inspect_head(self) -> None:
        if self._head is not None:
            head, self._head = bytes(self._head), None
            envelopes.refuse_head(head, self._content_type, whole=self._whole)
