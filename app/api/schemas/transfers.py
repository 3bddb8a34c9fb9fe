"""Answers about bytes: which ranges to send, which to fetch, and what lies where."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal, Self
from urllib.parse import quote

from pydantic import BaseModel, Field

from app.api.schemas.answers import CheckpointOut, FileOut
from app.core import batches, spans
from app.core.models import Checkpoint, File, FileMap, Tensor, Upload
from app.core.spans import Span
from app.http.page_tokens import read_number, windows, write_token
from app.service.upload.reserve import Missing, Reservation

MOST_CHUNKS, MOST_TENSORS = 50_000, 20_000
"""How many chunks, or tensors, and files a page lists."""


class RangeOut(BaseModel):
    """Bytes of a file to send or to fetch, and how; to be followed as it is."""

    file: str
    method: str
    url: str
    headers: dict[str, str]
    offset: int
    length: int
    expires_at: datetime | None


class PartOut(BaseModel):
    """A whole file within a batch."""

    file: str
    length: int


class BatchOut(BaseModel):
    """Small files to send or to fetch in one request, their bytes one after another; to be followed as it is."""

    method: str
    url: str
    headers: dict[str, str]
    length: int
    parts: list[PartOut]
    expires_at: datetime | None


class UploadOut(BaseModel):
    """An upload and the ranges that it still lacks; or, once committed, the checkpoint that it became."""

    id: str
    state: Literal["open", "committed"]
    directory: str
    name: str
    saved_after: int | None
    missing: list[RangeOut] = Field(description="The first ranges to send, in the order of the files.")
    missing_count: int = Field(description="How many ranges are missing in all; more than are listed come by `GET`.")
    missing_bytes: int = Field(description="How many bytes these have.")
    batches: list[BatchOut] = Field(description="Small files of `missing` that can be sent together instead.")
    expires_at: datetime | None
    checkpoint: CheckpointOut | None

    @classmethod
    def of(cls, reservation: Reservation) -> Self:
        upload = reservation.upload
        if upload is None:
            checkpoint = reservation.checkpoint
            assert checkpoint is not None
            return cls(
                id=checkpoint.id,
                state="committed",
                directory=checkpoint.directory,
                name=checkpoint.name,
                saved_after=checkpoint.saved_after,
                missing=[],
                missing_count=0,
                missing_bytes=0,
                batches=[],
                expires_at=None,
                checkpoint=CheckpointOut.of(checkpoint),
            )
        missing = reservation.missing
        return cls(
            id=upload.id,
            state="open",
            directory=upload.directory,
            name=upload.name,
            saved_after=upload.saved_after,
            missing=[_put(upload.id, upload.expires_at, *found) for found in missing.ranges],
            missing_count=missing.count,
            missing_bytes=missing.size_bytes,
            batches=_batches(
                "PUT", f"/v1/uploads/{upload.id}/batch", _whole_files(upload, missing.ranges), upload.expires_at
            ),
            expires_at=upload.expires_at,
            checkpoint=None,
        )


class ChunkOut(BaseModel):
    """Bytes of a file and their BLAKE3."""

    offset: int
    length: int
    digest: str


class FileChunksOut(FileOut):
    """Chunks of a file, and the ranges in which to fetch them; on later pages, those that follow."""

    chunks: list[ChunkOut]
    ranges: list[RangeOut]
    mode: int | None = Field(description="Its permissions where it was saved from, if that was said.")
    mtime_ns: int | None = Field(description="When it was last changed there, in ns since 1970.")

    @classmethod
    def of_map(cls, checkpoint: Checkpoint, file: File, found: FileMap, range_max_bytes: int, part: slice) -> Self:
        base = FileOut.of(checkpoint, file)
        edges = spans.chunk_edges(found.chunks)
        begin, end = edges[part.start], edges[part.stop]
        wanted = spans.missing((), file.size_bytes, found.chunks, range_max_bytes)
        return cls(
            **base.model_dump(),
            chunks=[
                ChunkOut(offset=offset, length=chunk.length, digest=chunk.digest)
                for offset, chunk in zip(edges[part], found.chunks[part], strict=False)
            ],
            ranges=[_get(base, file, span) for span in wanted if begin <= span.start < end],
            mode=file.mode,
            mtime_ns=file.modified_ns,
        )


class FolderOut(BaseModel):
    """A folder of the checkpoint where it was saved from; an empty path is for the checkpoint's own."""

    path: str
    mode: int | None
    mtime_ns: int | None


