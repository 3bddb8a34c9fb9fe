"""States as the bytes of a torch file: the same as torch writes, without a copy of any tensor."""

import io
import random
import struct
import threading
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.utils.serialization import config

from holdfast._api import digests
from holdfast._torchfile.reader import tensor_index
from holdfast._torchfile.writer import records as state_records
from holdfast._torchfile.writer.layout import layout_of, named_tensors
from tests.data.states import MIB, STATES, TRUSTED_STATES, assert_same, raw, trained

every_state = pytest.mark.parametrize("make", [*STATES, *TRUSTED_STATES])
pytestmark = [
    pytest.mark.filterwarnings("ignore:TypedStorage is deprecated"),
    pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta"),
    pytest.mark.filterwarnings("ignore:.*quantized tensor creation"),
]


def laid_out(layout, seed=0):
    """Return the file of a layout, its chunks read on several threads in any order."""
    order = list(range(len(layout.extents)))
    random.Random(seed).shuffle(order)
    file = bytearray(layout.size_bytes)

    def read(place):
        data, digest = layout.read(place)
        copy = bytes(data)
        assert digests.of_chunk(copy) == digest
        offset, length = layout.extents[place][:2]
        assert len(copy) == length
        file[offset : offset + length] = copy

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, order))
    return bytes(file)


def torchs_own(state):
    """Return the file as torch writes it."""
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def records(file):
    """Return the data of every record that torch reads."""
    left_out = (".data/serialization_id", ".format_version", ".storage_alignment")
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        return {name: opened.read(name) for name in opened.namelist() if not name.endswith(left_out)}


def data_offset(file, info):
    """Return the offset of a record's data, read from its header."""
    names, extra = struct.unpack_from("<HH", file, info.header_offset + 26)
    return info.header_offset + 30 + names + extra


@every_state
def test_any_order_of_reading_gives_a_sound_torch_file(make):
    state = make()
    file = laid_out(layout_of(state))
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        assert opened.testzip() is None
    assert_same(torch.load(io.BytesIO(file), weights_only=False), state)


@pytest.mark.parametrize("make", STATES)
def test_the_file_holds_nothing_but_weights_where_the_state_does(make):
    state = make()
    assert_same(torch.load(io.BytesIO(laid_out(layout_of(state))), weights_only=True), state)


@every_state
def test_the_records_are_torchs_own(make):
    state = make()
    file, torchs = records(laid_out(layout_of(state))), records(torchs_own(state))
    assert list(file) == [name for name in torchs if name != "archive/version"] + ["archive/version"]
    assert file == torchs


@every_state
def test_large_storages_begin_at_whole_pages_and_small_ones_take_no_page(make):
    file = laid_out(layout_of(make()))
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        storages = [info for info in opened.infolist() if "/data/" in info.filename and info.file_size]
    for info in storages:
        assert data_offset(file, info) % (4096 if info.file_size >= 65536 else 64) == 0
    small = sum(info.file_size for info in storages if info.file_size < 65536)
    large = [info.file_size for info in storages if info.file_size >= 65536]
    pickled = records(file)["archive/data.pkl"]
    assert len(file) < len(pickled) + small + sum(large) + 4096 * (len(large) + 1) + 256 * len(storages) + 1024


@every_state
def test_any_reader_of_zip_files_finds_the_same_records(make, tmp_path):
    path = tmp_path / "state.pt"
    path.write_bytes(laid_out(layout_of(make())))
    found = torch._C.PyTorchFileReader(str(path))
    wanted = records(path.read_bytes())
    assert {f"archive/{name}" for name in found.get_all_records()} == set(wanted)
    for name, data in wanted.items():
        assert found.get_record(name.partition("/")[2]) == data


@every_state
def test_the_file_can_be_mapped(make, tmp_path):
    state, path = make(), tmp_path / "state.pt"
    path.write_bytes(laid_out(layout_of(state)))
    assert_same(torch.load(path, mmap=True, weights_only=False), state)


