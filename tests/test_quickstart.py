"""The first command of the README, as a new user would type it."""

import os
import re
import signal
import subprocess
import sys
import time

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT


def test_the_quickstart_trains_and_fetches_the_best(tmp_path):
    command = [PROJECT / "scripts" / "quickstart", "--once", "--root", tmp_path / "data", "--epochs", "7"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    table = re.findall(r"^(checkpoint_epoch_\d{4}\.pt) +([\d.]+) +([\d.]+)  (.+)$", done.stdout, re.MULTILINE)
    kept = [name for name, *_ in table]
    assert "checkpoint_epoch_0006.pt" in kept
    assert 3 <= len(kept) <= 5
    assert all(reasons for *_, reasons in table)
    best = min(table, key=lambda row: float(row[1]))
    assert "best 1 of 2" in best[3]
    assert re.search(rf"best metric +{best[1]}", done.stdout)
    assert re.search(rf"accuracy of best +{best[2]}", done.stdout)
    (run,) = (tmp_path / "data" / "runs" / "digits").iterdir()
    assert sorted(path.name for path in run.glob("*.pt")) == sorted(kept)


@pytest.mark.parametrize("after_s", [0, 0.005, 0.5])
def test_ctrl_c_amid_training_ends_it_with_one_line(tmp_path, after_s):
    """Also while the training is only being started, and would be left behind."""
    command = [sys.executable, PROJECT / "examples" / "quickstart.py", "--root", tmp_path / "data", "--epochs", "500"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    with running:
        while "Training" not in running.stdout.readline():
            assert running.poll() is None
        time.sleep(after_s)  # any moment will do
        os.killpg(running.pid, signal.SIGINT)
        complaints = running.communicate(timeout=DEADLINE_S)[1]
    assert (running.returncode, complaints) == (130, "Interrupted.\n")
