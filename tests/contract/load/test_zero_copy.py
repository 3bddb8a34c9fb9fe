"""Loading into the tensors' own memory: equal to the saved state, writable, and released in parts."""

import copy
import importlib
import io
import json
import os
import sys
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from holdfast import CheckpointManager, IntegrityError, ServerUnreachable, UnsafeCheckpoint
from tests.data.states import MIB, STATES, TRUSTED_STATES, assert_same, raw, strided, trained
from tests.support.memory import resident_bytes

pytestmark = [
    pytest.mark.filterwarnings("ignore:what was saved to"),
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation"),
]


@pytest.fixture(scope="module")
def manager(server):
    """A server for all tests of this file that need no directory of their own."""
    return CheckpointManager("runs/loading/without/copies", server=server.url)


@pytest.mark.parametrize("make", STATES)
def test_every_state_comes_back_as_it_was_and_torch_alone_loads_it_too(manager, server, make):
    state = make()
    path = manager.save(state, epoch=1)
    assert_same(manager.load(path), state)
    assert_same(torch.load(server.root / path), state)


@pytest.mark.parametrize("make", TRUSTED_STATES)
def test_a_trusted_checkpoint_is_loaded_completely(manager, make):
    state = make()
    path = manager.save(state, epoch=1)
    with pytest.raises(UnsafeCheckpoint):
        manager.load(path)
    assert_same(manager.load(path, weights_only=False), state)


def test_tensors_can_be_written_and_each_changes_no_other(manager):
    path = manager.save({f"{n}": torch.full((n * 3001 % 50_000 + 1,), float(n)) for n in range(40)}, epoch=1)
    found = manager.load(path)
    for tensor in found.values():
        tensor.add_(1000)
    for name, tensor in found.items():
        assert torch.equal(tensor, torch.full_like(tensor, float(name) + 1000))
    assert torch.equal(manager.load(path)["7"], torch.full_like(found["7"], 7.0))


def test_a_training_goes_on_with_what_was_loaded(manager):
    state = trained()
    found = manager.load(manager.save(state, epoch=1))
    parameters = [torch.nn.Parameter(found["model"]["1.0.weight"])]
    optimizer = torch.optim.AdamW(parameters)
    parameters[0].square().sum().backward()
    optimizer.step()
    assert not torch.equal(parameters[0], state["model"]["1.0.weight"])
    assert parameters[0].isfinite().all()


def test_a_storage_cannot_grow_where_it_lies_but_its_copy_can(manager):
    """The same holds for files that torch maps into memory."""
    found = manager.load(manager.save({"a": torch.arange(70_000)}, epoch=1))
    copy = found["a"].clone()  # a refused resize has changed the shape, which torch does not undo
    with pytest.raises(RuntimeError, match="not resizable"):
        found["a"].resize_(100_000)
    assert torch.equal(copy.resize_(100_000)[:70_000], torch.arange(70_000))


def test_a_load_needs_no_more_memory_than_the_file_has_bytes(manager):
    path = manager.save({"a": torch.ones(6 * MIB), "b": torch.ones(6 * MIB)}, epoch=1)
    manager.load(path)
    before = resident_bytes()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    start = peak_bytes()
    found = manager.load(path)
    assert peak_bytes() - start < 1.25 * 48 * MIB
    assert 47 * MIB < resident_bytes() - before < 1.15 * 48 * MIB
    assert found["b"].sum() == 6 * MIB


def peak_bytes():
    """Return the peak memory of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (found,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(found.split()[1]) * 1024


def test_the_memory_of_a_tensor_is_given_back_while_others_live(manager):
    path = manager.save({"a": torch.ones(6 * MIB), "b": torch.full((6 * MIB,), 2.0), "c": torch.ones(3)}, epoch=1)
    found = manager.load(path)
    before = resident_bytes()
    del found["a"]
    freed = before - resident_bytes()
    assert 22 * MIB < freed < 26 * MIB
    assert found["b"].sum() == 12 * MIB
    small = found["c"]
    del found
    assert before - resident_bytes() > 46 * MIB
    assert small.tolist() == [1, 1, 1]


def test_a_view_keeps_the_memory_of_its_tensor(manager):
    found = manager.load(manager.save({"a": torch.arange(MIB)}, epoch=1))
    part = found["a"][1000:2000]
    del found
    resident_bytes()
    assert torch.equal(part, torch.arange(1000, 2000))


def test_several_loads_are_several_states(manager):
    path = manager.save({"a": torch.zeros(100_000)}, epoch=1)
    one, other = manager.load(path), manager.load(path)
    one["a"].fill_(1)
    assert other["a"].sum() == 0


# files without a state


class Command:
    """A pickle that would run a command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


