"""Torch's formats before the zip file: what must be true of a file before torch may read it."""

import tarfile
from typing import Any

from ._blind import BlindUnpickler
from ._memory import Arena
from .errors import UnreadableCheckpoint

_PARTS = {"storages", "tensors", "pickle"}


def refuse_claims(arena: Arena) -> None:
    """See to it that a file of five pickles names the bytes of each storage that its state needs.

    Torch would give out memory that was never written to for a storage whose bytes do not follow.

    Raises
    ------
    UnreadableCheckpoint
        It does not, or it claims storages larger than itself.
    """
    claims: dict[str, int] = {}

    def claim(reference: Any) -> None:
        if reference[0] in ("storage", b"storage"):
            claims[str(reference[2])] = max(int(reference[4]), claims.get(str(reference[2]), 0))

    file = arena.file()
    for _ in range(4):  # the number of the format, its version, the machine, the state
        BlindUnpickler(file, claim).load()
    keys = {str(key) for key in BlindUnpickler(file, claim).load()}
    missing = [key for key, count in claims.items() if count and key not in keys]
    if missing or sum(claims.values()) > arena.size_bytes:
        raise UnreadableCheckpoint(
            "torch cannot load this checkpoint: its state claims storages that the file does not hold"
        )


def is_tarred(arena: Arena) -> bool:
    """Whether a tar file is a checkpoint of torch's first format."""
    try:
        with tarfile.open(fileobj=arena.file(), mode="r:") as tar:
            return set(tar.getnames()) >= _PARTS
    except TimeoutError:  # an alarm says nothing of the file
        raise
    except (tarfile.TarError, OSError, ValueError):
        return False
