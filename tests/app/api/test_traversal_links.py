"""Links and pipes in place of the server's files are never followed and never block."""

import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress

import pytest

from tests.data.hostile_texts import CANARY
from tests.data.samples import below
from tests.support.live import PROJECT, LiveServer

LIMIT_S = 30


@pytest.fixture
def outside(tmp_path):
    """A folder outside of the root, with the targets of links."""
    folder = tmp_path / "outside"
    (folder / "inner" / ".holdfast").mkdir(parents=True)
    for path in ("secret", "inner/part.bin", "inner/a.pt", "inner/.holdfast/a.pt.json", "model.pt"):
        (folder / path).write_text(CANARY)
    return folder


@pytest.fixture
def live(tmp_path):
    """A server that does not mark checkpoints as lost during the test."""
    with LiveServer(tmp_path / "root", undo_window="0") as server:
        server.http.timeout = LIMIT_S
        yield server


class Victim:
    """A directory with a checkpoint of one file, one of several, and an open upload."""

    def __init__(self, server, directory):
        self.server, self.directory = server, directory
        self.one = server.save(directory, b"x" * 99, name="a.pt", metric=1)["id"]
        self.several = self.upload("several")
        server.http.post(f"/v1/uploads/{self.several}/commit").raise_for_status()
        self.begun = self.upload("begun")

    def upload(self, name):
        files = [{"path": path, "size_bytes": 3} for path in ("part.bin", "sub/part.bin")]
        body = {"directory": self.directory, "name": name, "files": files}
        upload = self.server.http.post("/v1/uploads", json=body).json()
        for wanted in upload["missing"]:
            self.server.http.put(wanted["url"], content=b"abc").raise_for_status()
        return upload["id"]

    def place(self, where):
        return self.server.root / where.format(directory=self.directory, begun=self.begun)

    def plant(self, where, make, outside):
        """Replace a file or folder by something else."""
        place = self.place(where)
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        make(place, outside)

    def asked(self):
        """Send all requests that touch files; returns the responses."""
        http, directory = self.server.http, self.directory
        for checkpoint in (self.one, self.several):
            for what in ("content", "chunks", "files/a.pt", "files/part.bin", "files/sub/part.bin"):
                yield http.get(f"/v1/checkpoints/{checkpoint}/{what}")
            yield http.patch(f"/v1/checkpoints/{checkpoint}", json={"tags": ["x"]})
        yield http.get(f"/v1/uploads/{self.begun}")
        yield http.put(f"/v1/uploads/{self.begun}/files/part.bin", content=b"xyz")
        yield http.post(f"/v1/uploads/{self.begun}/commit")
        for name in ("a.pt", "b.pt", "several"):
            yield http.post("/v1/checkpoints", params={"directory": directory, "name": name, "metric": 1}, content=b"y")
        yield http.put(f"/v1/directories/{directory}", json={"max_checkpoints": 1, "max_best_checkpoints": 0})
        yield http.post("/v1/prune", json={"directory": directory})
        yield http.delete(f"/v1/checkpoints/{self.several}")
        yield http.delete(f"/v1/uploads/{self.begun}")
        yield http.delete(f"/v1/directories/{directory}", params={"include_pinned": True})


