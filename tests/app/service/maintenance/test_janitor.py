"""Odd roots, interrupted rebuilds and refusals in the middle of a save: the server always recovers."""

import os
import shutil

import pytest

from app.catalog import Catalog
from tests.support.live import LiveServer


def lose_catalog(root):
    for path in (root / ".holdfast").glob("catalog.db*"):
        path.unlink()


def test_directories_that_were_put_together_by_hand_are_all_found(own_server, tmp_path):
    own_server.save("runs/a", b"mine", name="mine.pt")
    with LiveServer(tmp_path / "other") as other:
        other.save("runs/a", b"theirs", name="theirs.pt")
    shutil.copy2(tmp_path / "other/runs/a/theirs.pt", own_server.root / "runs/a/theirs.pt")
    manifest = "runs/a/.holdfast/theirs.pt.json"
    shutil.copy2(tmp_path / "other" / manifest, own_server.root / manifest)
    own_server.stop()
    lose_catalog(own_server.root)
    own_server.start()
    assert sorted(own_server.names("runs/a")) == ["mine.pt", "theirs.pt"]
    own_server.save("runs/a", b"more", name="more.pt")
    found = own_server.http.get("/v1/checkpoints", params={"directory": "runs/a"}).json()["checkpoints"]
    assert len({checkpoint["sequence"] for checkpoint in found}) == 3


def test_a_root_without_its_catalog_is_rebuilt_until_it_is_whole(own_server):
    own_server.save("runs/a", b"mine", name="mine.pt")
    own_server.stop()
    lose_catalog(own_server.root)
    # An interrupted rebuild leaves empty tables.
    Catalog(f"sqlite:///{own_server.root / '.holdfast' / 'catalog.db'}").close()
    own_server.start()
    assert own_server.names("runs/a") == ["mine.pt"]


def test_a_directory_that_became_a_link_does_not_keep_the_server_from_starting(own_server, tmp_path):
    saved = own_server.save("d/e", b"mine", name="mine.pt")
    own_server.save("f", b"other", name="other.pt")
    (own_server.root / "d").rename(tmp_path / "elsewhere")
    (own_server.root / "d").symlink_to(tmp_path / "elsewhere")
    own_server.http.patch(f"/v1/checkpoints/{saved['id']}", json={"pinned": True})
    own_server.restart()
    assert own_server.names("f") == ["other.pt"]


def test_a_refused_save_does_not_get_in_the_way_of_the_upload_that_it_repeats(server, directory):
    server.save(directory, b"x", epoch=0, mode="min")
    body = {"directory": directory, "name": "a.pt", "save_id": "the-same-id", "files": [{"size_bytes": 3}]}
    upload = server.http.post("/v1/uploads", json=body).json()
    params = {"directory": directory, "name": "a.pt", "save_id": "the-same-id", "mode": "max"}
    assert server.http.post("/v1/checkpoints", params=params, content=b"abc").json()["code"] == "mode_conflict"
    assert server.http.put(upload["missing"][0]["url"], content=b"abc").status_code == 200
    assert server.http.post(f"/v1/uploads/{upload['id']}/commit").status_code == 201


@pytest.mark.parametrize("touched", [False, True], ids=["as it was", "touched"])
def test_a_pin_and_tags_stay_with_content_that_stays(server, directory, touched):
    saved = server.save(directory, b"content", name="a.pt")
    server.http.patch(f"/v1/checkpoints/{saved['id']}", json={"pinned": True, "tags": ["mine"]}).raise_for_status()
    if touched:
        os.utime(server.root / directory / "a.pt")
    again = server.save(directory, b"content", name="a.pt", metric=0.5)
    assert (again["pinned"], again["tags"], again["metric"]) == (True, ["mine"], 0.5)
