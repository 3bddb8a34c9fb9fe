"""Names of checkpoints of other tools: recognition, facts in them, and their order."""

import pytest

from app.formats.foreign_names import (
    ExternalCheckpoint,
    ExternalFacts,
    direction,
    facts_in_name,
    in_order,
    is_unfinished,
    looks_like_checkpoint,
)


@pytest.mark.parametrize(
    ("name", "epoch", "step"),
    [
        ("checkpoint_epoch_0100.pt", 100, None),
        ("best_epoch_0007.pt", 7, None),
        ("epoch=3-step=1500.ckpt", 3, 1500),
        ("epoch=3-val_loss=0.25.ckpt", 3, None),
        ("epoch=3.ckpt", 3, None),
        ("model_epoch12.pth", 12, None),
        ("epoch-12.pt", 12, None),
        ("Epoch_5.PT", 5, None),
        ("epoch_0.pt", 0, None),
        ("run.epoch_4.safetensors", 4, None),
        ("epoch_3_step_20.safetensors", 3, 20),
        ("step_1000.pt", None, 1000),
        ("global_step1000.pt", None, 1000),
        ("last.ckpt", None, None),
        ("last-v1.ckpt", None, None),
        ("model.pt", None, None),
        ("resnet50.pt", None, None),
        ("2026-01-02.pt", None, None),
        ("checkpoint-500.pt", None, None),
        ("epoch_3.5.pt", None, None),
        ("step_10k.pt", None, None),
        ("epoch_1e5.pt", None, None),
        ("timestep_5.pt", None, None),
        ("epochs_5.pt", None, None),
        ("epoch.pt", None, None),
        ("epoch_1_epoch_2.pt", None, None),
        ("epoch_1_epoch_01.pt", 1, None),
        ("epoch_" + "9" * 30 + ".pt", None, None),
        ("epoch_٣.pt", None, None),
    ],
)
def test_epoch_and_step_are_read_from_names_that_say_them_plainly(name, epoch, step):
    said = facts_in_name(name, is_folder=False)
    assert (said.epoch, said.step) == (epoch, step)


@pytest.mark.parametrize(
    ("name", "step"),
    [("checkpoint-500", 500), ("checkpoint-0", 0), ("global_step1000", 1000), ("checkpoint-" + "9" * 30, None)],
)
def test_folders_tell_their_step(name, step):
    assert looks_like_checkpoint(name, is_folder=True)
    assert facts_in_name(name, is_folder=True) == ExternalFacts(None, step)


@pytest.mark.parametrize("name", ["a.pt", "a.pth", "a.safetensors", "A.PT", "a.b.pt", "a.pth.tar"])
def test_files_with_these_suffixes_are_checkpoints(name):
    assert looks_like_checkpoint(name, is_folder=False)
    assert not looks_like_checkpoint(name, is_folder=True)


@pytest.mark.parametrize("name", ["a.txt", "pt", "a.pt.tmp", "a.bin", "checkpoint-500", "a.json"])
def test_other_files_are_none(name):
    assert not looks_like_checkpoint(name, is_folder=False)


@pytest.mark.parametrize("name", ["checkpoint-", "checkpoint-5a", "my-checkpoint-5", "checkpoint5", "runs"])
def test_other_folders_are_none(name):
    assert not looks_like_checkpoint(name, is_folder=True)


def external(name, mtime_ns, *, is_folder=False):
    return ExternalCheckpoint(name, is_folder, ((name, 1, mtime_ns),))


@pytest.mark.parametrize(
    "expected",
    [
        pytest.param([("epoch=9-step=5.ckpt", 3), ("epoch=1-step=10.ckpt", 1)], id="by step"),
        pytest.param([("epoch_9.pt", 2), ("epoch_10.pt", 1)], id="by epoch, as numbers"),
        pytest.param([("step_9.pt", 1), ("epoch_3.pt", 2), ("epoch_1.pt", 3)], id="by time, as names tell various"),
        pytest.param([("b.pt", 1), ("a.pt", 2), ("c.pt", 2)], id="by time, then by name"),
        pytest.param([("a_epoch_1.pt", 1), ("b_epoch_1.pt", 1), ("c_epoch_1.pt", 2)], id="of one epoch, by time"),
    ],
)
def test_the_oldest_comes_first(expected):
    made = [external(*one) for one in expected]
    assert in_order(reversed(made)) == made


