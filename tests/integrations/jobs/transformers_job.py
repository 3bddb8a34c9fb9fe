"""A training with Transformers: transformers_job.py DIRECTORY OUTPUT_DIR OUT [--steps N] [--kill-at STEP] ..."""

import argparse
import os
import signal
from pathlib import Path

import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments, set_seed

from holdfast.integrations.transformers import HoldfastCallback, holdfast_resume


class Words(Dataset):
    """The same sequences each time."""

    def __init__(self, count: int) -> None:
        self._words = torch.randint(0, 32, (count, 8), generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self._words)

    def __getitem__(self, place: int) -> dict[str, torch.Tensor]:
        return {"input_ids": self._words[place], "labels": self._words[place]}


class KillAt(TrainerCallback):
    """Ends this process at a step, once its checkpoints are durable."""

    def __init__(self, step: int | None, saves: HoldfastCallback) -> None:
        self._step, self._saves = step, saves

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step == self._step and args.process_index == args.world_size - 1:
            self._saves.manager.wait()
            os.kill(os.getpid(), signal.SIGKILL)


def model() -> LlamaForCausalLM:
    """A model of a few thousand weights."""
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=32, num_key_value_heads=2, **sizes))


def arguments(output_dir: Path | str, steps: int, **options) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(output_dir),
        max_steps=steps,
        per_device_train_batch_size=4,
        save_steps=5,
        eval_strategy="steps",
        eval_steps=10,
        logging_steps=5,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        learning_rate=0.01,
        seed=0,
        **options,
    )


def trainer(args: TrainingArguments, *callbacks: TrainerCallback) -> Trainer:
    set_seed(0)
    return Trainer(model(), args, train_dataset=Words(64), eval_dataset=Words(8), callbacks=list(callbacks))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--kill-at", type=int)
    given = parser.parse_args()
    args = arguments(given.output_dir, given.steps, save_total_limit=1)
    saves = HoldfastCallback(given.directory, keep_last=2, keep_best=1, patience_s=1)
    running = trainer(args, saves, KillAt(given.kill_at, saves))
    resumed = holdfast_resume(given.directory, given.output_dir)
    os.write(1, f"resumed from {resumed}\n".encode())  # in one piece, as all ranks share the pipe
    running.train(resume_from_checkpoint=resumed)
    if args.process_index == 0:
        torch.save({"weights": running.model.state_dict(), "step": running.state.global_step}, given.out)


if __name__ == "__main__":
    main()
