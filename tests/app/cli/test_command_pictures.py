"""Pictures of the command line for the documents, taken by running the commands in a terminal.

They go into a folder of the test's own; into the one that ``HOLDFAST_PICTURES`` names, where it is set.
"""

import io
import os
import re
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from app.bootstrap import open_root
from app.settings import Settings
from tests.support.commands import piped, seen

COLUMNS = 108


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """The folder for pictures."""
    folder = Path(os.environ.get("HOLDFAST_PICTURES") or tmp_path_factory.mktemp("pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A root with checkpoints and tokens, in the working folder of the commands."""
    monkeypatch.chdir(tmp_path)
    open_root(Settings(root=Path("holdfast-data"))).close()
    for directory in ("digits/baseline", "digits/wide"):
        folder = Path("holdfast-data", directory)
        folder.mkdir(parents=True)
        for epoch in range(1, 5):
            (folder / f"epoch={epoch}.ckpt").write_bytes(b"\x80\x02" + bytes([epoch]) * 399_998)
    assert piped("adopt", "holdfast-data/digits").status == 0
    return Path("holdfast-data")


def draw(file, *words):
    """Run a command and keep the final screen of its terminal; return its status and that text."""
    status, sent = seen(*words, columns=COLUMNS)
    shown = re.sub(r"\x1b\[\?25[lh]", "", sent.replace("\r\n", "\n")).rpartition("\x1b[2K")[
        2
    ]  # the rest after a progress bar
    console = Console(record=True, file=io.StringIO(), width=COLUMNS, color_system="truecolor", force_terminal=True)
    console.print(f"[bold green]$[/] holdfast-server {' '.join(words)}", highlight=False)
    console.print(Text.from_ansi(shown))
    svg = console.export_svg(title="holdfast-server", unique_id=file.stem)
    file.write_text(
        re.sub(r"@font-face \{.*?\}\n", "", svg, flags=re.DOTALL)
    )  # which others would have to be asked for
    return status, Text.from_ansi(shown).plain


def test_what_fsck_says_of_damage(root, pictures):
    first, second = root / "digits/baseline", root / "digits/wide"
    (first / "epoch=2.ckpt").write_bytes(b"\xff" * 400_000)
    (second / ".holdfast/epoch=3.ckpt.json").unlink()
    (second / "epoch=4.ckpt").rename(second / "epoch=4 (copy).ckpt")
    (first / "notes.txt").write_text("by hand")
    status, said = draw(pictures / "server-fsck.svg", "fsck")
    assert status == 4
    kinds = [line.partition(":")[0] for line in said.splitlines()]
    assert kinds[:-1] == ["altered", "renamed", "record", "extra"]
    assert said.endswith("4 faults, 2 repaired\n")
    assert "url(http" not in (pictures / "server-fsck.svg").read_text().replace('"', "")


def test_what_tokens_look_like(root, pictures):
    piped("token", "create", "--scope", "admin", "--note", "whoever runs this")
    piped(
        "token",
        "create",
        "--scope",
        "read",
        "--scope",
        "write",
        "--prefix",
        "digits",
        "--expires",
        "90d",
        "--note",
        "training",
    )
    piped("token", "create", "--scope", "read", "--note", "the old plots")
    old = piped("token", "list").out.splitlines()[-1].split()[0]
    assert piped("token", "revoke", old).status == 0
    status, said = draw(pictures / "server-token-list.svg", "token", "list")
    assert (status, said.count("valid"), said.count("revoked")) == (0, 2, 1)
    assert "training" in (pictures / "server-token-list.svg").read_text()
