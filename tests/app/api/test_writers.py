"""Several writers of one directory: each learns of the other."""


def test_two_writers_of_one_directory_find_out(server, directory):
    assert server.save(directory, epoch=1, writer="a@host")["other_writer"] is None
    assert server.save(directory, epoch=2, writer="a@host")["other_writer"] is None
    assert server.save(directory, epoch=3, writer="b@host")["other_writer"] == "a@host"
    assert server.save(directory, epoch=4, writer="a@host")["other_writer"] == "b@host"


def test_a_writer_of_long_ago_is_no_other_writer(make_server):
    live = make_server(writer_window_s="0")
    live.save("runs/a", epoch=1, writer="a@host")
    assert live.save("runs/a", epoch=2, writer="b@host")["other_writer"] is None


def test_a_checkpoint_of_another_writer_that_is_replaced_is_named(server, directory):
    first = server.save(directory, b"one", name="a.pt", writer="a@host")
    assert first["replaced"] is None
    assert server.save(directory, b"two", name="a.pt", writer="a@host")["replaced"] is None
    second = server.http.get("/v1/checkpoints/latest", params={"directory": directory}).json()
    assert server.save(directory, b"two", name="a.pt", writer="b@host")["replaced"] is None  # no save was lost
    third = server.save(directory, b"three", name="a.pt", writer="c@host")["replaced"]
    assert third == {key: second[key] for key in ("id", "name", "created_at")} | {"writer": "b@host", "sequence": 3}
    assert server.save(directory, b"four", name="b.pt", writer="d@host")["replaced"] is None
    assert server.save(directory, b"five", name="a.pt")["replaced"]["writer"] == "c@host"
    assert server.save(directory, b"six", name="a.pt", writer="e@host")["replaced"]["writer"] is None
    assert server.save(directory, b"seven", name="a.pt", writer="f@host")["replaced"]["writer"] == "e@host"


def test_a_checkpoint_of_long_ago_is_replaced_without_a_word_unless_the_save_began_before(make_server):
    live = make_server(writer_window_s="0")
    live.save("runs/a", b"one", name="a.pt", writer="a@host")
    body = {"directory": "runs/a", "name": "a.pt", "files": [{"size_bytes": 3}]}
    uploads = [live.http.post("/v1/uploads", json={**body, "writer": writer}).json() for writer in ("b@host", "c@host")]
    replaced = []
    for upload, data in zip(uploads, (b"two", b"red"), strict=True):
        live.http.put(upload["missing"][0]["url"], content=data).raise_for_status()
        replaced.append(live.http.post(f"/v1/uploads/{upload['id']}/commit").json()["replaced"])
    assert replaced[0] is None
    assert replaced[1]["writer"] == "b@host"


def test_the_writer_of_a_checkpoint_is_known_after_the_catalog_is_made_anew(own_server):
    own_server.save("runs/a", b"one", name="a.pt", writer="a@host")
    own_server.kill()
    for path in (own_server.root / ".holdfast").glob("catalog.db*"):
        path.unlink()
    own_server.start()
    assert own_server.save("runs/a", b"two", name="a.pt", writer="b@host")["replaced"]["writer"] == "a@host"
