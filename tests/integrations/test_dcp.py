"""torch.distributed.checkpoint: all ranks fill one checkpoint, and any number of ranks loads it."""

import io
import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata

from holdfast import CheckpointManager, Client, InvalidRequest, UnreadableCheckpoint, UnsafeCheckpoint
from holdfast.integrations.dcp import HoldfastReader, HoldfastWriter
from holdfast.integrations.dcp import metadata as dcp_metadata
from holdfast.integrations.dcp.source import RankFile
from tests.support import frameworks
from tests.support.forwarder import Forwarder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, server) -> dict:
    """The end of a training of two ranks that nothing interrupts."""
    out = tmp_path_factory.mktemp("whole") / "end.pt"
    frameworks.run_ranks(2, "dcp_job", "runs/dcp/whole", out, HOLDFAST_URL=server.url)
    return torch.load(out)


def assert_same_end(out: Path, whole: dict) -> None:
    torch.testing.assert_close(torch.load(out), whole, rtol=0, atol=0)


def names(directory: str) -> list[str]:
    return [each.name for each in Client().checkpoints(directory)]


def state(fill: float = 1.0) -> dict:
    return {
        "model": {"big": torch.full((600, 600), fill), "small": torch.full((3,), fill), "none": torch.empty(0)},
        "half": torch.full((4, 4), fill, dtype=torch.bfloat16)[1:, ::2],
        "counts": [1, {"a": fill}],
    }


# ranks


def test_a_training_resumes_to_the_same_end_after_a_rank_is_killed_while_the_others_save(directory, tmp_path, whole):
    out = tmp_path / "end.pt"
    frameworks.run_ranks(2, "dcp_job", directory, out, "--kill-at", 3, status=1)
    assert names(directory) == ["step-1", "step-2"], "nothing of step 3 is visible"
    (left,) = open_uploads(directory)
    assert left["name"] == "step-3"
    assert "rank-1" in left["shared"]["missing_writers"]
    assert frameworks.run_ranks(2, "dcp_job", directory, out).count("at step 2") == 2
    assert_same_end(out, whole)
    assert names(directory)[-2:] == ["step-3", "step-4"]


def open_uploads(directory: str) -> list[dict]:
    server = CheckpointManager(directory)._remote.server
    return server.ask("/v1/uploads", params={"directory": directory})["uploads"]


def test_a_rank_that_fails_fails_the_save_on_every_rank_and_leaves_nothing(directory, tmp_path):
    said = frameworks.run_ranks(2, "dcp_job", directory, tmp_path / "end.pt", "--fail-at", 2, status=1)
    assert said.count("CheckpointException ranks") >= 2
    assert "the memory of this rank is on fire" in said
    assert names(directory) == ["step-1"]
    assert open_uploads(directory) == []


def test_ranks_that_disagree_about_the_facts_fail_on_every_rank(directory, tmp_path):
    said = frameworks.run_ranks(2, "dcp_job", directory, tmp_path / "end.pt", "--disagree", status=1)
    assert said.count("the ranks disagree about the checkpoint: rank 0:") >= 2
    assert open_uploads(directory) == []


def test_another_number_of_ranks_loads_it(directory, tmp_path, whole):
    frameworks.run_ranks(2, "dcp_job", directory, tmp_path / "two.pt", "--steps", 2)
    assert "at step 2" in frameworks.run_ranks(1, "dcp_job", directory, tmp_path / "one.pt", "--steps", 2)
    one, two = torch.load(tmp_path / "one.pt"), torch.load(tmp_path / "two.pt")
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    frameworks.run_ranks(1, "dcp_job", directory, tmp_path / "end.pt")
    torch.testing.assert_close(torch.load(tmp_path / "end.pt"), whole, rtol=1e-4, atol=1e-5)


def test_saves_in_the_background(directory, tmp_path):
    out = tmp_path / "end.pt"
    frameworks.run_ranks(2, "dcp_job", directory, out, "--background", "--steps", 2, TORCH_CPP_LOG_LEVEL="ERROR")
    assert names(directory) == ["step-1", "step-2"]


def test_a_server_that_is_killed_meanwhile_is_waited_for(directory, tmp_path, whole, own_server):
    out = tmp_path / "end.pt"
    where = {"HOLDFAST_URL": own_server.url}
    with frameworks.started("dcp_job", directory, out, launcher=frameworks.ranks(2), **where) as job:
        frameworks.wait_for("at step 0", job)
        own_server.restart()
        said, _ = job.communicate(timeout=frameworks.LIMIT_S)
    assert job.returncode == 0, said[-3000:]
    assert_same_end(out, whole)


