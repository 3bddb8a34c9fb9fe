"""The undo window: removed checkpoints can be restored with all their facts."""

import os
import sqlite3
from contextlib import closing

import pytest

from app.storage.local.store import LocalStorage
from tests.data.delta_states import refusal
from tests.data.samples import sealed
from tests.support.live import LiveServer, eventually
from tests.support.mounts import small_disk


@pytest.fixture(scope="module")
def undoing(tmp_path_factory):
    """A server with an undo window of an hour."""
    with LiveServer(tmp_path_factory.mktemp("undo") / "root", undo_window="1h", janitor_every_s="0.1") as live:
        yield live


def restore(server, checkpoint):
    return server.http.post(f"/v1/checkpoints/{checkpoint['id']}/restore")


def delete(server, checkpoint):
    answer = server.http.delete(f"/v1/checkpoints/{checkpoint['id']}")
    answer.raise_for_status()
    return answer.json()


def get(server, checkpoint):
    return server.http.get(f"/v1/checkpoints/{checkpoint['id']}").json()


def content(server, checkpoint):
    return server.http.get(f"/v1/checkpoints/{checkpoint['id']}/content").content


def put_aside(server, place, aside):
    """Restore only the row of the one checkpoint of a stopped server, as an interrupted restoration does."""
    aside.mkdir()
    place.rename(aside / place.name)
    (place.parent / ".holdfast" / f"{place.name}.json").rename(aside / "manifest.json")
    with closing(sqlite3.connect(server.root / ".holdfast" / "catalog.db")) as connection, connection:
        connection.execute("UPDATE checkpoints SET manifest_stale = 1")


def figure(server, name):
    return next(
        float(line.split()[1]) for line in server.http.get("/metrics").text.splitlines() if line.startswith(f"{name} ")
    )


def test_a_deleted_checkpoint_comes_back_as_it_was(undoing, directory):
    saved = undoing.save(directory, b"the bytes", epoch=1, metric=0.5, save_id="the-first-save")
    undoing.http.patch(f"/v1/checkpoints/{saved['id']}", json={"tags": ["a"], "metadata": {"note": 1}})
    undoing.save(directory, b"others", epoch=2, metric=0.7)
    before = get(undoing, saved)
    assert delete(undoing, saved)["restorable"]
    assert not (undoing.root / directory / saved["name"]).exists()
    assert undoing.names(directory) == ["checkpoint_epoch_0002.pt"]
    answer = restore(undoing, saved)
    assert answer.status_code == 200
    assert answer.json() == get(undoing, saved) == before
    assert undoing.names(directory) == [saved["name"], "checkpoint_epoch_0002.pt"]
    assert undoing.http.get("/v1/checkpoints/best", params={"directory": directory}).json()["id"] == saved["id"]
    assert content(undoing, saved) == (undoing.root / directory / saved["name"]).read_bytes() == b"the bytes"
    assert (undoing.root / directory / ".holdfast" / f"{saved['name']}.json").exists()
    assert not (undoing.root / ".holdfast" / "trash" / saved["id"]).exists()


def test_one_that_the_policy_would_remove_again_is_pinned(undoing, directory):
    first = undoing.save(directory, epoch=1, max_checkpoints=1)
    undoing.save(directory, epoch=2, max_checkpoints=1)
    assert get(undoing, first)["removed_because"] == "pruned"
    assert restore(undoing, first).json()["pinned"]
    undoing.save(directory, epoch=3, max_checkpoints=1)
    assert undoing.names(directory) == ["checkpoint_epoch_0001.pt", "checkpoint_epoch_0003.pt"]


def test_what_is_live_stays_as_it_is(undoing, directory):
    saved = undoing.save(directory, epoch=1)
    answer = restore(undoing, saved)
    assert (answer.status_code, answer.json()) == (200, get(undoing, saved))


def test_a_name_that_is_taken_is_not_given_to_another(undoing, directory):
    old = undoing.save(directory, b"old", name="x.pt")
    new = undoing.save(directory, b"new", name="x.pt")
    refused = restore(undoing, old)
    assert (refusal(refused), refused.json()["checkpoint_id"]) == ((409, "name_taken"), new["id"])
    delete(undoing, new)
    assert restore(undoing, old).status_code == 200
    assert content(undoing, old) == b"old"


