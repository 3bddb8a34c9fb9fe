"""Snapshots of a state's storages, in memory that is reused, so that a snapshot costs no new pages."""

import ctypes
import mmap
import threading
from functools import cached_property
from typing import Any

from .._runtime.forks import Owner
from .._torchfile.writer.records import Storage, as_bytes

_ALIGNMENT = 64


class Buffer:
    """Memory of this machine: pinned, for CUDA devices to copy into at full speed, or an anonymous mapping.

    The mapping is not made by torch, whose default device and modes, such as FakeTensorMode, would change it. It is
    private: a forked child never writes into a snapshot of its parent.
    """

    def __init__(self, size_bytes: int, *, pinned: bool) -> None:
        self.size_bytes = size_bytes
        self.pinned = pinned
        if pinned:
            import torch

            self.tensor = torch.empty(size_bytes, dtype=torch.uint8, device="cpu", pin_memory=True)
            self.address = int(self.tensor.data_ptr())
        else:
            self._memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))

    @cached_property
    def tensor(self) -> Any:
        """The memory as a tensor of bytes."""
        import torch

        return torch.frombuffer(self._memory, dtype=torch.uint8)


class Staging:
    """A pool of memory for snapshots. Memory that is given back serves the next snapshot that fits. Thread-safe."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._owner = Owner()
        self._guard = threading.Lock()
        self._free: list[Buffer] = []

    def snapshot(self) -> "Snapshot":
        """Make a snapshot, still empty."""
        return Snapshot(self)

    def take(self, size_bytes: int, *, pinned: bool) -> Buffer:
        """Return memory of at least this size, in bytes; free memory that is too small is released."""
        if not self._owner.is_this_process:  # its lock may be held by a thread that is not here
            self._begin()
        with self._guard:
            fitting = [buffer for buffer in self._free if buffer.size_bytes >= size_bytes and buffer.pinned == pinned]
            if fitting:
                buffer = min(fitting, key=lambda buffer: buffer.size_bytes)
                self._free = [other for other in self._free if other is not buffer]
                return buffer
            self._free = []
        return Buffer(size_bytes, pinned=pinned)

    def give_back(self, buffer: Buffer) -> None:
        """Return memory to the pool."""
        with self._guard:
            self._free.append(buffer)


class Snapshot:
    """The bytes of storages at one moment. Close it when they are no longer read."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._buffer: Buffer | None = None

    def copied(self, storages: list[Storage]) -> list[Storage]:
        """Copy storages; when this returns, the originals may change."""
        starts, size_bytes = [], 0
        for storage in storages:
            starts.append(size_bytes)
            size_bytes += -(-storage.size_bytes // _ALIGNMENT) * _ALIGNMENT
        on_cuda = {storage.storage.device for storage in storages if storage.storage.device.type == "cuda"}
        self._buffer = buffer = self._staging.take(max(1, size_bytes), pinned=bool(on_cuda))
        for start, storage in zip(starts, storages, strict=True):
            if storage.storage.device.type != "cpu":
                target = buffer.tensor[start : start + storage.size_bytes]
                target.copy_(as_bytes(storage.storage), non_blocking=bool(on_cuda))
            elif storage.size_bytes:
                ctypes.memmove(buffer.address + start, storage.address, storage.size_bytes)
        _wait_for(on_cuda)
        return [_Copy(buffer, start, each.size_bytes) for start, each in zip(starts, storages, strict=True)]

    def close(self) -> None:
        """Return the memory to the pool."""
        if self._buffer is not None:
            self._staging.give_back(self._buffer)
            self._buffer = None


class _Copy(Storage):
    """A storage in staging memory."""

    __slots__ = ("_address", "_buffer")

    def __init__(self, buffer: Buffer, start: int, size_bytes: int) -> None:
        self._buffer = buffer  # keeps the memory alive while it is read
        self._address = buffer.address + start
        self._staged = False
        self.size_bytes = size_bytes

    @property
    def address(self) -> int:
        return self._address


def _wait_for(devices: set[Any]) -> None:
    import torch

    for device in devices:
        torch.cuda.synchronize(device)
