"""Two ranks save the same state to the server and to the local disk in turns: dcp.py URL FOLDER ROUNDS SIZE_MIB."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp

from holdfast.integrations.dcp import HoldfastWriter

MIB = 1024 * 1024
_TENSORS = 16


def main() -> None:
    """Print the seconds of each round, of the slower rank, as JSON."""
    url, folder, rounds, size_mib = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    count = size_mib * MIB // dist.get_world_size() // _TENSORS // 4
    state = {f"rank{rank}.{number}": torch.rand(count) for number in range(_TENSORS)}
    spent: dict[str, list[float]] = {"ours": [], "local": []}
    for number in range(rounds + 1):
        for tensor in state.values():
            tensor.add_(1.0)  # all of it has changed since the last save
        for kind in sorted(spent, reverse=bool(number % 2)):
            place = folder / f"local-{number}"
            writer = (
                HoldfastWriter("runs/dcp", step=number, server=url, max_checkpoints=1, max_best_checkpoints=0)
                if kind == "ours"
                else dcp.FileSystemWriter(place)
            )
            os.sync()
            dist.barrier()
            started = time.perf_counter()
            dcp.save(state, storage_writer=writer)
            dist.barrier()
            if number:
                spent[kind].append(time.perf_counter() - started)
            if kind == "local" and rank == 0:
                shutil.rmtree(place)
    if rank == 0:
        print(json.dumps(spent))
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