class ChunksOut(BaseModel):
    """What a checkpoint consists of, so that every byte of it can be verified; in pages where that is very much."""

    id: str
    digest: str
    files: list[FileChunksOut]
    next_page_token: str | None
    folders: list[FolderOut] = Field(description="The folders, empty ones too, if they were told; on the first page.")
    batches: list[BatchOut] = Field(description="Small files that can be fetched together instead of one by one.")

    @classmethod
    def of(
        cls, checkpoint: Checkpoint, maps: dict[str, FileMap], range_max_bytes: int, page_token: str | None = None
    ) -> Self:
        counts = [len(maps[file.path].chunks) for file in checkpoint.files]
        start, token = _page(counts, MOST_CHUNKS, page_token, "chunks", checkpoint.id)
        shown = [(checkpoint.files[number], slice(*part)) for number, *part in windows(counts, start, MOST_CHUNKS)]
        return cls(
            id=checkpoint.id,
            digest=checkpoint.digest,
            files=[
                FileChunksOut.of_map(checkpoint, file, maps[file.path], range_max_bytes, part) for file, part in shown
            ],
            next_page_token=token,
            folders=[
                FolderOut(path=folder.path, mode=folder.mode, mtime_ns=folder.modified_ns)
                for folder in (checkpoint.folders if start == 0 else ())
            ],
            batches=_batches(
                "GET",
                f"/v1/checkpoints/{checkpoint.id}/batch",
                _begun(checkpoint, windows(counts, start, MOST_CHUNKS)),
                None,
            ),
        )


class TensorOut(BaseModel):
    """A tensor, as the client declared it or the server found it."""

    name: str
    dtype: str
    shape: list[int]
    offset: int | None
    size_bytes: int | None

    @classmethod
    def of(cls, tensor: Tensor) -> Self:
        return cls(
            name=tensor.name,
            dtype=tensor.dtype,
            shape=list(tensor.shape),
            offset=tensor.offset,
            size_bytes=tensor.size_bytes,
        )


class FileTensorsOut(BaseModel):
    """The tensors of a file."""

    path: str
    tensors: list[TensorOut]


class TensorsOut(BaseModel):
    """The tensors of a checkpoint, in pages where they are very many."""

    id: str
    files: list[FileTensorsOut]
    next_page_token: str | None

    @classmethod
    def of(cls, checkpoint: Checkpoint, maps: dict[str, FileMap], page_token: str | None = None) -> Self:
        declared = [(path, found.tensors) for path, found in sorted(maps.items()) if found.tensors is not None]
        counts = [len(tensors) for _, tensors in declared]
        start, token = _page(counts, MOST_TENSORS, page_token, "tensors", checkpoint.id)
        return cls(
            id=checkpoint.id,
            files=[
                FileTensorsOut(
                    path=declared[number][0],
                    tensors=[TensorOut.of(tensor) for tensor in declared[number][1][first:last]],
                )
                for number, first, last in windows(counts, start, MOST_TENSORS)
            ],
            next_page_token=token,
        )


class BatchReceivedOut(BaseModel):
    """Files that were verified and written."""

    files: int
    length: int


class ReceivedOut(BaseModel):
    """Bytes that were verified and written."""

    file: str
    offset: int
    length: int


def _page(counts: Sequence[int], limit: int, token: str | None, *listing: str) -> tuple[int, str | None]:
    """The entry that a page begins with, and the token of the next page."""
    start = read_number(token, *listing) or 0
    following = start + limit
    return start, write_token((following,), *listing) if following < sum(counts) + len(counts) else None


def _begun(checkpoint: Checkpoint, shown: Iterable[tuple[int, int, int]]) -> list[tuple[int, str, int]]:
    """The files of a page, but for one that began on an earlier page."""
    files = checkpoint.files
    return [(place, files[place].path, files[place].size_bytes) for place, first, _ in shown if first == 0]


def _whole_files(upload: Upload, missing: Iterable[Missing]) -> list[tuple[int, str, int]]:
    """The files of which nothing has arrived, and which are one range."""
    whole = {path for path, span in missing if span.start == 0}
    return [
        (place, file.path, file.size_bytes)
        for place, file in enumerate(upload.files)
        if file.path in whole and file.size_bytes is not None
    ]


def _batches(
    method: str, url: str, files: Iterable[tuple[int, str, int]], expires_at: datetime | None
) -> list[BatchOut]:
    """The batches of files, each given as its place, path and size in bytes."""
    known = {place: PartOut(file=path, length=size_bytes) for place, path, size_bytes in files}
    found = []
    for places in batches.plan((place, part.length) for place, part in known.items()):
        parts = [known[place] for place in places]
        found.append(
            BatchOut(
                method=method,
                url=f"{url}?files={batches.name(places)}",
                headers={},
                length=sum(part.length for part in parts),
                parts=parts,
                expires_at=expires_at,
            )
        )
    return found


def _get(base: FileOut, file: File, span: Span) -> RangeOut:
    return RangeOut(
        file=file.path,
        method="GET",
        url=base.url,
        headers={"Range": f"bytes={span.start}-{span.stop - 1}", "If-Match": f'"{file.digest}"'},
        offset=span.start,
        length=span.stop - span.start,
        expires_at=None,
    )


def _put(upload_id: str, expires_at: datetime, path: str, span: Span) -> RangeOut:
    length = span.stop - span.start
    return RangeOut(
        file=path,
        method="PUT",
        url=f"/v1/uploads/{upload_id}/files/{quote(path)}?offset={span.start}&length={length}",
        headers={},
        offset=span.start,
        length=length,
        expires_at=expires_at,
    )
