"""A file that is no checkpoint is named by its format, before torch sees it; safetensors files are loaded."""

import gzip
import io
import json
import pickle
import struct
import tarfile
import warnings
import zipfile
import zlib

import pytest
import safetensors.torch
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from holdfast import CheckpointManager, HoldfastError, UnreadableCheckpoint, UnsafeCheckpoint
from tests.client.torchfile.test_zoo import ours
from tests.data import exploits, zoo
from tests.support.memory import peak_growth

STATE = {"w": torch.ones(3)}


def zipped(**records):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for name, content in records.items():
            made.writestr(name.replace("__", "/"), content)
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as made:
        info = tarfile.TarInfo("model_weights.ckpt")
        info.size = 3
        made.addfile(info, io.BytesIO(b"abc"))
    return file.getvalue()


MULTIPART = b'--b0und\r\nContent-Disposition: form-data; name="file"; filename="m.pt"\r\n\r\n' + zoo.saved(STATE)
STRANGERS = {
    "empty": (b"", "empty"),
    "one byte": (b"\x00", "nothing but zeros"),
    "zeros": (bytes(10_000), "zeros at its beginning"),
    "noise": (bytes(range(255, 0, -1)) * 20, "no format that is known"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "gzip": (gzip.compress(zoo.saved(STATE)), "gzip"),
    "zlib": (zlib.compress(zoo.saved(STATE)), "zlib"),
    "zstd": (b"\x28\xb5\x2f\xfd" + bytes(99), "zstd"),
    "a tar file": (tar(), "a tar file"),
    "Keras": (zipped(**{"config.json": "{}", "model.weights.h5": "x"}), "Keras"),
    "a zip file": (zipped(**{"a.txt": "x"}), "zip file without data.pkl"),
    "torch.export": (zipped(m__archive_format="pt2", m__version="0"), "torch.export"),
    "half a torch file": (zoo.saved(STATE)[:500], "damaged zip file"),
    "GGUF": (b"GGUF\x03\x00\x00\x00" + bytes(99), "GGUF"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x052.0.0", "ONNX"),
    "a web page": (b"\n<!DOCTYPE html><html><body>404</body></html>", "web page"),
    "a web page in two bytes": ("\ufeff<html>".encode("utf-16"), "web page"),
    "an object store's error": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "XML"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "JSON": (json.dumps({"error": "not found"}).encode(), "JSON"),
    "text": ("läuft nicht\n".encode() * 9000, "text"),
    "multipart": (MULTIPART, "multipart envelope"),
    "chunks": (b"1f4\r\n" + zoo.saved(STATE)[:500] + b"\r\n0\r\n\r\n", "chunked envelope"),
    "a pickle": (pickle.dumps({"w": 1}), "pickle that torch.save did not write"),
    "an old pickle": (pickle.dumps({"w": 1}, 2), "pickle that torch.save did not write"),
    "a pickled command": (pickle.dumps(exploits.Reduced(print, 1)), "pickle that torch.save did not write"),
    "an empty safetensors file": (struct.pack("<Q", 2) + b"{}", "holds no tensor"),
}


@pytest.mark.parametrize("only", [None, ("w",)], ids=["whole", "in part"])
@pytest.mark.parametrize("weights_only", [True, False], ids=["weights only", "trusted"])
@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_checkpoint_is_called_what_it_is(name, weights_only, only):
    data, called = STRANGERS[name]
    with pytest.raises(UnreadableCheckpoint, match=called) as refused:
        ours(data, weights_only=weights_only, only=only)
    assert "weights_only" not in str(refused.value)
    assert "safe" not in str(refused.value).replace("safetensors", "")


@pytest.mark.parametrize("name", STRANGERS)
def test_torch_cannot_load_any_of_these_either(tmp_path, name):
    path = tmp_path / "state.pt"
    path.write_bytes(STRANGERS[name][0])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception):  # noqa: B017, PT011 - torch says it in a dozen ways
            torch.load(path, weights_only=False)


def test_it_is_said_through_the_manager_too(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    server.save(directory, b"<html></html>", name="page.pt", epoch=1, metric=1)
    for load in (manager.load_latest, manager.load_best, manager.resume, lambda: manager.load("page.pt")):
        with pytest.raises(UnreadableCheckpoint, match="a web page"):
            load()


def test_trust_is_advised_only_where_it_would_help():
    with pytest.raises(UnsafeCheckpoint, match="weights_only=False"):
        ours(zoo.saved(zoo.Settings()))
    damaged = zoo.saved({"note": zoo.Settings(), "w": torch.ones(3)}).replace(b"\x80\x02}q\x00(", b"\x80\x02\xff}\x00(")
    for weights_only in (True, False):
        with pytest.raises(UnreadableCheckpoint, match="pickle is damaged"):
            ours(damaged, weights_only=weights_only)


# claims


@pytest.mark.parametrize("weights_only", [True, False])
@pytest.mark.parametrize("legacy", [False, True], ids=["zipped", "before the zip file"])
@pytest.mark.parametrize(
    "map_location", [None, "meta", lambda storage, location: storage.clone()], ids=["given back", "meta", "a callable"]
)
def test_a_file_that_claims_more_than_it_holds_takes_no_memory(weights_only, legacy, map_location):
    count = 1 << 29
    data = (
        exploits.legacy(exploits._legacy_tensor(count), ["0"])
        if legacy
        else exploits.archive(exploits.tensor(count=count, size=(count,)), data=bytes(29_000))
    )

    def load():
        with pytest.raises((HoldfastError, RuntimeError)):
            ours(data, weights_only=weights_only, map_location=map_location)

    if map_location == "meta" and not legacy:  # meta tensors have no memory, so torch takes the claim for a shape
        assert ours(data, weights_only=weights_only, map_location=map_location).shape == (count,)
    else:
        assert peak_growth(load) < 64 * 2**20


def test_storages_whose_bytes_do_not_follow_are_no_memory_of_others():
    data = exploits.legacy(exploits._legacy_tensor(4), [])
    assert torch.load(io.BytesIO(data)).shape == (4,)  # leftover memory
    with pytest.raises(UnreadableCheckpoint, match="does not hold"):
        ours(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("weights_only", [True, False])
def test_bytes_that_are_called_a_folder_are_no_memory_of_others(method, weights_only):
    """Torch reads nothing then, and returns leftover memory."""
    data = exploits.archive(exploits.tensor(), data=struct.pack("<4f", 1, 2, 3, 4), method=method)
    place = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1) + 1)
    assert data[place + 46 :].startswith(b"a/data/0")
    data = data[: place + 38] + struct.pack("<I", 0x10) + data[place + 42 :]
    if method == zipfile.ZIP_STORED:
        assert ours(data, weights_only=weights_only).tolist() == [1, 2, 3, 4]
    else:
        with pytest.raises(UnreadableCheckpoint, match="a folder"):
            ours(data, weights_only=weights_only)


def test_a_record_without_its_header_is_left_to_torch():
    data = zoo.saved({"a": torch.arange(9.0), "b": torch.zeros(0)})
    place = data.rindex(b"PK\x03\x04", 0, data.index(b"archive/data/1"))
    data = data[:place] + b"XX" + data[place + 2 :]
    assert zoo.differences(ours(data), torch.load(io.BytesIO(data))) == []


def test_a_storage_that_was_freed_before_the_save_is_refused():
    tensor = torch.ones(100_000)
    tensor.untyped_storage().resize_(0)
    for zipped in (True, False):
        with pytest.raises(UnreadableCheckpoint):
            ours(zoo.saved({"t": tensor}, _use_new_zipfile_serialization=zipped))
    data = zoo.saved({"none": torch.zeros(0, 3), "t": tensor})
    for only in (
        None,
        ("t",),
    ):  # torch itself resizes the storage that the callable returned, and leaves it uninitialised
        with pytest.raises(UnreadableCheckpoint, match="freed before it was saved"):
            ours(data, map_location=lambda storage, location: storage.clone(), only=only)
    kept = zoo.saved({"none": torch.zeros(0, 3), "one": torch.tensor(1.0)})
    assert ours(kept, map_location=lambda storage, location: storage.clone())["one"] == 1


def test_a_tensor_that_is_larger_than_its_storage_is_refused():
    small = exploits.legacy(exploits._legacy_tensor(4), ["0"]).replace(b"(K\x04t", b"(K\x40t")
    small += struct.pack("<q4f", 4, 1, 2, 3, 4)
    with pytest.raises(UnreadableCheckpoint):
        ours(small)


# safetensors


def tensors():
    found = {"w": torch.randn(300, 200), "empty": torch.zeros(0, 3), "one": torch.tensor(2.5)}
    for dtype in (
        torch.uint8,
        torch.bool,
        torch.bfloat16,
        torch.float8_e4m3fn,
        torch.int64,
        torch.uint16,
        torch.complex64,
    ):
        found[str(dtype)] = torch.zeros(24, dtype=torch.uint8).view(dtype)[1:]
    return {name: tensor.contiguous().clone() for name, tensor in found.items()}


def test_a_safetensors_file_is_a_dict_of_tensors():
    state = tensors()
    data = safetensors.torch.save(state, {"format": "pt"})
    for how in ({}, {"weights_only": False}, {"map_location": "cpu"}, {"map_location": torch.device("cpu")}):
        found = ours(data, **how)
        wanted = safetensors.torch.load(data)
        assert zoo.differences({name: found[name] for name in wanted}, wanted) == []
    found["w"].add_(1)
    assert torch.equal(ours(data)["w"], state["w"])
    part = ours(data, only=("one", "w"))
    assert list(part) == ["one", "w"]
    assert zoo.differences(part, {"one": state["one"], "w": state["w"]}) == []
    with pytest.raises(KeyError, match="no 'v'; it has "):
        ours(data, only=("v",))


def test_a_safetensors_file_goes_where_it_is_to_go():
    data = safetensors.torch.save(tensors())
    meta = torch.UntypedStorage(2, device="meta")
    for to in ("meta", torch.device("meta"), {"cpu": "meta"}, lambda storage, location: meta):
        assert {tensor.device.type for name, tensor in ours(data, map_location=to, only=("one",)).items()} == {"meta"}
    assert ours(data, map_location=lambda storage, location: None)["one"] == 2.5
    with pytest.raises(RuntimeError, match="nowhere"):
        ours(data, map_location="nowhere")
    with torch.device("meta"), torch.inference_mode():
        assert ours(data)["w"].device.type == "cpu"
    with FakeTensorMode():
        assert ours(data)["w"].shape == (300, 200)


def test_a_safetensors_file_is_loaded_in_every_way(server, directory, tmp_path):
    data = safetensors.torch.save(tensors())
    server.save(directory, data, name="model.safetensors", epoch=1, metric=1)
    manager = CheckpointManager(directory, server=server.url, cache_dir=tmp_path / "cache")
    wanted = safetensors.torch.load(data)
    for load in (manager.load_latest, manager.load_best, manager.resume, lambda: manager.load("model.safetensors")):
        found = load()
        assert zoo.differences({name: found[name] for name in wanted}, wanted) == []
    assert manager.load_latest(only=iter(["one"])) == {"one": torch.tensor(2.5)}


def described(header, data=b"\0" * 8):
    said = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(said)) + said + data


