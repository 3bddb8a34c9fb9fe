"""Loading through the manager: the best, the latest, or by name; verified, and without unexpected code."""

import os
from pathlib import Path

import pytest
import torch

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError, UnsafeCheckpoint
from holdfast._api.digests import CHUNK_BYTES


def test_an_empty_directory_has_nothing_to_load(make_manager):
    manager = make_manager()
    assert manager.load_best() is None
    assert manager.load_latest() is None
    assert manager.get_best_metric() is None
    assert manager.checkpoints == []
    assert manager.best_checkpoints == []
    manager.cleanup_all()


def test_a_checkpoint_is_loaded_by_its_name_or_its_path_from_any_manager(make_manager):
    path = make_manager().save({"n": 1}, epoch=1)
    assert make_manager().load(path) == {"n": 1}
    assert make_manager().load(str(path)) == {"n": 1}
    assert make_manager().load(path.name) == {"n": 1}
    assert make_manager(checkpoint_dir="runs/elsewhere").load(path) == {"n": 1}


@pytest.mark.parametrize("path", ["missing.pt", "runs/of/nobody/missing.pt"])
def test_what_is_not_there_is_a_file_not_found_error(make_manager, path):
    make_manager().save({}, epoch=1)
    with pytest.raises(FileNotFoundError):
        make_manager().load(path)


def test_every_kind_of_tensor_comes_back_as_it_was(make_manager):
    base = torch.arange(12.0).reshape(3, 4)
    state = {
        "float32": torch.randn(5, 7),
        "bfloat16": torch.randn(5).to(torch.bfloat16),
        "complex": torch.randn(3, dtype=torch.complex64),
        "bool": torch.tensor([True, False]),
        "int8": torch.arange(-5, 5, dtype=torch.int8),
        "empty": torch.zeros(0, 4),
        "scalar": torch.tensor(3.5),
        "transposed": base.t(),
        "slice": base[1:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(2)),
        "nested": {"list": [torch.ones(2), (torch.zeros(1), "text")], "none": None},
        "shared": base,
    }
    manager = make_manager()
    manager.save(state, epoch=1)
    found = manager.load_latest()
    for name, tensor in state.items():
        if isinstance(tensor, torch.Tensor):
            assert found[name].dtype == tensor.dtype
            assert torch.equal(found[name], tensor)
    assert torch.equal(found["nested"]["list"][1][0], torch.zeros(1))
    assert found["shared"].untyped_storage().data_ptr() == found["transposed"].untyped_storage().data_ptr()


def test_a_state_of_several_chunks_and_ranges_comes_back(make_manager, server, directory):
    state = {"big": torch.randn(9 * CHUNK_BYTES // 4 + 3), "small": torch.ones(3)}
    manager = make_manager()
    path = manager.save(state, epoch=1)
    found = manager.load(path)
    assert torch.equal(found["big"], state["big"])
    assert torch.equal(torch.load(server.root / path)["big"], state["big"])


def test_a_whole_training_state_comes_back(make_manager):
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(16, 4)).sum().backward()
    optimizer.step()
    manager = make_manager()
    manager.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, epoch=1)
    found = manager.load_latest(map_location="cpu")
    again = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8))
    again.load_state_dict(found["model"])
    torch.optim.AdamW(again.parameters()).load_state_dict(found["optimizer"])
    assert torch.equal(again[0].weight, model[0].weight)


def test_the_server_knows_where_the_tensors_lie(make_manager, server, directory):
    weight = torch.randn(3, 5)
    path = make_manager().save({"model": {"weight": weight, "slice": weight[1:]}}, epoch=1)
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    (file,) = server.http.get(f"/v1/checkpoints/{found['id']}/tensors").json()["files"]
    tensors = {tensor["name"]: tensor for tensor in file["tensors"]}
    assert tensors["model.slice"]["shape"] == [2, 5]
    data = (server.root / path).read_bytes()
    for name, tensor in (("model.weight", weight), ("model.slice", weight[1:])):
        lies = tensors[name]
        bytes_there = data[lies["offset"] : lies["offset"] + lies["size_bytes"]]
        assert bytes_there == tensor.contiguous().numpy().tobytes()
        assert lies["dtype"] == "float32"


class Exploit:
    def __reduce__(self):
        return os.mkdir, ("exploited",)


