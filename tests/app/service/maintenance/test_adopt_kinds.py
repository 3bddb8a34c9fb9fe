"""Adoption of the formats of other tools: whole or not at all; with metric, epoch, step and tensors."""

import json
import struct

import pytest
import torch

from app.__main__ import main
from app.bootstrap import open_root
from app.formats import tensor_index, tool_records
from app.formats.foreign_names import ExternalFacts
from app.settings import Settings
from tests.data import exploits
from tests.support.live import LiveServer

FOLDERS = {
    "Accelerate": [
        "checkpoints/checkpoint_4/" + n for n in ("model.safetensors", "optimizer.bin", "random_states_0.pkl")
    ],
    "Accelerate, named freely": ["run/" + n for n in ("model.safetensors", "optimizer.bin", "scheduler.bin")],
    "Lightning, sharded": [
        "epoch=3-step=8.ckpt/" + n for n in ("checkpoint/.metadata", "checkpoint/__0_0.distcp", "meta.pt")
    ],
    "Ray": ["checkpoint_000001/" + n for n in ("model.pt", "opt.pt")],
    "Ray, named freely": ["trial/" + n for n in ("model.pt", "opt.pt")],
    "Megatron": ["iter_0001000/mp_rank_00/model_optim_rng.pt", "iter_0001000/mp_rank_01/model_optim_rng.pt"],
    "Megatron, named freely": ["release/mp_rank_00/model_optim_rng.pt"],
    "DeepSpeed": [
        "global_step10/" + n for n in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt")
    ],
    "Transformers": [
        "checkpoint-5/" + n for n in ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt")
    ],
    "DeepSpeed in Transformers": [
        "checkpoint-5/" + n for n in ("model.safetensors", "global_step5/mp_rank_00_model_states.pt")
    ],
    "a model of Transformers": ["final/" + n for n in ("model.safetensors", "config.json", "tokenizer.json")],
    "shards": [
        "final/" + n
        for n in ("m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors", "m.safetensors.index.json")
    ],
    "DCP": ["step_5/" + n for n in (".metadata", "__0_0.distcp", "__1_0.distcp")],
    "diffusers": ["pipe/model_index.json", "pipe/unet/model.safetensors", "pipe/unet/config.json"],
    "Orbax": ["100/_CHECKPOINT_METADATA", "100/default/manifest.ocdbt", "100/default/d/1"],
    "TensorFlow": ["saved/saved_model.pb", "saved/variables/variables.index"],
    "PEFT": ["adapter/adapter_model.safetensors", "adapter/adapter_config.json"],
}
WEIGHTS = b"\x80\x02bytes"
LOOSE = {
    "parts in the folder itself": ["model.pt", "optimizer.pt"],
    "pairs": ["epoch_1.pt", "optimizer_1.pt", "epoch_2.pt", "optimizer_2.pt"],
    "a model": ["model.safetensors", "config.json"],
    "shards": ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"],
    "DCP": [".metadata", "__0_0.distcp"],
    "files of one stem": ["epoch_1.pt", "epoch_1.optim"],
    "other formats": ["pytorch_model.bin", "weights.h5"],
    "several by their numbers": ["checkpoint_1/epoch_1.pt", "checkpoint_1/epoch_2.pt"],
    "nothing at all": ["notes.txt"],
}


@pytest.fixture
def root(tmp_path):
    open_root(Settings(root=tmp_path / "root")).close()
    return tmp_path / "root"


def put(place, files):
    for path, data in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())


def adopt(capsys, root, place, *more):
    capsys.readouterr()
    status = main(["adopt", "--root", str(root), str(place), *more, "--json"])
    return status, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("outside", [False, True], ids=["in place", "copied"])
def test_a_folder_that_is_a_checkpoint_is_taken_in_whole(root, tmp_path, capsys, outside):
    place, more = (tmp_path / "elsewhere", ["--as", "runs"]) if outside else (root / "runs", [])
    for number, files in enumerate(FOLDERS.values()):
        put(place / str(number), dict.fromkeys(files, WEIGHTS))
    for more_once in ([*more, "--dry-run"], more):
        status, said = adopt(capsys, root, place, *more_once)
        assert (status, said["left"]) == (0, [])
        assert said["taken"] == len(FOLDERS)
        names = {one["directory"]: one["checkpoints"] for one in said["directories"]}
        for number, files in enumerate(FOLDERS.values()):
            nested, _, name = files[0].rpartition("/")[0].rpartition("/") if number == 0 else ("", "", files[0])
            assert names["/".join(filter(None, ["runs", str(number), nested]))] == [name.split("/")[0]]
    assert adopt(capsys, root, place, *more)[1]["known"] == len(FOLDERS)
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        for number, files in enumerate(FOLDERS.values()):
            found = server.http.get("/v1/checkpoints", params={"directory": f"runs/{number}"}).json()
            if files[0].startswith("checkpoints/"):
                continue
            (one,) = found["checkpoints"]
            assert sorted(f"{one['name']}/{file['path']}" for file in one["files"]) == sorted(files)


