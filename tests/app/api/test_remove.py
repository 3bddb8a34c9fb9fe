"""Removal of checkpoints: one, all of a directory, or those that its policy does not keep."""

import pytest


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def delete(server, saved):
    return server.http.delete(f"/v1/checkpoints/{saved['id']}")


def prune(server, **body):
    answer = server.http.post("/v1/prune", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def put(server, directory, **policy):
    server.http.put(f"/v1/directories/{directory}", json=policy).raise_for_status()


def folder(server, directory):
    """Save a checkpoint that is a folder with one file in a subfolder."""
    body = {"directory": directory, "name": "folder", "files": [{"path": "sub/a.bin", "size_bytes": 1}]}
    upload = server.http.post("/v1/uploads", json=body).json()
    server.http.put(upload["missing"][0]["url"], content=b"a").raise_for_status()
    return server.http.post(f"/v1/uploads/{upload['id']}/commit").json()


def files(server, directory):
    place = server.root / directory
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())


def test_a_deleted_checkpoints_bytes_go_and_its_facts_stay(server, directory):
    saved = server.save(directory, epoch=1, metric=0.5)
    answer = delete(server, saved)
    assert (answer.status_code, answer.json()["removed_because"]) == (200, "deleted")
    assert files(server, directory) == [".holdfast/directory.json"]
    assert not (server.root / ".holdfast" / "trash" / saved["id"]).exists()
    assert server.names(directory) == []
    kept = server.http.get(f"/v1/checkpoints/{saved['id']}").json()
    assert kept == answer.json()
    assert (kept["metric"], kept["files"]) == (0.5, saved["files"])
    assert refusal(delete(server, saved)) == (410, "checkpoint_removed")


def test_a_sequence_is_never_given_twice(server, directory):
    saved = server.save(directory, epoch=1)
    delete(server, saved).raise_for_status()
    assert server.save(directory, epoch=1)["sequence"] == 2


def test_a_pinned_checkpoint_is_not_deleted(server, directory):
    saved = server.save(directory, epoch=1, pinned=True)
    assert refusal(delete(server, saved)) == (409, "pinned")
    assert (server.root / directory / saved["name"]).exists()


def test_the_newest_may_be_deleted_by_name_and_the_next_is_latest(server, directory):
    older, newest = server.save(directory, epoch=1), server.save(directory, epoch=2)
    delete(server, newest).raise_for_status()
    assert server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()["id"] == older["id"]


def test_foreign_files_in_a_folder_stay_and_keep_its_name(server, directory):
    saved = folder(server, directory)
    (server.root / directory / "folder" / "notes.txt").write_text("mine")
    delete(server, saved).raise_for_status()
    assert "folder/notes.txt" in files(server, directory)
    assert "folder/sub/a.bin" not in files(server, directory)
    again = {"directory": directory, "name": "folder", "files": [{"path": "b.bin", "size_bytes": 1}]}
    assert refusal(server.http.post("/v1/uploads", json=again)) == (409, "foreign_file")


def test_a_cleared_directory_keeps_what_is_not_its_own(server, directory):
    server.save(directory, epoch=1, max_checkpoints=5)
    pinned = server.save(directory, epoch=2, pinned=True)
    server.save(f"{directory}/sub", epoch=3)
    folder(server, directory)
    (server.root / directory / "notes.txt").write_text("mine")
    cleared = server.http.delete(f"/v1/directories/{directory}").json()
    assert sorted(cleared["removed"]) == ["checkpoint_epoch_0001.pt", "folder"]
    assert cleared["pinned"] == [pinned["name"]]
    assert cleared["freed_bytes"] == 6
    assert server.names(directory) == [pinned["name"]]
    assert server.names(f"{directory}/sub") == ["checkpoint_epoch_0003.pt"]
    assert {"notes.txt", pinned["name"], "sub/checkpoint_epoch_0003.pt"} <= set(files(server, directory))
    assert server.http.get(f"/v1/directories/{directory}").json()["policy"]["max_checkpoints"] == 5
    query = {"include_pinned": True}
    cleared = server.http.delete(f"/v1/directories/{directory}", params=query).json()
    assert (cleared["removed"], cleared["pinned"]) == ([pinned["name"]], [])
    assert server.names(directory) == []


