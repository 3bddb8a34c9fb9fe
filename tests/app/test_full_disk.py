"""A disk that is full: a clear refusal, nothing lost, nothing left lying about."""

import os
import subprocess

import pytest

from tests.app.deltas import Uploader, asked, declared, pieces, refusal
from tests.live import LiveServer

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


@pytest.fixture
def small(tmp_path):
    """A server whose root lies on a file system of 40 MB."""
    root = tmp_path / "root"
    root.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", root], capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    try:
        with LiveServer(root) as live:
            yield live
    finally:
        subprocess.run(["umount", "--lazy", root], check=True)


def free_bytes(server):
    found = os.statvfs(server.root)
    return found.f_bavail * found.f_frsize


def test_a_save_that_does_not_fit_is_refused_and_leaves_nothing(small):
    small.save("runs/a", bytes(5_000_000), epoch=1)
    before = free_bytes(small)
    answer = small.http.post("/v1/checkpoints", params={"directory": "runs/a", "epoch": 2}, content=bytes(80_000_000))
    assert (answer.status_code, answer.json()["code"]) == (507, "no_space")
    assert before - free_bytes(small) < 2_000_000
    assert small.names("runs/a") == ["checkpoint_epoch_0001.pt"]
    small.save("runs/a", bytes(5_000_000), epoch=3)
    assert small.http.get("/v1/checkpoints/latest/content", params={"directory": "runs/a"}).content == bytes(5_000_000)


def test_an_upload_that_does_not_fit_can_be_abandoned(small):
    body = {"directory": "runs/a", "name": "big.pt", "files": [{"size_bytes": 80_000_000}]}
    upload = small.http.post("/v1/uploads", json=body).json()
    answers = [small.http.put(r["url"], content=bytes(r["length"])) for r in upload["missing"]]
    refused = next(answer for answer in answers if answer.status_code != 200)
    assert (refused.status_code, refused.json()["code"]) == (507, "no_space")
    assert small.http.delete(f"/v1/uploads/{upload['id']}").status_code == 204
    assert free_bytes(small) > 35_000_000
    small.save("runs/a", bytes(5_000_000), epoch=3)


def test_what_cannot_be_copied_for_want_of_space_is_asked_for_and_refused(small):
    uploader = Uploader(small, "runs/a")
    held = pieces(8, 3_000_000)
    checkpoint = uploader.save(held, "1.pt")
    state = [*pieces(1, 3_000_000), *held]
    upload = uploader.begin(declared(state), name="2.pt")
    assert asked(upload) == [("2.pt", 0, 3_000_000)]
    missing = uploader.commit(upload)
    assert refusal(missing) == (409, "ranges_missing")
    assert len(missing.json()["missing"]) > 0
    answers = [uploader.http.put(r["url"], content=bytes(r["length"])) for r in uploader.get(upload)["missing"]]
    assert {refusal(answer) for answer in answers} <= {(507, "no_space"), (422, "digest_mismatch")}
    assert (507, "no_space") in {refusal(answer) for answer in answers}
    assert uploader.content(checkpoint["id"]) == b"".join(held)
    assert uploader.abandon(upload).status_code == 204
    assert free_bytes(small) > 10_000_000
    uploader.save([*pieces(1, 1_000_000), *held[:2]], "3.pt")


def test_copies_go_on_once_there_is_space(small):
    uploader = Uploader(small, "runs/a")
    held = pieces(6, 3_000_000)
    uploader.save(held, "1.pt")
    other = uploader.save(pieces(4, 3_000_000), "2.pt")
    upload = uploader.begin(declared(held), name="3.pt")
    assert asked(upload) == []
    assert refusal(uploader.commit(upload)) == (409, "ranges_missing")
    small.http.delete(f"/v1/checkpoints/{other['id']}").raise_for_status()
    small.wait_until_freed()
    uploader.send(uploader.get(upload), state=held)
    uploader.committed(upload, held)
