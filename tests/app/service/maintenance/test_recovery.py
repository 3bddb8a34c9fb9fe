"""A server that was killed and started again, or lost its catalog, gives the same answers."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import httpx
import pytest

from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, eventually


def answers(server, **query):
    """Read all that a server answers about its directories and their checkpoints."""
    found = {}
    for directory in server.http.get("/v1/directories").json()["directories"]:
        found[f"of {directory['directory']}"] = directory
        for what in ("", "/best", "/latest"):
            asked = {"directory": directory["directory"], **(query if not what else {})}
            answer = server.http.get(f"/v1/checkpoints{what}", params=asked, headers={"X-Request-Id": "asked"})
            found[f"in {directory['directory']}{what}"] = answer.status_code, answer.json()
    return found


def contents(server):
    """Read the bytes of every live checkpoint."""
    found = {}
    for directory in server.http.get("/v1/directories").json()["directories"]:
        page = server.http.get("/v1/checkpoints", params={"directory": directory["directory"]}).json()
        for checkpoint in page["checkpoints"]:
            for file in checkpoint["files"]:
                answer = server.http.get(file["url"])
                assert answer.status_code == 200, answer.text
                found[file["stored_at"]] = answer.content
    return found


def lose_catalog(server):
    for path in (server.root / ".holdfast").glob("catalog.db*"):
        path.unlink()


def run(*arguments):
    command = [sys.executable, "-m", "app", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd=PROJECT)


@pytest.fixture
def lived_in(own_server):
    """A server with policies, pins, tags, a folder, late deliveries, and removed and replaced checkpoints."""
    for epoch in range(6):
        metric = [3, 1, "NaN", 2, 5, 4][epoch]
        own_server.save("runs/a", b"a%d" % epoch, epoch=epoch, metric=metric, max_checkpoints=3, mode="max")
    own_server.http.put("/v1/directories/runs/a", json={"max_best_checkpoints": 2, "keep_every_epochs": 10})
    for epoch in range(3):
        saved = own_server.save("runs/b", b"b%d" % epoch, epoch=epoch, is_best=True, writer="me@host")
    change = {"pinned": True, "tags": ["x", "é"], "metadata": {"k": [1, None]}, "metric": "Infinity"}
    own_server.http.patch(f"/v1/checkpoints/{saved['id']}", json=change).raise_for_status()
    own_server.save("runs/b", b"replaced", epoch=0)
    own_server.save("runs/b", b"late", epoch=9, saved_after=1)
    own_server.save("runs/b", b"b1", epoch=1, metric=0.25)
    gone = own_server.save("runs/b/sub", b"gone", epoch=1)
    own_server.save("runs/b/sub", b"there", name="there")
    own_server.http.delete(f"/v1/checkpoints/{gone['id']}").raise_for_status()
    newest = own_server.save("emptied", b"newest", epoch=1)
    own_server.http.delete(f"/v1/checkpoints/{newest['id']}").raise_for_status()
    own_server.http.put("/v1/directories/planned", json={"mode": "min", "max_checkpoints": None}).raise_for_status()
    files = [{"path": "sub/a", "size_bytes": 1}, {"path": ".metadata", "size_bytes": 0}]
    upload = own_server.http.post("/v1/uploads", json={"directory": "f", "name": "folder", "files": files}).json()
    own_server.http.put(upload["missing"][0]["url"], content=b"a").raise_for_status()
    own_server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    return own_server


def test_killed_and_started_again_it_gives_the_same_answers(lived_in):
    before = answers(lived_in, include_removed=True), contents(lived_in)
    assert sum(what.startswith("of ") for what in before[0]) == 6
    lived_in.restart()
    assert (answers(lived_in, include_removed=True), contents(lived_in)) == before


def test_told_to_stop_and_started_again_it_gives_the_same_answers(lived_in):
    before = answers(lived_in, include_removed=True)
    lived_in.stop()
    lived_in.start()
    assert answers(lived_in, include_removed=True) == before


@pytest.mark.parametrize("how", ["by itself", "by reindex", "by reindex of a catalog that is there"])
def test_the_catalog_is_made_anew_from_the_files(lived_in, how):
    before = answers(lived_in), contents(lived_in)
    lived_in.kill()
    if "there" not in how:
        lose_catalog(lived_in)
    if "reindex" in how:
        done = run("reindex", "--root", str(lived_in.root))
        assert (done.returncode, done.stdout) == (0, "11 checkpoints in 6 directories\n"), done.stderr
        assert "left alone" not in done.stderr
    lived_in.start()
    after = answers(lived_in)
    assert [what for what in before[0] if after.get(what) != before[0][what]] == []
    assert contents(lived_in) == before[1]


def test_sequences_and_save_ids_are_kept_when_the_catalog_is_lost(own_server):
    own_server.save("runs/a", b"1", epoch=1, save_id="save-0001")
    newest = own_server.save("runs/a", b"2", epoch=2)
    own_server.http.delete(f"/v1/checkpoints/{newest['id']}").raise_for_status()
    own_server.kill()
    lose_catalog(own_server)
    own_server.start()
    query = {"directory": "runs/a", "epoch": 1, "save_id": "save-0001"}
    again = own_server.http.post("/v1/checkpoints", params=query, content=b"1")
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    assert own_server.http.post("/v1/checkpoints", params=query, content=b"x").status_code == 422
    assert own_server.save("runs/a", b"3", epoch=3)["sequence"] == 3


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        pytest.param(lambda path: path.write_text("{"), "not readable", id="no json"),
        pytest.param(lambda path: path.write_bytes(b"\xff"), "not readable", id="no text"),
        pytest.param(lambda path: path.write_text("[" * 100_000), "not readable", id="deep"),
        pytest.param(lambda path: (path.unlink(), path.symlink_to("/etc/passwd")), "plain file", id="a link"),
        pytest.param(lambda path: (path.unlink(), os.mkfifo(path)), "plain file", id="a pipe"),
        pytest.param(lambda path: path.rename(path.with_name("other.json")), "it speaks of", id="of another"),
        pytest.param(
            lambda path: path.write_text(path.read_text().replace('"name": "x.pt"', '"name": "../x.pt"')),
            "begins with a dot|readable|paths|grammar",
            id="out of the root",
        ),
        pytest.param(lambda path: (path.parent.parent / "x.pt").unlink(), "missing", id="no file"),
        pytest.param(lambda path: (path.parent.parent / "x.pt").write_bytes(b"1"), "instead of", id="another size"),
    ],
)
def test_a_manifest_that_cannot_be_believed_is_left_alone_and_named(own_server, spoil, said):
    own_server.save("runs/a", name="x.pt")
    own_server.save("runs/a", name="y.pt")
    own_server.kill()
    spoil(own_server.root / "runs/a/.holdfast/x.pt.json")
    lose_catalog(own_server)
    done = run("reindex", "--root", str(own_server.root))
    assert done.returncode == 1
    assert "left alone: runs/a/.holdfast/" in done.stderr
    assert any(word in done.stderr for word in said.split("|"))
    own_server.start()
    assert own_server.names("runs/a") == ["y.pt"]


def test_a_copied_directory_does_not_double_its_checkpoints(own_server):
    saved = own_server.save("runs/a", name="x.pt")
    own_server.kill()
    lose_catalog(own_server)
    subprocess.run(["cp", "-a", own_server.root / "runs/a", own_server.root / "runs/b"], check=True)
    done = run("reindex", "--root", str(own_server.root))
    assert done.returncode == 1
    own_server.start()
    assert own_server.http.get(f"/v1/checkpoints/{saved['id']}").json()["directory"] == "runs/a"


@pytest.mark.parametrize("command", [["serve", "--port", "0"], ["reindex"]], ids=["serve", "reindex"])
def test_a_second_process_does_not_get_the_root(own_server, command):
    own_server.save("runs/a", epoch=1)
    done = run(*command, "--root", str(own_server.root))
    assert done.returncode != 0
    assert "in use by another Holdfast process" in done.stderr
    assert "Traceback" not in done.stderr
    assert own_server.names("runs/a") == ["checkpoint_epoch_0001.pt"]


def test_a_root_of_a_newer_layout_is_refused(own_server):
    own_server.kill()
    (own_server.root / ".holdfast" / "format.json").write_text(json.dumps({"format": 99}))
    done = run("reindex", "--root", str(own_server.root))
    assert done.returncode == 2
    assert "layout 99" in done.stderr


@pytest.mark.parametrize("lost", ["one manifest", "all manifests", "a garbled manifest", "the directory"])
def test_a_reindex_names_what_the_catalog_had_and_no_manifest_describes(own_server, lost):
    for epoch in (1, 2):
        own_server.save("runs/a", b"bytes", epoch=epoch)
    own_server.save("runs/b", b"bytes", epoch=1)
    own_server.kill()
    directory = own_server.root / "runs/a"
    manifest = directory / ".holdfast/checkpoint_epoch_0002.pt.json"
    if lost == "one manifest":
        manifest.unlink()
    elif lost == "a garbled manifest":
        manifest.write_text("{")
    else:
        shutil.rmtree(directory if lost == "the directory" else directory / ".holdfast")
    done = run("reindex", "--root", str(own_server.root))
    left = {line.partition("left alone: ")[2].partition(":")[0] for line in done.stderr.splitlines()}
    second, name = "runs/a/checkpoint_epoch_0002.pt", "runs/a/.holdfast/checkpoint_epoch_0002.pt.json"
    both = {"runs/a/checkpoint_epoch_0001.pt", second}
    assert done.returncode == 1
    assert left == ({name} if "garbled" in lost else {second} if "one" in lost else both)
    assert run("reindex", "--root", str(own_server.root)).returncode == (1 if "garbled" in lost else 0)


def test_what_a_single_request_left_at_a_crash_is_deleted_and_the_save_may_come_by_any_route(own_server):
    """Nothing can resume such an upload. Its place in the order stays."""
    first = own_server.save("runs/a", b"first", epoch=1)
    where = httpx.URL(own_server.url)
    with socket.create_connection((where.host, where.port), timeout=DEADLINE_S) as connection:
        query = "directory=runs/a&name=a.pt&save_id=mine-once"
        head = f"POST /v1/checkpoints?{query} HTTP/1.1\r\nHost: {where.host}\r\nContent-Length: {2**30}\r\n\r\n"
        connection.sendall(head.encode())
        sending = threading.Thread(target=send_until_cut, args=(connection,))
        sending.start()
        assert eventually(lambda: any(sizes_of_incoming(own_server)))
        body = {"directory": "runs/a", "name": "a.pt", "save_id": "mine-once", "files": [{"size_bytes": 5}]}
        busy = own_server.http.post("/v1/uploads", json=body)
        assert (busy.status_code, busy.json()["code"]) == (409, "upload_busy")
        own_server.kill()
        sending.join(DEADLINE_S)
    newest = None
    for _ in range(2):
        own_server.start()
        assert sizes_of_incoming(own_server) == []
        newest = own_server.save("runs/a", b"newest", epoch=9)
        own_server.kill()
    own_server.start()
    upload = own_server.http.post("/v1/uploads", json=body).raise_for_status().json()
    own_server.http.put(upload["missing"][0]["url"], content=b"bytes").raise_for_status()
    committed = own_server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status().json()
    assert committed["saved_after"] == first["sequence"]
    latest = own_server.http.get("/v1/checkpoints/latest", params={"directory": "runs/a"}).json()
    assert latest["id"] == newest["id"]
    assert own_server.incoming() == []


def send_until_cut(connection):
    """Send bytes all the time, about 6 MB a second."""
    with suppress(OSError):
        while True:
            connection.sendall(bytes(64 * 1024))
            time.sleep(0.01)


def sizes_of_incoming(server):
    """List the sizes of all files that uploads have brought."""
    places = (server.root / ".holdfast" / "incoming").glob("*/files/**/*")
    return [place.stat().st_size for place in places if place.is_file()]
