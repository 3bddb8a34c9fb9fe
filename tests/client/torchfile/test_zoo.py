"""Every state that can be saved loads as torch.load loads it, in every mode."""

import contextlib
import itertools

import pytest
import torch
import torch.distributed
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.serialization import config

from holdfast import HoldfastError, UnsafeCheckpoint
from holdfast._torchfile.reader.file_memory import FileMemory
from holdfast._torchfile.reader.load_state import load_state
from tests.data import zoo

pytestmark = pytest.mark.filterwarnings("ignore")  # torch warns about half of it

MAPS = {
    "None": None,
    "cpu": "cpu",
    "a device": torch.device("cpu"),
    "bytes": b"cpu",
    "an empty dict": {},
    "a dict": {"cpu": "cpu", "cuda:0": "cpu"},
    "a callable": lambda storage, location: storage,
    "one that leaves it": lambda storage, location: None,
    "one that copies": lambda storage, location: storage.clone(),
    "meta": "meta",
    "the device meta": torch.device("meta"),
    "meta by a dict": {"cpu": "meta"},
    "meta by a callable": lambda storage, location: torch.UntypedStorage(storage.nbytes(), device="meta"),
    "a device that is not there": "cuda:7",
    "nonsense": "nowhere",
    "a number": 7,
}


def ours(data, **how):
    """Load a file's bytes, which arrive on demand."""
    memory = FileMemory(len(data))

    def fetch(spans):
        for start, stop in spans:
            memory.view(start, stop - start)[:] = data[start:stop]

    return load_state(memory, fetch, **how)


def torchs(data, tmp_path, **how):
    path = tmp_path / "state.pt"
    path.write_bytes(data)
    return torch.load(path, **how)


def outcome(load):
    try:
        return load(), None
    except Exception as error:
        return None, error


def faults(data, tmp_path, only=None, *, mode=contextlib.nullcontext, **how):
    """Return the differences to torch's load in the same mode."""
    with mode():
        wanted, refusal = outcome(lambda: torchs(data, tmp_path, **how))
        found, error = outcome(lambda: ours(data, only=only, **how))
    if refusal is not None:
        families = [kind for kind in type(refusal).__mro__ if kind not in (Exception, BaseException, object)]
        if isinstance(error, UnsafeCheckpoint if "weights_only" in str(refusal) else HoldfastError):
            return []
        return [] if isinstance(error, families[-1]) else [f"{error!r} where torch has {refusal!r}"]
    if error is not None:
        return [repr(error)]
    return zoo.differences(found, {key: wanted[key] for key in only} if only else wanted)


@pytest.mark.parametrize("name", zoo.STATES)
def test_a_state_is_loaded_as_torch_loads_it(tmp_path, name):
    torch.manual_seed(0)
    state = zoo.STATES[name]()
    data = zoo.saved(state)
    for (map_name, map_location), weights_only in itertools.product(MAPS.items(), (True, False)):
        how = {"map_location": map_location, "weights_only": weights_only}
        assert faults(data, tmp_path, **how) == [], (map_name, weights_only)
        if isinstance(state, dict) and state and map_name in ("None", "cpu", "a callable", "a dict"):
            first, *_, last = [*state, *state]
            assert faults(data, tmp_path, only=[last, first], **how) == [], (map_name, weights_only)


@pytest.mark.parametrize("weights_only", [True, False])
def test_files_of_other_times_are_loaded_as_torch_loads_them(tmp_path, weights_only):
    for name, data in zoo.archives().items():
        for map_name, map_location in MAPS.items():
            how = {"map_location": map_location, "weights_only": weights_only}
            assert faults(data, tmp_path, **how) == [], (name, map_name)


def test_tensors_of_several_processes_are_loaded_as_torch_loads_them(tmp_path):
    store = torch.distributed.HashStore()
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        data = zoo.saved(zoo.distributed())
        for (name, map_location), weights_only in itertools.product(MAPS.items(), (True, False)):
            how = {"map_location": map_location, "weights_only": weights_only}
            assert faults(data, tmp_path, **how) == [], (name, weights_only)
            assert faults(data, tmp_path, only=("more", "plain"), **how) == [], (name, weights_only)
        found = ours(data)
        assert type(found["more"]).__name__ == "DTensor"
        assert type(found["optimizer"]["state"][0]["exp_avg"]).__name__ == "DTensor"
    finally:
        torch.distributed.destroy_process_group()


