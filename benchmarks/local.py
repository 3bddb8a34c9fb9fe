"""The local baseline: ``torch.save`` and ``torch.load`` on the same disk."""

import os
from pathlib import Path
from typing import Any

import torch


def save(state: Any, path: Path) -> None:
    """Save a state; when this returns, the file and its name are durable."""
    torch.save(state, path)
    for place in (path, path.parent):
        _fsync(place)


def load(path: Path) -> Any:
    """Return the state of a file, in memory of its own."""
    return torch.load(path, map_location="cpu", weights_only=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
