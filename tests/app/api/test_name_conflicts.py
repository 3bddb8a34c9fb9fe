"""Name conflicts: with a directory, a checkpoint, a reservation or a foreign file."""

import pytest


def refusal(answer):
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]


def save(server, directory, **query):
    return server.http.post("/v1/checkpoints", params={"directory": directory, **query}, content=b"bytes")


def reserve(server, directory, **more):
    body = {"directory": directory, "files": [{"size_bytes": 5}], **more}
    return server.http.post("/v1/uploads", json=body)


def put(server, directory):
    return server.http.put(f"/v1/directories/{directory}", json={"mode": "min"})


@pytest.mark.parametrize("below", ["a", "a/deeper"])
@pytest.mark.parametrize("promised", [False, True], ids=["saved", "only promised"])
def test_a_checkpoint_does_not_take_a_directorys_name(server, directory, below, promised):
    if promised:
        assert reserve(server, f"{directory}/{below}").status_code == 201
    else:
        server.save(f"{directory}/{below}")
    assert refusal(save(server, directory, name="a")) == (409, "name_taken")
    assert refusal(reserve(server, directory, name="a")) == (409, "name_taken")
    assert save(server, directory, name="ab").status_code == 201


@pytest.mark.parametrize("promised", [False, True], ids=["saved", "only promised"])
@pytest.mark.parametrize("below", ["a", "a/deeper/still"])
def test_a_directory_does_not_pass_through_a_checkpoint(server, directory, below, promised):
    if promised:
        assert reserve(server, directory, name="a").status_code == 201
    else:
        server.save(directory, name="a")
    assert refusal(save(server, f"{directory}/{below}")) == (409, "name_taken")
    assert refusal(reserve(server, f"{directory}/{below}")) == (409, "name_taken")
    assert refusal(put(server, f"{directory}/{below}")) == (409, "name_taken")
    assert not (server.root / directory / "a" / ".holdfast").exists()


def test_a_folder_checkpoint_takes_its_name_too(server, directory):
    files = [{"path": "b/c.bin", "size_bytes": 0}]
    upload = reserve(server, directory, name="a", files=files).json()
    server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    assert refusal(save(server, f"{directory}/a/b")) == (409, "name_taken")


def test_a_name_is_free_again_once_its_owner_is_gone(server, directory):
    saved = server.save(directory, name="a")
    server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
    assert server.save(f"{directory}/a", epoch=1)["sequence"] == 1
    upload = reserve(server, directory, name="b").json()
    server.http.delete(f"/v1/uploads/{upload['id']}").raise_for_status()
    assert server.save(f"{directory}/b", epoch=1)["sequence"] == 1


def test_of_two_promises_of_one_name_the_later_stands_whichever_is_kept_first(server, directory):
    uploads = [reserve(server, directory, name="a.pt").json() for _ in range(2)]
    for number, upload in enumerate(uploads):
        server.http.put(upload["missing"][0]["url"], content=b"%d----" % number).raise_for_status()
    earlier, later = (f"/v1/uploads/{upload['id']}/commit" for upload in uploads)
    assert server.http.post(later).status_code == 201
    assert refusal(server.http.post(earlier)) == (409, "superseded")
    assert (server.root / directory / "a.pt").read_bytes() == b"1----"
    assert server.names(directory, include_removed=True) == ["a.pt"]


def test_two_promises_of_one_name_that_are_kept_in_their_order_replace_each_other(server, directory):
    for number, upload in enumerate([reserve(server, directory, name="a.pt").json() for _ in range(2)]):
        server.http.put(upload["missing"][0]["url"], content=b"%d----" % number).raise_for_status()
        server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    assert (server.root / directory / "a.pt").read_bytes() == b"1----"
    assert server.names(directory, include_removed=True) == ["a.pt", "a.pt"]


@pytest.mark.parametrize(
    "foreign",
    [
        pytest.param(lambda path: path.write_text("mine"), id="a file"),
        pytest.param(lambda path: path.mkdir(), id="a folder"),
        pytest.param(lambda path: path.symlink_to("/etc/passwd"), id="a link"),
        pytest.param(lambda path: path.symlink_to("nowhere"), id="a link to nothing"),
    ],
)
def test_a_foreign_file_is_not_overwritten(server, directory, foreign):
    server.save(directory, epoch=1)
    path = server.root / directory / "model.pt"
    foreign(path)
    before = path.lstat()
    assert refusal(save(server, directory, name="model.pt")) == (409, "foreign_file")
    assert refusal(reserve(server, directory, name="model.pt")) == (409, "foreign_file")
    assert (path.lstat().st_ino, path.lstat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]


