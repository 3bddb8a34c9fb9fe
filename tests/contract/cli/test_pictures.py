"""Pictures of the command line for docs/reference/cli.md, of commands that really run.

They are made into a temporary folder, or where ``HOLDFAST_PICTURES`` says: ``HOLDFAST_PICTURES=docs/pictures``.
"""

import io
import os
import re
from pathlib import Path

import pytest
import torch
from rich.console import Console
from rich.text import Text

from holdfast import CheckpointManager
from tests.support.live import PROJECT, LiveServer
from tests.support.terminal import HOLDFAST, Terminal

COLUMNS = 104
PORT = 8420
SCENES = {
    "ls": ["holdfast ls", "holdfast ls runs/digits/checkpoints"],
    "show": ["holdfast show runs/digits/checkpoints best"],
    "tensors": ["holdfast tensors runs/digits/checkpoints/latest"],
    "prune": ["holdfast prune runs/digits/checkpoints --dry-run"],
    "doctor": ["holdfast doctor --size 16"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A server with the checkpoints of two jobs."""
    with LiveServer(tmp_path_factory.mktemp("pictures") / "root") as live:
        torch.manual_seed(0)
        network = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.LayerNorm(256), torch.nn.Linear(256, 10))
        manager = CheckpointManager("runs/digits/checkpoints", 3, 2, server=live.url)
        for epoch, loss in enumerate([0.91, 0.33, 0.21, 0.27, 0.26, 0.24]):
            manager.save({"model": network.state_dict(), "epoch": epoch}, epoch=epoch, loss=loss, lr=1e-3)
        other = CheckpointManager("runs/reviews/checkpoints", 2, 1, mode="max", server=live.url)
        for epoch, accuracy in enumerate([0.62, 0.71, 0.69]):
            other.save({"w": torch.zeros(500, 1000), "epoch": epoch}, epoch=epoch, metric=accuracy)
        found = live.http.get("/v1/checkpoints/best", params={"directory": "runs/digits/checkpoints"}).json()
        live.http.patch(f"/v1/checkpoints/{found['id']}", json={"tags": ["paper"], "pinned": True})
        live.http.put("/v1/directories/runs/digits/checkpoints", json={"max_checkpoints": 1}).raise_for_status()
        yield live


def seen(command, server, spool):
    """Return the output of a command on a terminal, as if the server had its default URL."""
    with Terminal([*HOLDFAST, *command.split()[1:]], columns=COLUMNS, HOLDFAST_URL=server.url) as terminal:
        assert terminal.wait() == 0, terminal.shown
    home = "/home/me/.local/state/holdfast/spool"
    return terminal.shown.replace(server.url, f"http://127.0.0.1:{PORT}").replace(str(spool), home)


def picture(commands, name, server, spool):
    """Draw a terminal in which the commands were run."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, legacy_windows=False)
    for command in commands:
        console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
        console.print(Text.from_ansi(seen(command, server, spool).rstrip("\n")), soft_wrap=False, overflow="fold")
    drawn = console.export_svg(title="holdfast", unique_id=f"cli-{name}")
    return re.sub(r"(?s)\s*@font-face \{.*?\n\s*\}|\s*<!--.*?-->", "", drawn)  # no font is fetched from anywhere


@pytest.mark.parametrize("name", SCENES)
def test_the_pictures(name, trained, spool, tmp_path):
    folder = Path(os.environ.get("HOLDFAST_PICTURES") or tmp_path)
    drawn = picture(SCENES[name], name, trained, spool)
    assert "http" not in re.sub(r"http://(www\.w3\.org|127\.0\.0\.1)", "", drawn), "it fetches something"
    assert all(word in drawn for word in ("holdfast", "&#160;"))
    assert len(drawn) < 60_000
    target = folder / f"cli-{name}.svg"
    target.write_text(drawn)
    assert (PROJECT / "docs" / "pictures" / target.name).is_file()
