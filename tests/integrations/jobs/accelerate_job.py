"""A training with Accelerate: accelerate_job.py DIRECTORY OUT [--epochs N] [--kill-at EPOCH] [--disagree] ...

With ``--without-server``, the directory is a local folder, and Accelerate itself saves and loads it.
"""

import argparse
import os
import signal
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, TensorDataset

from holdfast.integrations.accelerate import load_state, save_state


class Counter:
    """The epoch, which Accelerate saves with the rest."""

    def __init__(self) -> None:
        self.epoch = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch = state["epoch"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--disagree", action="store_true")
    parser.add_argument("--without-server", action="store_true")
    given = parser.parse_args()
    set_seed(0)
    accelerator = Accelerator(cpu=True)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Dropout(0.1), torch.nn.Linear(8, 1))
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    data = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4, shuffle=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer, data = accelerator.prepare(model, optimizer, data)
    counter = Counter()
    accelerator.register_for_checkpointing(counter)
    settings = {"max_checkpoints": 2, "max_best_checkpoints": 1, "patience_s": 1}
    if given.without_server:
        found = Path(given.directory) if Path(given.directory).exists() else None
        if found is not None:
            accelerator.load_state(given.directory)
    else:
        found = load_state(accelerator, given.directory, "latest", settings=settings)
    os.write(1, (b"begun\n" if found is None else f"resumed from {found.name}\n".encode()))
    while counter.epoch < given.epochs:
        data.set_epoch(counter.epoch)  # the order of the data is that of the epoch, also in a new process
        for batch, wanted in data:
            optimizer.zero_grad()
            loss = torch.nn.functional.mse_loss(model(batch), wanted)
            accelerator.backward(loss)
            optimizer.step()
        counter.epoch += 1
        metric = accelerator.gather(loss.detach()).mean().item()
        if given.disagree:
            metric += accelerator.process_index
        if given.without_server:
            accelerator.save_state(given.directory)
        else:
            save_state(accelerator, given.directory, epoch=counter.epoch, metric=metric, settings=settings)
        if counter.epoch == given.kill_at and accelerator.process_index == accelerator.num_processes - 1:
            os.kill(os.getpid(), signal.SIGKILL)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        torch.save(accelerator.unwrap_model(model).state_dict(), given.out)
    accelerator.end_training()


if __name__ == "__main__":
    main()
