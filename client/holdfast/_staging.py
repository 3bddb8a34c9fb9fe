"""Copies of a state's storages in memory that is used again, so that a snapshot costs no new pages."""

import threading
from typing import Any

from ._sink import Storage

_ALIGNMENT = 64


class Staging:
    """Memory for snapshots. What is given back is used for the next one that fits."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._free: list[Any] = []

    def snapshot(self) -> "Snapshot":
        """A snapshot that holds nothing yet."""
        return Snapshot(self)

    def take(self, size_bytes: int, *, pinned: bool) -> Any:
        """A tensor of at least so many bytes; what was too small for it is let go."""
        import torch

        with self._guard:
            fitting = [buffer for buffer in self._free if buffer.numel() >= size_bytes and buffer.is_pinned() == pinned]
            if fitting:
                buffer = min(fitting, key=lambda buffer: buffer.numel())
                self._free = [other for other in self._free if other is not buffer]
                return buffer
            self._free = []
        return torch.empty(size_bytes, dtype=torch.uint8, pin_memory=pinned)

    def give_back(self, buffer: Any) -> None:
        """Nobody reads this memory any more."""
        with self._guard:
            self._free.append(buffer)


class Snapshot:
    """The bytes of storages as they were at one moment. Close it when nobody reads them any more."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._buffer: Any = None

    def copied(self, storages: list[Storage]) -> list[Storage]:
        """Copies of storages; when this returns, the originals may change."""
        import torch

        starts, size_bytes = [], 0
        for storage in storages:
            starts.append(size_bytes)
            size_bytes += -(-storage.size_bytes // _ALIGNMENT) * _ALIGNMENT
        devices = {storage.storage.device for storage in storages}
        on_cuda = {device for device in devices if device.type == "cuda"}
        self._buffer = buffer = self._staging.take(max(1, size_bytes), pinned=bool(on_cuda))
        copies: list[Storage] = []
        for start, storage in zip(starts, storages, strict=True):
            source = torch.empty(0, dtype=torch.uint8, device=storage.storage.device).set_(storage.storage)
            target = buffer[start : start + storage.size_bytes]
            target.copy_(source, non_blocking=source.device.type == "cuda")
            copies.append(_Copy(target, storage.size_bytes))
        for device in on_cuda:
            torch.cuda.synchronize(device)
        return copies

    def close(self) -> None:
        """Give the memory back."""
        if self._buffer is not None:
            self._staging.give_back(self._buffer)
            self._buffer = None


class _Copy(Storage):
    """A storage in staging memory."""

    def __init__(self, part: Any, size_bytes: int) -> None:
        self._part = part
        self._staged = False
        self.size_bytes = size_bytes

    @property
    def address(self) -> int:
        return int(self._part.data_ptr())