def test_a_foreign_file_is_not_overwritten(undoing, directory):
    saved = undoing.save(directory, b"ours", name="x.pt")
    delete(undoing, saved)
    place = undoing.root / directory / "x.pt"
    place.write_bytes(b"theirs")
    assert refusal(restore(undoing, saved)) == (409, "foreign_file")
    assert place.read_bytes() == b"theirs"
    place.unlink()
    assert restore(undoing, saved).status_code == 200


def test_a_folder_comes_back_whole(undoing, directory):
    files = [{"path": "model.bin", "size_bytes": 3}, {"path": "more/state.bin", "size_bytes": 3}]
    upload = undoing.http.post("/v1/uploads", json={"directory": directory, "name": "folder", "files": files}).json()
    for missing in upload["missing"]:
        undoing.http.put(missing["url"], content=b"abc").raise_for_status()
    saved = undoing.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).json()
    delete(undoing, saved)
    assert not (undoing.root / directory / "folder").exists()
    assert restore(undoing, saved).status_code == 200
    for file in files:
        assert (undoing.root / directory / "folder" / file["path"]).read_bytes() == b"abc"
        assert undoing.http.get(f"/v1/checkpoints/{saved['id']}/files/{file['path']}").content == b"abc"


def test_a_restart_empties_no_trash(undoing, directory):
    saved = undoing.save(directory, b"kept", epoch=1)
    delete(undoing, saved)
    undoing.restart()
    assert figure(undoing, "holdfast_trash_checkpoints") >= 1
    assert figure(undoing, "holdfast_unfreed_checkpoints") == 0
    assert restore(undoing, saved).status_code == 200
    assert content(undoing, saved) == b"kept"


def test_a_restoration_is_an_event(undoing, directory):
    saved = undoing.save(directory, epoch=1)
    delete(undoing, saved)
    restore(undoing, saved)
    with undoing.http.stream(
        "GET", "/v1/events", params={"prefix": directory}, headers={"Last-Event-ID": "0"}
    ) as answer:
        kinds = []
        for line in answer.iter_lines():
            if line.startswith("event: "):
                kinds.append(line.removeprefix("event: "))
            if kinds[-1:] == ["checkpoint.restored"]:
                break
    assert kinds == ["checkpoint.saved", "checkpoint.removed", "checkpoint.restored"]


def test_when_the_window_is_over_the_bytes_go(make_server):
    server = make_server(undo_window="0.5s", janitor_every_s="0.1")
    saved = server.save("runs/a", b"x" * 1000, epoch=1)
    delete(server, saved)
    assert eventually(lambda: not get(server, saved)["restorable"])
    assert list((server.root / ".holdfast" / "trash").iterdir()) == []
    assert refusal(restore(server, saved)) == (410, "checkpoint_removed")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_where_space_is_needed_those_go_first_that_were_removed_first():
    with small_disk("40m") as root, LiveServer(root, reserve_bytes="0", undo_window="1h") as server:
        saved = [server.save("runs/a", bytes(11_000_000), epoch=number) for number in range(3)]
        order = [saved[1], saved[2], saved[0]]
        for checkpoint in order:
            assert delete(server, checkpoint)["restorable"]
        for gone in range(1, 3):
            server.save("runs/a", bytes(11_000_000), epoch=10 + gone)
            kept = [get(server, checkpoint)["restorable"] for checkpoint in order]
            assert kept == [False] * gone + [True] * (3 - gone)


def test_without_a_window_nothing_can_be_restored(server, directory):
    saved = server.save(directory, epoch=1)
    assert not delete(server, saved)["restorable"]
    assert refusal(restore(server, saved)) == (410, "checkpoint_removed")


@pytest.mark.parametrize(("given", "meant"), [("90", 90), ("90s", 90), ("1.5m", 90), ("24h", 86400), ("7d", 604800)])
def test_the_window_is_given_in_seconds_or_with_a_unit(monkeypatch, given, meant):
    from app.settings import Settings

    monkeypatch.setenv("HOLDFAST_UNDO_WINDOW", given)
    assert Settings().undo_window == meant


