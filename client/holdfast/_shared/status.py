"""The state of a shared save, as the server tells it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class WriterState:
    """The part of one writer.

    Attributes
    ----------
    name : str
        Its name.
    files, size_bytes : int
        The number of its files, and of their bytes.
    missing_bytes : int or None
        The number of bytes that have not arrived; None if the server was restarted and has not looked.
    is_ready : bool
        Whether it has reported that all of its files have arrived.
    active_at : str or None
        The time of its last request, as text in ISO 8601.
    """

    name: str
    files: int
    size_bytes: int
    missing_bytes: int | None
    is_ready: bool
    active_at: str | None


@dataclass(frozen=True, slots=True)
class SharedStatus:
    """The state of a shared save.

    Attributes
    ----------
    is_committed : bool
        Whether it is a checkpoint; then the rest is empty.
    attempt : int
        The attempt that counts.
    writers : tuple of WriterState
        The writers that have declared files or are ready.
    missing_writers : tuple of str
        The names of the writers that the commit waits for.
    """

    is_committed: bool
    attempt: int = 0
    writers: tuple[WriterState, ...] = ()
    missing_writers: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        shared = data.get("shared")
        if data["state"] == "committed" or shared is None:
            return cls(data["state"] == "committed")
        writers = tuple(
            WriterState(
                found["writer"],
                found["files"],
                found["size_bytes"],
                found["missing_bytes"],
                found["is_ready"],
                found["active_at"],
            )
            for found in shared["writers"]
        )
        return cls(False, shared["attempt"], writers, tuple(shared["missing_writers"]))
