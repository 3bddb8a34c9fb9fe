"""A file to the server and back to a file, against the artifact server and the client of MLflow's newest release."""

from itertools import count
from pathlib import Path

from benchmarks import local, states
from benchmarks.figures import Outcome, faster
from benchmarks.live import LiveServer
from benchmarks.peers import Mlflow, install_mlflow
from benchmarks.plan import Plan
from benchmarks.put_file import put_file
from benchmarks.rounds import Spent, contest, spend

TENSORS = 64
DIRECTORY = "runs/mlflow"


def measure(plan: Plan) -> Outcome:
    """Return the speed relative to MLflow, up and down."""
    python, notes = install_mlflow(plan.peers)
    source = plan.folder / "model.pt"
    with LiveServer(plan.folder / "root") as server, Mlflow(python, plan.folder / "mlflow") as peer:
        up = _uploads(plan, server, peer, source)
        down = _downloads(plan, server, peer, source.stat().st_size)
    return Outcome(
        figures=(
            faster("mlflow upload", up["Holdfast"], up["MLflow"], reach=3, aim=5),
            faster("mlflow download", down["Holdfast"], down["MLflow"], reach=4, aim=6),
        ),
        spent={f"{name}, {way}": spent for way, both in (("up", up), ("down", down)) for name, spent in both.items()},
        size_bytes=plan.size_bytes,
        details={"mlflow": peer.version},
        notes=(
            f"MLflow {peer.version} with its defaults: it answers before a file is durable, and does not verify it. "
            "Holdfast verifies and fsyncs, up and down.",
            *notes,
        ),
    )


def _uploads(plan: Plan, server: LiveServer, peer: Mlflow, source: Path) -> dict[str, list[Spent]]:
    """Upload one file with both; it differs in every round."""
    state = states.random_state(plan.size_bytes, tensors=TENSORS)
    epochs, numbers = count(1), count()

    def write_the_source() -> None:
        states.change(state.values())
        source.unlink(missing_ok=True)
        local.save(state, source)

    def with_holdfast() -> Spent:
        spent = spend(lambda: put_file(server.url, source, directory=DIRECTORY, epoch=next(epochs)), server.process_id)
        server.wait_until_freed()
        return spent

    def with_mlflow() -> Spent:
        number = next(numbers)
        seconds = peer.upload(source, f"round-{number}")
        peer.remove(f"round-{number - 1}")
        return Spent(seconds)

    return contest({"Holdfast": with_holdfast, "MLflow": with_mlflow}, plan.rounds, prepare=write_the_source)


def _downloads(plan: Plan, server: LiveServer, peer: Mlflow, size_bytes: int) -> dict[str, list[Spent]]:
    """Download with both the last uploaded file."""
    manager = server.manager(DIRECTORY)
    (name,) = (checkpoint["path"].name for checkpoint in manager.checkpoints)
    artifact = f"round-{plan.rounds}/model.pt"

    def with_holdfast() -> Spent:
        to = plan.folder / "ours.pt"
        spent = spend(lambda: manager.download(name, to), server.process_id)
        _taken(to, size_bytes)
        return spent

    def with_mlflow() -> Spent:
        to = plan.folder / "theirs"
        to.mkdir(exist_ok=True)
        seconds, path = peer.download(artifact, to)
        _taken(path, size_bytes)
        return Spent(seconds)

    return contest({"Holdfast": with_holdfast, "MLflow": with_mlflow}, plan.rounds)


def _taken(path: Path, size_bytes: int) -> None:
    """Remove a download once it is verified, to free its space."""
    if path.stat().st_size != size_bytes:
        raise RuntimeError(f"{path.name} has {path.stat().st_size} bytes, not {size_bytes}")
    path.unlink()
