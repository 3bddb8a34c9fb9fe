"""The metadata of torch.distributed.checkpoint: a pickle, of which only its own classes are accepted."""

import io
import pickle
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import Metadata

from ..._runtime.interruption import reraise
from ...errors import UnreadableCheckpoint, UnsafeCheckpoint

_OF_DCP = ("torch.distributed.checkpoint.metadata", "torch.distributed.checkpoint.filesystem")
_PLAIN = {
    ("builtins", "set"),
    ("builtins", "frozenset"),
    ("collections", "OrderedDict"),
    ("pathlib", "Path"),
    ("pathlib", "PosixPath"),
    ("pathlib", "PurePosixPath"),
    ("pathlib", "WindowsPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
}


class _Unpickler(pickle.Unpickler):
    """Refuses every class and function but those of which the metadata consist."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _PLAIN:
            return super().find_class(module, name)
        found = super().find_class(module, name) if module in _OF_DCP and "." not in name else None
        if isinstance(found, type) and found.__module__ in _OF_DCP:
            return found
        if module == "torch" and isinstance(dtype := getattr(torch, name, None), torch.dtype):
            return dtype
        raise UnsafeCheckpoint(
            f"the metadata of the checkpoint name {module}.{name}, which is none of torch.distributed.checkpoint: "
            "loading them could run code"
        )


def load(data: bytes) -> Metadata:
    """Return the metadata in the file ``.metadata``.

    Raises
    ------
    UnsafeCheckpoint
        It names other classes than those of metadata.
    UnreadableCheckpoint
        It is no such file.
    """
    try:
        found = _Unpickler(io.BytesIO(data)).load()
    except UnsafeCheckpoint:
        raise
    except Exception as error:  # whatever a corrupt pickle leads to
        reraise(error)
        raise UnreadableCheckpoint(f"the metadata of the checkpoint cannot be read: {error}") from error
    if not isinstance(found, Metadata):
        raise UnreadableCheckpoint("the file .metadata does not hold metadata of torch.distributed.checkpoint")
    return found


def dump(metadata: Metadata) -> bytes:
    """Return the metadata as the file ``.metadata``, which torch's own readers take, too."""
    return pickle.dumps(metadata)
