"""Query parameters of a save in a single request, and of a listing."""

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from app.api.schemas.parameters import CheckpointName, DirectoryName, RankingKey, Tag
from app.api.schemas.requests import FactsIn, PolicyIn, RequestBody
from app.api.schemas.values import Count, Finite, Metadata, SaveId, WriterId
from app.catalog import ListFilter, Order
from app.core.access import Access
from app.core.limits import MOST
from app.core.models import Kind, Mode, Precondition, Retention, Save, UploadFile


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


class SaveQuery(FactsIn, PolicyIn):
    """The parameters of a save in a single request."""

    directory: DirectoryName
    name: CheckpointName | None = None
    save_id: SaveId | None = None
    saved_after: Count | None = None
    writer: WriterId | None = None
    only_if_improved: bool = False
    metadata: Annotated[Metadata, BeforeValidator(_parsed)] = Field({}, description="A JSON object.")

    def save(self, may: Access, expected: Precondition) -> Save:
        limits = PolicyIn.model_validate(self.model_dump(include=set(PolicyIn.model_fields) & self.model_fields_set))
        return Save(
            directory=self.directory,
            name=self.name or "",
            save_id=self.save_id or "",
            facts=self.facts(),
            files=(UploadFile("", size_bytes=None),),
            saved_after=self.saved_after,
            policy=limits.asked(),
            writer=self.writer,
            only_if_improved=self.only_if_improved,
            token_id=may.token_id,
            may_dedup=may.allows("read"),
            precondition=expected,
        )


class ListQuery(RequestBody):
    """Order and filters of a listing. A filter that is not given matches everything."""

    directory: DirectoryName
    order_by: Order = Field("position", description="`best` ranks and omits checkpoints without a rank.")
    by: RankingKey | None = Field(None, description="With `order_by=best`: rank by this numeric metadata value.")
    mode: Mode | None = Field(None, description="With `order_by=best`: rank by this mode.")
    name: CheckpointName | None = None
    kind: Kind | None = None
    retention: Retention | None = None
    pinned: bool | None = None
    is_best: bool | None = None
    tag: Tag | None = None
    epoch_min: Count | None = None
    epoch_max: Count | None = None
    step_min: Count | None = None
    step_max: Count | None = None
    metric_min: Finite | None = None
    metric_max: Finite | None = None
    include_removed: bool = Field(False, description="Include removed checkpoints.")
    page_size: int = Field(100, ge=1, le=MOST.page_size)
    page_token: Annotated[str, Field(max_length=4096)] | None = None

    def listing(self, own_mode: Mode) -> ListFilter:
        given = self.model_dump(exclude={"page_size", "page_token", "mode"})
        return ListFilter(**given, mode=self.mode or own_mode)