def test_files_with_a_suffix_of_many_kinds_are_taken_in_if_their_content_is_that_of_weights(root, tmp_path, capsys):
    torch.save({"a": torch.zeros(2)}, tmp_path / "new")
    torch.save({"a": torch.zeros(2)}, tmp_path / "old", _use_new_zipfile_serialization=False)
    keras = b"\x89HDF\r\n\x1a\n" + bytes(1000) + b"keras_version"
    weights = {"epoch_1.bin": (tmp_path / "new").read_bytes(), "epoch_2.bin": (tmp_path / "old").read_bytes()}
    others = {"data.bin": WEIGHTS, "data.h5": keras.removesuffix(b"keras_version")}
    put(tmp_path / "run", {**weights, "model.h5": keras, **others})
    status, said = adopt(capsys, root, tmp_path / "run", "--as", "runs")
    assert (status, said["directories"][0]["checkpoints"]) == (3, ["epoch_1.bin", "epoch_2.bin", "model.h5"])
    assert sorted(one["where"].partition("/run/")[2] for one in said["left"]) == sorted(others)
    put(tmp_path / "model", dict.fromkeys(("pytorch_model.bin", "training_args.bin"), weights["epoch_1.bin"]))
    assert adopt(capsys, root, tmp_path / "model", "--as", "model")[1]["taken"] == 0, "they belong together"


def test_the_state_of_a_training_beside_its_checkpoints_is_none_of_its_own(root, tmp_path, capsys):
    state = {"recipe_state/recipe_state.pt": WEIGHTS}
    put(
        tmp_path / "tune",
        {
            **state,
            **{
                f"epoch_{n}/{f}": WEIGHTS
                for n in (0, 1)
                for f in ("ft-model-00001-of-00001.safetensors", "config.json")
            },
        },
    )
    status, said = adopt(capsys, root, tmp_path / "tune", "--as", "tune")
    assert (status, said["directories"][0]["checkpoints"]) == (3, ["epoch_0", "epoch_1"])
    (left,) = said["left"]
    assert left["where"].endswith("recipe_state")
    assert "the last of epoch_0, epoch_1" in left["why"]
    put(tmp_path / "moved", {f"epoch_1/{name}": WEIGHTS for name in (*state, "ft-model-00001-of-00001.safetensors")})
    assert adopt(capsys, root, tmp_path / "moved", "--as", "moved")[1]["left"] == []


@pytest.mark.parametrize("files", LOOSE.values(), ids=LOOSE)
def test_what_would_be_torn_apart_or_is_not_understood_is_left_alone_and_never_passes_for_done(
    root, tmp_path, capsys, files
):
    put(tmp_path / "elsewhere", dict.fromkeys(files, WEIGHTS))
    for more in (["--dry-run"], []):
        status, said = adopt(capsys, root, tmp_path / "elsewhere", "--as", "runs", *more)
        assert (status, said["taken"]) == (3, 0)
        assert all(one["why"] for one in said["left"])
    named = " ".join(one["where"] for one in said["left"])
    weights = [path for path in files if path.endswith((".pt", ".safetensors", ".bin", ".h5", ".distcp"))]
    assert all(path.split("/")[0] in named for path in weights)


def test_a_run_of_transformers_is_taken_in_but_for_the_loose_model_beside_its_checkpoints(root, tmp_path, capsys):
    loose = ("model.safetensors", "config.json", "training_args.bin")
    put(tmp_path / "out", {**dict.fromkeys(loose, b"x"), "checkpoint-5/model.safetensors": WEIGHTS, "logs/a.txt": b"x"})
    status, said = adopt(capsys, root, tmp_path / "out", "--as", "runs")
    assert (status, said["taken"]) == (3, 1)
    assert any(one["where"].endswith("/model.safetensors") and "config.json" in one["why"] for one in said["left"])


