"""Progress bars: on a terminal or on request, and only for long transfers."""

import errno
import io
import os
import pty
import re
import subprocess
import sys
import termios
import threading
import time

import pytest
import torch

from holdfast import CheckpointManager
from holdfast._transfer import progress
from holdfast._transfer.progress import LONG_BYTES, Progress
from tests.support.deadlines import DEADLINE_S

MIB = 1024 * 1024
ON, OFF = True, False


def move(shown, total=2 * LONG_BYTES):
    """Run a transfer, half of which is reused."""
    with Progress("save a.pt", total, shown) as bar:
        bar.reused(total // 2)
        for _ in range(4):
            bar.moved(total // 8)
    return bar


@pytest.mark.parametrize(
    ("setting", "asked", "shown"),
    [
        pytest.param(None, None, OFF, id="standard error is no terminal"),
        pytest.param("", None, OFF, id="an empty setting says nothing"),
        pytest.param("1", None, ON, id="the environment wants it"),
        pytest.param("0", None, OFF, id="the environment does not"),
        pytest.param("off", None, OFF, id="nor in words"),
        pytest.param("0", True, ON, id="the argument overrides it"),
        pytest.param("1", False, OFF, id="the argument silences it"),
    ],
)
def test_who_says_whether_there_is_a_bar(monkeypatch, capsys, setting, asked, shown):
    monkeypatch.delenv("HOLDFAST_PROGRESS", raising=False)
    monkeypatch.setattr(progress, "_DELAY_S", 0)
    if setting is not None:
        monkeypatch.setenv("HOLDFAST_PROGRESS", setting)
    move(asked)
    assert ("save a.pt" in capsys.readouterr().err) == shown


def test_a_bar_shows_how_much_how_fast_and_what_was_reused(capsys):
    move(True, 64 * MIB)
    shown = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert shown.startswith("save a.pt: 100%")
    assert "64.0M/64.0M" in shown
    assert re.search(r"[\d.]+[kMGT]?B/s", shown)
    assert "32.0MB reused" in shown


def test_short_transfers_show_nothing(capsys):
    move(True, LONG_BYTES - 8)
    assert capsys.readouterr().err == ""


def test_an_automatic_bar_appears_after_a_delay(monkeypatch, capsys):
    monkeypatch.setenv("HOLDFAST_PROGRESS", "1")
    monkeypatch.setattr(progress, "_DELAY_S", 1000)
    move(None)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("shown", [True, False])
def test_what_moved_is_counted_whether_or_not_it_is_shown(shown):
    assert move(shown, 64 * MIB).moved_bytes == 32 * MIB


def on_a_terminal(code, **environment):
    """Return the output of a Python process whose standard error is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 100))
    known = {name: value for name, value in os.environ.items() if name != "HOLDFAST_PROGRESS"}
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=theirs, stderr=theirs, env={**known, **environment}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end of the terminal was closed
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


MOVE = """
from holdfast._transfer import progress
progress._DELAY_S = 0
with progress.Progress("load a.pt", 64 * 2**20) as bar:
    bar.moved(64 * 2**20)
"""


def test_there_is_a_bar_on_a_terminal():
    shown = on_a_terminal(MOVE)
    assert "load a.pt: 100%" in shown
    assert "64.0M/64.0M" in shown


def test_there_is_none_on_a_terminal_that_does_not_want_it():
    assert on_a_terminal(MOVE, HOLDFAST_PROGRESS="0") == ""


def test_without_a_standard_error_there_is_no_bar_and_no_failure(monkeypatch):
    monkeypatch.delenv("HOLDFAST_PROGRESS", raising=False)
    monkeypatch.setattr(sys, "stderr", None)
    assert move(None).moved_bytes == LONG_BYTES


class Closing(io.StringIO):
    """A stream that accepts a few lines, and then none, like a log whose disk is full."""

    def __init__(self, lines):
        super().__init__()
        self.lines = lines

    def write(self, text):
        self.lines -= 1
        if self.lines < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return len(text)


@pytest.mark.parametrize("lines", range(6))
def test_where_nothing_can_be_shown_any_more_the_transfer_goes_on(server, directory, monkeypatch, lines):
    manager = CheckpointManager(directory, server=server.url, progress=True, patience_s=0, on_unreachable="raise")
    state = {"a": torch.randn(9 * MIB)}
    monkeypatch.setattr(sys, "stderr", Closing(lines))
    assert move(True).moved_bytes == LONG_BYTES
    assert torch.equal(manager.load(manager.save(state, epoch=1))["a"], state["a"])


@pytest.mark.parametrize("lines", range(4))
def test_where_one_could_not_be_shown_others_can(monkeypatch, capsys, lines):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", Closing(lines))
        with Progress("x", LONG_BYTES, True) as bar:
            for _ in range(4):
                bar.moved(LONG_BYTES // 4)
                time.sleep(0.11)  # so it is not updated more often
    other = threading.Thread(target=move, args=[True], daemon=True)
    other.start()
    other.join(DEADLINE_S)
    assert not other.is_alive(), "it waits for a lock that is never released"
    assert "100%" in capsys.readouterr().err


def test_saves_and_loads_show_their_bytes(server, directory, capsys):
    manager = CheckpointManager(directory, server=server.url, progress=True)
    state = {"a": torch.randn(5 * MIB), "b": torch.randn(5 * MIB)}
    path = manager.save(state, epoch=1)
    first = capsys.readouterr().err
    assert "save checkpoint_epoch_0001.pt: 100%" in first
    assert "40.0M/40.0M" in first
    assert "reused" not in first
    state["b"] = state["b"] + 1
    manager.save(state, epoch=2)
    assert "20.0MB reused" in capsys.readouterr().err
    manager.load(path)
    loaded = capsys.readouterr().err
    assert "load checkpoint_epoch_0001.pt: 100%" in loaded
    assert "B/s" in loaded


def test_saves_and_loads_are_silent_without_a_terminal(server, directory, capsys, monkeypatch):
    monkeypatch.delenv("HOLDFAST_PROGRESS", raising=False)
    manager = CheckpointManager(directory, server=server.url)
    manager.load(manager.save({"a": torch.randn(9 * MIB)}, epoch=1))
    assert capsys.readouterr().err == ""
