"""A row of the catalog that cannot be read is left out of lists, and everything else goes on."""

import sqlite3
from contextlib import closing

import pytest

from app.__main__ import main
from tests.support.live import LiveServer, eventually


def spoil(root, checkpoint_id, column, value):
    """Write nonsense into a row."""
    write(root, f"UPDATE checkpoints SET {column} = ? WHERE id = ?", value, checkpoint_id)


def write(root, statement, *values):
    with closing(sqlite3.connect(root / ".holdfast" / "catalog.db")) as database:
        database.execute(statement, values)
        database.commit()


NONSENSE = [
    ("metadata", "{"),
    ("metadata", "[1]"),
    ("tags", "nonsense"),
    ("tags", "[1]"),
    ("created_at", "yesterday"),
    ("epoch", "third"),
    ("kind", "odd"),
    ("metric_text", "much"),
    ("folders", "[1]"),
]


@pytest.mark.parametrize(("column", "value"), NONSENSE)
def test_lists_and_saves_go_on_beside_a_row_that_cannot_be_read(tmp_path, column, value):
    with LiveServer(tmp_path / "root") as live:
        saved = [live.save("runs/a", str(n).encode(), epoch=n, metric=10 - n, max_checkpoints=10) for n in range(1, 4)]
        spoil(live.root, saved[-1]["id"], column, value)  # the latest and the best
        names = [each["name"] for each in saved[:2]]
        assert live.names("runs/a", order_by="position") == names
        assert live.names("runs/a", order_by="best") == names[::-1]
        for which in ("latest", "best"):
            found = live.http.get(f"/v1/checkpoints/{which}", params={"directory": "runs/a"})
            assert (found.status_code, found.json()["name"]) == (200, names[-1])
        (listed,) = live.http.get("/v1/directories").json()["directories"]
        assert listed["latest"]["name"] == names[-1]
        assert live.http.get("/v1/directories/runs/a").status_code == 200
        assert live.http.post("/v1/prune", json={"directory": "runs/a", "dry_run": True}).status_code == 200
        assert live.save("runs/a", b"4", epoch=4, metric=1)["name"] == "checkpoint_epoch_0004.pt"
        assert eventually(lambda: f"({saved[-1]['id']}) cannot be read" in live.log())
        narrow = {"max_checkpoints": 1, "max_best_checkpoints": 1}
        live.http.put("/v1/directories/runs/a", json=narrow).raise_for_status()
        assert live.http.post("/v1/prune", json={"directory": "runs/a"}).status_code == 200
        assert live.names("runs/a") == ["checkpoint_epoch_0004.pt"]
        for page in ("/", "/directories/runs/a", "/storage"):
            assert live.http.get(page, headers={"Accept": "text/html"}).status_code == 200, page


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with LiveServer(tmp_path_factory.mktemp("rows") / "root", scrub_bytes_per_s="0") as live:
        yield live


def spoilt(live, directory, column="metadata", value="{", **options):
    """A checkpoint whose row cannot be read, beside one that can."""
    intact = live.save(directory, b"intact", name="intact.pt", **options)
    saved = live.save(directory, b"bytes", name="odd.pt", **options)
    spoil(live.root, saved["id"], column, value)
    return saved, intact


def ways(checkpoint_id, other):
    at = f"/v1/checkpoints/{checkpoint_id}"
    return [
        ("GET", at),
        ("GET", f"{at}/content"),
        ("HEAD", f"{at}/content"),
        ("GET", f"{at}/files/odd.pt"),
        ("GET", f"{at}/batch?files=0"),
        ("GET", f"{at}/chunks"),
        ("GET", f"{at}/tensors"),
        ("GET", f"{at}/comparison?against={other}"),
        ("GET", f"/v1/checkpoints/{other}/comparison?against={checkpoint_id}"),
        ("PATCH", at),
        ("DELETE", at),
        ("POST", f"{at}/restore"),
        ("POST", f"{at}/links"),
    ]


