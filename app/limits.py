"""How much one request may ask for: what an operator sets, and the most that any server takes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from app import metadata
from app.domain import Chunk, Save
from app.errors import TooLarge


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of requests. By default each is as wide as the API's own, beyond which no server takes anything."""

    metadata_bytes: int = metadata.MAX_BYTES
    metadata_depth: int = metadata.MAX_DEPTH
    files: int = 10_000
    chunks: int = 1_000_000
    tensors: int = 1_000_000
    tags: int = 100
    page_size: int = 1000
    ranges: int = 10_000

    def admit(self, save: Save) -> None:
        """Let a save be looked at.

        Raises
        ------
        TooLarge
            It has too much of something; the detail names the setting.
        InvalidRequest
            Its metadata is nested too deep.
        """
        self.admit_facts(save.facts.tags, save.facts.metadata)
        _refuse("files", len(save.files), self.files)
        _refuse("folders", len(save.folders), self.files)
        self.admit_chunks([file.chunks or () for file in save.files])
        _refuse("tensors", sum(len(file.tensors or ()) for file in save.files), self.tensors)

    def admit_facts(self, tags: Sequence[str], found: Mapping[str, Any]) -> None:
        """As `admit`, for what a change gives."""
        _refuse("tags", len(tags), self.tags)
        metadata.bounded(found, max_depth=self.metadata_depth)
        _refuse("metadata_bytes", metadata.size_bytes(found), self.metadata_bytes)

    def admit_chunks(self, files: Sequence[Sequence[Chunk]]) -> None:
        """As `admit`, for the chunks of all files together."""
        _refuse("chunks", sum(map(len, files)), self.chunks)


_WAYS = {
    "files": "Pack some of them into one file, or save several checkpoints.",
    "chunks": "Declare longer chunks.",
    "tensors": "Save without the tensor index.",
    "tags": "Put the others into the metadata.",
    "metadata_bytes": "Put large values into a file of the checkpoint.",
}
"""What else can be done where there is too much of something."""

MOST = Limits()
"""The API's own bounds."""


def too_many(name: str, found: int, limit: int) -> TooLarge:
    """The refusal of too much of something, which names the setting and a way."""
    what, name = name.replace("_", " "), "files" if name == "folders" else name
    most = getattr(MOST, name)
    allowed = f"the {limit} that HOLDFAST_MAX_{name.upper()} allows"
    raisable = f", and may be set to {most} at most" if limit < most else ", which is the most that can be set"
    return TooLarge(f"{found} {what} are more than {allowed}{raisable}. {_WAYS[name]}")


def _refuse(name: str, found: int, limit: int) -> None:
    if found > limit:
        raise too_many(name, found, limit)
