"""A disk that is full: a clear refusal, nothing lost, nothing left lying about."""

import os
import subprocess

import pytest

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
