"""Torch's formats before the zip file, checked before torch may read one."""

from typing import Any

from ...errors import UnreadableCheckpoint
from .file_memory import FileMemory
from .stub_unpickler import StubUnpickler

_PARTS = {b"storages", b"tensors", b"pickle"}
_BLOCK_BYTES = 512


def refuse_missing_storages(memory: FileMemory) -> None:
    """Check that a file of five pickles has the bytes of each storage that its state needs.

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

    file = memory.file()
    for _ in range(4):  # the magic number, the version, the machine, the state
        StubUnpickler(file, claim).load()
    keys = {str(key) for key in StubUnpickler(file, claim).load()}
    missing = [key for key, count in claims.items() if count and key not in keys]
    if missing or sum(claims.values()) > memory.size_bytes:
        raise UnreadableCheckpoint(
            "torch cannot load this checkpoint: its state claims storages that the file does not hold"
        )


def is_tarred(memory: FileMemory) -> bool:
    """Tell if a tar file is a checkpoint of torch's first format, by the names of its members.

    Not with `tarfile`, which makes errors of its own of what a signal's handler raises.
    """
    missing, place = set(_PARTS), 0
    while missing and place + _BLOCK_BYTES <= memory.size_bytes:
        header = memory.bytes(place, _BLOCK_BYTES)
        size = header[124:136].strip(b" \0")
        if header[257:262] != b"ustar" or not size or size.strip(b"01234567"):
            return False
        missing.discard(header[:100].rstrip(b"\0"))
        place += _BLOCK_BYTES * (1 + -(-int(size, 8) // _BLOCK_BYTES))
    return not missing
