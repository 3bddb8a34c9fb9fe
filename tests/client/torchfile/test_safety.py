"""Hostile checkpoints: loading one runs no code, takes no more memory, and the error says how to proceed."""

import builtins
import warnings

import pytest

from holdfast import CheckpointManager, HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint
from tests.data import exploits
from tests.support.memory import peak_growth

WAYS = {
    "load": lambda manager, path: manager.load(path),
    "load a part": lambda manager, path: manager.load(path, only=("a",)),
    "load_best": lambda manager, path: manager.load_best(),
    "load_latest": lambda manager, path: manager.load_latest(),
    "resume": lambda manager, path: manager.resume(),
}
HARMLESS = (
    "two pickles",
    "the other byte order",
    "a later protocol",
    "a memo of",
    "lists",
    "tuples",
    "a list of itself",
)
"""Beginnings of names with only plain values in an unusual encoding: torch reads some of them."""
MIB = 1024 * 1024


@pytest.fixture
def mark(tmp_path):
    """A file that must never be created."""
    return tmp_path / "executed"


@pytest.fixture
def manager(server, directory):
    return CheckpointManager(directory, max_checkpoints=None, server=server.url)


def faults_of(load, name):
    """Return the faults of a refusal; empty if it is correct."""
    try:
        load()
    except UnsafeCheckpoint as error:
        text = str(error)
        if "If you trust its author" not in text or "weights_only=False" not in text:
            return [f"{name}: it is not said how to proceed: {text}"]
    except HoldfastError as error:
        text = str(error)
    except KeyError as error:
        return [] if "has no" in str(error) and name.startswith(HARMLESS) else [f"{name}: {error!r}"]
    except Exception as error:
        return [f"{name}: {error!r} is no error of this package"]
    else:
        return [] if name.startswith(HARMLESS) else [f"{name}: it was loaded"]
    upsets = [c for c in text if not (c.isprintable() or c == "\n")]
    return [f"{name}: {len(text)} characters, {upsets}"] if upsets or len(text) > 2000 else []


def faults_of_all(server, manager, files, ways):
    found = []
    for number, (name, data) in enumerate(files.items()):
        path = f"e{number}.pt"
        server.save(str(manager.checkpoint_dir), data, name=path, epoch=number, metric=-number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns about TorchScript
            for way in ways:
                found += faults_of(lambda: WAYS[way](manager, path), f"{name} ({way})")  # noqa: B023
    return found


def test_whatever_is_in_a_checkpoint_it_is_loaded_without_running_anything(server, manager, mark, monkeypatch):
    for name in ("eval", "exec"):
        monkeypatch.setattr(builtins, name, getattr(builtins, name))  # restored in case the load replaces them
    files = exploits.everything(mark)
    assert len(files) > 200
    assert faults_of_all(server, manager, files, ["load", "load a part"]) == []
    assert not mark.exists()


@pytest.mark.parametrize("way", WAYS)
def test_by_no_way_of_loading_anything_is_run(server, manager, mark, way):
    files = exploits.everything(mark)
    some = {name: files[name] for name in list(files)[::6]}
    assert len(some) > 30
    assert faults_of_all(server, manager, some, [way]) == []
    assert not mark.exists()


def test_memory_stays_within_bounds_whatever_a_file_says_of_itself(server, manager, mark):
    claims = {f"{name}, zipped": exploits.archive(found) for name, found in exploits.claims().items()}
    odd = {f"{name}, zipped": exploits.archive(found) for name, found in exploits.oddities().items()}
    files = claims | odd | exploits.files(mark)
    assert peak_growth(lambda: faults_of_all(server, manager, files, WAYS)) < 150 * MIB


def test_a_bomb_would_be_noticed(server, manager, mark):
    server.save(str(manager.checkpoint_dir), exploits.files(mark)["a bomb of a storage"], name="a.pt")
    assert peak_growth(lambda: manager.load("a.pt", weights_only=False)) > 250 * MIB


def test_who_trusts_a_checkpoint_has_what_it_says_run(server, manager, mark):
    """The payload that the other tests mark does run in a trusted checkpoint."""
    server.save(str(manager.checkpoint_dir), exploits.archive(exploits.calls(mark)["os.system"]), name="a.pt")
    manager.load("a.pt", weights_only=False)
    assert mark.exists()


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        pytest.param(
            "os.system, as torch writes it", UnsafeCheckpoint, r"add_safe_globals.*posix\.system", id="a call"
        ),
        pytest.param("os.system, in a tar file", UnreadableCheckpoint, "torch cannot load", id="a tar file"),
        pytest.param("TorchScript", UnsafeCheckpoint, "TorchScript", id="a program"),
        pytest.param("a bomb of a storage", UnsafeCheckpoint, r"would unfold to 268435\d+", id="a bomb"),
        pytest.param("many names of the same bytes", UnsafeCheckpoint, "would unfold to", id="a bomb of one stone"),
        pytest.param("a zip file without an end", UnreadableCheckpoint, "damaged zip file", id="half a file"),
        pytest.param("one byte", UnreadableCheckpoint, "torch cannot load", id="one byte"),
    ],
)
def test_the_refusal_says_what_it_is(server, manager, mark, name, kind, said):
    server.save(str(manager.checkpoint_dir), exploits.everything(mark)[name], name="a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(kind, match=f"(?s){said}"):
            manager.load("a.pt")


def test_what_the_user_is_asked_for_fails_as_it_fails(manager):
    def map_location(storage, location):
        raise LookupError("not here")

    torch = pytest.importorskip("torch")
    path = manager.save({"a": torch.ones(3)}, epoch=1)
    with pytest.raises(LookupError, match="not here"):
        manager.load(path, map_location=map_location)


def test_a_compressed_checkpoint_that_is_no_bomb_is_loaded(server, manager):
    """A checkpoint that was compressed to save space."""
    small = exploits.archive(exploits.tensor(), method=8)
    large = exploits.archive(exploits.tensor(count=1 << 20, size=(1 << 20,)), data=bytes(4 * MIB), method=8)
    for name, data in (("small.pt", small), ("large.pt", large)):
        server.save(str(manager.checkpoint_dir), data, name=name)
        assert manager.load(name).sum() == 0