class Awakened:
    """A pickle that would call a method of its class."""

    def __init__(self, marker):
        self.marker = marker

    def __setstate__(self, state):
        Path(state["marker"]).touch()


@pytest.fixture
def marker(tmp_path):
    """A file that must never be created."""
    return tmp_path / "executed"


@pytest.mark.parametrize("only", [None, ("weights",), ("evil",), ("missing",)], ids=str)
@pytest.mark.parametrize("how", ["saved", "posted", "in the older format"])
@pytest.mark.parametrize("make", [lambda marker: Command(f"touch {marker}"), lambda marker: Awakened(str(marker))])
def test_nothing_is_executed_whatever_is_asked_for(manager, server, marker, make, how, only):
    state = {"evil": make(marker), "weights": torch.ones(70_000)}
    if how == "saved":
        manager.save(state, epoch=1)
    else:
        file = io.BytesIO()
        torch.save(state, file, _use_new_zipfile_serialization=how == "posted")
        server.save("runs/loading/without/copies", file.getvalue(), epoch=1)
    with pytest.raises(UnsafeCheckpoint, match="weights_only=False"):
        manager.load_latest(only=only)
    assert not marker.exists()


def test_what_is_asked_for_by_name_executes_nothing_either(manager, marker):
    path = manager.save({"evil": Command(f"touch {marker}"), "weights": torch.ones(70_000)}, epoch=1)
    with pytest.raises(UnsafeCheckpoint):
        manager.load(path)
    with pytest.raises(UnsafeCheckpoint):
        manager.load(path, only=("weights",))
    assert not marker.exists()
    manager.load(path, only=("weights",), weights_only=False)
    assert marker.exists(), "the marker marks nothing"


def test_not_even_a_module_is_imported(manager, tmp_path, monkeypatch, marker):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "module_of_a_stranger.py").write_text("class Thing:\n    pass\n")
    thing = importlib.import_module("module_of_a_stranger").Thing()
    path = manager.save({"thing": thing, "weights": torch.ones(70_000)}, epoch=1)
    del sys.modules["module_of_a_stranger"]
    for only in (None, ("weights",), ("thing",)):
        with pytest.raises(UnsafeCheckpoint):
            manager.load(path, only=only)
    assert "module_of_a_stranger" not in sys.modules


# responses of an impostor


class Impostor:
    """Answer about one checkpoint like the real server, except for the test's changes."""

    def __init__(self, server, path, manager):
        (entry,) = (entry for entry in manager.checkpoints if entry["path"].name == path.name)
        chunks = f"/v1/checkpoints/{entry['id']}/chunks"
        self.chunks = server.http.get(chunks).json()
        self.file = self.chunks["files"][0]
        for wanted in self.file["ranges"]:
            wanted["url"] = "/bytes"
        self.directory = str(path.parent)
        self.content = (server.root / path).read_bytes()
        self.alter = lambda start, data: data
        self.length = lambda data: len(data)
        latest = server.http.get("/v1/checkpoints/latest", params={"directory": str(path.parent)}).content

        impostor = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                where = self.path.partition("?")[0]
                if where == "/bytes":
                    start, _, stop = self.headers["Range"].removeprefix("bytes=").partition("-")
                    data = impostor.alter(int(start), impostor.content[int(start) : int(stop) + 1])
                else:
                    data = json.dumps(impostor.chunks).encode() if where == chunks else latest
                self.send_response(206 if where == "/bytes" else 200)
                self.send_header("Content-Length", str(impostor.length(data) if where == "/bytes" else len(data)))
                self.end_headers()
                with suppress(ConnectionError):  # the client may close the connection early
                    self.wfile.write(data)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=lambda: self._server.serve_forever(0.01), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self):
        self._server.shutdown()
        self._server.server_close()


