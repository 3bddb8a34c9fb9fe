"""Adoption learns from names and records: kinds, metrics that the operator chooses, and what is not complete."""

import struct

import pytest

from app.__main__ import main
from app.bootstrap import open_root
from app.settings import Settings
from holdfast import CheckpointManager
from tests.app.service.maintenance.test_adopt_kinds import WEIGHTS, adopt, put
from tests.data import zoo
from tests.support.live import LiveServer


@pytest.fixture
def root(tmp_path):
    open_root(Settings(root=tmp_path / "root")).close()
    return tmp_path / "root"


@pytest.fixture
def rows(root):
    """Gives the checkpoints of a directory by name, as a server answers."""

    def ask(directory):
        with LiveServer(root, scrub_bytes_per_s="0") as server:
            found = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
        return {one["name"]: one for one in found}

    return ask


def test_a_folder_that_is_not_complete_is_left_alone(root, tmp_path, capsys, rows):
    weights = {"model.safetensors": WEIGHTS}
    put(
        tmp_path / "hf",
        {f"{name}/{file}": data for name in ("checkpoint-5", "tmp-checkpoint-9") for file, data in weights.items()},
    )
    status, said = adopt(capsys, root, tmp_path / "hf", "--as", "hf")
    assert (status, said["taken"]) == (3, 1)
    (left,) = said["left"]
    assert left["where"].endswith("/tmp-checkpoint-9")
    assert "not completed" in left["why"]


def test_the_best_of_ignite_are_best_and_a_job_does_not_resume_from_them(root, tmp_path, capsys):
    states = {
        "checkpoint_100.pt": {"step": 100},
        "best_model_7_val_acc=0.91.pt": {"w": 7},
        "checkpoint_200.pt": {"step": 200},
    }
    put(tmp_path / "ig", {name: zoo.saved(state) for name, state in states.items()})
    assert adopt(capsys, root, tmp_path / "ig", "--as", "ig")[0] == 0
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        manager = CheckpointManager("ig", mode="max", server=server.url)
        assert manager.resume() == {"step": 200}
        assert manager.load_best() == {"w": 7}


def test_metrics_of_orbax_are_read(root, tmp_path, capsys, rows):
    for step, loss in ((100, 0.5), (200, 0.2)):
        files = {
            "_CHECKPOINT_METADATA": {},
            "default/manifest.ocdbt": b"x",
            "metrics/metrics": {"loss": loss, "note": "a"},
        }
        put(tmp_path / "ox" / f"{step}", files)
    assert adopt(capsys, root, tmp_path / "ox", "--as", "ox")[1]["directories"][0]["mode"] == "min"
    assert {name: (one["step"], one["metric"]) for name, one in rows("ox").items()} == {
        "100": (100, 0.5),
        "200": (200, 0.2),
    }


def test_a_metric_with_a_slash_is_read_from_folder_and_file(root, tmp_path, capsys, rows):
    put(tmp_path / "pl", {"epoch=2-val/acc=0.91.ckpt": WEIGHTS})
    assert adopt(capsys, root, tmp_path / "pl", "--as", "pl")[0] == 0
    (found,) = rows("pl/epoch=2-val").values()
    assert (found["epoch"], found["metric"], found["metadata"]) == (2, 0.91, {"val/acc": 0.91})


SEVERAL = {f"epoch={e}-loss={loss}-acc={acc}.ckpt": WEIGHTS for e, loss, acc in ((1, 0.5, 0.7), (2, 0.4, 0.6))}


@pytest.mark.parametrize(
    ("flags", "mode", "metrics"),
    [
        pytest.param((), None, [None, None], id="not chosen"),
        pytest.param(("--metric", "acc"), "max", [0.7, 0.6], id="the mode by its name"),
        pytest.param(("--metric", "loss", "--mode", "max"), "max", [0.5, 0.4], id="with a mode"),
        pytest.param(("--metric", "other", "--mode", "min"), None, [None, None], id="one that none has"),
    ],
)
def test_the_operator_chooses_the_metric(root, tmp_path, capsys, rows, flags, mode, metrics):
    put(tmp_path / "pl", SEVERAL)
    status, said = adopt(capsys, root, tmp_path / "pl", "--as", "pl", *flags)
    assert (status, said["directories"][0]["mode"]) == (0, mode)
    assert [one["metric"] for one in rows("pl").values()] == metrics


def test_a_directory_that_ranks_otherwise_takes_nothing_in_by_that_metric(root, tmp_path, capsys):
    put(tmp_path / "pl", SEVERAL)
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        server.save("pl", b"x", metric=1, mode="min")
    status, said = adopt(capsys, root, tmp_path / "pl", "--as", "pl", "--metric", "acc")
    assert (status, said["taken"]) == (3, 0)
    assert "ranks by mode=min, not by mode=max" in said["left"][0]["why"]


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        pytest.param(("--metric", "speed"), "give --mode min or --mode max", id="an unknown direction"),
        pytest.param(("--metric", "acc", "--mode", "up"), "must be min or max", id="an unknown mode"),
        pytest.param(("--mode", "max"), "is not given", id="a mode alone"),
    ],
)
def test_a_choice_that_cannot_be_meant_is_refused(root, tmp_path, capsys, flags, why):
    put(tmp_path / "pl", SEVERAL)
    assert main(["adopt", "--root", str(root), str(tmp_path / "pl"), "--as", "pl", *flags]) == 2
    assert why in capsys.readouterr().err


def test_models_of_keras_and_llama_cpp_are_checkpoints(root, tmp_path, capsys, rows):
    gguf = b"GGUF" + struct.pack("<IQQ", 3, 0, 0)
    sound = {
        "a.weights.h5": b"\x89HDF\r\n\x1a\n....",
        "b.keras": b"PK\x03\x04....PK\x05\x06" + bytes(18),
        "c.gguf": gguf,
    }
    put(tmp_path / "k", sound | {"d.gguf": WEIGHTS, "e.weights.h5": WEIGHTS, "f.keras": WEIGHTS})
    status, said = adopt(capsys, root, tmp_path / "k", "--as", "k")
    assert status == 3
    assert set(rows("k")) == set(sound)
    assert len([one for one in said["left"] if "does not begin as" in one["why"]]) == 3