PLACES = {
    "a directory": "{directory}",
    "a checkpoint": "{directory}/a.pt",
    "a manifest": "{directory}/.holdfast/a.pt.json",
    "a half-written manifest": "{directory}/.holdfast/.a.pt.json.new",
    "a record of a directory": "{directory}/.holdfast/directory.json",
    "a half-written record": "{directory}/.holdfast/.directory.json.new",
    "the records of a directory": "{directory}/.holdfast",
    "a checkpoint of several files": "{directory}/several",
    "a folder in a checkpoint": "{directory}/several/sub",
    "a file in a folder": "{directory}/several/sub/part.bin",
    "an upload": ".holdfast/incoming/{begun}",
    "the files of an upload": ".holdfast/incoming/{begun}/files",
    "what is published of an upload": ".holdfast/incoming/{begun}/files/begun",
    "a foreign file in an upload": ".holdfast/incoming/{begun}/files/begun/foreign",
    "a file of an upload": ".holdfast/incoming/{begun}/files/begun/part.bin",
    "a half-written seal": ".holdfast/incoming/{begun}/.manifest.json.new",
}
OWN_PLACES = {
    "the trash": ".holdfast/trash",
    "the uploads": ".holdfast/incoming",
    "the probe": ".holdfast/.probe.new",
    "all records": ".holdfast",
}
PLANTS = {
    "a link to a folder": lambda place, outside: place.symlink_to(outside / "inner"),
    "a link to a file": lambda place, outside: place.symlink_to(outside / "secret"),
    "a link to nothing": lambda place, outside: place.symlink_to(outside / "nothing"),
    "a second name of a file": lambda place, outside: os.link(outside / "secret", place),
    "a pipe": lambda place, outside: os.mkfifo(place),
}
IS_REACHED = {("a second name of a file", "a file of an upload")}
"""A hard link to a foreign file within an upload counts as a file of the upload."""


RUN = """
import os, sys, traceback
from app.__main__ import main
try:
    sys.exit(main())
except Exception:
    traceback.print_exc()
    os._exit(70)
"""


def command(server, *words):
    """Run a command on the root and return its output; it must end."""
    ended = subprocess.run(
        [sys.executable, "-c", RUN, words[0], "--root", str(server.root), *words[1:]],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
        cwd=PROJECT,
    )
    assert ended.returncode in {0, 1, 2, 3, 4}, ended.stderr[-3000:]
    return ended.stdout + ended.stderr


def faults_of(answers):
    for answer in answers:
        request = f"{answer.request.method} {answer.request.url}"
        if answer.status_code >= 500:
            yield f"{request} is answered with {answer.status_code}"
        if CANARY in answer.text:
            yield f"{request} is answered with what lies outside"


@pytest.mark.parametrize("what", PLANTS)
def test_what_is_planted_is_neither_followed_nor_waited_for(live, outside, what):
    before, found = below(outside), []
    for number, (name, where) in enumerate(PLACES.items()):
        if (what, name) in IS_REACHED:
            continue
        victim = Victim(live, f"runs/{number}")
        victim.plant(where, PLANTS[what], outside)
        found += [f"{name}: {fault}" for fault in faults_of(victim.asked())]
        if below(outside) != before:
            found.append(f"{name}: what lies outside was changed")
    assert found == []
    assert live.http.get("/health/ready").status_code == 200
    live.stop()
    commands = (["fsck"], ["reindex"], ["adopt", str(live.root / "runs")])
    for words in commands if what in {"a link to a folder", "a pipe"} else commands[:1]:
        assert CANARY not in command(live, *words)
        assert below(outside) == before, words


@pytest.mark.parametrize("where", OWN_PLACES)
def test_what_stands_for_our_own_folders_is_not_followed(live, outside, where):
    victim, before = Victim(live, "runs/a"), below(outside)
    live.stop()
    victim.plant(OWN_PLACES[where], PLANTS["a link to a folder"], outside)
    for words in (["adopt", str(live.root / "runs")], ["fsck"]):
        assert CANARY not in command(live, *words)
    assert below(outside) == before


def test_a_link_that_appears_during_requests_is_never_followed(live, outside):
    before, found, ended = below(outside), [], threading.Event()
    victim = Victim(live, "runs/a")
    folder, aside = live.root / "runs" / "a", live.root / "aside"

    def swap():
        while not ended.is_set():
            with suppress(OSError):  # the server may have created the folder again
                folder.rename(aside)
                folder.symlink_to(outside / "inner")
            with suppress(OSError):
                folder.unlink()
            with suppress(OSError):
                aside.rename(folder)

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        for number in range(60):
            name = f"{number % 7}.pt"
            victim.server.http.post("/v1/checkpoints", params={"directory": "runs/a", "name": name}, content=b"y")
            answers = [live.http.get(f"/v1/checkpoints/{victim.one}/{what}") for what in ("content", "chunks")]
            found += [answer.url for answer in answers if CANARY in answer.text]
    finally:
        ended.set()
        swapping.join()
    assert found == []
    assert below(outside) == before