def test_metric_epoch_step_and_mode_are_learned(root, tmp_path, capsys):
    for step, loss in ((16, 0.5), (24, 0.2), (32, 0.3)):
        line = {"epoch": step / 8, "step": step, "eval_loss": loss, "eval_accuracy": 1 - loss, "eval_runtime": 1.5}
        state = {
            "epoch": step / 8,
            "global_step": step,
            "best_metric": 0.2,
            "log_history": [{"loss": 1, "step": 1}, line],
        }
        put(tmp_path / "hf" / f"checkpoint-{step}", {"model.safetensors": WEIGHTS, "trainer_state.json": state})
    put(tmp_path / "pl", {f"epoch={e}-val_loss={v}.ckpt": WEIGHTS for e, v in ((3, 0.12), (4, 0.09), (5, 0.11))})
    put(tmp_path / "ig", {f"best_model_{e}_val_acc={v:.4f}.pt": WEIGHTS for e, v in ((3, 0.93), (4, 0.8))})
    put(tmp_path / "mixed", {"a_1_loss=0.5.pt": WEIGHTS, "b_1_acc=0.5.pt": WEIGHTS})
    modes = {}
    for name in ("hf", "pl", "ig", "mixed"):
        status, said = adopt(capsys, root, tmp_path / name, "--as", name)
        assert status == 0
        modes[name] = said["directories"][0]["mode"]
    assert modes == {"hf": "min", "pl": "min", "ig": "max", "mixed": None}
    with LiveServer(root, scrub_bytes_per_s="0") as server:

        def best(name):
            return server.http.get("/v1/checkpoints/best", params={"directory": name}).json()

        found = best("hf")
        assert (found["name"], found["epoch"], found["metric"]) == ("checkpoint-24", 3, 0.2)
        assert (found["step"], found["metadata"]) == (24, {"eval_loss": 0.2, "eval_accuracy": 0.8})
        assert (best("pl")["metric"], best("pl")["epoch"]) == (0.09, 4)
        assert (best("ig")["metric"], best("ig")["step"], best("ig")["metadata"]) == (0.93, 3, {"val_acc": 0.93})
        assert best("mixed")["code"] == "no_best"
        assert server.http.get("/v1/directories/ig").json()["policy"]["mode"] == "max"


@pytest.mark.parametrize("name", ["\ud800val_loss", "a\x00loss", "\x1b[31mloss"], ids=ascii)
def test_names_that_cannot_be_shown_are_not_learned(root, tmp_path, capsys, name):
    trainer = {"global_step": 5, "log_history": [{"step": 5, f"eval_{name}": 1, "eval_loss": 0.5}]}
    put(tmp_path / "hf" / "checkpoint-5", {"model.safetensors": WEIGHTS, "trainer_state.json": trainer})
    put(
        tmp_path / "hf" / "5",
        {"_CHECKPOINT_METADATA": {}, "default/a": b"x", "metrics/metrics": {name: 1, "loss": 0.5}},
    )
    status, said = adopt(capsys, root, tmp_path / "hf", "--as", "hf")
    assert (status, said["taken"]) == (0, 2)
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        found = server.http.get("/v1/checkpoints", params={"directory": "hf"}).json()["checkpoints"]
    assert sorted(list(one["metadata"]) for one in found) == [["eval_loss"], ["loss"]]


