"""A training with Ignite: ignite_job.py DIRECTORY OUT [--epochs N] [--kill-at EPOCH]."""

import argparse
import os
import signal
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.handlers import Checkpoint, global_step_from_engine

from holdfast.integrations.ignite import HoldfastSaver


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)
    inputs = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))

    def step(engine: Engine, batch: torch.Tensor) -> float:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(batch), batch.sum(1, keepdim=True))
        loss.backward()
        optimizer.step()
        return loss.item()

    trainer = Engine(step)
    to_save = {"model": model, "optimizer": optimizer, "trainer": trainer}
    saver = HoldfastSaver(given.directory, patience_s=1)
    last = Checkpoint(to_save, saver, n_saved=2, global_step_transform=global_step_from_engine(trainer))
    best = Checkpoint(
        {"model": model},
        saver,
        filename_prefix="best",
        n_saved=1,
        score_function=lambda engine: -engine.state.output,
        score_name="neg_loss",
        global_step_transform=global_step_from_engine(trainer),
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, last)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, best)
    if given.kill_at:
        kill = Events.EPOCH_COMPLETED(once=given.kill_at)
        trainer.add_event_handler(kill, lambda: os.kill(os.getpid(), signal.SIGKILL))
    state = saver.manager.resume()
    if state is not None:
        Checkpoint.load_objects(to_save, checkpoint=state)
    print("begun" if state is None else f"resumed at {trainer.state.epoch}", flush=True)
    trainer.run(inputs.split(8), max_epochs=given.epochs)
    torch.save({"weights": model.state_dict(), "step": trainer.state.iteration}, given.out)


if __name__ == "__main__":
    main()