@pytest.mark.parametrize(("column", "value"), NONSENSE)
def test_what_is_asked_of_a_row_that_cannot_be_read_is_refused_by_a_code(live, directory, column, value):
    saved, intact = spoilt(live, directory, column, value)
    for method, url in ways(saved["id"], intact["id"]):
        answer = live.http.request(method, url, json={"pinned": True} if method == "PATCH" else None)
        assert answer.status_code == 409, (method, url, answer.text)
        if method != "HEAD":
            problem = answer.json()
            assert problem["code"] == "record_unreadable", (method, url)
            assert "`holdfast-server fsck` repairs" in problem["detail"]
            assert f"{directory}/odd.pt" in problem["detail"]
    assert live.log().count(f"({saved['id']}) cannot be read") == 1
    assert "Traceback" not in live.log()


def test_the_page_of_a_checkpoint_whose_row_cannot_be_read_says_so(live, directory):
    saved, intact = spoilt(live, directory)
    place = f"/checkpoints/{saved['id']}"
    for page in (place, f"{place}/comparison?against={intact['id']}"):
        answer = live.http.get(page, headers={"Accept": "text/html"})
        assert (answer.status_code, "cannot be read" in answer.text) == (409, True), page


def test_a_save_in_its_place_may_be_sent_again_and_is_taken_after_fsck(tmp_path):
    root = tmp_path / "root"
    with LiveServer(root, scrub_bytes_per_s="0") as live:
        spoilt(live, "runs/a")
        answer = live.http.post("/v1/checkpoints", params={"directory": "runs/a", "name": "odd.pt"}, content=b"new")
        assert (answer.status_code, answer.json()["code"]) == (503, "disk_failed")
        assert (root / "runs/a/odd.pt").read_bytes() == b"bytes"
        live.stop()
        assert main(["fsck", "--root", str(root)]) == 1
        live.start()
        assert live.save("runs/a", b"new", name="odd.pt")["name"] == "odd.pt"
        assert (root / "runs/a/odd.pt").read_bytes() == b"new"


def test_a_directory_whose_row_cannot_be_read_is_refused_by_a_code_and_the_others_are_listed(tmp_path):
    root = tmp_path / "root"
    with LiveServer(root, scrub_bytes_per_s="0") as live:
        for name in ("runs/a", "runs/b", "runs/c"):
            live.save(name)
        write(root, "UPDATE directories SET operator = '{' WHERE name = 'runs/a'")
        pages = [live.http.get("/v1/directories", params={"page_size": 1}).json()]
        pages.append(live.http.get("/v1/directories", params={"page_token": pages[0]["next_page_token"]}).json())
        assert [each["directory"] for page in pages for each in page["directories"]] == ["runs/b", "runs/c"]
        for url in ("/v1/directories/runs/a", "/v1/checkpoints/latest?directory=runs/a"):
            answer = live.http.get(url)
            assert (answer.status_code, answer.json()["code"]) == (503, "disk_failed")
            assert "`holdfast-server fsck` repairs it" in answer.json()["detail"]
        live.stop()
        assert main(["fsck", "--root", str(root)]) == 1
        live.start()
        assert live.http.get("/v1/directories/runs/a").json()["count"] == 1


@pytest.mark.parametrize("body", ["{", "{}", "[1]"])
def test_an_upload_whose_row_cannot_be_read_is_refused_by_a_code(live, directory, body):
    save = {"directory": directory, "save_id": "save-of-a-test", "files": [{"size_bytes": 1}]}
    upload = live.http.post("/v1/uploads", json=save).json()
    write(live.root, "UPDATE uploads SET body = ? WHERE id = ?", body, upload["id"])
    at = f"/v1/uploads/{upload['id']}"
    for method, url in (("GET", at), ("POST", f"{at}/commit"), ("DELETE", at), ("POST", "/v1/uploads")):
        answer = live.http.request(method, url, json=save if url == "/v1/uploads" else None)
        assert (answer.status_code, answer.json()["code"]) == (503, "disk_failed"), (method, url)
        assert upload["id"] in answer.json()["detail"]
    assert f"upload {upload['id']} cannot be read" in live.log()
    assert "Traceback" not in live.log()
    live.http.post("/v1/uploads", json=save | {"save_id": "another-save"}).raise_for_status()
    assert live.http.get("/storage", headers={"Accept": "text/html"}).status_code == 200
