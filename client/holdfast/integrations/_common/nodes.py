"""Nodes of a job: the ranks of one machine share a disk, and one of them sends or fetches what is on it."""

import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..._transfer.folders.local_files import LocalFiles
from ...errors import HoldfastError
from ...manager import CheckpointManager
from .ranks import gathered, rank_of_job
from .saves import save_files, shared_save, state_of_name

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """The place of this rank: the number of its node, of how many, and whether it is the first rank there."""

    number: int
    count: int
    is_first: bool


def node_of_rank() -> Node:
    """Return the node of this rank, by the names of the machines. Collective."""
    hosts = gathered(socket.gethostname())
    names, own = list(dict.fromkeys(hosts)), rank_of_job()
    return Node(names.index(hosts[own]), len(names), hosts.index(hosts[own]) == own)


def on_every_rank(deed: Callable[[], T]) -> T:
    """Do something on this rank, and raise an error on every rank if it failed on any. Collective."""
    failure: Exception | None = None
    try:
        result = deed()
    except Exception as error:
        failure = error
    failures = gathered(None if failure is None else f"{type(failure).__name__}: {failure}")
    if failure is not None:
        raise failure
    for rank, said in enumerate(failures):
        if said is not None:
            raise HoldfastError(f"rank {rank} failed: {said}", code="other_rank_failed")
    return result


def on_one_rank(deed: Callable[[], T]) -> T:
    """Do something on rank 0, and return its result on every rank, or raise its error there. Collective."""
    result = on_every_rank(lambda: deed() if rank_of_job() == 0 else None)
    found: T = gathered(result)[0]
    return found


def send_folder(manager: CheckpointManager, folder: Path, *, name: str, wait: bool | None = None, **facts: Any) -> Path:
    """Save a folder into which every rank has written, each on the disk of its node. Collective.

    On one node, rank 0 saves the folder. On several, the first rank of each sends what is on its disk, into one
    checkpoint; of a path that several nodes have, the first one's file counts. The facts are those of rank 0.

    Parameters
    ----------
    wait : bool, optional
        Whether to return only when it is durable; on several nodes, this is always so.
    name : str
        The name of the checkpoint, and of the folder.
    **facts
        As for `save_files`.
    """
    node = node_of_rank()
    if node.count == 1:
        on_one_rank(lambda: str(save_files(manager, folder, wait=wait, **facts)))
    else:
        _send_from_nodes(manager, folder, name, node, gathered(facts)[0])
    return manager.checkpoint_dir / name


def _send_from_nodes(manager: CheckpointManager, folder: Path, name: str, node: Node, facts: Mapping[str, Any]) -> None:
    writers = [f"node-{number}" for number in range(node.count)]
    save_id = gathered(secrets.token_hex(16))[0]
    files = on_every_rank(lambda: LocalFiles(folder, name) if node.is_first else {})
    listed = gathered(list(files))
    before = {path for of_rank in listed[: rank_of_job()] for path in of_rank}
    expected = on_one_rank(lambda: state_of_name(manager, name))
    part: dict[str, Any] = {"writer": writers[node.number], "writers": writers, "expected": expected}
    shared = shared_save(manager, name, save_id=save_id, **part, **facts)

    def send() -> None:
        if node.is_first:
            shared._calls.send({str(path): source for path, source in files.items() if path not in before})
            if isinstance(files, LocalFiles):
                files.refuse_changed()
            shared.ready()

    on_every_rank(send)
    on_one_rank(lambda: str(shared.commit(writers=writers)))
