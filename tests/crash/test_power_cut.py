"""The power of the disk cut at random moments of a server's work and of its recovery.

What it acknowledged is there afterwards; where it was robbed of its fsyncs, it is not.
"""

import os
import random

import pytest

from tests.crash.harness.disk import Disk, hindrance
from tests.crash.harness.rounds import rounds
from tests.crash.harness.trial import Broken, Lost, Trial
from tests.support.live import LiveServer

ROUNDS, AT_MOST = rounds(20, 500), 5


@pytest.fixture(autouse=True)
def power_can_be_cut():
    if reason := hindrance():
        pytest.skip(reason)


def play(tmp_path, count, *, early=False, undo_window="0", **robbed):
    """So many rounds on one disk; early write-back may hide a missing fsync, so it is on and off."""
    seed = int(os.environ.get("HOLDFAST_SEED") or random.randrange(1 << 32))
    print(f"HOLDFAST_SEED={seed} plays the same operations again")
    with Disk() as disk:
        if robbed:  # then it is not the root itself that is lost, but what is put into it
            with LiveServer(disk.path):
                pass
        with LiveServer(disk.path, early=early, undo_window=undo_window, **robbed) as server:
            trial = Trial(server, seed, tmp_path, undo=undo_window != "0")

            def cut():
                disk.cut()
                server.kill()
                disk.revive()

            for number in range(count):
                print(f"round {number}")
                trial.play(cut, lambda: trial.recover(cut))


@pytest.mark.parametrize(("early", "undo_window"), [(False, "0"), (True, "2m")], ids=["late", "early, with undo"])
def test_what_was_acknowledged_survives_any_power_cut(tmp_path, early, undo_window):
    play(tmp_path, ROUNDS // 2, early=early, undo_window=undo_window)


@pytest.mark.parametrize("robbed", ["synced", "files_synced"], ids=["of all", "but of its database's"])
def test_a_server_that_is_robbed_of_its_fsyncs_loses_what_it_acknowledged(tmp_path, robbed):
    """It is not enough that it does not start, or says something else of what is there."""
    for attempt in range(3):  # one may end so early that nothing was acknowledged
        folder = tmp_path / f"{attempt}"
        folder.mkdir()
        try:
            play(folder, AT_MOST, **{robbed: False})
        except Lost as lost:
            print(lost)
            return
        except Broken as broken:
            print(broken)
    pytest.fail("nothing that was acknowledged was lost")
