"""The server killed at chosen system calls of a save: before its seal nothing is there, after it everything is."""

import shutil
import subprocess

import httpx
import pytest

from tests.live import LiveServer, eventually

pytestmark = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")

OLD, NEW = b"old bytes", b"new bytes, and more of them"


class Killer:
    """Kills a server at the n-th call of a system call from now on."""

    def __init__(self, server: LiveServer, call: str, count: int) -> None:
        inject = f"inject={call}:signal=SIGKILL:when={count}"
        command = ["strace", "-f", "-p", str(server.process_id), "-e", f"trace={call}", "-e", inject]
        self._log = server.root.parent / "strace.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        assert eventually(lambda: "attached" in self._log.read_text()), self._log.read_text()

    def wait(self) -> None:
        """Until the server is dead, which ends the tracer too."""
        self._process.wait(timeout=30)


def save(server, data, **query):
    return server.http.post("/v1/checkpoints", params={"directory": "runs/a", **query}, content=data)


def content(server, name):
    (found,) = server.http.get("/v1/checkpoints", params={"directory": "runs/a", "name": name}).json()["checkpoints"]
    return server.http.get(f"/v1/checkpoints/{found['id']}/content").content


def everything_is_in_order(server, kept):
    """Rows, manifests and files agree, and nothing is left over."""
    server.wait_until_freed()
    place = server.root / "runs" / "a"
    assert server.names("runs/a", order_by="name") == sorted(kept)
    assert sorted(path.name for path in place.iterdir() if path.is_file()) == sorted(kept)
    assert sorted(path.name for path in (place / ".holdfast").glob("*.pt.json")) == sorted(f"{n}.json" for n in kept)
    assert server.incoming() == []
    assert list((server.root / ".holdfast" / "trash").iterdir()) == []
    for name, data in kept.items():
        assert content(server, name) == data


@pytest.mark.parametrize(
    ("call", "count", "survives"),
    [
        pytest.param("fdatasync", 1, False, id="while it is reserved"),
        pytest.param("linkat", 1, True, id="before its file is in place"),
        pytest.param("renameat", 2, True, id="before its manifest is in place"),
        pytest.param("fdatasync", 2, True, id="before it is recorded"),
    ],
)
def test_a_first_save(own_server, call, count, survives):
    assert save(own_server, OLD, name="old.pt").status_code == 201
    killer = Killer(own_server, call, count)
    with pytest.raises(httpx.TransportError):
        save(own_server, NEW, name="new.pt", save_id="the-new-one")
    killer.wait()
    own_server.restart()
    if survives:
        everything_is_in_order(own_server, {"old.pt": OLD, "new.pt": NEW})
    again = save(own_server, NEW, name="new.pt", save_id="the-new-one")
    assert again.status_code == (200 if survives else 201), again.text
    everything_is_in_order(own_server, {"old.pt": OLD, "new.pt": NEW})


@pytest.mark.parametrize(
    ("call", "count", "after"),
    [
        pytest.param("fdatasync", 1, OLD, id="while it is reserved"),
        pytest.param("renameat", 2, NEW, id="before the old file is set aside"),
        pytest.param("renameat", 3, NEW, id="before the old manifest is set aside"),
        pytest.param("linkat", 1, NEW, id="before the new file is in place"),
        pytest.param("renameat", 4, NEW, id="before the new manifest is in place"),
        pytest.param("fdatasync", 2, NEW, id="before it is recorded"),
        pytest.param("unlinkat", 1, NEW, id="before what it left behind is cleared away"),
    ],
)
def test_a_save_that_replaces(own_server, call, count, after):
    assert save(own_server, OLD, name="x.pt").status_code == 201
    killer = Killer(own_server, call, count)
    with pytest.raises(httpx.TransportError):
        save(own_server, NEW, name="x.pt", save_id="the-new-one")
    killer.wait()
    own_server.restart()
    assert content(own_server, "x.pt") == after
    assert save(own_server, NEW, name="x.pt", save_id="the-new-one").status_code == (200 if after == NEW else 201)
    everything_is_in_order(own_server, {"x.pt": NEW})


@pytest.mark.parametrize("count", [1, 2])
def test_a_removal(own_server, count):
    """Once marked it is finished at the next start, whatever it had come to."""
    assert save(own_server, OLD, name="old.pt").status_code == 201
    assert save(own_server, NEW, name="new.pt").status_code == 201
    killer = Killer(own_server, "renameat", count)
    old = own_server.http.get("/v1/checkpoints", params={"directory": "runs/a", "name": "old.pt"}).json()
    with pytest.raises(httpx.TransportError):
        own_server.http.delete(f"/v1/checkpoints/{old['checkpoints'][0]['id']}")
    killer.wait()
    own_server.restart()
    everything_is_in_order(own_server, {"new.pt": NEW})
