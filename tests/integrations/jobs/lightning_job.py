"""A training with Lightning: lightning_job.py DIRECTORY OUT [--epochs N] [--kill-at STEP] [--devices N] ...

It writes the weights at its end to OUT; ``--kill-at`` ends the process by SIGKILL at that step.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch.utils.data import DataLoader, TensorDataset

from holdfast.integrations.lightning import HoldfastCheckpoint


class Model(LightningModule):
    """A regression whose loss falls."""

    def __init__(self, signal_at: int | None = None, what: int = signal.SIGKILL) -> None:
        super().__init__()
        self.layer = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
        self._signal_at, self._what = signal_at, what

    def training_step(self, batch, index):
        loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
        self.log("train_loss", loss)
        if self.global_step == self._signal_at:
            os.kill(os.getpid(), self._what)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1]), sync_dist=True)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)]


def loaders() -> tuple[DataLoader, DataLoader]:
    """Return the same data each time, in the same order."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(32, 4, generator=generator)
    data = TensorDataset(inputs, inputs.sum(1, keepdim=True))
    return DataLoader(data, batch_size=4), DataLoader(data, batch_size=16)


def trainer(callback: HoldfastCheckpoint, epochs: int, folder: Path, **options) -> Trainer:
    return Trainer(
        callbacks=[callback],
        max_epochs=epochs,
        accelerator="cpu",
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **options,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kill-at", type=int)
    parser.add_argument("--term-at", type=int)
    parser.add_argument("--devices", type=int, default=1)
    given = parser.parse_args()
    callback = HoldfastCheckpoint(given.directory, monitor="val_loss", keep_last=2, keep_best=1, patience_s=1)
    path = callback.resume()
    print("resumed" if path is not None else "begun", flush=True)
    seed_everything(0, verbose=False)
    stop = given.kill_at if given.kill_at is not None else given.term_at
    model = Model(stop, signal.SIGKILL if given.kill_at is not None else signal.SIGTERM)
    options = {"devices": given.devices, "strategy": "ddp"} if given.devices > 1 else {"devices": 1}
    running = trainer(callback, given.epochs, given.out.parent, **options)
    running.fit(model, *loaders(), ckpt_path=path)
    if running.is_global_zero:
        torch.save({"weights": model.state_dict(), "step": running.global_step}, given.out)


if __name__ == "__main__":
    sys.exit(main())