def test_a_directory_that_ranks_otherwise_takes_no_metric(root, tmp_path, capsys):
    put(tmp_path / "ig", {"m_3_val_acc=0.9.pt": WEIGHTS})
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        server.save("runs", b"x", epoch=1, metric=0.5)
    assert adopt(capsys, root, tmp_path / "ig", "--as", "runs")[1]["directories"][0]["mode"] is None
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        found = server.http.get("/v1/checkpoints", params={"directory": "runs"}).json()["checkpoints"]
        assert [(one["metric"], one["metadata"].get("val_acc")) for one in found] == [(0.5, None), (None, 0.9)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ExternalFacts()),
        ("[1]", ExternalFacts()),
        ("[" * 100_000, ExternalFacts()),
        ('{"epoch": 1' + "0" * 5000 + "}", ExternalFacts()),
        ('{"epoch": NaN, "global_step": -1, "log_history": {"step": 1}}', ExternalFacts()),
        ('{"epoch": 0.5, "global_step": true, "log_history": [1, null]}', ExternalFacts()),
        ('{"epoch": 2.0, "global_step": 4, "log_history": [{"step": 4, "eval_loss": Infinity}]}', ExternalFacts(2, 4)),
        ('{"global_step": 4, "log_history": [{"step": 3, "eval_loss": 1}]}', ExternalFacts(None, 4)),
        (
            '{"global_step": 4, "best_metric": 9, "log_history": [{"step": 2, "eval_f1": 9}, '
            '{"step": 4, "eval_f1": 8, "eval_loss": 1, "eval_runtime": 9, "loss": 9}]}',
            ExternalFacts(None, 4, {"eval_f1": 8.0, "eval_loss": 1.0}, "eval_f1"),
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_a_state_of_a_trainer_is_believed_as_far_as_it_makes_sense(text, told):
    assert tool_records.read(tool_records.TRAINER_STATE, text.encode()) == told


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(dtype="F32", shape=(3,), offsets=(0, 12)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def index(data):
    return tensor_index.read(lambda offset, length: data[offset : offset + length], len(data))


def test_the_tensors_of_a_safetensors_file_are_known_once_it_is_taken_in(root, tmp_path, capsys):
    data = safetensors({"__metadata__": {"a": "b"}, "w": entry(), "b": entry("BF16", (2, 1), (12, 16))}, bytes(16))
    put(tmp_path / "elsewhere", {"epoch_1.safetensors": data, "other/checkpoint-1/model.safetensors": data})
    assert adopt(capsys, root, tmp_path / "elsewhere", "--as", "runs")[0] == 0
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        for directory in ("runs", "runs/other"):
            (one,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
            (file,) = server.http.get(f"/v1/checkpoints/{one['id']}/tensors").json()["files"]
            start = len(data) - 16
            assert file["tensors"] == [
                {"name": "w", "dtype": "float32", "shape": [3], "offset": start, "size_bytes": 12},
                {"name": "b", "dtype": "bfloat16", "shape": [2, 1], "offset": start + 12, "size_bytes": 4},
            ]


def test_the_tensors_of_torch_files_are_known_once_they_are_taken_in(root, tmp_path, capsys):
    data = exploits.archive(exploits.tensor(size=(2, 2), stride=(2, 1)))
    legacy = exploits.legacy(exploits.tensor())
    names = ("epoch_1.pt", "checkpoint-2/pytorch_model.bin", "checkpoint-2/config.pkl", "checkpoint-2/scheduler.pt")
    put(tmp_path / "elsewhere", {**dict.fromkeys(names, data), "epoch_3.pth": legacy})
    assert adopt(capsys, root, tmp_path / "elsewhere", "--as", "runs")[0] == 0
    with LiveServer(root, scrub_bytes_per_s="0") as server:
        listed = server.http.get("/v1/checkpoints", params={"directory": "runs"}).json()["checkpoints"]
        told = {one["name"]: server.http.get(f"/v1/checkpoints/{one['id']}/tensors").json() for one in listed}
    whole = {"name": "tensor", "dtype": "float32", "shape": [2, 2], "offset": data.index(bytes(16)), "size_bytes": 16}
    assert told["epoch_1.pt"]["files"] == [{"path": "epoch_1.pt", "tensors": [whole]}]
    assert {file["path"]: file["tensors"] for file in told["checkpoint-2"]["files"]} == {
        "pytorch_model.bin": [whole],
        "scheduler.pt": [whole],
    }
    assert told["epoch_3.pth"]["code"] == "no_tensor_index"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"x" * 64, id="no header"),
        pytest.param(b"", id="nothing"),
        pytest.param(struct.pack("<Q", 2**63) + b"{}", id="a header beyond the file"),
        pytest.param(safetensors(b"{" * 100_000), id="deep"),
        pytest.param(safetensors({"w": entry()}), id="bytes beyond the file"),
        pytest.param(safetensors({"w": entry(shape=(2**40, 2**40))}, bytes(12)), id="a shape that is none"),
        pytest.param(safetensors({"w": entry(offsets=(-4, 8))}, bytes(12)), id="a negative place"),
        pytest.param(safetensors({"w": entry(dtype="os.system")}, bytes(12)), id="a type that is none"),
        pytest.param(safetensors({"\ud800": entry()}, bytes(12)), id="a name that is no text"),
        pytest.param(safetensors(["w"], bytes(12)), id="no mapping"),
        pytest.param(safetensors({"w": entry("F32", (4,))}, bytes(16)), id="shorter than its shape"),
    ],
)
def test_a_header_that_makes_no_sense_is_no_index(data):
    assert index(data) is None
