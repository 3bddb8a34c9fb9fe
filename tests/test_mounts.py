"""Mounts of tests do not outlive the next run, and are never in folders that pytest removes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import mounts
from tests.support.live import PROJECT


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting takes root")
def test_what_a_killed_run_has_mounted_is_removed_by_the_next_and_what_another_uses_is_left(tmp_path):
    program = "import os, signal\nfrom tests.support import mounts\nwith mounts.small_disk('1m') as place:\n"
    program += "    print(place, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)"
    killed = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.is_mount()
    assert not left.is_relative_to(tmp_path.parent)
    with mounts.mount_point() as place:
        assert not left.parent.exists()
        mounts.remove_stale()
        assert place.is_dir()
    assert not place.exists()
