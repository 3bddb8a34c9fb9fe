"""The reader: each rank fetches the ranges that its part of the state needs."""

import io
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.distributed._shard._utils import narrow_tensor_by_index
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.distributed.checkpoint.storage import StorageReader
from torch.futures import Future

from ..._api.wire import Checkpoint, FileChunks
from ..._runtime.interruption import reraise
from ..._torchfile.reader import safety
from ..._torchfile.reader.file_memory import FileMemory
from ..._transfer import download
from ..._transfer.contents import contents_of
from ...errors import CheckpointNotFound, HoldfastError, InvalidRequest, UnreadableCheckpoint, UnsafeCheckpoint
from ...manager import CheckpointManager
from .._common.nodes import on_one_rank
from .._common.saves import manager_of
from .._common.urls import SCHEME, split_url
from . import metadata as _metadata

_METADATA = ".metadata"


class HoldfastReader(StorageReader):
    """Loads with ``dcp.load(state_dict, storage_reader=HoldfastReader("runs/a", "latest"))``, in any number of ranks.

    Every rank fetches only the ranges that hold its part of the state, and verifies them. It reads all checkpoints in
    the format of torch.distributed.checkpoint, however they came to the server.

    Parameters
    ----------
    directory : str, Path or CheckpointManager, optional
        The directory, or a manager with settings of its own. Not needed if ``checkpoint_id`` is given to ``dcp.load``:
        ``holdfast://runs/a/step-100``, or ``@latest`` or ``@best`` in place of the name.
    which : str
        ``"latest"``, ``"best"``, or the name of a checkpoint.
    weights_only : bool
        Whether to refuse objects whose loading could run code. False only for checkpoints that you trust.
    **settings
        Further parameters of `CheckpointManager`.
    """

    def __init__(
        self,
        directory: str | Path | CheckpointManager | None = None,
        which: str = "latest",
        *,
        weights_only: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__()
        self._directory = directory
        self._which = which
        self._settings = settings
        self._weights_only = weights_only
        self._checkpoint: Checkpoint | None = None
        self._files: dict[str, FileChunks] = {}
        self._storage_data: Any = None

    def exists(self) -> bool:
        """Tell if there is such a checkpoint. Every rank calls it; rank 0 looks, and the load that follows takes that.

        Raises
        ------
        HoldfastError
            The server refuses, or does not answer; on every rank.
        """
        self._checkpoint = on_one_rank(self._looked_up)
        return self._checkpoint is not None

    # the interface of torch

    def reset(self, checkpoint_id: str | PathLike[str] | None = None) -> None:
        """Begin another load; ``checkpoint_id`` names its directory and the checkpoint."""
        self._checkpoint, self._files = None, {}
        if checkpoint_id is not None:
            self._directory, name = split_url(checkpoint_id)
            self._which = name.removeprefix("@") if name in {"@latest", "@best"} else name

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Find the checkpoint, and read its metadata.

        Raises
        ------
        CheckpointNotFound
            There is no such checkpoint.
        UnreadableCheckpoint
            It is none of torch.distributed.checkpoint.
        """
        self._checkpoint = checkpoint = self._checkpoint or self._found()
        self._files = {file.path: file for file in contents_of(self._server, checkpoint).files}
        if _METADATA not in self._files:
            raise UnreadableCheckpoint(
                f"{checkpoint.name} of {checkpoint.directory!r} has no file {_METADATA}: it is no checkpoint of "
                "torch.distributed.checkpoint"
            )
        size_bytes = self._files[_METADATA].size_bytes
        found = _metadata.load(self._fetched(_METADATA, [(0, size_bytes)]).bytes(0, size_bytes))
        found.storage_meta = found.storage_meta or StorageMeta()
        return found

    def set_up_storage_reader(self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Note the places of all items."""
        self._storage_data = metadata.storage_data

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """Tell the coordinator which checkpoint this rank has found."""
        return replace(plan, storage_data=self._checkpoint.id if self._checkpoint is not None else None)

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Refuse to load a mixture, if a checkpoint was saved between the looks of two ranks."""
        if len({plan.storage_data for plan in plans}) > 1:
            raise HoldfastError(
                f"the ranks found different checkpoints for {self._which!r}, as one was saved meanwhile: load again",
                code="ranks_disagree",
            )
        return plans

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fetch what a plan needs, a file at a time, and hand it to the planner."""
        by_file: dict[str, list[ReadItem]] = {}
        for item in plan.items:
            by_file.setdefault(self._storage_data[item.storage_index].relative_path, []).append(item)
        for path, items in by_file.items():
            places = [self._storage_data[item.storage_index] for item in items]
            memory = self._fetched(path, [(place.offset, place.offset + place.length) for place in places])
            for item, place in zip(items, places, strict=True):
                self._give(planner, item, memory.bytes(place.offset, place.length))
        done: Future[None] = Future()
        done.set_result(None)
        return done

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: str | PathLike[str]) -> bool:
        """Tell if an id is a URL of Holdfast."""
        return str(checkpoint_id).startswith(SCHEME)

    # parts

    @property
    def _manager(self) -> CheckpointManager:
        if self._directory is None:
            raise InvalidRequest("give a directory, or checkpoint_id='holdfast://DIRECTORY/NAME'", code="invalid")
        self._directory = manager_of(self._directory, **self._settings)
        self._settings = {}
        return self._directory

    @property
    def _server(self) -> Any:
        return self._manager._remote.server

    def _found(self) -> Checkpoint:
        found = self._looked_up()
        if found is None:
            raise CheckpointNotFound(
                f"{self._manager.checkpoint_dir} has no checkpoint {self._which!r}", code="checkpoint_not_found"
            )
        return found

    def _looked_up(self) -> Checkpoint | None:
        manager = self._manager
        if self._which == "latest":
            return manager._remote.latest()
        if self._which == "best":
            return manager._best_checkpoint()
        try:
            return manager._find(self._which)
        except CheckpointNotFound:
            return None

    def _fetched(self, path: str, spans: list[tuple[int, int]]) -> FileMemory:
        if path not in self._files:
            raise UnreadableCheckpoint(f"the checkpoint lacks the file {path!r}, which its metadata name")
        return download.parts_of(self._server, self._files[path], spans)

    def _give(self, planner: LoadPlanner, item: ReadItem, data: bytes) -> None:
        """Hand an item to the planner: bytes as they are, of a tensor the part that is asked for."""
        if item.type == LoadItemType.BYTE_IO:
            if safety.is_weights_only(self._weights_only):
                _refuse_code(item.storage_index.fqn, data)
            planner.load_bytes(item, io.BytesIO(data))
            return
        tensor = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        tensor = narrow_tensor_by_index(tensor, item.storage_offsets, item.lengths)
        target = planner.resolve_tensor(item).detach()
        if target.size() != tensor.size():
            raise UnreadableCheckpoint(
                f"{item.storage_index.fqn!r} has the shape {tuple(tensor.size())} in the checkpoint, and "
                f"{tuple(target.size())} in the state"
            )
        target.copy_(tensor)
        planner.commit_tensor(item, target)


def _refuse_code(name: str, data: bytes) -> None:
    """Refuse an object that torch would not load as weights: its planner loads everything."""
    try:
        torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:
        reraise(error)
        raise UnsafeCheckpoint(
            f"{name!r} holds more than weights and plain values ({error}). If you trust its author, give "
            "HoldfastReader(..., weights_only=False)"
        ) from error
