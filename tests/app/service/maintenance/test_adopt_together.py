"""Adoption never splits files that belong together by their names, and adopts no other file as weights."""

import io
import json
import struct
import tarfile

import pytest

from app.__main__ import main
from app.bootstrap import open_root
from app.formats import name_groups, weight_formats
from app.settings import Settings
from tests.data import exploits

WEIGHTS = exploits.archive(exploits.tensor())
TORN = {
    "ranks": ["ckpt_rank0.pt", "ckpt_rank1.pt"],
    "ranks of two epochs": [f"e{epoch}_rank{rank}.pt" for epoch in (1, 2) for rank in (0, 1)],
    "a first rank without a number": ["epoch1.pt", "epoch1.rank1.pt"],
    "ranks in a folder below": ["ep1/model_rank_0.pt", "ep1/model_rank_1.pt"],
    "folders of ranks": ["rank_0/model.pt", "rank_1/model.pt"],
    "shards": ["checkpoint_last-shard0.pt", "checkpoint_last-shard1.pt"],
    "so many of so many": ["m-1-of-3.pt", "m-2-of-3.pt", "m-3-of-3.pt"],
    "layers": ["layer_0_of_2.pt", "layer_1_of_2.pt"],
    "parts": ["model_part-0.pt", "model_part-1.pt"],
    "tensor and pipeline": ["m_tp0_pp0.pt", "m_tp0_pp1.pt", "m_tp1_pp0.pt"],
    "Llama": ["consolidated.00.pth", "consolidated.01.pth", "params.json", "tokenizer.model"],
    "an optimizer": ["epoch1.pt", "epoch1.optim.pt"],
    "an optimizer named before": ["model_epoch_1.pt", "optimizer_epoch_1.pt"],
    "an optimizer in another format": ["epoch_01.pt", "epoch_1_optim.bin"],
    "a state of a trainer": ["step_5.pt", "step_5_training_state.pt"],
    "random numbers": ["step100.pt", "rng_state_100.pt"],
    "two networks": ["netG_epoch_1.pth", "netD_epoch_1.pth"],
    "an encoder": ["encoder_3.pt", "decoder_3.pt"],
    "folders of a model and its optimizer": ["model/a.pt", "optimizer/a.pt"],
    "FSDP by Accelerate": ["pytorch_model_fsdp_0/.metadata", "pytorch_model_fsdp_0/a.distcp", "optimizer_0/a.distcp"],
    "a model and what builds it": ["model.pt", "config.json"],
    "one of any name": ["G.pth", "config.yaml"],
    "what was measured of it": ["epoch1.pt", "epoch1.json"],
    "diffusers, itself the folder": ["model_index.json", "unet/m.safetensors", "vae/m.safetensors"],
    "sentence-transformers": ["modules.json", "0_Transformer/pytorch_model.bin", "0_Transformer/config.json"],
    "Megatron, itself the folder": ["mp_rank_00/model_optim_rng.pt", "mp_rank_01/model_optim_rng.pt"],
}
WHOLE = {
    "epochs": ["epoch1.pt", "epoch2.pt", "epoch_10.pt"],
    "names of ours": ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"],
    "steps": [f"model_{step}.pt" for step in range(10)],
    "best and last": ["best.pt", "last.pt", "model_best.pth"],
    "epochs of a number": ["epoch_1_of_10.pt", "epoch_2_of_10.pt"],
    "of LoRA": ["lora_rank_8.pt", "lora_rank_16.pt"],
    "folds": ["fold_0.pt", "fold_1.pt", "seed0.pt", "seed1.pt"],
    "letters": ["exp_b.pt", "exp_d.pt", "exp.pt"],
    "two formats": ["model.pt", "model.safetensors"],
    "of Lightning": ["epoch=0-step=100.ckpt", "epoch=1-step=200.ckpt", "last.ckpt", "hparams.yaml"],
    "a run and its record": ["epoch_1.pt", "epoch_2.pt", "config.json"],
    "runs of devices": ["gpu0/epoch1.pt", "gpu1/epoch1.pt"],
    "a few values": ["lr=0.1.pt", "lr=0.01.pt"],
}


@pytest.fixture
def root(tmp_path):
    open_root(Settings(root=tmp_path / "root")).close()
    return tmp_path / "root"


@pytest.fixture
def adopt(root, tmp_path, capsys):
    """Adopt files from outside the root; give the status and the output."""

    def run(files):
        for path, data in files.items():
            (tmp_path / "elsewhere" / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "elsewhere" / path).write_bytes(data)
        capsys.readouterr()
        status = main(["adopt", "--root", str(root), str(tmp_path / "elsewhere"), "--as", "runs", "--json"])
        return status, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("names", TORN.values(), ids=TORN)
def test_what_belongs_together_is_left_alone_and_named(adopt, names):
    status, said = adopt(dict.fromkeys(names, WEIGHTS))
    assert (status, said["taken"]) == (3, 0)
    named = [one["where"].partition("elsewhere/")[2] for one in said["left"]]
    weights = [name for name in names if name.endswith((".pt", ".pth", ".safetensors", ".distcp"))]
    assert all(any(f"{name}/".startswith(f"{one}/") for one in named) for name in weights), named
    assert all("it belongs with" in one["why"] or "it may be weights" in one["why"] for one in said["left"])


