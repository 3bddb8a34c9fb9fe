"""Invalid arguments are refused when a manager is made, and before a save sends a byte."""

import math

import numpy as np
import pytest

from holdfast import CheckpointManager, save_checkpoint_with_cleanup
from holdfast.cli import main
from holdfast.cli.statuses import Status

NONSENSE = {
    "timeout_s": [0, -1, math.nan, math.inf, "30", None, True],
    "patience_s": [-1, math.nan, math.inf, "1", None],
    "drain_s": [-0.1, math.nan, "5", None],
    "spool_max_share": [2, -0.1, math.nan, "half", True],
    "spool_max_bytes": [-1, 1.5, "1GB", True, None],
    "spool_dir": ["", 3, b"spool"],
    "max_pending": [0, True, 1.5, None],
    "rank": [True, -1, 0.0, "0"],
    "max_checkpoints": [True, 1.5, "3", -1],
    "max_best_checkpoints": [False, "all", -1],
    "keep_every_epochs": [0, True],
    "keep_every_steps": [0, True],
    "cache_max_bytes": [-1, "1", True],
    "cache_dir": [3, b"cache"],
    "progress": ["yes", 1],
    "background": ["no", 1, None],
    "mode": [None, "MIN", ["min"], b"min"],
    "monitor": ["", 3],
    "on_unreachable": ["wait", None],
    "base": ["", "..", "s3://a/b.pt"],
    "checkpoint_dir": ["", ".", None, b"runs"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values], ids=repr
)
def test_nonsense_is_refused_by_the_constructor(name, value):
    with pytest.raises((TypeError, ValueError)) as caught:
        CheckpointManager(**{"checkpoint_dir": "runs/a", name: value})
    assert name in str(caught.value) or name in ("base", "checkpoint_dir")


def test_what_makes_sense_is_taken():
    manager = CheckpointManager(
        "runs/a", max_checkpoints=np.int64(2), timeout_s=np.float32(3), patience_s=0, spool_max_share=1, drain_s=0
    )
    assert (manager.max_checkpoints, type(manager.max_checkpoints)) == (2, int)
    assert CheckpointManager("runs/a", max_checkpoints=None, monitor=None, rank=0, progress=False).monitor is None


@pytest.mark.parametrize(
    "given",
    [
        {"is_best": "false"},
        {"pinned": "no"},
        {"wait": "no"},
        {"tags": "a/b"},
        {"tags": 3},
        {"name": "a/b.pt"},
        {"name": 3},
        {"epoch": "1"},
        {"metric": "low"},
    ],
    ids=repr,
)
def test_a_save_refuses_nonsense_before_anything_is_sent(given, spool):
    manager = CheckpointManager("runs/a", server="http://127.0.0.1:9", patience_s=0)
    with pytest.raises((TypeError, ValueError)):
        manager.save({}, **given)
    assert list(spool.iterdir()) == []


@pytest.mark.parametrize("given", [-1, True, "3", 1.5])
def test_a_limit_of_the_function_makes_sense(given):
    with pytest.raises(ValueError, match="max_to_keep"):
        save_checkpoint_with_cleanup({}, "runs/a", max_to_keep=given)


@pytest.mark.parametrize("timeout_s", [-1, math.nan, math.inf, "1"])
def test_a_wait_is_as_long_as_a_number_says(timeout_s):
    manager = CheckpointManager("runs/a")
    for waiting in (manager.wait, manager.close):
        with pytest.raises((TypeError, ValueError), match="timeout_s"):
            waiting(timeout_s=timeout_s)


@pytest.mark.parametrize(
    "command", [["sync", "--patience", "nan"], ["watch", "--timeout", "inf"], ["doctor", "--time", "inf"]]
)
def test_commands_refuse_nonsense_as_well(command, capsys):
    assert main(command) == Status.MISUSE
    assert "number of seconds" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [None, 5, b"a"])
def test_what_is_no_path_is_named_by_its_parameter(wrong):
    manager = CheckpointManager("runs/a")
    for name, refusing in {
        "checkpoint_dir": lambda: CheckpointManager(wrong),
        "checkpoint_path": lambda: manager.load(wrong),
        "to": lambda: manager.download("a.pt", wrong),
        "filename": lambda: save_checkpoint_with_cleanup({}, "runs/a", wrong),
    }.items():
        with pytest.raises(TypeError, match=rf"^{name} must be a str or a Path, not "):
            refusing()
    if wrong is not None:
        with pytest.raises(TypeError, match=r"^base must be"):
            CheckpointManager("runs/a", base=wrong)
        with pytest.raises(ValueError, match=r"^server must be a str, not"):
            CheckpointManager("runs/a", server=wrong)
        with pytest.raises(TypeError, match=r"^token_file must be"):
            CheckpointManager("runs/a", token_file=wrong)


def test_a_directory_without_a_name_is_refused_by_its_parameter():
    with pytest.raises(ValueError, match=r"^checkpoint_dir must not be empty"):
        CheckpointManager("")
    with pytest.raises(ValueError, match=r"^filename must not be empty"):
        save_checkpoint_with_cleanup({}, "runs/a", "")