def test_torch_does_not_guess_where_storages_lie():
    """Torch could compute offsets if all records were aligned alike, and would read other bytes here."""
    state = {"small": torch.ones(3), "large": torch.randn(100_000), "last": torch.zeros(5)}
    with config.patch("load.calculate_storage_offsets", True):
        assert_same(torch.load(io.BytesIO(laid_out(layout_of(state)))), state)


def test_a_state_without_tensors_takes_no_room():
    assert layout_of({"epoch": 1, "loss": 0.5}).size_bytes < 2048


def test_many_small_tensors_take_no_more_room_than_torch_gives_them():
    state = {f"layer.{number}": torch.randn(64) for number in range(2000)}
    assert layout_of(state).size_bytes < 1.1 * len(torchs_own(state))


def test_more_records_than_a_zip_file_can_count_without_zip64():
    state = {f"{number}": torch.full((1,), number) for number in range(66_000)}
    file = laid_out(layout_of(state))
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        assert len(opened.namelist()) == 66_003
    found = torch.load(io.BytesIO(file))
    assert [int(value) for value in found.values()] == list(range(66_000))


def test_another_version_of_torch_that_writes_otherwise_is_asked_for_the_whole_file(monkeypatch):
    state = trained()
    saved = torchs_own(state)
    monkeypatch.setattr(torch.serialization, "_save", None)
    monkeypatch.setattr(torch, "save", lambda state, file: file.write(saved))
    layout = layout_of(state)
    assert layout.tensors is None
    assert_same(torch.load(io.BytesIO(laid_out(layout))), state)
    assert layout.chunks()
    assert not layout.has_changed()


@every_state
def test_the_same_state_gives_the_same_bytes_and_chunks(make):
    state = make()
    one, other = layout_of(state), layout_of(state)
    assert one.extents == other.extents
    assert laid_out(one, seed=1) == laid_out(other, seed=2)
    assert one.chunks() == other.chunks()


@every_state
def test_chunks_make_up_the_file_and_none_is_too_long(make):
    layout = layout_of(make())
    ends = [0]
    for offset, length, _ in layout.extents:
        assert offset == ends[-1]
        assert 0 < length <= digests.CHUNK_BYTES
        ends.append(offset + length)
    assert ends[-1] == layout.size_bytes
    file = laid_out(layout)
    assert [chunk.digest for chunk in layout.chunks()] == [
        digests.of_chunk(file[chunk.offset : chunk.offset + chunk.length]) for chunk in layout.chunks()
    ]