STATE = {"a": torch.arange(3 * MIB // 4), "b": torch.arange(70_000), "c": torch.ones(3)}


@pytest.fixture
def impostor(server, directory, make_manager):
    """An impostor with a checkpoint of the server's, which answers in its place."""
    manager = make_manager()
    found = Impostor(server, manager.save(STATE, epoch=1), manager)
    yield found
    found.close()


def loads(impostor, tmp_path):
    """Every way to read the bytes."""
    manager = CheckpointManager(impostor.directory, server=impostor.url, patience_s=1)
    return [
        manager.load_latest,
        lambda: manager.load_latest(only=("a", "b")),
        lambda: CheckpointManager(
            impostor.directory, server=impostor.url, patience_s=1, cache_dir=tmp_path / "cache"
        ).load_latest(),
    ]


def test_an_impostor_with_the_right_bytes_is_accepted(impostor, tmp_path):
    whole, part, cached = loads(impostor, tmp_path)
    assert_same(whole(), STATE)
    assert_same(part(), {"a": STATE["a"], "b": STATE["b"]})
    assert_same(cached(), STATE)
    assert_same(cached(), STATE)


def flipped(data, place):
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize(
    "alter",
    [
        pytest.param(lambda start, data: flipped(data, 0), id="the first byte"),
        pytest.param(lambda start, data: flipped(data, len(data) - 1), id="the last byte"),
        pytest.param(lambda start, data: flipped(data, len(data) // 2), id="a byte in the middle"),
        pytest.param(lambda start, data: bytes(len(data)), id="nothing but zeros"),
        pytest.param(lambda start, data: data[1:] + data[:1], id="moved by one"),
        pytest.param(lambda start, data: data[:-1], id="one byte less"),
        pytest.param(lambda start, data: data + b"\0", id="one byte more"),
        pytest.param(lambda start, data: data + data, id="twice"),
        pytest.param(lambda start, data: b"", id="nothing"),
    ],
)
def test_answers_of_other_bytes_are_errors_and_never_states(impostor, tmp_path, alter):
    impostor.alter = alter
    for load in loads(impostor, tmp_path):
        with pytest.raises(IntegrityError):
            load()
    assert not list((tmp_path / "cache").glob("*"))


def test_answers_that_ignore_what_was_asked_for_are_errors(impostor, tmp_path):
    impostor.alter = lambda start, data: impostor.content
    with pytest.raises(IntegrityError):
        CheckpointManager(impostor.directory, server=impostor.url).load_latest(only=("b",))


def test_answers_that_end_early_each_time_are_no_answers(impostor, tmp_path):
    impostor.alter = lambda start, data: data[: len(data) // 3]
    impostor.length = lambda data: len(data) * 3
    impostor.content = impostor.content[: len(impostor.content) // 3 * 3]
    for load in loads(impostor, tmp_path):
        with pytest.raises((ServerUnreachable, IntegrityError)):
            load()


def drop_the_last(file):
    file["chunks"].pop()


def make_longer(file):
    file["chunks"][-1]["length"] += 1


def overlap(file):
    file["chunks"][1]["offset"] -= 1


def leave_a_gap(file):
    file["chunks"][0]["length"] -= 1


def begin_later(file):
    for chunk in file["chunks"]:
        chunk["offset"] += 1


def go_backwards(file):
    file["chunks"].append({**file["chunks"][-1], "length": -5, "offset": file["size_bytes"]})
    file["size_bytes"] -= 5


def grow(file):
    file["size_bytes"] += 1


def shrink(file):
    file["size_bytes"] -= 1


def swap(file):
    one, other = file["chunks"][:2]
    one["digest"], other["digest"] = other["digest"], one["digest"]


def cut_elsewhere(file):
    file["chunks"][0]["length"] -= 1
    file["chunks"][1]["length"] += 1
    file["chunks"][1]["offset"] -= 1


def have_no_ranges(file):
    file["ranges"] = []


def have_short_ranges(file):
    file["ranges"][-1]["length"] -= 1


def have_late_ranges(file):
    file["ranges"][0]["offset"] += 1


@pytest.mark.parametrize(
    "alter",
    [
        drop_the_last,
        make_longer,
        overlap,
        leave_a_gap,
        begin_later,
        go_backwards,
        grow,
        shrink,
        swap,
        cut_elsewhere,
        have_no_ranges,
        have_short_ranges,
        have_late_ranges,
    ],
    ids=lambda alter: alter.__name__.replace("_", " "),
)
def test_chunk_lists_that_do_not_add_up_are_errors(impostor, tmp_path, alter):
    before = copy.deepcopy(impostor.chunks)
    alter(impostor.file)
    assert impostor.chunks != before
    for load in loads(impostor, tmp_path)[::2]:
        with pytest.raises(IntegrityError):
            load()


def test_another_checkpoints_list_is_an_error(impostor, tmp_path, make_manager, server):
    manager = make_manager()
    other = Impostor(server, manager.save({"other": torch.ones(70_000)}, epoch=9), manager)
    impostor.chunks, impostor.content = other.chunks, other.content
    for load in loads(impostor, tmp_path):
        with pytest.raises(IntegrityError, match="digest"):
            load()
    other.close()


def test_every_byte_of_a_state_was_verified(impostor):
    """A load of everything notices a flipped byte in any chunk of the file."""
    for chunk in impostor.file["chunks"]:
        place = chunk["offset"] + chunk["length"] // 2
        content = impostor.content
        impostor.content = flipped(content, place)
        with pytest.raises(IntegrityError):
            CheckpointManager(impostor.directory, server=impostor.url).load_latest()
        impostor.content = content
    found = CheckpointManager(impostor.directory, server=impostor.url).load_latest()
    assert [raw(tensor) for tensor in strided(found)] == [raw(tensor) for tensor in strided(STATE)]