def test_whatever_torch_is_set_to_a_state_is_loaded_as_torch_loads_it(tmp_path, monkeypatch):
    """Defaults of device and dtype, modes, and every setting for loading."""
    names = ("shared storages", "a training", "without elements", "parameters", "sparse", "complex views", "attributes")
    files = {name: zoo.saved(zoo.STATES[name]()) for name in names}
    files |= {
        f"{name} before the zip file": zoo.saved(zoo.STATES[name](), _use_new_zipfile_serialization=False)
        for name in names
    }
    settings = {
        "inference": torch.inference_mode,
        "no gradients": torch.no_grad,
        "meta": lambda: torch.device("meta"),
        "fake": FakeTensorMode,
        "meta by default": lambda: _defaults("meta", torch.float64, False),
        "deterministic": lambda: _defaults("cpu", torch.float16, True),
        "load mapped": lambda: config.patch("load.mmap", True),
        "load shared": lambda: config.patch({"load.mmap": True, "load.mmap_flags": 1}),
        "load by offsets": lambda: config.patch({"load.mmap": True, "load.calculate_storage_offsets": True}),
        "big": lambda: config.patch("load.endianness", torch.serialization.LoadEndianness.BIG),
        "native": lambda: config.patch("load.endianness", torch.serialization.LoadEndianness.NATIVE),
    }
    for (setting, mode), (name, data) in itertools.product(settings.items(), files.items()):
        if (
            "load" in setting
        ):  # torch maps files of the current format only, and a checkpoint does not change with its tensors
            with mode():
                found, wanted = ours(data), torchs(data, tmp_path, mmap=False)
            assert zoo.differences(found, wanted) == [], (setting, name)
        elif setting == "fake":
            with mode():
                found, wanted = outcome(lambda: ours(data)), outcome(lambda: torchs(data, tmp_path))  # noqa: B023
            assert (found[1] is None) == (wanted[1] is None), (name, found[1], wanted[1])
            assert _shapes(found[0]) == _shapes(wanted[0]), name
        else:
            assert faults(data, tmp_path, mode=mode) == [], (setting, name)


def _shapes(state):
    return [(type(each), each.dtype, each.shape, each.device) for each in zoo.tensors(state)]


@contextlib.contextmanager
def _defaults(device, dtype, deterministic):
    torch.set_default_device(device)
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(deterministic)
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        torch.use_deterministic_algorithms(False)


def test_a_file_without_a_byte_order_is_read_in_the_one_that_is_set(tmp_path):
    data = zoo.saved({"a": torch.arange(70_000)})
    data = data.replace(b"archive/byteorder", b"archive/bytebrder")
    with config.patch("load.endianness", torch.serialization.LoadEndianness.BIG):
        assert faults(data, tmp_path) == []
        assert faults(data, tmp_path, only=("a",)) == []
        assert ours(data)["a"][1] == 1 << 56
    assert ours(data)["a"][1] == 1


@pytest.mark.parametrize("variable", ["TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_the_environment_decides_as_it_does_for_torch(tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, "1")
    data = zoo.saved(zoo.Settings())
    for weights_only in (True, False, None):
        assert faults(data, tmp_path, weights_only=weights_only) == []


def test_a_callable_is_asked_for_each_storage_once_as_by_torch(tmp_path):
    data = zoo.saved(zoo.STATES["a training"]())
    asked = {"ours": [], "torch's": []}
    for who, load in (
        ("ours", lambda **how: ours(data, **how)),
        ("torch's", lambda **how: torchs(data, tmp_path, **how)),
    ):
        load(map_location=lambda storage, location, who=who: asked[who].append((storage.nbytes(), location)))
    assert asked["ours"] == asked["torch's"] != []


def test_a_state_within_a_state_is_loaded_whole():
    """A torch.load within a torch.load is an ordinary one, and reads all its storages."""
    found = ours(zoo.saved({"estimator": zoo.Nested(), "w": torch.ones(70_000)}), weights_only=False)
    assert torch.equal(found["estimator"].weight, torch.arange(50_000.0))
