"""A real training job in its own process: trains an epoch on demand and saves it with the real client."""

import json
import os

from tests.support.live import eventually

_SCRIPT = '''
"""A small transformer learns which of some symbols a sequence holds most often."""
import json, math, sys, warnings
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from holdfast import CheckpointManager

SYMBOLS, WIDTH = 8, 32


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(SYMBOLS, WIDTH).requires_grad_(False)
        self.layers = nn.ModuleList(nn.TransformerEncoderLayer(WIDTH, 4, 64, 0.0, batch_first=True) for _ in range(2))
        self.head = nn.Linear(WIDTH, SYMBOLS)

    def forward(self, sequences):
        hidden = self.embedding(sequences)
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden.mean(1))


class Run:
    def __init__(self, directory, limits):
        torch.manual_seed(1)
        self.manager = CheckpointManager(directory, **{"max_checkpoints": None, "max_best_checkpoints": None, **limits})
        self.network, self.epoch = Network(), 0
        self.optimizer = torch.optim.AdamW((p for p in self.network.parameters() if p.requires_grad), lr=1e-3)

    def train(self):
        for _ in range(4):
            sequences = torch.randint(SYMBOLS, (64, 12))
            most = torch.stack([torch.bincount(row, minlength=SYMBOLS).argmax() for row in sequences])
            scores = self.network(sequences)
            loss = nn.functional.cross_entropy(scores, most)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
        return loss.item(), (scores.argmax(1) == most).float().mean().item()

    def save(self, background=()):
        loss, accuracy = self.train()
        state = {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch}
        if self.epoch >= 3:
            state["average"] = {name: value.clone() for name, value in self.network.head.state_dict().items()}
        facts = {"epoch": self.epoch, "loss": loss, "accuracy": accuracy, "learning_rate": 1e-3}
        path = self.manager.save(state, **facts)
        self.epoch += 1
        return {"name": path.name, **facts}


runs = {}
with open(sys.argv[0] + ".orders") as orders:
    for line in orders:
        order = json.loads(line)
        if order["directory"] not in runs:
            runs[order["directory"]] = Run(order["directory"], order["limits"])
        print("saved", json.dumps(runs[order["directory"]].save()))
'''


class Training:
    """A process that trains and saves on demand. It ends with the block.

    Parameters
    ----------
    jobs : Jobs
        Starts the process.
    orders : Path
        Path for the named pipe that carries the orders.
    url, token : str
        The server to save to.
    """

    def __init__(self, jobs, orders, *, url, token):
        os.mkfifo(orders)
        script = _SCRIPT.replace('sys.argv[0] + ".orders"', repr(str(orders)))
        self._job = jobs.start(script, HOLDFAST_URL=url, HOLDFAST_TOKEN=token)
        self._orders = orders.open("w")
        self._count = 0

    def close(self):
        """End the process."""
        self._orders.close()
        assert self._job.wait() == 0, self._job.errors()

    def run(self, directory, **limits):
        """Return a new run."""
        return TrainingRun(self, directory, limits)

    def save(self, directory, limits):
        """Train one epoch and save it; returns the saved facts once the server has them."""
        self._count += 1
        self._orders.write(json.dumps({"directory": directory, "limits": limits}) + "\n")
        self._orders.flush()
        assert eventually(lambda: len(self._saved()) == self._count, seconds=60), self._job.errors()
        return json.loads(self._saved()[-1].partition(" ")[2])

    def _saved(self):
        return [line for line in self._job.lines() if line.startswith("saved ")]


class TrainingRun:
    """One run: its network in training, and its saved checkpoints."""

    def __init__(self, training, directory, limits):
        self._training = training
        self._limits = limits
        self.directory = directory
        self.saved = []

    def save(self, epochs=1):
        """Train and save further epochs; returns the last saved one."""
        for _ in range(epochs):
            self.saved.append(self._training.save(self.directory, self._limits))
        return self.saved[-1]