@pytest.mark.parametrize("name", ["x.pt", "folder"])
def test_a_restoration_cut_off_by_a_crash_continues_once_the_conflict_is_gone(own_server, name):
    """The row is live, the bytes are still in the trash, and a foreign file has taken their place."""
    files = [{"path": name if name == "x.pt" else "inner.bin", "size_bytes": 3}]
    body = {"directory": "runs/a", "name": name, "files": files}
    upload = own_server.http.post("/v1/uploads", json=body).json()
    own_server.http.put(upload["missing"][0]["url"], content=b"abc").raise_for_status()
    saved = own_server.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).json()
    own_server.stop()
    place, aside = own_server.root / "runs" / "a" / name, own_server.root / ".holdfast" / "trash" / saved["id"]
    put_aside(own_server, place, aside)
    foreign = place if name == "x.pt" else place / "inner.bin"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_bytes(b"theirs")
    own_server.start()
    assert foreign.read_bytes() == b"theirs"
    foreign.unlink()
    own_server.restart()
    assert own_server.http.get(f"/v1/checkpoints/{saved['id']}/files/{files[0]['path']}").content == b"abc"
    assert not aside.exists()


def test_what_a_sealed_commit_replaces_is_not_taken_for_a_restoration(own_server):
    """The bytes are set aside like those of a restoration, and the facts changed just before."""

    def files(place):
        return {path.name: path.read_bytes() for path in place.iterdir()}

    body = {"directory": "runs/a", "name": "folder", "files": [{"path": "old.bin", "size_bytes": 3}]}
    upload = own_server.http.post("/v1/uploads", json=body).json()
    own_server.http.put(upload["missing"][0]["url"], content=b"old").raise_for_status()
    old = own_server.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).json()
    own_server.stop()
    with sqlite3.connect(own_server.root / ".holdfast" / "catalog.db") as connection:
        connection.execute("UPDATE checkpoints SET manifest_stale = 1")
    connection.close()
    with closing(LocalStorage(own_server.root, version="1")) as storage:
        made = sealed(storage, {"new.bin": b"new"}, name="folder", upload_id="newer", sequence=2, replaces=old["id"])
        storage.content.publish("newer", made)
    own_server.start()
    assert files(own_server.root / "runs" / "a" / "folder") == {"new.bin": b"new"}
    assert own_server.http.get("/v1/checkpoints/newer/files/new.bin").content == b"new"
    assert get(own_server, old)["removed_because"] == "replaced"


def test_a_sealed_commit_has_its_name_before_a_restoration_asks(make_server):
    """The commit failed after its seal because of a foreign file, which was removed later."""
    server = make_server(undo_window="1h", janitor_every_s="1000")
    old = server.save("runs/a", b"old", name="x.pt")
    delete(server, old)
    server.stop()
    with closing(LocalStorage(server.root, version="1")) as storage:
        sealed(storage, {"x.pt": b"new"}, name="x.pt", upload_id="newer", sequence=2)
    foreign = server.root / "runs" / "a" / "x.pt"
    foreign.write_bytes(b"theirs")
    server.start()
    foreign.unlink()
    refused = restore(server, old)
    assert (refusal(refused), refused.json()["checkpoint_id"]) == ((409, "name_taken"), "newer")
    assert server.http.get("/v1/checkpoints/newer/content").content == foreign.read_bytes() == b"new"
    server.http.delete("/v1/checkpoints/newer").raise_for_status()
    assert restore(server, old).status_code == 200
    assert content(server, old) == b"old"


def test_a_restoration_that_failed_half_way_is_finished_when_it_is_repeated(make_server):
    """The row is live, the bytes are still in the trash, and the janitor runs much later."""
    server = make_server(undo_window="1h", janitor_every_s="1000")
    saved = server.save("runs/a", b"bytes", name="x.pt")
    server.stop()
    place, aside = server.root / "runs" / "a" / "x.pt", server.root / ".holdfast" / "trash" / saved["id"]
    put_aside(server, place, aside)
    place.write_bytes(b"theirs")
    server.start()
    assert refusal(restore(server, saved)) == (409, "foreign_file")
    assert place.read_bytes() == b"theirs"
    place.unlink()
    assert restore(server, saved).status_code == 200
    assert content(server, saved) == place.read_bytes() == b"bytes"
    assert not aside.exists()
