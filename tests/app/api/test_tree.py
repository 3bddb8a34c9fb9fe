"""The tree: directories, checkpoints and files as one namespace, one level at a time."""

import pytest

from tests.app.api.test_content import folder, refusal
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint


def level(server, path, headers=None, **query):
    answer = server.http.get("/v1/tree", params={"path": path, **query}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def listed(server, path, headers=None, **query):
    """Names and types of all entries, page by page."""
    found, page = [], level(server, path, headers, **query)
    while True:
        found += [(entry["name"], entry["type"]) for entry in page["entries"]]
        if page["next_page_token"] is None:
            return found
        page = level(server, path, headers, **query, page_token=page["next_page_token"])


def unknown(server, path, headers=None):
    answer = server.http.get("/v1/tree", params={"path": path}, headers=headers)
    return refusal(answer) == (404, "path_not_found") and answer.json()["path"] == path


@pytest.fixture
def filled(server, directory):
    """A directory with a file, a folder checkpoint, and directories below it."""
    server.save(directory, b"12345", name="model.pt", metric=2)
    contents = {"config.json": b"{}", "shards/1.bin": b"1", "shards/deep/2.bin": b"22", ".metadata": b"m"}
    folder(server, directory, contents, name="step-1", metric=1)
    server.save(f"{directory}/below/further", b"1", name="a.pt")
    server.save(f"{directory}/below-2", b"1", name="a.pt")
    return directory


def test_a_directory_lists_what_is_in_it_by_name(server, filled):
    expected = [("below", "directory"), ("below-2", "directory"), ("model.pt", "file"), ("step-1", "checkpoint")]
    assert listed(server, filled) == expected
    assert listed(server, filled, page_size=1) == expected
    assert listed(server, f"{filled}/below") == [("further", "directory")]
    assert listed(server, f"{filled}/below/further") == [("a.pt", "file")]
    assert (filled.split("/")[0], "directory") in listed(server, "")
    assert level(server, "")["type"] == "directory"
    assert level(server, "")["path"] == level(server, "")["name"] == ""


def test_a_file_is_described_as_its_download_is(server, filled):
    for path, data in (("model.pt", b"12345"), ("step-1/shards/1.bin", b"1"), ("step-1/.metadata", b"m")):
        found = level(server, f"{filled}/{path}")
        download = server.http.get(found["url"])
        assert (found["type"], found["size_bytes"], found["entries"]) == ("file", len(data), [])
        assert (download.content, download.headers["etag"]) == (data, found["etag"])
        assert (found["path"], found["name"]) == (f"{filled}/{path}", path.rpartition("/")[2])
        assert found["checkpoint_id"] == download.headers["x-checkpoint-id"]
        assert found["etag"] == f'"{found["digest"]}"'
        assert found["created_at"] == server.http.get(f"/v1/checkpoints/{found['checkpoint_id']}").json()["created_at"]


def test_a_folder_checkpoint_is_listed_level_by_level(server, filled):
    path = f"{filled}/step-1"
    found = level(server, path)
    saved = server.http.get(f"/v1/checkpoints/{found['checkpoint_id']}").json()
    assert (found["type"], found["size_bytes"], found["digest"]) == ("checkpoint", 6, saved["digest"])
    assert (found["etag"], found["url"]) == (None, None)
    assert listed(server, path) == [(".metadata", "file"), ("config.json", "file"), ("shards", "folder")]
    assert listed(server, path, page_size=1) == listed(server, path)
    assert level(server, f"{path}/shards")["type"] == "folder"
    assert listed(server, f"{path}/shards") == [("1.bin", "file"), ("deep", "folder")]
    assert level(server, f"{path}/shards")["entries"][0] == {
        name: value
        for name, value in level(server, f"{path}/shards/1.bin").items()
        if name not in {"entries", "next_page_token"}
    }


def test_empty_folders_that_were_declared_are_there(server, directory):
    body = {"directory": directory, "name": "step", "folders": [{}, {"path": "a"}, {"path": "empty/inner"}]}
    body["files"] = [{"path": "a/f", "size_bytes": 0}, {"path": "g", "size_bytes": 0}]
    upload = server.http.post("/v1/uploads", json=body).json()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    expected = [("a", "folder"), ("empty", "folder"), ("g", "file")]
    assert listed(server, f"{directory}/step") == listed(server, f"{directory}/step", page_size=1) == expected
    assert listed(server, f"{directory}/step/empty") == [("inner", "folder")]
    assert listed(server, f"{directory}/step/empty/inner") == []


def test_best_and_latest_stand_for_names(server, directory):
    server.save(directory, b"best", name="a.pt", metric=1)
    folder(server, directory, {"f.bin": b"f", "g.bin": b"g"}, name="b", metric=2)
    best, latest = level(server, f"{directory}/@best"), level(server, f"{directory}/@latest")
    assert (best["path"], best["type"]) == (f"{directory}/a.pt", "file")
    assert (latest["path"], latest["type"]) == (f"{directory}/b", "checkpoint")
    assert level(server, f"{directory}/@latest/f.bin")["path"] == f"{directory}/b/f.bin"
    assert "@best" not in [name for name, _ in listed(server, directory)]
    assert unknown(server, f"{directory}/@best/f.bin")
    assert unknown(server, f"{directory}/@newest")


def test_a_directory_of_that_name_comes_before_an_alias_further_down_too(server, directory):
    server.save(f"{directory}/@latest/dd", b"3", name="z.pt")
    folder = {"directory": directory, "name": "run", "files": [{"path": "dd/@latest", "size_bytes": 0}]}
    upload = server.http.post("/v1/uploads", json=folder).json()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    for alias in ("@latest", "@best"):
        server.save(f"{directory}/{alias}/dd", b"3", name="z.pt", metric=1)
        for inner in ("@latest", "@best"):
            path = f"{directory}/{alias}/dd"
            assert level(server, f"{path}/{inner}")["path"] == f"{path}/z.pt"


def test_an_entry_of_that_name_comes_before_an_alias(server, directory):
    server.save(directory, b"1", name="@best", metric=2)
    server.save(directory, b"2", name="a.pt", metric=1)
    server.save(f"{directory}/@latest", b"3", name="b.pt")
    assert level(server, f"{directory}/@best")["name"] == "@best"
    assert listed(server, f"{directory}/@latest") == [("b.pt", "file")]


def test_without_a_ranked_checkpoint_there_is_no_best(server, directory):
    server.save(directory, b"1", name="a.pt")
    assert refusal(server.http.get("/v1/tree", params={"path": f"{directory}/@best"})) == (404, "no_best")
    assert level(server, f"{directory}/@latest")["name"] == "a.pt"


def test_a_page_of_another_checkpoint_does_not_go_on(server, directory):
    folder(server, directory, {"a": b"a", "b": b"b"}, name="one")
    token = level(server, f"{directory}/@latest", page_size=1)["next_page_token"]
    folder(server, directory, {"a": b"c", "b": b"d"}, name="two")
    query = {"path": f"{directory}/@latest", "page_token": token}
    assert refusal(server.http.get("/v1/tree", params=query)) == (422, "invalid_request")
    assert refusal(server.http.get("/v1/tree", params={**query, "path": directory})) == (422, "invalid_request")


@pytest.mark.parametrize("path", ["nothing", "model.pt/f", "step-1/nothing", "step-1/config.json/f", "belo", "@best"])
def test_where_nothing_is_is_told(server, filled, path):
    assert unknown(server, path if path == "@best" else f"{filled}/{path}")


@pytest.mark.parametrize(
    "path", ["/runs", "runs/", "a//b", "..", "a/../b", ".holdfast", "a\0b", "x" * 201, "x/" * 1130]
)
def test_paths_outside_the_grammar_are_refused(server, path):
    assert refusal(server.http.get("/v1/tree", params={"path": path})) == (422, "invalid_name")


def test_a_directory_goes_with_its_last_checkpoint_and_comes_back_with_it(make_server):
    live = make_server(undo_window="1h")
    saved, kept = live.save("runs/a/b"), live.save("runs/c")
    live.http.put("/v1/directories/runs/d", json={"max_checkpoints": 3}).raise_for_status()
    assert listed(live, "runs") == [("a", "directory"), ("c", "directory")]
    live.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert listed(live, "runs") == [("c", "directory")]
    assert unknown(live, "runs/a")
    assert unknown(live, "runs/a/b/@latest")
    live.http.delete(f"/v1/checkpoints/{kept['id']}").raise_for_status()
    assert listed(live, "") == []
    directories = live.http.get("/v1/directories").json()["directories"]  # where they are managed, they stay
    assert [(one["directory"], one["count"]) for one in directories] == [("runs/a/b", 0), ("runs/c", 0), ("runs/d", 0)]
    live.http.post(f"/v1/checkpoints/{saved['id']}/restore").raise_for_status()
    assert listed(live, "") == [("runs", "directory")]


def test_times_of_a_directory_are_those_of_its_saves(server, directory):
    first = server.save(directory, b"1", name="a.pt")
    last = server.save(directory, b"2", name="b.pt")
    found = level(server, directory)
    assert found["created_at"] <= first["created_at"] < last["created_at"]
    assert first["created_at"] < found["modified_at"]
    parent, _, name = directory.rpartition("/")
    if parent:
        (entry,) = [entry for entry in level(server, parent, page_size=1000)["entries"] if entry["name"] == name]
        assert (entry["created_at"], entry["modified_at"]) == (found["created_at"], found["modified_at"])


# tokens


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("guarded") / "root") as live:
        admin = bearer(mint(live.root, "admin"))
        for directory in ("team", "team/a", "team/a/runs", "team/ab", "team/b/c", "other"):
            query = {"directory": directory, "name": "c.pt", "metric": 1}
            live.http.post("/v1/checkpoints", params=query, content=b"x", headers=admin).raise_for_status()
        yield live


