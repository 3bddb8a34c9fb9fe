"""Saves that Ctrl-C interrupts, at each line of the code of a save: saved unchanged, or not at all."""

import sys
import warnings
from functools import partial

import pytest
import torch

from holdfast import CheckpointManager
from holdfast._save import drain
from holdfast._save import job as _saving

AT = ["SaveJob.begin", "SaveJob.run", "SaveJob._put", "SaveJob._reserved"]


def interrupted_at(number, save):
    """Interrupt a save at a line, by its number among those of a job; False if it has fewer lines."""
    left = [number]

    def at_line(frame, event, arg):
        if frame.f_code.co_filename != _saving.__file__ or frame.f_code.co_qualname not in AT:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return at_line

    before = sys.gettrace()
    sys.settrace(at_line)
    try:
        save()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
def test_an_interrupted_save_is_saved_as_it_was_or_gone(server, directory, background, spool):
    manager = CheckpointManager(directory, None, server=server.url, background=background)
    weights = torch.zeros(10)
    for number in range(1, 100):
        weights.fill_(number)
        was_interrupted = interrupted_at(number, partial(manager.save, {"w": weights}, epoch=number))
        weights.fill_(-1.0)  # training continues in place
        assert [job for job in drain._state.jobs if job.is_alive() and not background] == []
        if not was_interrupted:
            break
    assert was_interrupted is False, "every line was interrupted"
    manager.save({"w": torch.full((10,), 1000.0)}, epoch=1000)
    with warnings.catch_warnings(action="error"):
        manager.close()
    drain.drain(0.0)
    assert drain._state.jobs == []
    assert manager.resume()["w"][0] == 1000
    for checkpoint in manager.checkpoints:
        assert manager.load(checkpoint["path"])["w"][0] == checkpoint["epoch"]
    assert not list(spool.rglob(".*")), "nothing half done is left"
