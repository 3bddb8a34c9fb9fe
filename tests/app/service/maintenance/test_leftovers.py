"""Orphans that cannot be deleted do not prevent a start, and are deleted once that is possible."""

import os
import subprocess
from contextlib import ExitStack, contextmanager

import pytest

from tests.support.live import eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="holding on to a file takes root")


@contextmanager
def stuck(path):
    """Make a file or a folder undeletable, even for the superuser."""
    assert path.exists(), f"{path} is not there to be held"
    held = subprocess.run(["mount", "--bind", path, path], capture_output=True, text=True)
    if held.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {held.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def read_only(folder):
    """Make a folder read-only, even for the superuser."""
    mounted = subprocess.run(["mount", "--bind", folder, folder], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr.strip()}")
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def stray(place):
    """Make an orphan in one of the server's own folders."""
    file = place / "files" / "x.pt"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"bytes")
    return file


def begin(server, name):
    body = {"directory": "runs/a", "name": name, "files": [{"size_bytes": 5}]}
    answer = server.http.post("/v1/uploads", json=body)
    (wanted,) = answer.raise_for_status().json()["missing"]
    server.http.request(wanted["method"], wanted["url"], content=b"bytes").raise_for_status()
    return answer.json()["id"]


def test_a_server_starts_beside_what_it_cannot_remove_and_removes_it_later(make_server):
    before = make_server(upload_lease_s="0.1", janitor_every_s="1000")
    saved = before.save("runs/a", b"saved", name="saved.pt")
    expired = {name: before.root / ".holdfast" / "incoming" / begin(before, name) for name in ("1.pt", "2.pt", "3.pt")}
    before.stop()
    incoming, trash = before.root / ".holdfast" / "incoming", before.root / ".holdfast" / "trash"
    strays = [stray(incoming / "stray-1"), stray(incoming / "stray-2"), stray(trash / "stray-3")]
    with ExitStack() as held:
        for file in (*strays, *(place / "files" / name for name, place in expired.items() if name != "2.pt")):
            held.enter_context(stuck(file))
        server = make_server(before.root, janitor_every_s="0.1")
        assert server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == b"saved"
        server.save("runs/a", b"more", name="more.pt")
        assert not expired["2.pt"].exists(), "those that can go have gone"
        assert all(file.exists() for file in strays)
    assert eventually(lambda: server.incoming() == []), "the janitor tries again"
    server.restart()
    assert list(trash.iterdir()) == []


def test_a_commit_that_cannot_go_on_at_the_start_goes_on_later(own_server):
    """It is that of a single request, whose bytes nothing could bring again."""
    old = own_server.save("runs/a", b"old", name="a.pt")
    with read_only(own_server.root / "runs" / "a"):
        query = {"directory": "runs/a", "name": "a.pt", "save_id": "save-once"}
        answer = own_server.http.post("/v1/checkpoints", params=query, content=b"new")
        assert answer.status_code >= 500
        own_server.kill()
        own_server.start()
        assert own_server.incoming() != []
        own_server.kill()
    own_server.start()
    found = own_server.http.get("/v1/checkpoints/latest", params={"directory": "runs/a"}).json()
    assert found["id"] != old["id"]
    assert own_server.http.get(f"/v1/checkpoints/{found['id']}/content").content == b"new"
    assert own_server.incoming() == []
