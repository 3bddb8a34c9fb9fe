"""A training with and without saves in the background, in turns: steps.py lightning|transformers URL FOLDER ROUNDS.

The training uses one processor, as one on an accelerator would; the client's threads and the server share the others.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

_STEPS, _EVERY = 60, 20
_WIDTH, _LAYERS, _BATCH = 1024, 6, 256


class Rows(torch.utils.data.Dataset):  # type: ignore[type-arg]
    """Random rows."""

    def __len__(self) -> int:
        return _STEPS * _BATCH

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        row = torch.full((_WIDTH,), place / 1000)
        return {"inputs": row, "labels": row}


class Net(torch.nn.Module):
    """A model with 25 MB of weights, and a step of a good tenth of a second."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(*(torch.nn.Linear(_WIDTH, _WIDTH) for _ in range(_LAYERS)))

    def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": torch.nn.functional.mse_loss(self.layers(inputs), labels)}


class Clock:
    """The time from the end of the first step to the end of the last."""

    def __init__(self) -> None:
        self._ends: list[float] = []

    def tick(self) -> None:
        """Note the end of a step."""
        self._ends.append(time.perf_counter())

    @property
    def step_s(self) -> float:
        """The seconds of a step."""
        return (self._ends[-1] - self._ends[0]) / (len(self._ends) - 1)


def with_lightning(url: str | None, folder: Path) -> float:
    """Train, and save by the callback if there is a server; returns the seconds of a step."""
    from lightning.pytorch import Callback, LightningModule, Trainer

    from holdfast.integrations.lightning import HoldfastCheckpoint

    class Module(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def training_step(self, batch: dict[str, torch.Tensor], index: int) -> torch.Tensor:
            return self.net(**batch)["loss"]

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.001, momentum=0.9)

    class Timing(Callback):  # type: ignore[misc]
        def on_train_batch_end(self, *_: Any) -> None:
            clock.tick()

    clock, when = Clock(), {"every_n_train_steps": _EVERY, "every_n_epochs": None}
    saves = [HoldfastCheckpoint("runs/lightning", keep_last=1, server=url, **when)] if url else []
    trainer = Trainer(
        callbacks=[Timing(), *saves],
        max_steps=_STEPS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=bool(url),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(Rows(), batch_size=_BATCH))
    return clock.step_s


def with_transformers(url: str | None, folder: Path) -> float:
    """Train and write local checkpoints; send them by the callback if there is a server."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from holdfast.integrations.transformers import HoldfastCallback

    arguments = TrainingArguments(
        str(folder),
        max_steps=_STEPS,
        per_device_train_batch_size=_BATCH,
        save_steps=_EVERY,
        save_total_limit=1,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_strategy="no",
        remove_unused_columns=False,
    )

    class Timing(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            clock.tick()

    clock = Clock()
    saves = [HoldfastCallback("runs/transformers", keep_last=1, server=url)] if url else []
    Trainer(Net(), arguments, train_dataset=Rows(), callbacks=[Timing(), *saves]).train()
    return clock.step_s


def main() -> None:
    """Print the seconds of a step in each round as JSON."""
    name, url, folder, rounds = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(1)
    train: Callable[[Any, Path], float] = {"lightning": with_lightning, "transformers": with_transformers}[name]
    spent: dict[str, list[float]] = {"saves": [], "none": []}
    for number in range(rounds + 1):
        for kind in sorted(spent, reverse=bool(number % 2)):
            with tempfile.TemporaryDirectory(dir=folder) as own:
                step_s = train(url if kind == "saves" else None, Path(own))
                if number:
                    spent[kind].append(step_s)
    print(json.dumps(spent))


if __name__ == "__main__":
    main()
