"""Commands on terminals and pipes that are not UTF-8: other characters are escaped, and nothing fails."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.terminal import HOLDFAST, Terminal

ASCII = {"PYTHONIOENCODING": "ascii"}
C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
SERVER = [sys.executable, "-m", "app"]


def run(command, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    return subprocess.run(command, env={**environment, **more}, capture_output=True, timeout=DEADLINE_S, check=False)


@pytest.fixture
def about(server, monkeypatch):
    monkeypatch.setenv("HOLDFAST_URL", server.url)
    server.save("runs/größe", b"bytes", epoch=1, metric=0.5, metadata=json.dumps({"note": "é学"}), tags="täg")
    return "runs/größe"


def test_a_locale_of_ascii_gets_escapes(about):
    for command in (["ls"], ["watch", "--since", "0", "--count", "1"], ["doctor", "--size", "1"]):
        done = run([*HOLDFAST, *command], **C)
        assert (done.returncode, done.stdout.isascii()) == (0, True), done.stderr


def test_every_command_shows_what_a_pipe_cannot(about, tmp_path):
    (tmp_path / "é.bin").write_bytes(b"bytes")
    for command in (
        ["ls"],
        ["ls", about],
        ["show", f"{about}/latest"],
        ["put", tmp_path / "é.bin", about],
        ["get", f"{about}/latest", "-o", tmp_path / "ö.bin"],
        ["tag", f"{about}/latest", "--add", "ä"],
        ["prune", about, "--dry-run"],
    ):
        done = run([*HOLDFAST, *command], **ASCII)
        assert done.returncode == 0, done.stderr
        assert done.stdout.isascii()
    done = run([*HOLDFAST, "show", "runs/größe/ä.pt"], **ASCII)
    assert (done.returncode, done.stderr.isascii(), b"Traceback" in done.stderr) == (3, True, False)


def test_json_stays_json(about):
    done = run([*HOLDFAST, "show", f"{about}/latest", "--json"], **ASCII)
    assert done.stdout.isascii()
    assert json.loads(done.stdout)["checkpoint"]["metadata"] == {"note": "é学"}


def test_a_terminal_that_is_not_utf_8_gets_tables(about):
    with Terminal([*HOLDFAST, "ls"], **ASCII) as terminal:
        assert terminal.wait() == 0
    assert "gr\\xf6\\xdfe" in terminal.shown


def test_a_file_name_that_is_no_text_can_be_shown(tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff.pt"
    done = run([*(os.fsencode(word) for word in HOLDFAST), b"put", name, b"runs/a"])
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)


def test_the_server_s_command_as_well(tmp_path):
    done = run([*SERVER, "adopt", tmp_path / "größe", "--root", tmp_path / "würzel"], **ASCII)
    assert (done.returncode != 0, done.stderr.isascii(), b"Traceback" in done.stderr) == (True, True, False)
    root = ["--root", tmp_path / "root"]
    done = run([*SERVER, "token", "create", "--scope", "read", "--note", "für", *root], **ASCII)
    assert done.returncode == 0, done.stderr
    done = run([*SERVER, "token", "list", *root], **C)
    assert (done.returncode, done.stdout.isascii(), b"f\\xfcr" in done.stdout) == (0, True, True), done.stderr
