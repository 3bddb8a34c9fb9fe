"""Responses as they arrive over a connection (RFC 9112): the head first, then the body by its framing.

The standard library's reader takes several times as long for the head of a small response, mostly to parse it as an
e-mail. What this one does not understand, it refuses: the connection is not used again then.
"""

import io
import re
from collections.abc import Mapping

from .messages import Response, merged

_STATUS = re.compile(rb"HTTP/1\.([0-9]) ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n\0]*?)[ \t]*\r?\n")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_LENGTH = re.compile(r"([0-9]{1,18})(?:, *\1)*")
_LONGEST_LINE_BYTES = 64 * 1024
_PART_BYTES = 1024 * 1024  # memory is taken for what arrives, whatever length the head claims
_MOST_FIELDS = 100
_MOST_INTERIM = 10
_WITHOUT_BODY = {204, 304}


class MalformedAnswer(ConnectionError):
    """A response that is not of HTTP/1.1, or that ends too early."""


class Answer:
    """A response whose head has arrived.

    Parameters
    ----------
    arriving : BufferedReader
        The bytes that arrive over the connection.

    Attributes
    ----------
    status : int
    headers : mapping of str to str
        The fields, by lower-case names.
    length : int or None
        The number of bytes of the body that have not been read; None if its head does not give it.
    is_complete : bool
        True once all of the body has been read.
    is_last : bool
        True if the connection carries no further response.

    Raises
    ------
    MalformedAnswer
        It is no response of HTTP/1.1.
    """

    def __init__(self, arriving: io.BufferedReader) -> None:
        self._arriving = arriving
        for _ in range(_MOST_INTERIM):  # interim responses; the real one follows
            is_older = self._read_status()
            self.headers = self._read_fields()
            if self.status >= 200:
                break
        else:
            raise MalformedAnswer("no final answer follows the interim ones")
        self.length: int | None = None
        self._chunk: int | None = None
        """The bytes of the current chunk that have not been read, in a chunked body; None in any other body."""
        wishes = {each.strip().lower() for each in self.headers.get("connection", "").split(",")}
        self.is_last = "close" in wishes or (is_older and "keep-alive" not in wishes)
        self._find_framing()
        self.is_complete = self.length == 0

    @property
    def response(self) -> Response:
        """The response without its body."""
        return Response(self.status, b"", self.headers)

    def read(self, limit: int = -1) -> bytes:
        """Return the rest of the body, or its first bytes up to a limit."""
        parts, size = [], 0
        while not self.is_complete and size != limit:
            parts.append(self._part(min(_PART_BYTES, limit - size) if limit >= 0 else _PART_BYTES))
            size += len(parts[-1])
        return b"".join(parts)

    def readinto(self, view: memoryview, /) -> int:
        """Put the next bytes of the body into a view and return their number; 0 at the end."""
        most = self._wait_for(len(view))
        if not most:
            return 0
        return self._took(self._arriving.readinto(view[:most]))

    def _part(self, most: int) -> bytes:
        most = self._wait_for(most)
        if not most:
            return b""
        found = (
            self._arriving.read(most)
            if self.length is not None
            else self._arriving.read1(min(most, io.DEFAULT_BUFFER_SIZE))
        )
        self._took(len(found))
        return found

    def _wait_for(self, most: int) -> int:
        """Return the number of bytes that may be read next, at most ``most``; 0 at the end of the body."""
        if self.is_complete:
            return 0
        if self._chunk == 0:
            self._begin_chunk()
        left = self.length if self._chunk is None else self._chunk
        return most if left is None else min(most, left)

    def _took(self, count: int) -> int:
        """Count bytes that were read; no bytes are the end of the connection."""
        if not count:
            if self.length is not None or self._chunk is not None:
                raise MalformedAnswer("the connection was closed before the end of the answer")
            self.is_complete = True
        elif self._chunk is not None:
            self._chunk -= count
            if not self._chunk and self._line() not in (b"\r\n", b"\n"):
                raise MalformedAnswer("a chunk of the answer has another length than it says")
        elif self.length is not None:
            self.length -= count
            self.is_complete = not self.length
        return count

    def _begin_chunk(self) -> None:
        """Read the size of the next chunk; the last one is followed by fields, which are ignored."""
        found = _SIZE.fullmatch(self._line())
        if found is None:
            raise MalformedAnswer("a chunk of the answer has no length")
        self._chunk = int(found[1], 16)
        if not self._chunk:
            self._read_fields()
            self.is_complete = True

    def _find_framing(self) -> None:
        encoding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self.status in _WITHOUT_BODY:
            self.length = 0
        elif encoding is not None:
            if encoding.lower() != "chunked":
                raise MalformedAnswer("the answer has an unknown transfer encoding")
            self._chunk = 0
            self.is_last = self.is_last or length is not None
        elif length is not None:
            found = _LENGTH.fullmatch(length)
            if found is None:
                raise MalformedAnswer("the answer has an invalid length")
            self.length = int(found[1])
        else:
            self.is_last = True

    def _read_status(self) -> bool:
        """Read the first line; return True if the response is of HTTP/1.0."""
        line = self._line()
        if not line:
            raise MalformedAnswer("the connection was closed without an answer")
        found = _STATUS.fullmatch(line)
        if found is None:
            raise MalformedAnswer("the answer is not of HTTP")
        self.status = int(found[2])
        return found[1] == b"0"

    def _read_fields(self) -> Mapping[str, str]:
        fields: list[tuple[str, str]] = []
        while (line := self._line()) not in (b"\r\n", b"\n"):
            found = _FIELD.fullmatch(line)
            if found is None or len(fields) == _MOST_FIELDS:
                raise MalformedAnswer("the head of the answer is malformed")
            fields.append((found[1].decode("ascii"), found[2].decode("latin-1")))
        return merged(fields)

    def _line(self) -> bytes:
        line = self._arriving.readline(_LONGEST_LINE_BYTES)
        if line and not line.endswith(b"\n"):
            raise MalformedAnswer("the head of the answer is too long, or ends early")
        return line
