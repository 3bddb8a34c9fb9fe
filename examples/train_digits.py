"""Train a small network on handwritten digits, saving every epoch to a Holdfast server.

Run it as ``python examples/train_digits.py runs/digits --epochs 12``.

It resumes from the newest checkpoint of that directory, on the server or in the spool, and ends after the epoch in
which SIGTERM arrives.
"""

import argparse

import digits
import torch
from torch import nn
from torch.utils.data import DataLoader

from holdfast import CheckpointManager, GracefulStop


def train(checkpoint_dir: str, epochs: int) -> None:
    torch.manual_seed(0)
    training, judged = digits.data()
    network = digits.model()
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    manager = CheckpointManager(checkpoint_dir, max_checkpoints=3, max_best_checkpoints=2)

    first = 0
    if latest := manager.resume():
        network.load_state_dict(latest["model"])
        optimizer.load_state_dict(latest["optimizer"])
        first = latest["epoch"] + 1
        print(f"resuming at epoch {first}")

    with GracefulStop() as stop:
        for epoch in range(first, epochs):
            network.train()
            for images, labels in DataLoader(training, batch_size=32, shuffle=True):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images), labels).backward()
                optimizer.step()
            loss, accuracy = digits.judge(network, judged)
            state = {"model": network.state_dict(), "optimizer": optimizer.state_dict(), "epoch": epoch}
            path = manager.save(state, epoch=epoch, loss=loss, accuracy=accuracy)
            print(f"epoch {epoch:3d}  loss {loss:.4f}  accuracy {accuracy:.4f}  saved {path}", flush=True)
            if stop.requested:
                print(f"stopped by {stop.signal.name}; the next run continues at epoch {epoch + 1}")
                break


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint_dir")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    train(options.checkpoint_dir, options.epochs)