def test_a_directory_that_never_was_cannot_be_cleared(server, directory):
    assert refusal(server.http.delete(f"/v1/directories/{directory}")) == (404, "directory_not_found")


def test_a_dry_run_gives_reasons_and_changes_nothing(server, directory):
    for epoch, metric in enumerate([1, 5, 4, 3, 2]):
        server.save(directory, b"x" * (epoch + 1), epoch=epoch, metric=metric, pinned=epoch == 2)
    put(server, directory, max_checkpoints=1, max_best_checkpoints=1, keep_every_epochs=4)
    before = server.http.get(f"/v1/directories/{directory}").json()
    for _ in range(2):
        answer = prune(server, directory=directory, dry_run=True)
        (found,) = answer["directories"]
        reasons = {v["checkpoint"]["epoch"]: [reason["text"] for reason in v["reasons"]] for v in found["verdicts"]}
        assert reasons == {
            4: ["newest", "last 1 of 1", "every 4 epochs"],
            3: [],
            2: ["pinned"],
            1: [],
            0: ["best 1 of 1", "every 4 epochs"],
        }
        assert [verdict["stays"] for verdict in found["verdicts"]] == [True, False, True, False, True]
        assert (answer["dry_run"], answer["freed_bytes"], found["freed_bytes"]) == (True, 6, 6)
    assert server.http.get(f"/v1/directories/{directory}").json() == before
    assert len(files(server, directory)) == 11
    best = next(v for v in found["verdicts"] if v["checkpoint"]["epoch"] == 0)["reasons"][0]
    assert best == {"code": "best", "place": 1, "limit": 1, "text": "best 1 of 1"}


def test_pruning_removes_what_a_dry_run_announced(server, directory):
    for epoch in range(5):
        server.save(directory, epoch=epoch)
    put(server, directory, max_checkpoints=2)
    announced = prune(server, directory=directory, dry_run=True)
    done = prune(server, directory=directory)
    assert done == {**announced, "dry_run": False}
    assert server.names(directory) == ["checkpoint_epoch_0003.pt", "checkpoint_epoch_0004.pt"]
    assert len(files(server, directory)) == 5
    removed = server.http.get("/v1/checkpoints", params={"directory": directory, "include_removed": True}).json()
    assert [c["removed_because"] for c in removed["checkpoints"]] == ["pruned"] * 3 + [None] * 2
    assert prune(server, directory=directory)["freed_bytes"] == 0


def test_a_limit_of_nothing_keeps_the_newest(server, directory):
    for epoch in range(3):
        server.save(directory, epoch=epoch, metric=epoch, max_checkpoints=0, max_best_checkpoints=0)
    assert server.names(directory) == ["checkpoint_epoch_0002.pt"]


def test_without_a_policy_nothing_is_pruned(server, directory):
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    (found,) = prune(server, directory=directory)["directories"]
    assert all("unlimited" in [reason["code"] for reason in verdict["reasons"]] for verdict in found["verdicts"])
    assert len(server.names(directory)) == 3


def test_a_prefix_prunes_whole_components_below_it(server, directory):
    names = [f"{directory}/a", f"{directory}/a/deep", f"{directory}/ab"]
    for name in names:
        for epoch in range(3):
            server.save(name, b"123", epoch=epoch)
        put(server, name, max_checkpoints=1)
    answer = prune(server, prefix=f"{directory}/a")
    assert [found["directory"] for found in answer["directories"]] == names[:2]
    assert answer["freed_bytes"] == 12
    assert [len(server.names(name)) for name in names] == [1, 1, 3]
    nothing = prune(server, prefix=f"{directory}/none")
    assert (nothing["directories"], nothing["goes"], nothing["freed_bytes"]) == ([], 0, 0)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({}, (422, "invalid_request"), id="neither"),
        pytest.param({"directory": "a", "prefix": "a"}, (422, "invalid_request"), id="both"),
        pytest.param({"prefix": "../a"}, (422, "invalid_name"), id="outside the root"),
        pytest.param({"directory": "never/made"}, (404, "directory_not_found"), id="no directory"),
        pytest.param({"directory": "a", "dryrun": True}, (422, "invalid_request"), id="a misspelt dry_run"),
    ],
)
def test_prune_takes_a_directory_or_a_prefix(server, body, expected):
    assert refusal(server.http.post("/v1/prune", json=body)) == expected
