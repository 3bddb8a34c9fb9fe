"""Absences: files that are missing for a while, or unreadable, are not given up; fsck repairs only what is certain."""

import os
import shutil
import subprocess
import sys

import pytest

from app.__main__ import main
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer


@pytest.fixture
def place(tmp_path):
    return tmp_path / "root"


@pytest.fixture
def run(place, capsys):
    """Runs a command on the root: its status, and all that it says."""

    def command(*words, prefix=()):
        arguments = [*words, "--root", str(place)]
        if not prefix:
            capsys.readouterr()
            status = main(arguments)
            said = capsys.readouterr()
            return status, said.out + said.err
        line = [*prefix, sys.executable, "-m", "app", *arguments]
        done = subprocess.run(line, cwd=PROJECT, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        return done.returncode, done.stdout + done.stderr

    return command


def content(server, saved):
    return server.http.get(f"/v1/checkpoints/{saved['id']}/content").raise_for_status().content


@pytest.mark.parametrize("away", ["runs", "runs/a"])
def test_a_directory_that_is_not_there_for_a_while_is_not_given_up(place, run, tmp_path, away):
    with LiveServer(place) as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        server.stop()
        (place / away).rename(tmp_path / "elsewhere")
        if away == "runs/a":  # at the mount point
            (place / away).mkdir()
        status, said = run("fsck")
        assert status == 4, said
        assert "stale: runs/a/x.pt: " in said
        assert "mounted" in said
        assert run("fsck") == (status, said), "nor the second time"
        shutil.rmtree(place / away, ignore_errors=True)
        (tmp_path / "elsewhere").rename(place / away)
        assert run("fsck")[0] == 0
        server.start()
        assert content(server, saved) == b"bytes"


@pytest.mark.parametrize("command", ["fsck", "reindex"])
def test_what_was_given_up_as_lost_is_taken_back_when_it_is_there_again(place, run, tmp_path, command):
    with LiveServer(place) as server:
        saved = server.save("runs/a", b"bytes", name="x.pt", metric=0.5)
        server.save("runs/a", b"others", name="y.pt")
        server.stop()
        own = {path: tmp_path / path.name for path in (place / "runs/a/x.pt", place / "runs/a/.holdfast/x.pt.json")}
        for path, safe in own.items():
            path.rename(safe)
        assert run("fsck")[0] == 1
        server.start()
        assert server.http.get(f"/v1/checkpoints/{saved['id']}").json()["removed_because"] == "lost"
        server.stop()
        for path, safe in own.items():
            safe.rename(path)
        status, said = run(command)
        assert (status, "there again" in said or "put it back" in said) == ({"fsck": 1, "reindex": 0}[command], True)
        assert run("fsck")[0] == 0
        server.start()
        assert content(server, saved) == b"bytes"
        assert server.http.get("/v1/checkpoints/best", params={"directory": "runs/a"}).json()["id"] == saved["id"]
        if command == "fsck":
            told = ["checkpoint.saved", "checkpoint.saved", "checkpoint.removed", "checkpoint.restored"]
            assert server.event_kinds(4) == told


def test_what_was_deleted_and_is_put_back_by_hand_is_taken_in_by_reindex_alone(place, run, tmp_path):
    with LiveServer(place) as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        server.save("runs/a", b"others", name="y.pt")
        shutil.copytree(place / "runs", tmp_path / "backup")
        server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        server.stop()
        for name in ("x.pt", ".holdfast/x.pt.json"):
            shutil.copy2(tmp_path / "backup" / "a" / name, place / "runs/a" / name)
        status, said = run("fsck")
        assert (status, "reindex takes it in" in said) == (4, True)
        status, said = run("reindex")
        assert (status, "put it back" in said) == (0, True)
        assert run("fsck")[0] == 0
        server.start()
        assert content(server, saved) == b"bytes"
        assert server.names("runs/a") == ["x.pt", "y.pt"]


@pytest.fixture
def powerless():
    """Return the prefix of a command that makes file modes count, though root runs it."""
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    return ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


@pytest.mark.parametrize("hidden", ["runs/a", "runs/a/.holdfast", "runs/a/folder"])
@pytest.mark.parametrize("flags", [[], ["--dry-run"]])
def test_a_folder_that_cannot_be_looked_into_does_not_pass_for_an_empty_one(place, run, powerless, hidden, flags):
    with LiveServer(place) as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        server.save("runs/b", b"others", name="y.pt")
        files = [{"path": "inner.bin", "size_bytes": 0}]
        upload = server.http.post("/v1/uploads", json={"directory": "runs/a", "name": "folder", "files": files}).json()
        server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
        server.stop()
        (place / "runs/b/y.pt").unlink()
        (place / hidden).chmod(0)
        try:
            status, said = run("fsck", *flags, prefix=powerless)
        finally:
            (place / hidden).chmod(0o755)
        faults = sorted(
            line.split(": ")[:2] for line in said.splitlines() if line.startswith(("missing", "unread", "st"))
        )
        assert (status, faults) == (4, [["missing", "runs/b/y.pt"], ["unreadable", hidden]])
        assert "2 faults, 0 repaired" in said
        server.start()
        assert content(server, saved) == b"bytes"
        assert server.names("runs/a") == ["x.pt", "folder"]


def test_a_command_that_cannot_run_ends_with_2_and_changes_nothing(place, run, powerless):
    with LiveServer(place) as server:
        saved = server.save("runs/a", b"bytes", name="x.pt")
        server.stop()
        (place / "runs/a/.holdfast").chmod(0)
        try:
            status, said = run("reindex", prefix=powerless)
        finally:
            (place / "runs/a/.holdfast").chmod(0o755)
        assert (status, "Permission denied" in said, "Traceback" in said) == (2, True, False)
        server.start()
        assert content(server, saved) == b"bytes"