# one process


def test_a_checkpoint_has_its_facts_and_the_index_of_its_tensors(directory):
    facts = {"step": 7, "epoch": 2, "metric": 0.5, "tags": ["a"], "pinned": True, "metadata": {"name": "any"}}
    dcp.save(state(), storage_writer=HoldfastWriter(directory, **facts))
    found = Client().latest(directory)
    assert (found.name, found.step, found.epoch, found.metric) == ("step-7", 7, 2, 0.5)
    assert (found.tags, found.pinned, found.metadata) == (("a",), True, {"name": "any"})
    server = CheckpointManager(directory)._remote.server
    files = server.ask(f"/v1/checkpoints/{found.id}/tensors")["files"]
    tensors = {each["name"]: each for file in files for each in file["tensors"] or ()}
    assert (tensors["model.big"]["shape"], tensors["half"]["dtype"]) == ([600, 600], "bfloat16")


def test_what_is_loaded_is_what_was_saved(directory):
    dcp.save(state(3.0), storage_writer=HoldfastWriter(directory, step=1))
    loaded = state(0.0)
    dcp.load(loaded, storage_reader=HoldfastReader(directory))
    torch.testing.assert_close(loaded["model"], state(3.0)["model"], rtol=0, atol=0)
    torch.testing.assert_close(loaded["half"], state(3.0)["half"], rtol=0, atol=0)
    assert loaded["counts"] == [1, {"a": 3.0}]


def test_torchs_own_reader_reads_a_download_and_ours_a_folder_of_torchs_own_writer(directory, tmp_path):
    manager = CheckpointManager(directory)
    dcp.save(state(2.0), storage_writer=HoldfastWriter(manager, step=1))
    loaded = state(0.0)
    dcp.load(loaded, checkpoint_id=str(manager.load_folder("step-1", to=tmp_path)))
    torch.testing.assert_close(loaded["model"], state(2.0)["model"], rtol=0, atol=0)
    dcp.save(state(5.0), checkpoint_id=str(tmp_path / "theirs"))
    manager.save_folder(tmp_path / "theirs", step=2)
    dcp.load(loaded, storage_reader=HoldfastReader(manager, "theirs"))
    torch.testing.assert_close(loaded["half"], state(5.0)["half"], rtol=0, atol=0)


def test_urls_name_the_directory_and_the_checkpoint(directory):
    writer, reader = HoldfastWriter(metric=1.0), HoldfastReader()
    dcp.save(state(1.0), checkpoint_id=f"holdfast://{directory}/step-100", storage_writer=writer)
    dcp.save(state(2.0), checkpoint_id=f"holdfast://{directory}/step-200", storage_writer=writer)
    assert [(each.name, each.step) for each in Client().checkpoints(directory)] == [
        ("step-100", 100),
        ("step-200", 200),
    ]
    loaded = state(0.0)
    for name, value in [("step-100", 1.0), ("@latest", 2.0), ("@best", 1.0)]:
        dcp.load(loaded, checkpoint_id=f"holdfast://{directory}/{name}", storage_reader=reader)
        assert loaded["model"]["small"].tolist() == [value] * 3


def test_only_the_ranges_that_are_needed_are_fetched(directory, server):
    dcp.save(state(), storage_writer=HoldfastWriter(directory, step=1))
    part = {"model": {"small": torch.zeros(3)}}
    with Forwarder(server.url) as way:
        dcp.load(part, storage_reader=HoldfastReader(directory, server=way.url))
        assert part["model"]["small"].tolist() == [1.0] * 3
        assert way.down_bytes < 300_000, "the big tensor has 1.4 MB"


@pytest.mark.parametrize("wrong", ["holdfast://runs", "runs/a/step-1", Path("holdfast://runs/a/step-1")])
def test_what_is_no_url_is_refused(wrong):
    for kind in (HoldfastWriter, HoldfastReader):
        with pytest.raises(InvalidRequest, match="holdfast://DIRECTORY/NAME"):
            kind().reset(wrong)


def test_a_save_without_a_name_or_a_coordinator_is_refused(directory):
    with pytest.raises(dcp.CheckpointException, match="give a step, an epoch or a name"):
        dcp.save(state(), storage_writer=HoldfastWriter(directory))
    with pytest.raises(InvalidRequest, match="coordinator"):
        HoldfastWriter(directory, step=1).set_up_storage_writer(True, use_collectives=False)


