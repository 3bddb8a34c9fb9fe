"""Empty directories: they can be removed, and their mode can change."""

import pytest

from tests.data.delta_states import refusal
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint


@pytest.fixture
def empty(server, directory):
    """Save to a directory and empty it."""
    server.save(directory, b"1", metric=1, mode="min")
    server.save(directory, b"2", metric=2)
    assert server.http.delete(f"/v1/directories/{directory}").json()["removed_count"] == 2
    server.wait_until_freed()
    return directory


def test_an_empty_directory_is_removed_with_its_folder(server, empty):
    folder = server.root / empty
    assert folder.is_dir()
    assert server.http.delete(f"/v1/directories/{empty}").json()["directory_removed"] is True
    assert not folder.exists()
    assert refusal(server.http.get(f"/v1/directories/{empty}")) == (404, "directory_not_found")
    assert refusal(server.http.delete(f"/v1/directories/{empty}")) == (404, "directory_not_found")
    listed = server.http.get("/v1/directories", params={"prefix": empty}).json()["directories"]
    assert listed == []


def test_the_counter_does_not_go_back(server, empty):
    server.http.delete(f"/v1/directories/{empty}").raise_for_status()
    assert server.save(empty, b"3")["sequence"] == 3


def test_a_directory_that_was_never_saved_to_is_removed(server, directory):
    server.http.put(f"/v1/directories/{directory}", json={"mode": "max"}).raise_for_status()
    assert server.http.delete(f"/v1/directories/{directory}").json()["directory_removed"] is True
    assert not (server.root / directory).exists()
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


def test_files_of_others_keep_their_folder(server, empty):
    note = server.root / empty / "notes.txt"
    note.write_text("by hand")
    assert server.http.delete(f"/v1/directories/{empty}").json()["directory_removed"] is True
    assert note.read_text() == "by hand"


def test_what_is_being_saved_keeps_its_directory(server, empty):
    upload = {"directory": empty, "name": "a.pt", "files": [{"size_bytes": 1}]}
    begun = server.http.post("/v1/uploads", json=upload).json()
    assert server.http.delete(f"/v1/directories/{empty}").json()["directory_removed"] is False
    server.http.put(begun["missing"][0]["url"], content=b"x").raise_for_status()
    assert server.http.post(f"/v1/uploads/{begun['id']}/commit").status_code == 201


def test_what_can_be_restored_keeps_its_directory(make_server):
    live = make_server(undo_window="1h")
    saved = live.save("runs/a")
    for _ in range(2):
        assert live.http.delete("/v1/directories/runs/a").json()["directory_removed"] is False
    assert live.http.post(f"/v1/checkpoints/{saved['id']}/restore").status_code == 200


def test_an_operators_policy_is_forgotten_by_an_admin_only(tmp_path):
    with LiveServer(tmp_path / "root") as live:
        admin, deleter = (bearer(mint(live.root, scope)) for scope in ("admin", "delete"))
        live.http.put("/v1/directories/a", json={"max_checkpoints": 3}, headers=admin).raise_for_status()
        answer = live.http.delete("/v1/directories/a", headers=deleter)
        assert (answer.status_code, answer.json()["directory_removed"]) == (200, False)
        assert live.http.delete("/v1/directories/a", headers=admin).json()["directory_removed"] is True


def test_a_save_into_an_empty_directory_brings_its_mode(server, empty):
    server.save(empty, b"3", metric=3, mode="max")
    assert server.http.get(f"/v1/directories/{empty}").json()["policy"]["mode"] == "max"
    answer = server.http.post("/v1/checkpoints", params={"directory": empty, "mode": "min"}, content=b"4")
    assert refusal(answer) == (409, "mode_conflict")


def test_the_mode_that_an_operator_chose_in_advance_stands(server, directory):
    server.http.put(f"/v1/directories/{directory}", json={"mode": "max"}).raise_for_status()
    answer = server.http.post("/v1/checkpoints", params={"directory": directory, "mode": "min"}, content=b"1")
    assert refusal(answer) == (409, "mode_conflict")


def test_no_operator_has_set_what_a_dry_run_asks(server, directory):
    server.save(directory, b"1", max_checkpoints=5)
    asked = {"directory": directory, "dry_run": True, "policy": {"max_checkpoints": 1, "mode": "max"}}
    (judged,) = server.http.post("/v1/prune", json=asked).json()["directories"]
    assert judged["policy"]["max_checkpoints"] == 1
    assert judged["policy"]["set_by_operator"] == []


def test_only_an_empty_directory_is_removed_where_that_is_asked(server, directory):
    saved = server.save(directory, epoch=1)
    url = f"/v1/directories/{directory}?only_empty=true"
    answer = server.http.delete(url).json()
    assert (answer["removed"], answer["directory_removed"]) == ([], False)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert server.http.delete(url).json()["directory_removed"] is True
    assert server.http.delete(url).status_code == 404