@pytest.mark.parametrize("names", WHOLE.values(), ids=WHOLE)
def test_checkpoints_of_one_run_are_taken_in_each(adopt, names):
    status, said = adopt(dict.fromkeys(names, WEIGHTS))
    assert (status, said["left"]) == (0, [])
    assert said["taken"] == sum(not name.endswith((".json", ".yaml")) for name in names)


def test_of_several_epochs_only_those_are_left_to_which_something_belongs(adopt):
    status, said = adopt(dict.fromkeys(["epoch1.pt", "epoch2.pt", "epoch2.optim.pt"], WEIGHTS))
    assert (status, said["directories"][0]["checkpoints"]) == (3, ["epoch1.pt"])


def test_the_folder_of_one_checkpoint_is_taken_in_whole_only_from_above(root, tmp_path, capsys):
    for name in ("a.pt", "b.pt", "rank/c.pt"):
        (tmp_path / "out/checkpoint-5" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out/checkpoint-5" / name).write_bytes(WEIGHTS)
    assert main(["adopt", "--root", str(root), str(tmp_path / "out/checkpoint-5"), "--as", "x"]) == 3
    assert "a.pt: it belongs with" in capsys.readouterr().err
    assert main(["adopt", "--root", str(root), str(tmp_path / "out"), "--as", "x"]) == 0
    assert "x: 1 checkpoint taken in" in capsys.readouterr().out


def test_a_pipeline_with_checkpoints_beside_it_has_those_taken_in(adopt):
    names = ["model_index.json", "unet/m.safetensors", "checkpoint-5/unet/m.safetensors", "logs/a.txt"]
    status, said = adopt(dict.fromkeys(names, WEIGHTS))
    assert (status, said["directories"][0]["checkpoints"]) == (3, ["checkpoint-5"])
    assert [one["where"].rpartition("/")[2] for one in said["left"]] == ["unet"]


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 5\n"
STRANGE = {
    "a web page": (b"<!DOCTYPE html><html>404</html>", "a web page"),
    "XML": (b"\n<?xml version='1.0'?><Error/>", "a web page"),
    "a pointer": (POINTER, "git lfs pull"),
    "an older pointer": (POINTER.replace(b"git-lfs.github", b"hawser.github"), "git lfs pull"),
    "git-annex": (b"/annex/objects/SHA256E-s5--a.pt\n", "git lfs pull"),
    "words": (b"Not Found", "it is text"),
    "words beyond ASCII": ("nicht gefunden: \u00fc".encode() + b"\xc3", "it is text"),
    "JSON": (b'{"error": 404}', "it is text"),
    "zeros": (bytes(600), "nothing but zeros"),
    "a file that is cut": (WEIGHTS[:300], "cut short"),
    "safetensors that are cut": (struct.pack("<Q", 500) + b'{"w": 1}', "cut short"),
}


@pytest.mark.parametrize("name", ["model.pt", "model.safetensors", "model.pth.tar", "last.ckpt"])
@pytest.mark.parametrize(("data", "why"), STRANGE.values(), ids=STRANGE)
def test_what_is_no_file_of_weights_is_left_alone_and_named(adopt, data, why, name):
    status, said = adopt({name: data, "good.pt": WEIGHTS})
    assert (status, said["taken"], len(said["left"])) == (3, 1, 1)
    assert why in said["left"][0]["why"]


@pytest.mark.parametrize("data", [b"Not Found", POINTER, b"<html>"])
def test_a_folder_with_a_text_in_place_of_its_weights_is_left_alone(adopt, data):
    names = {"checkpoint-1/model.safetensors": data, "checkpoint-1/config.json": b"{}"}
    status, said = adopt({**names, "checkpoint-2/pytorch_model.bin": bytes(9), "checkpoint-2/config.json": b"{}"})
    assert (status, said["directories"][0]["checkpoints"]) == (3, ["checkpoint-2"])
    assert "model.safetensors in it is no file of weights" in said["left"][0]["why"]


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("pickle"), io.BytesIO())
    return file.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(WEIGHTS, id="zip"),
        pytest.param(exploits.legacy(exploits.tensor()), id="torch before the zip file"),
        pytest.param(b"L119547037146038801333356L\n.", id="its text protocol"),
        pytest.param(b"\x80\x04N.", id="pickle"),
        pytest.param(tar(), id="tar"),
        pytest.param(struct.pack("<Q", 2) + b"{}", id="safetensors"),
        pytest.param(b"\x89HDF\r\n\x1a\n", id="HDF5"),
        pytest.param(b"\x1f\x8b\x08", id="gzip"),
        pytest.param(b"\x01\x02" * 40, id="a format of its own"),
    ],
)
def test_each_format_of_weights_passes(data):
    assert weight_formats.fault(lambda offset, length: data[offset : offset + length], len(data)) is None


def test_names_that_are_none_belong_to_nothing():
    assert name_groups.of_files([]) == name_groups.of_folders([]) == {}
    assert name_groups.of_files([".pt", "_.pt", "0.pt", "\u0661.pt", "rank.pt", "of.pt", "9" * 200 + "_of_1.pt"]) == {}
