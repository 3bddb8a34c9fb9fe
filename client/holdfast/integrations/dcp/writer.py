"""The writer: every rank sends its own part into one checkpoint."""

import io
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch.distributed.checkpoint.filesystem import CURRENT_DCP_VERSION, _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItemType
from torch.distributed.checkpoint.storage import StorageWriter, WriteResult
from torch.futures import Future

from ..._arguments import values
from ..._shared.save import SharedSave
from ...errors import HoldfastError, InvalidRequest
from ...manager import CheckpointManager
from .._common.saves import manager_of, shared_save, state_of_name
from .._common.urls import SCHEME, split_url
from . import metadata as _metadata
from .source import RankFile

_STEP = re.compile(r"(?:.*[-_])?step[-_=]?([0-9]+)")


@dataclass(frozen=True)
class _Place:
    """The upload that all ranks fill, and the prefix of the files of one of them."""

    save_id: str
    rank: int
    ranks: int
    expected: Mapping[str, str]
    """The precondition."""


class HoldfastWriter(StorageWriter):
    """Saves with ``dcp.save(state_dict, storage_writer=HoldfastWriter("runs/a", step=100))``, also ``dcp.async_save``.

    All ranks fill one checkpoint, a folder in the format of torch: `FileSystemReader` reads it from a download. It
    becomes visible, whole, once every rank has sent its part; if one fails, none of it does. Every rank gives the same
    facts; if they differ, the save fails on every rank.

    Parameters
    ----------
    directory : str, Path or CheckpointManager, optional
        The directory, or a manager with settings of its own. Not needed if ``checkpoint_id`` is given to ``dcp.save``:
        ``holdfast://runs/a/step-100`` names the directory and the checkpoint.
    step, epoch : int, optional
        The counters. A number in a name such as ``step-100`` is the step.
    metric : float, optional
        The value that ranks it.
    name : str, optional
        Its name. Default: ``step-100`` or ``epoch-3``.
    tags, pinned, retention, metadata
        As for `CheckpointManager.save`; ``metadata`` is a mapping.
    **settings
        Further parameters of `CheckpointManager`.

    Raises
    ------
    ValueError
        Neither a name nor a counter is given.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager | None = None,
        *,
        step: int | None = None,
        epoch: int | None = None,
        metric: float | None = None,
        name: str | None = None,
        tags: Iterable[str] | None = None,
        pinned: bool = False,
        retention: Literal["policy", "manual"] = "policy",
        metadata: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._settings = settings
        self._name = name
        self._facts: dict[str, Any] = {
            "step": values.counter("step", step),
            "epoch": values.counter("epoch", epoch),
            "metric": values.metric(metric),
            "tags": values.tags(list(tags) if tags is not None else None),
            "pinned": pinned,
            "retention": retention,
        }
        self._metadata = values.metadata(metadata or {})
        if directory is not None:
            manager_of(directory, **settings)  # what is invalid is refused now
        self._manager: CheckpointManager | None = None
        self._sending: SharedSave | None = None

    # the interface of torch

    def reset(self, checkpoint_id: str | PathLike[str] | None = None) -> None:
        """Begin another save; ``checkpoint_id`` names its directory and itself."""
        self._sending = None
        if checkpoint_id is not None:
            self._directory, self._name = split_url(checkpoint_id, is_new=True)
            self._manager = None
            if (found := _STEP.fullmatch(self._name)) is not None:
                self._facts["step"] = int(found[1])

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begin a save, and check that the ranks are coordinated."""
        self._sending = None
        if not kwargs.get("use_collectives", True):
            raise InvalidRequest(
                "use_collectives=False saves without a coordinator, which commits the checkpoint", code="invalid"
            )

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """Tell the coordinator what this rank takes the facts to be."""
        return replace(plan, storage_data=self._described())

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Reserve the upload on the server, for all ranks."""
        described = [plan.storage_data for plan in plans]
        if any(each != described[0] for each in described):
            listed = "; ".join(f"rank {rank}: {_shown(each)}" for rank, each in enumerate(described[:8]))
            raise HoldfastError(f"the ranks disagree about the checkpoint: {listed}", code="ranks_disagree")
        save_id = secrets.token_hex(16)
        expected = state_of_name(self.manager, self.name)
        places = [_Place(save_id, rank, len(plans), expected) for rank in range(len(plans))]
        self._open(places[0]).upload_id  # noqa: B018 - reserves it, so that a refusal reaches every rank
        return [replace(plan, storage_data=place) for plan, place in zip(plans, places, strict=True)]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Send the part of this rank; it has arrived when this returns."""
        place: _Place = plan.storage_data
        sending = self._open(place)
        try:
            path = f"__{place.rank}_0.distcp"
            file, results = RankFile(), []
            for item in plan.items:
                offset, length = file.add(item.index.fqn, _resolved(item, planner))
                results.append(WriteResult(item.index, length, _StorageInfo(path, offset, length)))
            if results:
                sending.add(path, file.finish())
            sending.ready()
        except BaseException:
            sending.abort()  # no rank commits without this one
            raise
        done: Future[list[WriteResult]] = Future()
        done.set_result(results)
        return done

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Send the metadata, and commit the checkpoint."""
        metadata.version = CURRENT_DCP_VERSION
        metadata.storage_data = {each.index: each.storage_data for of_rank in results for each in of_rank}
        metadata.storage_meta = self.storage_meta()
        sending = self._sending
        assert sending is not None, "the coordinator has reserved it"
        sending.add(".metadata", _metadata.dump(metadata))
        sending.ready()
        sending.commit(writers=[f"rank-{rank}" for rank in range(len(results))])

    def storage_meta(self) -> StorageMeta:
        """Return what torch records of this save."""
        return StorageMeta(checkpoint_id=f"{SCHEME}{self.manager.checkpoint_dir}/{self.name}")

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | PathLike[str]) -> bool:
        """Tell if an id is a URL of Holdfast."""
        return str(checkpoint_id).startswith(SCHEME)

    # parts

    @property
    def manager(self) -> CheckpointManager:
        """The manager of the directory."""
        if self._manager is None:
            if self._directory is None:
                raise InvalidRequest("give a directory, or checkpoint_id='holdfast://DIRECTORY/NAME'", code="invalid")
            self._manager = manager_of(self._directory, **self._settings)
        return self._manager

    @property
    def name(self) -> str:
        """The name of the checkpoint."""
        for counter in ("step", "epoch"):
            if self._name is None and self._facts[counter] is not None:
                return f"{counter}-{self._facts[counter]}"
        if self._name is None:
            raise InvalidRequest("give a step, an epoch or a name: every rank needs the same name", code="invalid_name")
        return self._name

    def _described(self) -> dict[str, Any]:
        return {"directory": str(self.manager.checkpoint_dir), "name": self.name, **self._facts, **self._metadata}

    def _open(self, place: _Place) -> SharedSave:
        if self._sending is None:
            self._sending = shared_save(
                self.manager,
                self.name,
                save_id=place.save_id,
                writer=f"rank-{place.rank}",
                writers=[f"rank-{rank}" for rank in range(place.ranks)],
                expected=place.expected,
                metadata=self._metadata,
                **self._facts,
            )
        return self._sending

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process, for the processes of ``dcp.async_save``."""
        return {**self.__dict__, "_manager": None, "_sending": None}


def _resolved(item: Any, planner: SavePlanner) -> Any:
    """Return the bytes of an item, or its tensor in the memory of the CPU, with a storage of its own size."""
    data = planner.resolve_data(item)
    if item.type == WriteItemType.BYTE_IO:
        assert isinstance(data, io.BytesIO)
        return data.getvalue()
    assert isinstance(data, torch.Tensor)
    tensor = data.detach().cpu()
    return tensor.clone() if tensor.untyped_storage().size() != tensor.nbytes else tensor


def _shown(described: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in described.items() if value not in (None, [], False))
