"""A training with FSDP2 and torch.distributed.checkpoint: dcp_job.py DIRECTORY OUT [--steps N] [--kill-at STEP] ...

``--kill-at`` ends the last rank by SIGKILL at that step, while the others save it; ``--fail-at`` raises there instead.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from holdfast.integrations.dcp import HoldfastReader, HoldfastWriter

SETTINGS = {"max_checkpoints": 2, "max_best_checkpoints": 1, "patience_s": 5}


class Failing(HoldfastWriter):
    """Fails, or dies, while it writes."""

    how = ""

    def write_data(self, plan, planner):
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        planner.resolve_data = _fail
        return super().write_data(plan, planner)


def _fail(item) -> None:
    raise RuntimeError("the memory of this rank is on fire")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--fail-at", type=int)
    parser.add_argument("--disagree", action="store_true")
    parser.add_argument("--background", action="store_true")
    given = parser.parse_args()
    dist.init_process_group("gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.Tanh(), torch.nn.Linear(128, 8))
    fully_shard(model, mesh=init_device_mesh("cpu", (ranks,)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    step = 0

    def state() -> dict:
        weights, moments = get_state_dict(model, optimizer)
        return {"model": weights, "optimizer": moments, "step": step}

    reader = HoldfastReader(given.directory, patience_s=5)
    if reader.exists():
        found = state()
        dcp.load(found, storage_reader=reader)
        set_state_dict(model, optimizer, model_state_dict=found["model"], optim_state_dict=found["optimizer"])
        step = found["step"]
    os.write(1, f"at step {step}\n".encode())  # in one piece, as all ranks share the pipe
    while step < given.steps:
        inputs = torch.randn(8, 64, generator=torch.Generator().manual_seed(step))
        loss = model(inputs).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        fails = step in (given.kill_at, given.fail_at) and rank == ranks - 1
        kind = Failing if fails else HoldfastWriter
        Failing.how = "kill" if step == given.kill_at else "raise"
        metric = loss.item() + (rank if given.disagree else 0)
        writer = kind(
            given.directory, step=step, metric=metric, max_checkpoints=2, max_best_checkpoints=1, patience_s=5
        )
        if given.background:
            dcp.async_save(state(), storage_writer=writer).result()
        else:
            dcp.save(state(), storage_writer=writer)
    whole, _ = get_state_dict(model, optimizer, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        torch.save({"weights": whole, "step": step}, given.out)
    dist.destroy_process_group()


if __name__ == "__main__":
    sys.exit(main())