@pytest.mark.filterwarnings("ignore:what was saved to")
def test_a_checkpoint_that_would_run_code_does_not(make_manager, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    manager = make_manager()
    manager.save({"weights": torch.ones(1), "more": Exploit()}, epoch=1)
    with pytest.raises(UnsafeCheckpoint, match="weights_only=False"):
        manager.load_latest()
    assert not Path("exploited").exists()
    manager.load_latest(weights_only=False)
    assert Path("exploited").is_dir()


def test_a_file_that_was_changed_on_the_servers_disk_is_not_loaded(make_manager, server):
    manager = make_manager()
    path = manager.save({"weights": torch.ones(1000)}, epoch=1)
    with (server.root / path).open("r+b") as file:
        file.seek(1500)
        file.write(b"\xff")
    with pytest.raises(IntegrityError):
        manager.load(path)


def test_a_byte_that_flipped_unnoticed_is_noticed_by_the_client(make_manager, server):
    manager = make_manager()
    path = manager.save({"weights": torch.ones(1000)}, epoch=1)
    file = server.root / path
    times = file.stat()
    with file.open("r+b") as opened:
        opened.seek(1500)
        opened.write(b"\xff")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(IntegrityError, match="not those that were saved"):
        manager.load(path)


def test_a_reader_changes_nothing(make_manager, server, directory):
    writer = make_manager(5, 5, "max")
    for epoch in range(8):
        writer.save({"n": epoch}, epoch=epoch, metric=epoch / 10)
    before = server.http.get(f"/v1/directories/{directory}").json()
    with pytest.warns(HoldfastWarning, match="mode='max'"):
        assert CheckpointManager(directory, server=server.url).load_best() == {"n": 7}
    assert server.http.get(f"/v1/directories/{directory}").json() == before


def test_a_directory_without_a_mode_is_ranked_by_the_readers(make_manager, server, directory):
    server.save(directory, b"x", epoch=1, metric=0.1)
    server.save(directory, b"y", epoch=2, metric=0.9)
    assert make_manager(mode="max").get_best_metric() == 0.9
    assert make_manager(mode="min").get_best_metric() == 0.1
    assert [entry["metric"] for entry in make_manager(mode="max").best_checkpoints] == [0.9, 0.1]


def test_the_lists_show_regular_ones_oldest_first_and_best_ones_best_first(make_manager):
    manager = make_manager(2, 2)
    for epoch, metric in enumerate([0.1, 0.4, 0.2, 0.5, 0.3]):
        manager.save({}, epoch=epoch, metric=metric)
    assert [entry["epoch"] for entry in manager.checkpoints] == [0, 2, 3, 4]
    assert [entry["epoch"] for entry in manager.best_checkpoints] == [0, 2]


def test_a_checkpoint_is_downloaded_as_the_file_it_is(make_manager, server, tmp_path):
    manager = make_manager()
    path = manager.save({"n": 1}, epoch=1)
    assert manager.download(path, tmp_path) == tmp_path / path.name
    assert (tmp_path / path.name).read_bytes() == (server.root / path).read_bytes()
    assert manager.download(path.name, tmp_path / "new" / "other.pt") == tmp_path / "new" / "other.pt"
    assert torch.load(tmp_path / "new" / "other.pt") == {"n": 1}
    assert {found.name for found in tmp_path.iterdir()} >= {path.name, "new"}
    assert not list(tmp_path.rglob(".*.pt.*"))


def test_a_folder_of_files_is_downloaded_as_a_folder_and_is_no_state(make_manager, server, directory, tmp_path):
    files = {"config.json": b"{}", "weights/a.bin": b"a" * 100, ".metadata": b"m"}
    body = {
        "directory": directory,
        "name": "checkpoint-500",
        "files": [{"path": path, "size_bytes": len(data)} for path, data in files.items()],
    }
    upload = server.http.post("/v1/uploads", json=body).json()
    for missing in upload["missing"]:
        server.http.put(missing["url"], content=files[missing["file"]]).raise_for_status()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    manager = make_manager()
    with pytest.raises(ValueError, match="3 files"):
        manager.load("checkpoint-500")
    assert manager.download("checkpoint-500", tmp_path) == tmp_path / "checkpoint-500"
    for path, data in files.items():
        assert (tmp_path / "checkpoint-500" / path).read_bytes() == data


def test_cleanup_removes_all_but_pinned_ones_and_names_those(make_manager, server, directory):
    manager = make_manager()
    for epoch in range(3):
        manager.save({}, epoch=epoch)
    (found,) = server.http.get(
        "/v1/checkpoints", params={"directory": directory, "name": "checkpoint_epoch_0001.pt"}
    ).json()["checkpoints"]
    server.http.patch(f"/v1/checkpoints/{found['id']}", json={"pinned": True}).raise_for_status()
    with pytest.warns(HoldfastWarning, match=r"checkpoint_epoch_0001\.pt"):
        manager.cleanup_all()
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]
    manager.cleanup_all(include_pinned=True)
    assert server.names(directory) == []
    assert not list((server.root / directory).glob("*.pt"))
    manager.save({"n": 1}, epoch=5)
    assert manager.load_latest() == {"n": 1}
