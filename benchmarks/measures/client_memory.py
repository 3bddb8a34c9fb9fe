"""Memory of the client beside the state during a save, in a process of its own."""

from benchmarks.figures import Figure, Outcome
from benchmarks.live import LiveServer
from benchmarks.plan import MIB, Plan
from benchmarks.saver import Savers


def measure(plan: Plan) -> Outcome:
    """Return the highest peak of all rounds above the resident memory before the save."""
    with LiveServer(plan.folder / "root") as server, Savers(server, 1, plan.size_bytes) as savers:
        rounds = [savers.save()[0] for _ in range(plan.rounds)]
    growth = max(each["peak_bytes"] - each["before_bytes"] for each in rounds)
    figure = Figure(
        name="client_memory",
        value=growth / MIB,
        unit="MiB",
        ours=max(each["peak_bytes"] for each in rounds) / MIB,
        measured_in="MiB",
        reach=64,
        aim=32,
        lower_is_better=True,
    )
    return Outcome(figures=(figure,), details={"rounds": rounds})
