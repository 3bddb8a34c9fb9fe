"""Inspection of a raw body on its way into a sink: its envelope, and the digests that its headers declare."""

from typing import Generic, Protocol, TypeVar

from starlette.datastructures import Headers

from app.core import digests
from app.core.errors import BodyAltered
from app.http.body import envelopes

T_co = TypeVar("T_co", covariant=True)


class Sink(Protocol[T_co]):
    """What a body is put into."""

    def room(self) -> memoryview:
        """Where the next bytes go; never empty."""

    def took(self, count: int, /) -> None:
        """So many bytes were put there."""

    def finish(self) -> T_co:
        """The body has ended."""

    def reject(self) -> None:
        """The body was not the one that was meant: nothing of it counts."""


class Taker(Protocol):
    """The part of a sink that a connection fills."""

    def room(self) -> memoryview: ...
    def took(self, count: int, /) -> None: ...


class Inspected(Generic[T_co]):
    """A sink that refuses what is wrapped or garbled; the end of a body reaches the sink behind it only if it is right.

    Parameters
    ----------
    length : int, optional
        How many bytes come. The beginning is looked at before all of them have been passed on.
    whole : bool
        Whether the body is a whole file: only then does a ``Repr-Digest`` speak of it, and has it to look like one.
    """

    def __init__(self, sink: Sink[T_co], headers: Headers, *, length: int | None, whole: bool) -> None:
        self._sink = sink
        self._content_type = headers.get("content-type", "")
        self._declared = digests.Declared.of(headers.getlist, whole=whole)
        self._whole = whole
        self._head: bytearray | None = bytearray()
        self._wanted = min(envelopes.HEAD_BYTES, length or envelopes.HEAD_BYTES)
        self._room = memoryview(b"")

    def room(self) -> memoryview:
        self._room = self._sink.room()
        return self._room

    def took(self, count: int, /) -> None:
        data = self._room[:count]
        if self._head is not None:
            self._head += data[: envelopes.HEAD_BYTES - len(self._head)]
            if len(self._head) >= self._wanted:
                self._look()
        if self._declared is not None:
            self._declared.update(data)
        self._sink.took(count)

    def finish(self) -> T_co:
        self._look()
        if self._declared is not None and not self._declared.is_true():
            self._sink.reject()
            raise BodyAltered(
                "The body does not have the digest that came with it; nothing of it is kept. Send it again."
            )
        return self._sink.finish()

    def _look(self) -> None:
        if self._head is not None:
            head, self._head = bytes(self._head), None
            envelopes.refuse_head(head, self._content_type, whole=self._whole)
