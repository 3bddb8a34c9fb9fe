"""A small file that can be spooled without torch, and the facts of its save."""

import secrets
from typing import Any

from holdfast._api import digests
from holdfast._api.wire import Chunk


class Pieces:
    """Bytes in chunks.

    Parameters
    ----------
    data : bytes
        All of them.
    length : int
        How long a chunk is.
    """

    tensors = None

    def __init__(self, data: bytes, length: int = 4096) -> None:
        self.size_bytes = len(data)
        self._data = data
        self.spans = [(start, min(length, len(data) - start)) for start in range(0, len(data), length)]

    def reading_order(self) -> list[int]:
        return list(range(len(self.spans)))

    def read(self, place: int) -> tuple[memoryview, str]:
        offset, length = self.spans[place]
        view = memoryview(self._data)[offset : offset + length]
        return view, digests.of_chunk(view)

    def chunks(self) -> tuple[Chunk, ...]:
        return tuple(Chunk(*span, self.read(place)[1]) for place, span in enumerate(self.spans))


def save_of(epoch: int = 0, **more: Any) -> dict[str, Any]:
    """The facts of a save."""
    return {
        "directory": "runs/a",
        "name": f"checkpoint_epoch_{epoch:04d}.pt",
        "save_id": secrets.token_hex(16),
        "kind": "regular",
        "epoch": epoch,
        "metric": None,
        "is_best": False,
        "policy": {"mode": "min", "max_checkpoints": 3, "max_best_checkpoints": 1},
        **more,
    }
