"""Files of NumPy and llama.cpp from `put` to `tensors`, `diff` and `load`; alone and in folders."""

import gguf
import numpy as np
import pytest

from holdfast import UnreadableCheckpoint


def write_gguf(path, value):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.attn", np.full((2, 3), value, np.float32))
    writer.add_tensor("output", np.ones(4, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(holdfast, path):
    return [row[:3] for row in holdfast("tensors", path).rows]


@pytest.fixture
def files(tmp_path):
    """A folder with a file of each format."""
    folder = tmp_path / "step-10"
    folder.mkdir()
    np.savez(folder / "params.npz", w=np.arange(6.0).reshape(2, 3), b=np.zeros(3, np.float32))
    np.save(folder / "ids.npy", np.arange(4))
    write_gguf(folder / "model.gguf", 1)
    return folder


def test_a_file_of_arrays_is_put_and_loaded(holdfast, directory, make_manager, files):
    assert holdfast("put", files / "params.npz", directory).status == 0
    assert tensors(holdfast, f"{directory}/params.npz") == [["w", "float64", "[2, 3]"], ["b", "float32", "[3]"]]
    found = make_manager().load("params.npz")
    np.testing.assert_array_equal(found["w"], np.arange(6.0).reshape(2, 3), strict=True)
    assert list(make_manager().load("params.npz", only=("b",))) == ["b"]
    holdfast("put", files / "ids.npy", directory)
    np.testing.assert_array_equal(make_manager().load_latest(), np.arange(4), strict=True)


def test_a_model_of_llama_cpp_has_tensors_and_is_compared(holdfast, directory, make_manager, files):
    holdfast("put", files / "model.gguf", directory, "--name", "one.gguf")
    write_gguf(files / "model.gguf", 2)
    holdfast("put", files / "model.gguf", directory, "--name", "two.gguf")
    assert tensors(holdfast, f"{directory}/two.gguf") == [
        ["blk.0.attn", "float32", "[2, 3]"],
        ["output", "float16", "[4]"],
    ]
    changed = {row[2]: row[0] for row in holdfast("diff", f"{directory}/one.gguf", f"{directory}/two.gguf").rows}
    assert changed["blk.0.attn"] == "changed"
    with pytest.raises(UnreadableCheckpoint, match="GGUF"):
        make_manager().load("two.gguf")


def test_each_file_of_a_folder_has_its_tensors(holdfast, server, directory, files):
    holdfast("put", files, directory)
    (saved,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    found = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()["files"]
    assert {file["path"]: [tensor["name"] for tensor in file["tensors"]] for file in found if file["tensors"]} == {
        "ids.npy": ["array"],
        "model.gguf": ["blk.0.attn", "output"],
        "params.npz": ["w", "b"],
    }


def test_one_request_is_enough(server, directory, files):
    query = {"directory": directory, "name": "model.gguf"}
    saved = server.http.post("/v1/checkpoints", params=query, content=(files / "model.gguf").read_bytes()).json()
    (file,) = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()["files"]
    assert [tensor["dtype"] for tensor in file["tensors"]] == ["float32", "float16"]
