"""Responses about the layout of a checkpoint's files: chunks, ranges to fetch, folders and tensors."""

from collections.abc import Callable, Iterable, Sequence
from typing import Self

from pydantic import BaseModel, Field

from app.api.schemas.checkpoints import FileOut
from app.api.schemas.transfers import BatchOut, RangeOut, batches_of, range_of
from app.core import spans
from app.core.models import Checkpoint, File, FileMap, RangeUrl, Tensor
from app.core.spans import Span
from app.http.page_tokens import read_number, windows, write_token

UrlOf = Callable[[Checkpoint, File, Span], RangeUrl | None]
"""The URL that the store gives for a range; None if the client fetches the range from the server."""
MOST_CHUNKS, MOST_TENSORS = 50_000, 20_000
"""The most chunks or tensors, plus files, on a page."""


class ChunkOut(BaseModel):
    """A chunk of a file and its BLAKE3 digest."""

    offset: int
    length: int
    digest: str


class FileChunksOut(FileOut):
    """Chunks of a file, and the ranges for fetching them. Later pages continue the list."""

    chunks: list[ChunkOut]
    ranges: list[RangeOut]
    mode: int | None = Field(description="File permissions at the source, if declared.")
    mtime_ns: int | None = Field(description="Modification time at the source, in ns since 1970.")

    @classmethod
    def of_map(
        cls, checkpoint: Checkpoint, file: File, found: FileMap, range_max_bytes: int, url_of: UrlOf, part: slice
    ) -> Self:
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
            ranges=[
                _get(base, file, span, url_of(checkpoint, file, span)) for span in wanted if begin <= span.start < end
            ],
            mode=file.mode,
            mtime_ns=file.modified_ns,
        )


class FolderOut(BaseModel):
    """A folder of the checkpoint at the source. The empty path is the checkpoint's own folder."""

    path: str
    mode: int | None
    mtime_ns: int | None


class ChunksOut(BaseModel):
    """The files and chunks of a checkpoint, for verifying every byte. Large checkpoints have several pages."""

    id: str
    digest: str
    files: list[FileChunksOut]
    next_page_token: str | None
    folders: list[FolderOut] = Field(description="All folders, if declared; on the first page only.")
    batches: list[BatchOut] = Field(description="Small files that can be fetched in one request.")

    @classmethod
    def of(
        cls,
        checkpoint: Checkpoint,
        maps: dict[str, FileMap],
        range_max_bytes: int,
        url_of: UrlOf,
        page_token: str | None = None,
    ) -> Self:
        counts = [len(maps[file.path].chunks) for file in checkpoint.files]
        start, token = _page(counts, MOST_CHUNKS, page_token, "chunks", checkpoint.id)
        shown = [(checkpoint.files[number], slice(*part)) for number, *part in windows(counts, start, MOST_CHUNKS)]
        return cls(
            id=checkpoint.id,
            digest=checkpoint.digest,
            files=[
                FileChunksOut.of_map(checkpoint, file, maps[file.path], range_max_bytes, url_of, part)
                for file, part in shown
            ],
            next_page_token=token,
            folders=[
                FolderOut(path=folder.path, mode=folder.mode, mtime_ns=folder.modified_ns)
                for folder in (checkpoint.folders if start == 0 else ())
            ],
            batches=batches_of(
                "GET",
                f"/v1/checkpoints/{checkpoint.id}/batch",
                _first_shown(checkpoint, windows(counts, start, MOST_CHUNKS)),
                None,
            ),
        )


class TensorOut(BaseModel):
    """A tensor that the client declared or the server found in the file."""

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
    """The tensors of a checkpoint, in pages."""

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


def _page(counts: Sequence[int], limit: int, token: str | None, *listing: str) -> tuple[int, str | None]:
    """Return the first entry of a page, and the token of the next page."""
    start = read_number(token, *listing) or 0
    following = start + limit
    return start, write_token((following,), *listing) if following < sum(counts) + len(counts) else None


def _first_shown(checkpoint: Checkpoint, shown: Iterable[tuple[int, int, int]]) -> list[tuple[int, str, int]]:
    """Return the files of a page, without one that continues from an earlier page."""
    files = checkpoint.files
    return [(place, files[place].path, files[place].size_bytes) for place, first, _ in shown if first == 0]


def _get(base: FileOut, file: File, span: Span, of_store: RangeUrl | None) -> RangeOut:
    headers = {"Range": f"bytes={span.start}-{span.stop - 1}", "If-Match": f'"{file.digest}"'}
    return range_of("GET", file.path, span, of_store or RangeUrl(base.url, headers))
