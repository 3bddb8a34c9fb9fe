"""Loads of checkpoints that are damaged on the server's disk."""

import os
import warnings

import pytest

from holdfast import CheckpointManager, HoldfastWarning, IntegrityError
from tests.support.live import eventually


@pytest.fixture
def manager(own_server):
    return CheckpointManager("runs/a", max_checkpoints=None, server=own_server.url)


def damage(server, name, *, silently):
    """Change one byte in the middle of a file, keeping its size and time."""
    path = server.root / "runs" / "a" / name
    before, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    if silently:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("silently", [True, False])
def test_load_latest_falls_back_to_the_newest_that_is_intact_and_says_so(own_server, manager, silently):
    for epoch in range(1, 5):
        manager.save({"epoch": epoch, "text": "x" * 5000}, epoch=epoch)
    damage(own_server, "checkpoint_epoch_0004.pt", silently=silently)
    damage(own_server, "checkpoint_epoch_0003.pt", silently=silently)
    with pytest.warns(HoldfastWarning, match=r"_0004\.pt, \S+_0003\.pt .* \S+_0002\.pt, is loaded"):
        assert manager.load_latest()["epoch"] == 2
    with pytest.raises(IntegrityError):
        manager.load("checkpoint_epoch_0004.pt")


def test_where_nothing_is_intact_load_latest_raises_rather_than_give_nothing(own_server, manager):
    for epoch in (1, 2):
        manager.save({"epoch": epoch}, epoch=epoch)
        damage(own_server, f"checkpoint_epoch_000{epoch}.pt", silently=True)
    with pytest.raises(IntegrityError):
        manager.load_latest()


def test_what_is_intact_is_loaded_without_a_word(manager):
    manager.save({"epoch": 1}, epoch=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert manager.load_latest() == {"epoch": 1}


def test_what_the_server_has_found_damaged_it_refuses_until_it_is_right_again(make_server):
    server = make_server(scrub_every="0")
    manager = CheckpointManager("runs/a", max_checkpoints=None, server=server.url)
    for epoch in (1, 2):
        manager.save({"epoch": epoch}, epoch=epoch)
    path = server.root / "runs" / "a" / "checkpoint_epoch_0002.pt"
    right, times = path.read_bytes(), path.stat()
    damage(server, path.name, silently=True)
    assert eventually(lambda: "holdfast_damaged_checkpoints 1.0" in server.http.get("/metrics").text)
    latest = server.http.get("/v1/checkpoints/latest", params={"directory": "runs/a"}).json()
    assert "checkpoint_epoch_0002.pt" in latest["damage"]
    answer = server.http.get(f"/v1/checkpoints/{latest['id']}/content")
    assert (answer.status_code, answer.json()["code"]) == (409, "altered")
    with pytest.warns(HoldfastWarning, match=r"0001\.pt, is loaded instead"):
        assert manager.load_latest() == {"epoch": 1}
    path.write_bytes(right)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert manager.load_latest() == {"epoch": 2}
    assert eventually(lambda: "holdfast_damaged_checkpoints 0.0" in server.http.get("/metrics").text)
