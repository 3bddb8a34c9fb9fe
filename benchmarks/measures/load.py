"""A verified load of the best checkpoint, against ``torch.load`` of the same file from the page cache."""

from benchmarks import local, states
from benchmarks.figures import Outcome, faster
from benchmarks.live import LiveServer
from benchmarks.plan import Plan
from benchmarks.rounds import Spent, contest, spend

TENSORS = 64
DIRECTORY = "runs/load"


def measure(plan: Plan) -> Outcome:
    """Return the speed relative to the local disk; every page of every tensor is touched."""
    with LiveServer(plan.folder / "root") as server:
        manager = server.manager(DIRECTORY)
        saved = manager.save(states.random_state(plan.size_bytes, tensors=TENSORS), epoch=1, loss=0.5)
        path = server.root / DIRECTORY / saved.name

        def with_holdfast() -> Spent:
            return spend(lambda: states.touch(manager.load_best(map_location="cpu")), server.process_id)

        def locally() -> Spent:
            return spend(lambda: states.touch(local.load(path)))

        spent = contest({"Holdfast": with_holdfast, "local": locally}, plan.rounds)
    figure = faster("load", spent["Holdfast"], spent["local"], reach=0.7, aim=1.0)
    return Outcome(figures=(figure,), spent=spent, size_bytes=plan.size_bytes)