def test_a_file_that_appears_before_the_commit_is_not_overwritten(server, directory):
    upload = reserve(server, directory, name="model.pt").json()
    server.http.put(upload["missing"][0]["url"], content=b"bytes").raise_for_status()
    path = server.root / directory / "model.pt"
    path.write_text("mine")
    commit = f"/v1/uploads/{upload['id']}/commit"
    assert refusal(server.http.post(commit)) == (409, "foreign_file")
    assert path.read_text() == "mine"
    path.unlink()
    assert server.http.post(commit).status_code == 201
    assert path.read_bytes() == b"bytes"


@pytest.mark.parametrize(
    "in_the_way",
    [
        pytest.param(lambda path: path.write_text("mine"), id="a file"),
        pytest.param(lambda path: path.symlink_to("/tmp"), id="a link"),
    ],
)
def test_a_directory_does_not_lead_through_a_foreign_file(server, directory, in_the_way):
    server.save(directory, epoch=1)
    in_the_way(server.root / directory / "sub")
    for below in ("sub", "sub/deeper"):
        assert refusal(save(server, f"{directory}/{below}")) == (409, "foreign_file")
        assert refusal(put(server, f"{directory}/{below}")) == (409, "name_taken")
        assert server.http.get(f"/v1/directories/{directory}/{below}").status_code == 404


def test_our_own_file_that_was_deleted_by_hand_can_be_saved_again(server, directory):
    first = server.save(directory, epoch=1)
    (server.root / directory / first["name"]).unlink()
    again = server.save(directory, epoch=1)
    assert again["id"] != first["id"]
    assert (server.root / directory / first["name"]).read_bytes() == b"bytes"
    assert server.names(directory) == [first["name"]]


def test_our_own_file_that_was_edited_can_be_saved_again(server, directory):
    first = server.save(directory, epoch=1)
    (server.root / directory / first["name"]).write_bytes(b"BYTES")
    again = server.save(directory, epoch=1)
    content = server.http.get(f"/v1/checkpoints/{again['id']}/content")
    assert (content.status_code, content.content) == (200, b"bytes")


@pytest.mark.parametrize("same_content", [False, True], ids=["other content", "the same content"])
def test_a_late_delivery_does_not_replace_a_newer_checkpoint_of_its_name(server, directory, same_content):
    server.save(directory, b"first", name="a.pt")
    newer = server.save(directory, b"bytes" if same_content else b"newer", name="a.pt", metric=0.5)
    assert refusal(save(server, directory, name="a.pt", saved_after=0)) == (409, "superseded")
    late = reserve(server, directory, name="a.pt", saved_after=0)
    assert refusal(late) == (409, "superseded")
    assert late.json()["checkpoint_id"] == newer["id"]
    found = server.http.get(f"/v1/checkpoints/{newer['id']}").json()
    assert (found["metric"], found["sequence"], found["removed_at"]) == (0.5, newer["sequence"], None)


def test_a_late_delivery_that_was_overtaken_while_it_was_sent_replaces_nothing(server, directory):
    server.save(directory, b"first", name="a.pt")
    upload = reserve(server, directory, name="a.pt", saved_after=1).json()
    server.http.put(upload["missing"][0]["url"], content=b"bytes").raise_for_status()
    server.save(directory, b"of another", name="b.pt")
    newer = server.save(directory, b"newer", name="a.pt")
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit")
    assert refusal(answer) == (409, "superseded")
    assert server.http.get(f"/v1/checkpoints/{newer['id']}/content").content == b"newer"


def test_a_late_delivery_replaces_what_its_writer_knew(server, directory):
    server.save(directory, b"first", name="a.pt")
    server.save(directory, b"of another", name="b.pt")
    assert save(server, directory, name="a.pt", saved_after=1).status_code == 201


def test_a_late_delivery_sets_limits_only_where_nothing_is_newer(server, directory):
    server.save(directory, name="a.pt", max_checkpoints=5)
    server.save(directory, name="b.pt", max_checkpoints=4)
    late = server.save(directory, name="c.pt", max_checkpoints=1, max_best_checkpoints=7, saved_after=0)
    assert (late["policy"]["max_checkpoints"], late["policy"]["max_best_checkpoints"]) == (4, None)
    on_time = server.save(directory, name="d.pt", max_checkpoints=3, saved_after=2)
    assert on_time["policy"]["max_checkpoints"] == 3
