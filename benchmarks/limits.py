"""Upper limits of the machine, measured one at a time: no save or load exceeds them."""

import os
import socket
import threading
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from blake3 import blake3

from benchmarks.figures import median_s
from benchmarks.rounds import Spent, contest, spend

DISK_PIECE_BYTES = 4 * 1024 * 1024
SOCKET_PIECE_BYTES = 1024 * 1024
GB = 1e9


def measure(folder: Path, size_bytes: int, rounds: int) -> dict[str, float]:
    """Return the GB/s of each, the median of the rounds."""
    data = memoryview(bytearray(size_bytes))
    source = torch.frombuffer(data, dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    tasks: dict[str, Callable[[], Spent]] = {
        "memcpy": partial(spend, lambda: target.copy_(source)),
        "loopback socket": partial(spend, lambda: _through_a_socket(data)),
        "disk write + fsync": lambda: _to_disk(data, folder / "limit"),
        "BLAKE3, one thread": partial(spend, lambda: blake3(data).digest()),
        "BLAKE3, all threads": partial(spend, lambda: blake3(data, max_threads=blake3.AUTO).digest()),
        "CRC32": partial(spend, lambda: zlib.crc32(data)),
    }
    return {name: size_bytes / GB / median_s(spent) for name, spent in contest(tasks, rounds).items()}


def _through_a_socket(data: memoryview) -> None:
    """Send with ``sendall`` on one thread, receive with ``recv_into`` on another, over loopback TCP."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sender = socket.create_connection(listener.getsockname())
        receiver, _ = listener.accept()
    with sender, receiver:
        sending = threading.Thread(target=sender.sendall, args=(data,))
        sending.start()
        buffer, left = bytearray(SOCKET_PIECE_BYTES), len(data)
        while left:
            left -= receiver.recv_into(buffer)
        sending.join()


def _to_disk(data: memoryview, path: Path) -> Spent:
    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for start in range(0, len(data), DISK_PIECE_BYTES):
                file.write(data[start : start + DISK_PIECE_BYTES])
            os.fsync(file.fileno())

    spent = spend(write)
    path.unlink()
    return spent