def test_whether_there_is_one_is_told_without_an_exception(directory):
    assert not HoldfastReader(directory).exists()
    assert not HoldfastReader(directory, "best").exists()
    assert not HoldfastReader(directory, "step-1").exists()
    dcp.save(state(), storage_writer=HoldfastWriter(directory, step=1))
    assert HoldfastReader(directory).exists()


def test_a_checkpoint_of_another_kind_is_named(directory):
    CheckpointManager(directory).save({"a": 1}, name="plain.pt")
    with pytest.raises(UnreadableCheckpoint, match=r"no file \.metadata"):
        HoldfastReader(directory).read_metadata()


def test_a_name_that_another_job_takes_meanwhile_is_not_overwritten(directory, server):
    class Late(HoldfastWriter):
        def finish(self, metadata, results):
            server.save(directory, b"of another job", name="step-1")
            super().finish(metadata, results)

    with pytest.raises(dcp.CheckpointException, match="precondition_failed"):
        dcp.save(state(), storage_writer=Late(directory, step=1))
    assert [each.size_bytes for each in Client().checkpoints(directory)] == [len(b"of another job")]
    dcp.save(state(), storage_writer=HoldfastWriter(directory, step=1))
    assert len(Client().latest(directory).files) == 2, "what the writer knew of is replaced"


# hostile checkpoints


class Evil:
    def __reduce__(self):
        return (print, ("evil",))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(pickle.dumps(Evil()), id="a function"),
        pytest.param(pickle.dumps(Metadata({}, planner_data=Evil())), id="a function inside"),
        pytest.param(b"cos\nsystem\n(S'true'\ntR.", id="os.system"),
        pytest.param(b"ctorch.distributed.checkpoint.filesystem\nos.system\n(S'true'\ntR.", id="by way of a module"),
        pytest.param(b"ctorch.distributed.checkpoint.filesystem\npickle\n.", id="a module"),
    ],
)
def test_metadata_that_name_something_else_are_refused(data, capsys):
    with pytest.raises((UnsafeCheckpoint, UnreadableCheckpoint)):
        dcp_metadata.load(data)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("data", [b"", b"no pickle", pickle.dumps({}), pickle.dumps(Metadata({}))[:-20]])
def test_what_is_no_metadata_is_unreadable(data):
    with pytest.raises(UnreadableCheckpoint):
        dcp_metadata.load(data)


def test_an_object_whose_loading_could_run_code_is_refused(directory, capsys):
    dcp.save({"counts": Evil()}, storage_writer=HoldfastWriter(directory, step=1))
    with pytest.raises(dcp.CheckpointException, match="more than weights"):
        dcp.load({"counts": 0}, storage_reader=HoldfastReader(directory))
    assert capsys.readouterr().out == ""
    dcp.load({"counts": 0}, storage_reader=HoldfastReader(directory, weights_only=False))
    assert capsys.readouterr().out == "evil\n"


# the file of a rank


def test_the_file_of_a_rank_holds_each_item_as_torch_writes_it():
    file, items = RankFile(), []
    for size in (0, 10, 300, 70_000, 3_000_000, 5, 200_000, 200_000):
        tensor = torch.arange(size, dtype=torch.float32)
        items.append((tensor, *file.add(f"t{size}", tensor)))
        items.append((b"x" * size, *file.add("", b"x" * size)))
    file.finish()
    data = b"".join(bytes(file.read(place)[0]) for place in range(len(file.spans)))
    assert len(data) == file.size_bytes
    assert [start for start, _ in file.spans] == [
        sum(length for _, length in file.spans[:n]) for n in range(len(file.spans))
    ]
    for item, offset, length in items:
        part = data[offset : offset + length]
        assert part == item if isinstance(item, bytes) else torch.equal(torch.load(io.BytesIO(part)), item)
    assert len(file.spans) < 24, "small items share chunks"
    for entry in file.tensors:
        if entry["offset"] is not None and entry["name"] == "t3000000":
            found = torch.frombuffer(bytearray(data[entry["offset"] :][: entry["size_bytes"]]), dtype=torch.float32)
            assert found[-1] == 2_999_999


def test_a_tensor_that_changes_meanwhile_is_noticed():
    file, tensor = RankFile(), torch.zeros(1_000_000)
    file.add("t", tensor)
    file.finish().chunks()
    assert not file.has_changed()
    tensor[0] = 1
    assert file.has_changed()
