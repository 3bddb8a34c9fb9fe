"""Requests and answers in the bytes of a connection, by their own word for how long they are."""

import re
from collections.abc import Iterator


class Message:
    """A request or an answer, as far as it has come."""

    def __init__(self) -> None:
        self.head = b""
        self.headed = False
        self.passed = 0
        self.total: int | None = None
        """Its bytes in all, as soon as that is known. It never is where they come in chunks."""

    @property
    def whole(self) -> bool:
        """True if this was the last message."""
        return self.passed == self.total

    def take(self, data: bytes) -> bytes:
        """As much of the data as belongs to this message."""
        if not self.headed:
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end >= 4:
                self.head, self.headed = self.head[:end], True
                length = self._length()
                self.total = None if length is None else end + length
        part = data if self.total is None else data[: self.total - self.passed]
        self.passed += len(part)
        return part

    def _length(self) -> int | None:
        if found := re.search(rb"\r\ncontent-length: *(\d+)", self.head, re.IGNORECASE):
            return int(found[1])
        if re.search(rb"\r\ntransfer-encoding:", self.head, re.IGNORECASE):
            return None
        return 0 if re.match(rb"(?!HTTP/)|HTTP/1.. (204|304|1)", self.head) else None


class Messages:
    """The bytes of one side, cut into messages."""

    def __init__(self) -> None:
        self._message = Message()

    def cut(self, data: bytes) -> Iterator[tuple[Message, bytes]]:
        """Parts that belong to one message each."""
        while data:
            message = self._message
            part = message.take(data)
            if message.whole:
                self._message = Message()
            yield message, part
            data = data[len(part) :]
