"""A durable save of a state of which everything has changed, against ``torch.save`` and fsync on the same disk."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from benchmarks import local, states
from benchmarks.figures import Outcome, faster
from benchmarks.live import LiveServer
from benchmarks.plan import Plan
from benchmarks.rounds import Spent, contest, spend

TENSORS = 64


def measure(plan: Plan) -> Outcome:
    """Return the speed relative to the local disk."""
    state = states.random_state(plan.size_bytes, tensors=TENSORS)
    spent = saves(plan.folder, plan.rounds, state, prepare=lambda: states.change(state.values()))
    figure = faster("save", spent["Holdfast"], spent["local"], reach=0.8, aim=1.0)
    return Outcome(figures=(figure,), spent=spent, size_bytes=plan.size_bytes)


def saves(folder: Path, rounds: int, state: states.State, *, prepare: Callable[[], object]) -> dict[str, list[Spent]]:
    """Time saves of a state to a server with its root in a folder, and to a new file in that folder.

    The files of the last save are removed between the rounds, on both sides.
    """
    epochs = count(1)
    with LiveServer(folder / "root") as server:
        manager = server.manager("runs/save")

        def with_holdfast() -> Spent:
            spent = spend(lambda: manager.save(state, epoch=next(epochs)), server.process_id)
            server.wait_until_freed()
            return spent

        def locally() -> Spent:
            path = folder / "local.pt"
            spent = spend(lambda: local.save(state, path))
            path.unlink()
            return spent

        return contest({"Holdfast": with_holdfast, "local": locally}, rounds, prepare=prepare)