def test_folders_are_ordered_by_their_steps():
    made = [external(f"checkpoint-{step}", 0, is_folder=True) for step in (500, 1000, 1500)]
    assert in_order(sorted(made, key=lambda s: s.name)) == made


@pytest.mark.parametrize(
    ("name", "epoch", "step", "values", "metric"),
    [
        ("epoch=4-val_loss=0.09.ckpt", 4, None, {"val_loss": 0.09}, "val_loss"),
        ("epoch=4-step=10-val_loss=-0.5-v1.ckpt", 4, 10, {"val_loss": -0.5}, "val_loss"),
        ("model_3_val_acc=0.9300.pt", None, 3, {"val_acc": 0.93}, "val_acc"),
        ("checkpoint_4_loss=0.12.pt", None, 4, {"loss": 0.12}, "loss"),
        ("checkpoint_4.pt", None, 4, {}, None),
        ("epoch=1-loss=1.5e-3.ckpt", 1, None, {"loss": 1.5e-3}, "loss"),
        ("epoch=1-loss=0.5-acc=0.9.ckpt", 1, None, {"loss": 0.5, "acc": 0.9}, None),
        ("epoch=1-lr=0.1-val_f1=0.9.ckpt", 1, None, {"lr": 0.1, "val_f1": 0.9}, "val_f1"),
        ("loss=1-loss=2.pt", None, None, {}, None),
        ("loss=nan.pt", None, None, {}, None),
        ("loss=1e999.pt", None, None, {}, None),
        ("loss=" + "9" * 400 + ".pt", None, None, {}, None),
        ("model_2024.pt", None, None, {}, None),
        ("glass=0.3.pt", None, None, {"glass": 0.3}, None),
    ],
)
def test_what_was_measured_is_read_from_names_too(name, epoch, step, values, metric):
    assert facts_in_name(name, is_folder=False) == ExternalFacts(epoch, step, values, metric)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("best_model_3_val_acc=0.93.pt", "best"),
        ("model_best.pth.tar", "best"),
        ("best.ckpt", "best"),
        ("Best-v1.pt", "best"),
        ("asbestos.pt", "regular"),
        ("bestial_3.pt", "regular"),
        ("last.pt", "regular"),
    ],
)
def test_a_copy_of_the_best_one_is_recognised(name, kind):
    assert facts_in_name(name, is_folder=False).kind == kind


def test_a_metric_with_a_slash_goes_on_in_the_name_of_the_folder():
    found = facts_in_name("acc=0.91.ckpt", is_folder=False, parent="epoch=2-val")
    assert found == ExternalFacts(2, None, {"val/acc": 0.91}, "val/acc")
    assert facts_in_name("acc=0.91.ckpt", is_folder=False, parent="runs") == ExternalFacts(
        values={"acc": 0.91}, metric="acc"
    )


@pytest.mark.parametrize(
    ("name", "is_so"),
    [
        ("tmp-checkpoint-500", True),
        ("100.orbax-checkpoint-tmp-1732", True),
        ("100.orbax-checkpoint-tmp", True),
        ("checkpoint-500", False),
        ("tmp", False),
    ],
)
def test_folders_that_are_not_complete_are_recognised(name, is_so):
    assert is_unfinished(name) == is_so


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/loss", "min"),
        ("eval_rouge1", "max"),
        ("top5", "max"),
        ("acc_loss", None),
        ("lr", None),
        ("Val_PPL", "min"),
    ],
)
def test_which_way_a_value_is_better_is_told_by_its_words(name, mode):
    assert direction(name) == mode
