"""The index of an ordinary file has torch's tensors at their true offsets; no file makes it fail."""

import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict

import pytest
import torch
from safetensors.torch import save_file

from holdfast._torchfile.reader import tensor_index
from holdfast._torchfile.writer.layout import layout_of, named_tensors

STATES = {
    "nested": {"model": torch.nn.Linear(3, 4).state_dict(), "list": [torch.arange(6), (torch.ones(2, 2),)], 7: 8},
    "a tensor": torch.arange(5),
    "views": {"base": (base := torch.arange(12.0)), "tail": base[4:], "turned": base.view(3, 4).t(), "none": base[:0]},
    "parameters": OrderedDict(p=torch.nn.Parameter(torch.ones(3)), b=torch.nn.Buffer(torch.zeros(2))),
    "types": {
        str(dtype): torch.zeros(3, dtype=dtype)
        for dtype in (torch.bfloat16, torch.float8_e5m2, torch.uint16, torch.uint64, torch.complex64, torch.bool)
    },
    "no tensors": {"epoch": 1},
}


def described(index):
    return [(each["name"], each["dtype"], each["shape"], each["size_bytes"]) for each in index]


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_a_torch_file(tmp_path, state):
    torch.save(state, tmp_path / "a.pt")
    data = (tmp_path / "a.pt").read_bytes()
    found = tensor_index.index_file(tmp_path / "a.pt")
    assert described(found) == described(layout_of(state).tensors)
    for entry, (_, tensor) in zip(found, named_tensors(state), strict=True):
        if tensor.is_contiguous():
            assert data[entry["offset"] :][: entry["size_bytes"]] == bytes(tensor.detach().view(torch.uint8).numpy())


def test_what_is_no_plain_tensor_costs_the_index_no_other(tmp_path):
    state = {
        "sparse": torch.eye(3).to_sparse(),
        "plain": torch.ones(2),
    }
    torch.save(state, tmp_path / "a.pt")
    assert described(tensor_index.index_file(tmp_path / "a.pt"))[-1] == ("plain", "float32", [2], 8)


def test_a_safetensors_file(tmp_path):
    state = {"w": torch.ones(3), "b": torch.arange(4, dtype=torch.int16).view(2, 2), "h": torch.ones(1).bfloat16()}
    save_file(state, tmp_path / "a.safetensors", metadata={"format": "pt"})
    data = (tmp_path / "a.safetensors").read_bytes()
    found = tensor_index.index_file(tmp_path / "a.safetensors")
    assert sorted(described(found)) == sorted(described(layout_of(state).tensors))
    for entry in found:
        expected = bytes(state[entry["name"]].view(torch.uint8).numpy())
        assert data[entry["offset"] :][: entry["size_bytes"]] == expected


def safe(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def zipped(root):
    def make(path):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", root if isinstance(root, bytes) else pickle.dumps(root, 2))

    return make


def laughing():
    value = []
    for _ in range(60):
        value = [value, value]
    return value


HOSTILE = {
    "no file of theirs": b"just text, of some length",
    "nothing": b"",
    "a long header": struct.pack("<Q", 2**62) + b"{}",
    "no object": safe(b"{]"),
    "a tensor beyond the end": safe({"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}, b"short"),
    "a tensor that ends before it begins": safe({"w": {"dtype": "F32", "shape": [], "data_offsets": [8, 0]}}, b"x" * 8),
    "a negative length": safe({"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 0]}}),
    "deep JSON": safe(b'{"a":' * 50_000),
    "a zip file of no state": zipped(b"not a pickle"),
    "a state that names itself without end": zipped(laughing()),
    "a shape of objects": zipped(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(NNNtR."),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_what_cannot_be_understood_has_no_index(tmp_path, content):
    path = tmp_path / "a"
    content(path) if callable(content) else path.write_bytes(content)
    assert not tensor_index.index_file(path)


def test_nothing_that_a_file_names_is_called(tmp_path):
    made = str(tmp_path / "made").encode()
    zipped(b"\x80\x02cos\nmkdir\n(X" + struct.pack("<I", len(made)) + made + b"tR.")(tmp_path / "a.pt")
    assert tensor_index.index_file(tmp_path / "a.pt") is None
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("form", ["torch", "safetensors"])
def test_a_damaged_file_has_an_index_or_none(tmp_path, form):
    state = {"model": {"w": torch.ones(300), "b": torch.ones(3)}, "epoch": 3}
    torch.save(state, tmp_path / "a") if form == "torch" else save_file(state["model"], tmp_path / "a")
    data, numbers = (tmp_path / "a").read_bytes(), random.Random(4)
    for _ in range(300):
        damaged = bytearray(data[: numbers.choice([len(data), numbers.randrange(len(data))])])
        for _ in range(numbers.randrange(4)):
            if damaged:
                damaged[numbers.randrange(len(damaged))] = numbers.randrange(256)
        (tmp_path / "b").write_bytes(damaged)
        for entry in tensor_index.index_file(tmp_path / "b") or []:
            assert entry["offset"] >= 0
            assert entry["size_bytes"] >= 0