def test_a_token_sees_what_is_within_its_prefix_and_the_way_there(guarded):
    reader = bearer(mint(guarded.root, "read", prefix="team/a"))
    assert listed(guarded, "", reader) == [("team", "directory")]
    assert listed(guarded, "team", reader) == [("a", "directory")]
    assert listed(guarded, "team/a", reader) == [("c.pt", "file"), ("runs", "directory")]
    assert level(guarded, "team/a/@best", reader)["name"] == "c.pt"


def test_nothing_is_told_of_what_lies_beside_the_way(guarded):
    reader = bearer(mint(guarded.root, "read", prefix="team/a"))
    for path in ("", "team"):
        found = level(guarded, path, reader)
        for told in [found, *(entry for entry in found["entries"] if entry["path"] != "team/a")]:
            assert {told[name] for name in ("created_at", "modified_at", "size_bytes", "checkpoint_id")} == {None}
    for path in ("team/ab", "team/b", "team/c.pt", "team/@best", "team/@latest", "other", "other/c.pt", "@best"):
        assert unknown(guarded, path, reader)


def test_a_prefix_without_checkpoints_leads_nowhere(guarded):
    reader = bearer(mint(guarded.root, "read", prefix="team/nothing/there"))
    assert listed(guarded, "", reader) == []
    for path in ("team", "team/nothing", "team/nothing/there"):
        assert unknown(guarded, path, reader)