def one(**changed):
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changed}}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(described(one(shape=[3])), id="a shape that is larger"),
        pytest.param(described(one(shape=[1 << 62, 4])), id="a shape that overflows"),
        pytest.param(described(one(shape=[-2])), id="a negative shape"),
        pytest.param(described(one(shape=[2.0])), id="a shape of floats"),
        pytest.param(described(one(shape=[True, 2])), id="a shape of truth"),
        pytest.param(described(one(data_offsets=[0, 16])), id="bytes beyond the end"),
        pytest.param(described(one(data_offsets=[-8, 0])), id="bytes before the beginning"),
        pytest.param(described(one(data_offsets=[8, 0])), id="bytes backwards"),
        pytest.param(described(one(), b"\0" * 16), id="bytes of no tensor"),
        pytest.param(described({**one(), "v": one()["w"]}), id="the same bytes twice"),
        pytest.param(described(one(dtype="F9")), id="a dtype that is none"),
        pytest.param(described(one(dtype=["F32"])), id="a dtype that is a list"),
        pytest.param(described({"w": 1}), id="no description"),
        pytest.param(described({"w": {}}), id="an empty description"),
        pytest.param(described(b'{"w":1,"w":1}'), id="a name twice"),
        pytest.param(described(b'{"a":' * 50_000), id="depth without end"),
        pytest.param(described(b"{" + b"\xff" * 20), id="no text"),
        pytest.param(described(b"{nonsense}"), id="no JSON"),
    ],
)
@pytest.mark.parametrize("only", [None, ("w",)], ids=["whole", "in part"])
def test_a_safetensors_file_that_is_not_as_it_says_is_damaged(data, only):
    with pytest.raises(UnreadableCheckpoint, match="damaged safetensors file"):
        ours(data, only=only)