@every_state
def test_chunks_do_not_depend_on_earlier_reads(make):
    state = make()
    layout = layout_of(state)
    for place in random.Random(3).sample(range(len(layout.extents)), len(layout.extents) // 2):
        layout.read(place)
    assert layout.chunks() == layout_of(state).chunks()


@every_state
def test_copies_of_parts_as_other_devices_need_them_give_the_same_bytes(make, monkeypatch):
    state = make()
    wanted = laid_out(layout_of(state))

    class Staged(state_records.Storage):
        def __init__(self, storage):
            super().__init__(storage, staged=True)

    monkeypatch.setattr(state_records, "Storage", Staged)
    assert laid_out(layout_of(state)) == wanted


@every_state
def test_the_index_says_where_the_tensors_lie(make):
    state = make()
    layout = layout_of(state)
    file = laid_out(layout)
    wanted = dict(named_tensors(state))
    for entry in layout.tensors:
        tensor = wanted[entry["name"]]
        assert entry["shape"] == list(tensor.shape)
        assert entry["dtype"] == str(tensor.dtype).removeprefix("torch.")
        assert entry["size_bytes"] == tensor.numel() * tensor.element_size()
        if not tensor.numel() or entry["offset"] is None:
            assert not tensor.is_contiguous() or not tensor.numel()
            continue
        start = entry["offset"] - tensor.storage_offset() * tensor.element_size()
        bytes_of_storage = raw(tensor)
        assert file[start : start + len(bytes_of_storage)] == bytes_of_storage
    strided = [name for name, tensor in wanted.items() if tensor.layout is torch.strided]
    assert [entry["name"] for entry in layout.tensors] == strided


@pytest.mark.parametrize(
    ("view", "is_one_stretch"),
    [
        pytest.param(lambda base: base[:1, 3:], True, id="a part"),
        pytest.param(lambda base: base.t(), True, id="transposed"),
        pytest.param(lambda base: base.view(2, 3, 2, 5).permute(2, 0, 3, 1), True, id="permuted"),
        pytest.param(lambda base: base[2:2], True, id="nothing"),
        pytest.param(lambda base: base[:, ::2], False, id="every second column"),
        pytest.param(lambda base: base[:, 3:], False, id="the last columns"),
        pytest.param(lambda base: base[:1].expand(9, 10), False, id="expanded"),
        pytest.param(lambda base: base.as_strided((3, 4), (1, 1)), False, id="overlapping"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda tensor: tensor, torch.nn.Parameter], ids=["tensor", "parameter"])
def test_the_index_says_where_a_tensor_lies_if_its_elements_are_one_stretch(tmp_path, view, is_one_stretch, wrap):
    state = {"w": wrap(view(torch.arange(60.0).view(6, 10)))}
    torch.save(state, tmp_path / "a.pt")
    for (entry,) in (layout_of(state).tensors, tensor_index.index_file(tmp_path / "a.pt")):
        assert (entry["offset"] is not None) == is_one_stretch
        assert entry["size_bytes"] == state["w"].numel() * 4


def test_names_in_the_index_lead_through_dicts_and_lists():
    layout = layout_of({"model": {"a.weight": torch.ones(2)}, "list": [1, (torch.ones(3), {5: torch.ones(4)})]})
    assert [entry["name"] for entry in layout.tensors] == ["model.a.weight", "list.1.0", "list.1.1.5"]


@pytest.mark.parametrize("length", [16, 30, 40, 4000, 4029, 4030, 4031, 4050, 4096])
def test_a_storage_that_looks_like_another_part_of_the_file_is_none(length):
    """The text has the length of the padding, or of a header, and begins like one."""
    for start in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"ZZZZ"):
        numbers = torch.frombuffer(bytearray((start * length)[:length]), dtype=torch.uint8)
        with_quantized = torch.quantize_per_tensor(torch.ones(length), 0.1, 0, torch.qint8)
        for state in ({"a": numbers}, {"a": numbers, "q": with_quantized, "b": numbers.clone()}):
            layout = layout_of(state)
            assert_same(torch.load(io.BytesIO(laid_out(layout))), state)
            assert [entry["offset"] % 64 for entry in layout.tensors] == [0] * len(state)


def address(view):
    """Return the address of a view."""
    return torch.frombuffer(view, dtype=torch.uint8).data_ptr()


def test_chunks_of_large_tensors_are_the_tensors_own_memory():
    tensors = {"a": torch.randn(9 * MIB // 4), "b": torch.randn(300, 300).t(), "c": torch.randn(1, 100_000)}
    layout = layout_of(tensors)
    found = {}
    for place, (offset, length, record) in enumerate(layout.extents):
        if record is not None:
            view, _ = layout.read(place)
            found[address(view)] = (offset, length)
    for name, tensor in tensors.items():
        (entry,) = [entry for entry in layout.tensors if entry["name"] == name]
        start = tensor.untyped_storage().data_ptr()
        own = [place for place in found if start <= place < start + tensor.untyped_storage().nbytes()]
        whole_pages = tensor.untyped_storage().nbytes() // 4096 * 4096
        assert sum(found[place][1] for place in own) == whole_pages
        assert all(place - start == found[place][0] - entry["offset"] for place in own)


def test_quantised_tensors_are_not_copied_either():
    large = torch.quantize_per_tensor(torch.randn(3 * MIB), 0.1, 0, torch.qint8)
    layout = layout_of({"q": large})
    views = [layout.read(place)[0] for place, extent in enumerate(layout.extents) if extent.record is not None]
    assert [address(view) for view in views] == [large.data_ptr()]


def own_chunks(layout, name):
    """Return the digests of the chunks of a large tensor."""
    (entry,) = [entry for entry in layout.tensors if entry["name"] == name]
    inside = range(entry["offset"], entry["offset"] + entry["size_bytes"] // 4096 * 4096)
    return [chunk.digest for chunk in layout.chunks() if chunk.offset in inside]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda state: state["b"].add_(1), id="another tensor"),
        pytest.param(lambda state: state.update(note="more" * 50_000), id="the pickle"),
        pytest.param(lambda state: state.update({"0": torch.ones(70_000)}), id="one tensor more"),
        pytest.param(lambda state: state.update(b=torch.ones(3)), id="another tensor's size"),
        pytest.param(lambda state: state.update(c=state.pop("b")), id="a name"),
        pytest.param(lambda state: state.pop("b"), id="one tensor less"),
    ],
)
def test_what_did_not_change_keeps_its_chunks_while_something_else_changes(change):
    state = {"b": torch.randn(100_000), "a": torch.randn(5 * MIB // 4 + 9)}
    before = own_chunks(layout_of(state), "a")
    state["a"] = state["a"].clone()  # at another place in memory
    change(state)
    assert len(before) == 2
    assert own_chunks(layout_of(state), "a") == before


def test_a_tensor_that_changed_has_other_chunks_where_it_changed():
    state = {"a": torch.zeros(12 * MIB // 4)}
    before = own_chunks(layout_of(state), "a")
    state["a"][5 * MIB // 4] = 1
    after = own_chunks(layout_of(state), "a")
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_a_sample_is_of_some_of_the_chunks():
    layout = layout_of({f"{n}": torch.randn(100_000) for n in range(40)})
    chunks = {chunk.digest for chunk in layout_of({}).chunks()}
    sample = layout.sample(8)
    assert 4 <= len(sample) <= 8
    assert sample <= {chunk.digest for chunk in layout.chunks()}
    assert sample.isdisjoint(chunks)
    assert layout_of({}).sample(8) == set()


def test_a_model_and_its_optimizer_can_be_laid_out_while_others_save_with_torch():
    """Files of other writers keep the data of their tensors, although ours leave it out."""
    state, failures = trained(), []
    plain = io.BytesIO()
    torch.save(state, plain)
    stop = threading.Event()

    def save():
        while not stop.is_set():
            file = io.BytesIO()
            torch.save(state, file)
            with zipfile.ZipFile(file) as opened:
                if opened.testzip() is not None:
                    failures.append("damaged")

    other = threading.Thread(target=save)
    other.start()
    files = {laid_out(layout_of(state)) for _ in range(20)}
    stop.set()
    other.join()
    assert failures == []
    assert len(files) == 1


@pytest.mark.parametrize("length", [1, 4095, 4096, 70_000, 5 * MIB + 3])
def test_a_staged_storage_gives_any_part_of_its_bytes(length):
    tensor = torch.randint(0, 256, (length,), dtype=torch.uint8)
    storage = state_records.Storage(tensor.untyped_storage(), staged=True)
    whole, numbers = raw(tensor), random.Random(length)
    for _ in range(20):
        start, stop = sorted(numbers.choices(range(length + 1), k=2))
        view = storage.view(start, stop)
        assert bytes(view) == whole[start:stop]
        if start < stop:
            assert address(view) != tensor.data_ptr() + start


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device on this machine")
def test_tensors_on_a_gpu_are_laid_out_as_torch_would_write_them():
    state = {"a": torch.randn(5 * MIB // 4, device="cuda"), "b": torch.ones(3, device="cuda"), "c": torch.randn(99_999)}
    state["view"] = state["a"][10:20]
    file = laid_out(layout_of(state))
    with zipfile.ZipFile(io.BytesIO(file)) as opened:
        assert opened.testzip() is None
    found = torch.load(io.BytesIO(file))
    for name, tensor in state.items():
        assert found[name].device == tensor.device
        assert torch.equal(found[name], tensor)
    assert records(file) == records(torchs_own(state))
