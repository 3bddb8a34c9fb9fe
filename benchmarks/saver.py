"""A client in its own process, which saves on request and reports the time.

Run as ``python -m benchmarks.saver URL DIRECTORY SIZE_BYTES SEED``. It saves something small, makes its state and
answers with an empty object; then it changes every value and saves the whole state for each line of its input.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import torch

from benchmarks import process, states
from benchmarks.live import PROJECT, LiveServer
from benchmarks.rounds import spend
from holdfast import CheckpointManager

TENSORS = 64


def main(url: str, directory: str, size_bytes: int, seed: int) -> None:
    """Answer every line of the input until it ends."""
    manager = CheckpointManager(directory, max_checkpoints=1, max_best_checkpoints=1, server=url)
    manager.save({"small": torch.ones(1000)}, epoch=0)
    state = states.random_state(size_bytes, tensors=TENSORS, seed=seed)
    _say({})
    for epoch, _ in enumerate(sys.stdin, 1):
        states.change(state.values())
        _say(_save(manager, state, epoch))


def _save(manager: CheckpointManager, state: states.State, epoch: int) -> dict[str, Any]:
    process.give_memory_back()  # otherwise, memory freed by an earlier save would hide the memory of this one
    process.reset_peak(os.getpid())
    before = process.memory(os.getpid()).resident_bytes
    spent = spend(lambda: manager.save(state, epoch=epoch))
    after = process.memory(os.getpid())
    return {
        "wall_s": spent.wall_s,
        "cpu_s": spent.client_cpu_s,
        "before_bytes": before,
        "after_bytes": after.resident_bytes,
        "peak_bytes": after.peak_bytes,
    }


def _say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


class Savers:
    """Several such processes, ready to save, as ``with Savers(server, 4, size_bytes) as savers:``."""

    def __init__(self, server: LiveServer, count: int, size_bytes: int) -> None:
        self._commands = [
            [sys.executable, "-m", "benchmarks.saver", server.url, f"runs/{number}", str(size_bytes), str(number)]
            for number in range(count)
        ]
        self._stack = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            for command in self._commands:
                saver = subprocess.Popen(command, cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                starting.enter_context(saver)
                starting.callback(saver.kill)
                self._processes.append(saver)
            for saver in self._processes:
                _heard(saver)
            self._stack = starting.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def save(self, only: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """Save in all of them, or in some, at once; return their answers."""
        chosen = self._processes if only is None else [self._processes[number] for number in only]
        for saver in chosen:
            assert saver.stdin is not None
            saver.stdin.write("save\n")
            saver.stdin.flush()
        return [_heard(saver) for saver in chosen]


def _heard(saver: "subprocess.Popen[str]") -> dict[str, Any]:
    assert saver.stdout is not None
    line = saver.stdout.readline()
    if not line:
        raise RuntimeError("a client ended before it had saved; what it said is above")
    answer: dict[str, Any] = json.loads(line)
    return answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
