"""Small saves: facts and bytes in one request."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from app.core import digests
from tests.app.api.test_uploads import chunks, refusal

DATA = bytes(range(256)) * 40
KIND = "application/vnd.holdfast.save"


@pytest.fixture
def known(server, directory):
    """A directory that the server knows, so that a new name in it is committed at once."""
    server.save(directory, b"before", name="before.pt")
    return directory


def post(server, directory, *contents, headers=None, **facts):
    contents = contents or (DATA,)
    files = [{"size_bytes": len(data)} for data in contents]
    line = json.dumps({"directory": directory, "files": files, **facts}).encode()
    return post_body(server, line + b"\n" + b"".join(contents), headers)


def post_body(server, body, headers=None):
    return server.http.post("/v1/saves", content=body, headers={"Content-Type": KIND, **(headers or {})})


def listed(server, directory):
    found = server.http.get("/v1/checkpoints", params={"directory": directory, "order_by": "position"})
    return [row["name"] for row in found.json()["checkpoints"]]


def incoming(server):
    return {path.name for path in (server.root / ".holdfast" / "incoming").iterdir()}


def bytes_of(server, directory, name):
    return (server.root / directory / name).read_bytes()


@pytest.mark.parametrize("place", ["a new directory", "a known directory"])
def test_a_save_is_one_request_and_the_file_is_plain(server, directory, place):
    if place == "a known directory":
        server.save(directory, b"before", name="before.pt")
    facts = {"name": "a.pt", "epoch": 3, "metric": 0.5, "tags": ["one"], "metadata": {"lr": 0.1}, "pinned": True}
    answer = post(server, directory, **facts, save_id="it-is-the-first")
    assert answer.status_code == 201, answer.text
    saved = answer.json()
    assert facts.items() <= saved.items()
    assert (saved["size_bytes"], saved["save_id"]) == (len(DATA), "it-is-the-first")
    assert bytes_of(server, directory, "a.pt") == DATA
    assert server.http.get(f"/v1/checkpoints/{saved['id']}").json().items() <= saved.items()
    assert not (server.root / ".holdfast" / "incoming" / saved["id"]).exists()


def test_it_has_the_digest_and_the_manifest_of_the_same_save_in_three_requests(server, known):
    one = post(server, known, name="one.pt", files=[{"size_bytes": len(DATA), "chunks": chunks(DATA)}]).json()
    other = server.save(known, DATA, name="other.pt")
    file = server.http.get(f"/v1/checkpoints/{one['id']}/chunks").json()["files"][0]
    assert [chunk["digest"] for chunk in file["chunks"]] == [chunk["digest"] for chunk in chunks(DATA)]
    records = server.root / known / ".holdfast"
    ours, theirs = (json.loads((records / f"{name}.pt.json").read_bytes()) for name in ("one", "other"))
    assert ours.keys() == theirs.keys()
    assert other["sequence"] == one["sequence"] + 1


def test_files_of_a_folder_come_one_after_another(server, known):
    contents = {"weights/a.pt": b"a" * 100, "config.json": b"{}", "empty": b""}
    files = [{"path": path, "size_bytes": len(data)} for path, data in contents.items()]
    saved = post(server, known, *contents.values(), name="step-1", files=files)
    assert saved.status_code == 201, saved.text
    for path, data in contents.items():
        assert bytes_of(server, known, f"step-1/{path}") == data


def test_the_server_finds_the_tensors_that_are_not_declared(server, known, manager_state):
    saved = post(server, known, manager_state, name="a.pt").json()
    tensors = server.http.get(f"/v1/checkpoints/{saved['id']}/tensors").json()["files"][0]["tensors"]
    assert [(tensor["name"], tensor["shape"]) for tensor in tensors] == [("weight", [3, 2])]


@pytest.fixture
def manager_state(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(3, 2)}, tmp_path / "a.pt")
    return (tmp_path / "a.pt").read_bytes()


def test_a_repeated_save_answers_with_the_same_checkpoint(server, known):
    facts = {"name": "a.pt", "save_id": "once-and-again"}
    first, again = post(server, known, **facts), post(server, known, **facts)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json()["id"] == again.json()["id"]
    assert listed(server, known) == ["before.pt", "a.pt"]
    other = post(server, known, b"other content", **facts)
    assert refusal(other) == (422, "save_id_reused")
    reserved = server.http.post(
        "/v1/uploads", json={"directory": known, **facts, "files": [{"size_bytes": len(DATA)}]}
    ).json()
    assert (reserved["state"], reserved["id"]) == ("committed", first.json()["id"])


def test_it_ends_the_upload_that_the_same_save_began(server, known):
    facts = {"name": "a.pt", "save_id": "begun-before"}
    begun = server.http.post(
        "/v1/uploads", json={"directory": known, **facts, "files": [{"size_bytes": len(DATA), "chunks": chunks(DATA)}]}
    ).json()
    saved = post(server, known, **facts, files=[{"size_bytes": len(DATA), "chunks": chunks(DATA)}])
    assert (saved.status_code, saved.json()["id"]) == (201, begun["id"])
    assert bytes_of(server, known, "a.pt") == DATA


def test_a_repeat_that_is_refused_leaves_no_upload_behind(server, known):
    facts = {"name": "a.pt", "save_id": "begun-before", "files": [{"size_bytes": len(DATA), "chunks": chunks(DATA)}]}
    begun = server.http.post("/v1/uploads", json={"directory": known, **facts}).json()
    post(server, known, b"newer", name="a.pt", save_id="came-between")
    assert refusal(post(server, known, **facts)) == (409, "superseded")
    assert refusal(server.http.get(f"/v1/uploads/{begun['id']}")) == (404, "upload_not_found")
    assert begun["id"] not in incoming(server)


def test_names_that_the_client_leaves_out_are_chosen(server, known):
    saved = post(server, known, epoch=7)
    assert saved.status_code == 201, saved.text
    assert saved.json()["name"] == "checkpoint_epoch_0007.pt"


def test_a_name_that_is_taken_is_replaced(server, known):
    assert post(server, known, b"first", name="a.pt").status_code == 201
    second = post(server, known, b"second", name="a.pt")
    assert second.status_code == 201, second.text
    assert second.json()["removed"] == ["a.pt"]
    assert bytes_of(server, known, "a.pt") == b"second"
    assert listed(server, known) == ["before.pt", "a.pt"]


def test_the_policy_prunes(server, known):
    for epoch in range(4):
        answer = post(server, known, epoch=epoch, policy={"max_checkpoints": 2, "max_best_checkpoints": 0})
        assert answer.status_code == 201, answer.text
    assert listed(server, known) == ["checkpoint_epoch_0002.pt", "checkpoint_epoch_0003.pt"]
    assert post(server, known, epoch=4, policy={"max_checkpoints": None}).json()["policy"]["max_checkpoints"] is None


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"name": "before.pt/a.pt"}, (422, "invalid_name")),
        ({"name": "../a.pt"}, (422, "invalid_name")),
        ({"files": [{"path": "../a.pt", "size_bytes": len(DATA)}]}, (422, "invalid_name")),
        ({"files": [{"path": "/etc/a", "size_bytes": len(DATA)}]}, (422, "invalid_name")),
        ({"only_if_improved": True, "metric": None}, (409, "not_improved")),
        ({"surprise": 1}, (422, "invalid_request")),
        ({"files": []}, (422, "invalid_request")),
        ({"files": [{"size_bytes": len(DATA) + 1}]}, (422, "wrong_length")),
        ({"files": [{"size_bytes": len(DATA) - 1}]}, (422, "wrong_length")),
        ({"files": [{"size_bytes": len(DATA), "chunks": chunks(DATA[::-1])}]}, (422, "digest_mismatch")),
        ({"headers": {"If-None-Match": "*"}, "name": "before.pt"}, (412, "precondition_failed")),
        ({"headers": {"If-Match": "*"}, "name": "new.pt"}, (412, "precondition_failed")),
        ({"headers": {"If-Match": "no tag"}}, (422, "invalid_request")),
        ({"headers": {"Content-Digest": digests.of_message(b"other")}}, (400, "body_altered")),
        ({"headers": {"Content-Type": "application/json"}}, (415, "unsupported_media_type")),
    ],
    ids=str,
)
def test_what_is_refused_leaves_nothing(server, known, facts, expected):
    before = incoming(server)
    answer = post(server, known, **facts)
    assert refusal(answer) == expected, answer.text
    assert listed(server, known) == ["before.pt"]
    assert incoming(server) <= before


@pytest.mark.parametrize("body", [b"", b"{}", b"not json\n", b"[]\n", b'{"directory": "a"\n', b"\n" + DATA, b"\xff\n"])
def test_a_body_that_is_not_a_line_of_json_and_bytes_is_refused(server, body):
    answer = post_body(server, body)
    assert refusal(answer) == (422, "invalid_request")
    assert "application/json" not in answer.json()["detail"]  # its type is right


@pytest.mark.parametrize("where", ["../runs", "/etc", "runs/.holdfast", "a/../../b", ""])
def test_no_name_of_a_directory_leads_out_of_the_root(server, where):
    assert refusal(post(server, where, name="a.pt"))[0] == 422


def test_a_large_body_is_refused(server, known):
    answer = post(server, known, b"\0" * (2 * 2**20 + 1))
    assert refusal(answer) == (413, "too_large")
    assert listed(server, known) == ["before.pt"]
    assert post(server, known, b"\0" * (2 * 2**20), name="largest.pt").status_code == 201


def test_a_foreign_file_in_the_way_stays(server, known):
    (server.root / known / "mine.pt").write_bytes(b"the user's own")
    assert refusal(post(server, known, name="mine.pt")) == (409, "foreign_file")
    assert bytes_of(server, known, "mine.pt") == b"the user's own"


def test_a_quota_is_kept(make_server):
    live = make_server(quotas=json.dumps({"runs": {"max_checkpoints": 2}}))
    live.save("runs/a", b"before", name="before.pt")
    assert post(live, "runs/a", name="a.pt").status_code == 201
    assert refusal(post(live, "runs/a", name="b.pt")) == (507, "quota_exceeded")


def test_concurrent_saves_of_one_directory_are_all_kept_in_an_order(server, known):
    with ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(lambda number: post(server, known, DATA, name=f"{number}.pt"), range(40))]
    assert {answer.status_code for answer in answers} == {201}
    places = {(answer.json()["saved_after"], answer.json()["sequence"]) for answer in answers}
    assert len(places) == 40
    assert sorted(listed(server, known)[1:]) == sorted(f"{number}.pt" for number in range(40))


def test_a_save_that_fails_after_its_seal_is_finished_by_the_next(make_server):
    live = make_server()
    live.save("runs/a", b"before", name="before.pt")
    with closing(sqlite3.connect(live.root / ".holdfast" / "catalog.db")) as database:
        database.execute("CREATE TRIGGER no_row BEFORE INSERT ON checkpoints BEGIN SELECT RAISE(ABORT, 'no row'); END")
        database.commit()
        assert post(live, "runs/a", name="a.pt", save_id="it-fails-once").status_code == 500
        database.execute("DROP TRIGGER no_row")
        database.commit()
    again = post(live, "runs/a", name="a.pt", save_id="it-fails-once")
    assert (again.status_code, listed(live, "runs/a")) == (200, ["before.pt", "a.pt"])
    assert not incoming(live)


def test_a_folder_and_a_directory_of_the_same_path_do_not_both_come_into_being(server, known):
    for number in range(20):
        files = [{"path": path, "size_bytes": 1} for path in ("a", "b")]
        facts = {"name": f"y{number}", "save_id": f"save-of-{number}", "files": files}
        query = {"directory": f"{known}/y{number}", "name": "c.pt"}
        with ThreadPoolExecutor() as threads:
            folder = threads.submit(post, server, known, b"1", b"2", **facts)
            inside = threads.submit(server.http.post, "/v1/checkpoints", params=query, content=b"3")
            answers = [folder.result(), inside.result()]
        refused = [answer.json()["code"] for answer in answers if answer.status_code != 201]
        assert len(refused) == 1, [answer.text for answer in answers]
        assert refused[0] in {"name_taken", "foreign_file"}


def test_a_save_takes_the_place_of_an_upload_that_was_begun_without_digests(server, known):
    files = [{"size_bytes": len(DATA)}]
    body = {"directory": known, "name": "a.pt", "save_id": "begun-before", "files": files}
    upload = server.http.post("/v1/uploads", json=body).raise_for_status().json()
    later = server.save(known, b"later", name="later.pt")
    other = post(server, known, DATA[1:], name="a.pt", save_id="begun-before")
    assert refusal(other) == (422, "save_id_reused")
    saved = post(server, known, name="a.pt", save_id="begun-before")
    assert saved.status_code == 201, saved.text
    assert saved.json()["saved_after"] == upload["saved_after"] < later["sequence"]
    assert bytes_of(server, known, "a.pt") == DATA
    assert refusal(server.http.get(f"/v1/uploads/{upload['id']}")) == (404, "upload_not_found")


def test_minus_zero_is_zero_everywhere(own_server):
    """SQLite keeps no sign of zero, and the manifest must say what the catalog says."""
    saved = post(own_server, "runs/a", name="a.pt", metric=-0.0).json()
    own_server.save("runs/a", b"other", name="b.pt", metric=-0.0)
    listed = own_server.http.get("/v1/checkpoints", params={"directory": "runs/a"}).json()["checkpoints"]
    records = (own_server.root / "runs/a/.holdfast").glob("*.pt.json")
    found = [saved["metric"], *(row["metric"] for row in listed)]
    found += [json.loads(record.read_bytes())["checkpoint"]["facts"]["metric"] for record in records]
    assert [str(metric) for metric in found] == ["0.0"] * 5
