"""A load of the model alone out of model and AdamW, against a load of everything: bytes fetched, and time."""

from pathlib import PurePath

from benchmarks import states
from benchmarks.figures import Figure, Outcome, median_s
from benchmarks.forwarder import CountingForwarder
from benchmarks.live import LiveServer
from benchmarks.plan import MIB, Plan
from benchmarks.rounds import Spent, contest, spend

DIRECTORY = "runs/partial"
ONLY = ("model",)


def measure(plan: Plan) -> Outcome:
    """Return the shares of bytes and time that a partial load takes."""
    with LiveServer(plan.folder / "root") as server:
        manager = server.manager(DIRECTORY)
        name = manager.save(states.training_state(plan.size_bytes), epoch=1).name
        fetched = _fetched(server, name)

        def of_the_model() -> Spent:
            return spend(lambda: states.touch(manager.load(name, only=ONLY)), server.process_id)

        def of_everything() -> Spent:
            return spend(lambda: states.touch(manager.load(name)), server.process_id)

        spent = contest({"partial": of_the_model, "full": of_everything}, plan.rounds)
    partial_s, full_s = median_s(spent["partial"]), median_s(spent["full"])
    return Outcome(
        figures=(
            _part("partial bytes", fetched["partial"] / MIB, fetched["full"] / MIB, "MiB", reach=0.34, aim=None),
            _part("partial time", partial_s, full_s, "s", reach=0.45, aim=0.36),
        ),
        spent=spent,
        details={"fetched_bytes": fetched},
        notes=("In the partial load, theirs is a full load by Holdfast.",),
    )


def _fetched(server: LiveServer, name: str | PurePath) -> dict[str, int]:
    """Return the bytes that the server sends for either load, headers included."""
    with CountingForwarder(server.url) as forwarder:
        manager = server.manager(DIRECTORY, url=forwarder.url)
        manager.load(name, only=ONLY)
        partial_bytes = forwarder.sent_bytes
        manager.load(name)
        return {"partial": partial_bytes, "full": forwarder.sent_bytes - partial_bytes}


def _part(name: str, ours: float, full: float, measured_in: str, *, reach: float, aim: float | None) -> Figure:
    return Figure(
        name=name,
        value=ours / full,
        unit="x",
        ours=ours,
        theirs=full,
        measured_in=measured_in,
        reach=reach,
        aim=aim,
        lower_is_better=True,
    )
