"""Finalization: hashes the files of an upload, checks declared digests, and makes the bytes durable."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from app.core import digests
from app.core.errors import DigestMismatch, FileNotInCheckpoint, RangesMissing, WrongLength
from app.core.models import CHUNK_MAX_BYTES, Chunk, File, FileMap, Upload, UploadFile, Version
from app.formats import tensor_index
from app.formats.read_budget import Budget
from app.service.state.upload_progress import UploadProgress
from app.service.upload.transfer import Shortfall
from app.storage.ports import ContentStore, Opened, Partial

RANGES_NAMED = 1000
"""The number of ranges that a refusal lists at most."""
INDEXED_FILES = 100
"""The number of files of a save that the server searches for tensors that the client did not declare."""
INDEXING = (2 * 1024 * 1024, 400_000)
"""The budget for all of these files: enough for some 8,000 tensors, and about 0.3 s."""


@dataclass(frozen=True, slots=True)
class Finalized:
    """The content of an upload: its files with their chunks and digests, none of which changes any more."""

    files: tuple[File, ...]
    maps: Mapping[str, FileMap]
    digest: str


def finalize(
    content: ContentStore,
    upload: Upload,
    progress: UploadProgress,
    declared: Mapping[str, Sequence[Chunk]],
    missing: Shortfall,
    most_tensors: int,
) -> Finalized:
    """Make the bytes durable, hash those that were not hashed on arrival, and compare them with the declared digests.

    Hashed after that, as ranges may come past the server until the store has finalized the upload.

    Parameters
    ----------
    most_tensors : int
        The number of tensors of the save up to which the server adds those that the client did not declare.

    Raises
    ------
    RangesMissing, DigestMismatch
    WrongLength
        The declared chunks do not add up to the file's size.
    FileNotInCheckpoint
        Chunks are declared for a file that was not reserved.
    """
    if missing.count:
        raise ranges_missing(upload, missing)
    if unknown := set(declared) - {file.path for file in upload.files}:
        raise FileNotInCheckpoint(f"The upload has no file {min(unknown)!r}.")
    versions = content.finalize(upload)
    unseen = content.arrived(upload).keys()
    maps = {}
    for file in upload.files:
        wanted = declared.get(file.path)
        chunks = _hashed_on_arrival(progress, file, wanted) if file.path not in unseen else None
        if chunks is None:
            with content.partial(upload, file.path, create=False) as partial:
                if file.path in unseen:
                    known = _read_back(partial, file)
                else:
                    known = progress.chunks_of(file.path, partial.size_bytes())
                chunks = _chunks(known, partial, file, wanted)
        maps[file.path] = FileMap(chunks, file.tensors)
    return finalized(content, upload, maps, versions, most_tensors)


def finalized(
    content: ContentStore,
    upload: Upload,
    maps: Mapping[str, FileMap],
    versions: Mapping[str, Version],
    most_tensors: int,
) -> Finalized:
    """Give the content of an upload whose bytes are durable and verified, with the tensors that the server finds."""
    maps = {**maps, **_tensors_found(content, upload, maps, most_tensors)}
    files = tuple(
        File(
            file.path,
            sum(chunk.length for chunk in maps[file.path].chunks),
            digests.of_file(maps[file.path].chunks),
            versions[file.path],
            file.mode,
            file.modified_ns,
        )
        for file in sorted(upload.files, key=lambda file: file.path)
    )
    return Finalized(files, maps, digests.of_checkpoint((file.path, file.digest) for file in files))


def _tensors_found(
    content: ContentStore, upload: Upload, maps: Mapping[str, FileMap], most_tensors: int
) -> Mapping[str, FileMap]:
    """Give the maps of files whose tensors the server finds itself, within a budget that costs next to nothing."""
    left = most_tensors - sum(len(found.tensors or ()) for found in maps.values())
    unknown = [file.path for file in upload.files if file.tensors is None and file.size_bytes != 0]
    unknown = [path for path in unknown if path == upload.name or tensor_index.is_looked_into(path)]
    budget = Budget(*INDEXING)
    result = {}
    for path in unknown[:INDEXED_FILES]:
        tensors = None
        # a save does not fail for want of an index
        with suppress(OSError), content.partial(upload, path, create=False) as partial:
            tensors = tensor_index.read(partial.read, partial.size_bytes(), budget)
        if tensors is not None and len(tensors) <= left:
            left -= len(tensors)
            result[path] = FileMap(maps[path].chunks, tensors)
    return result


def _hashed_on_arrival(
    progress: UploadProgress, file: UploadFile, declared: Sequence[Chunk] | None
) -> tuple[Chunk, ...] | None:
    """Give the chunks that were hashed on arrival unless others are declared; the file is then not opened."""
    known = progress.chunks_of(file.path, file.size_bytes) if file.size_bytes is not None else None
    agree = known is not None and (not file.is_hashed or known == file.chunks)
    return known if agree and (declared is None or known == tuple(declared)) else None


def _read_back(partial: Partial, file: UploadFile) -> tuple[Chunk, ...] | None:
    """Hash a file that came past the server in the chunks of its reservation; None if that had no digests."""
    size_bytes = partial.size_bytes()
    if file.size_bytes not in {None, size_bytes}:
        raise WrongLength(f"The file {file.path!r} has {size_bytes} bytes in the store, not {file.size_bytes}.")
    return hashed(partial, _lengths(file.chunks)) if file.is_hashed else None


def _chunks(
    known: tuple[Chunk, ...] | None, partial: Partial, file: UploadFile, declared: Sequence[Chunk] | None
) -> tuple[Chunk, ...]:
    size_bytes = partial.size_bytes()
    if file.is_hashed and known != file.chunks:
        raise DigestMismatch(f"The bytes of {file.path!r} are not those that were declared.", file=file.path)
    if declared is None:
        return known if known is not None else hashed(partial, cut(size_bytes))
    if known == tuple(declared):
        return known
    lengths = _lengths(declared)
    if sum(lengths) != size_bytes:
        raise WrongLength(f"The chunks declared for {file.path!r} add up to {sum(lengths)} bytes, not {size_bytes}.")
    if (found := hashed(partial, lengths)) != tuple(declared):
        raise DigestMismatch(f"The bytes of {file.path!r} do not have the digests that were declared.", file=file.path)
    return found


def _lengths(chunks: Sequence[Chunk] | None) -> list[int]:
    return [chunk.length for chunk in chunks or ()]


def ranges_missing(upload: Upload, missing: Shortfall) -> RangesMissing:
    """Make the refusal of an upload that lacks bytes, with the first ranges."""
    return RangesMissing(
        f"{missing.count} range(s) of upload {upload.id} have not arrived.",
        missing=[
            {"file": path, "offset": span.start, "length": span.stop - span.start}
            for path, span, _ in missing.ranges[:RANGES_NAMED]
        ],
        missing_count=missing.count,
        missing_bytes=missing.size_bytes,
    )


def cut(size_bytes: int) -> list[int]:
    """Give the chunk lengths of a file whose client declared no chunks."""
    whole, rest = divmod(size_bytes, CHUNK_MAX_BYTES)
    return [CHUNK_MAX_BYTES] * whole + ([rest] if rest else [])


def hashed(file: Partial | Opened, lengths: Sequence[int]) -> tuple[Chunk, ...]:
    """Hash a file in chunks of these lengths."""
    chunks, offset = [], 0
    for length in lengths:
        chunks.append(Chunk(length, digests.of_chunk(file.read(offset, length))))
        offset += length
    return tuple(chunks)
