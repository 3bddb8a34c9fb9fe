"""Names and parameters shared by several requests, with their validation."""

from typing import Annotated

from fastapi import Path, Query
from pydantic import AfterValidator, Field

from app.core import names
from app.core.batches import NAME_CHARACTERS
from app.core.limits import MOST
from app.core.models import Mode
from app.core.ranking import KEY_MAX_CHARACTERS

DirectoryName = Annotated[str, AfterValidator(names.directory_name)]
CheckpointName = Annotated[str, AfterValidator(names.checkpoint_name)]
FilePath = Annotated[str, AfterValidator(names.file_path)]
Tag = Annotated[str, AfterValidator(names.tag)]


def _prefix(text: str) -> str:
    return names.directory_name(text) if text else text


def _without_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


def _tree_path(text: str) -> str:
    return names.tree_path(text) if text else text


MetadataKey = Annotated[str, AfterValidator(_without_nul)]
RankingKey = Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS), AfterValidator(_without_nul)]
Prefix = Annotated[str, AfterValidator(_prefix)]

DirectoryQuery = Annotated[DirectoryName, Query(description="The directory, e.g. `runs/experiment/checkpoints`.")]
PrefixQuery = Annotated[Prefix, Query(description="Only directories at or below this one, by whole path components.")]
TreePathQuery = Annotated[
    str,
    AfterValidator(_tree_path),
    Query(description="A directory, a checkpoint in it, or a folder or file of that; `@best` and `@latest` are names."),
]
By = Annotated[RankingKey | None, Query(description="Rank by this numeric metadata value.")]
ModeQuery = Annotated[Mode | None, Query(description="Rank by this mode instead of the directory's own.")]
BatchQuery = Annotated[
    str,
    Query(
        min_length=1,
        max_length=NAME_CHARACTERS,
        description="Positions of the files in the list of all files, as in `0-99,101`.",
    ),
]
AttemptQuery = Annotated[
    int | None, Query(ge=0, le=2**53 - 1, description="Of a shared upload: the attempt of the job. Required there.")
]
PageSize = Annotated[int, Query(ge=1, le=MOST.page_size, description="The most entries on a page.")]
PageToken = Annotated[str | None, Query(max_length=4096, description="The `next_page_token` of the previous page.")]
Id = Annotated[str, Path(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_-]+$")]
