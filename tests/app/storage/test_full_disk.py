"""A disk that is full: a clear refusal, nothing lost, nothing left lying about."""

import http.client
import os
import socket
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.data.delta_states import Uploader, declared, pieces, refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer
from tests.support.mounts import small_disk

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")


@pytest.fixture
def mounted():
    """A root on a file system of 40 MB."""
    with small_disk("40m") as root:
        yield root


@pytest.fixture
def small(mounted):
    """A server with that root that keeps nothing in reserve."""
    with LiveServer(mounted, reserve_bytes="0") as live:
        yield live


def free_bytes(server):
    found = os.statvfs(server.root)
    return found.f_bavail * found.f_frsize


def answer_on(connection):
    """The status and the body of the one answer that comes."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return f"HTTP/1.1 {answer.status} ".encode() + answer.read()


def fill(path):
    """Let a file take all that is left of its file system."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(4096)):
            pass


def test_a_save_that_does_not_fit_is_refused_before_its_body(small):
    small.save("runs/a", bytes(5_000_000), epoch=1)
    before = free_bytes(small)
    with socket.create_connection(("127.0.0.1", httpx.URL(small.url).port), timeout=DEADLINE_S) as connection:
        lines = (
            "POST /v1/checkpoints?directory=runs/a&epoch=2 HTTP/1.1",
            "Host: localhost",
            "Content-Length: 80000000",
        )
        connection.sendall("\r\n".join([*lines, "Expect: 100-continue", "", ""]).encode())
        answer = answer_on(connection)
    assert answer.startswith(b"HTTP/1.1 507 "), answer
    assert b'"code":"no_space"' in answer
    assert before - free_bytes(small) < 200_000
    assert small.incoming() == []
    assert small.names("runs/a") == ["checkpoint_epoch_0001.pt"]
    small.save("runs/a", bytes(5_000_000), epoch=3)
    assert small.http.get("/v1/checkpoints/latest/content", params={"directory": "runs/a"}).content == bytes(5_000_000)


def test_a_body_that_does_not_say_how_long_it_is_leaves_nothing_when_it_does_not_fit(small):
    before = free_bytes(small)
    answer = small.http.post(
        "/v1/checkpoints", params={"directory": "runs/a"}, content=(bytes(1_000_000) for _ in range(80))
    )
    assert refusal(answer) == (507, "no_space")
    assert before - free_bytes(small) < 200_000


def test_an_upload_that_does_not_fit_is_refused_when_it_is_reserved(small):
    body = {"directory": "runs/a", "name": "big.pt", "save_id": "the-big-one", "files": [{"size_bytes": 80_000_000}]}
    answer = small.http.post("/v1/uploads", json=body)
    assert refusal(answer) == (507, "no_space")
    said = answer.json()
    assert said["wanted_bytes"] == 80_000_000
    assert said["free_bytes"] < 80_000_000
    assert small.incoming() == []
    assert small.http.get("/v1/directories/runs/a").status_code == 404


def peak_bytes(server):
    """The most memory that the server has had at any time."""
    lines = Path(f"/proc/{server.process_id}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_an_upload_that_no_disk_could_hold_is_refused_before_its_ranges_are_counted(small):
    small.save("runs/a", b"x" * 1000)
    sizes = (200_000_000_000_000, 1)
    files = [{"path": f"{place}.bin", "size_bytes": size} for place, size in enumerate(sizes)]
    body = {"directory": "runs/b", "name": "folder", "save_id": "more-than-a-disk", "files": files}
    before = peak_bytes(small)
    answer = small.http.post("/v1/uploads", json=body)
    assert refusal(answer) == (507, "no_space")
    assert answer.json()["wanted_bytes"] == sum(sizes)
    assert peak_bytes(small) - before < 100_000_000, "its three million ranges were listed"
    assert small.incoming() == []
    assert not (small.root / "runs" / "b").exists()
    assert small.http.get("/v1/directories/runs/b").status_code == 404


def test_uploads_that_do_not_fit_together_are_not_both_begun(small):
    def begin(name):
        return small.http.post(
            "/v1/uploads", json={"directory": "runs/a", "name": name, "files": [{"size_bytes": 25_000_000}]}
        )

    first = begin("1.pt")
    assert first.status_code == 201
    refused = begin("2.pt")
    assert refusal(refused) == (507, "no_space")
    assert refused.json()["promised_bytes"] == 25_000_000
    for missing in first.json()["missing"]:
        small.http.put(missing["url"], content=bytes(missing["length"])).raise_for_status()
    small.http.post(f"/v1/uploads/{first.json()['id']}/commit", json={}).raise_for_status()


def test_a_range_that_does_not_fit_any_more_is_refused_and_the_rest_stays(small):
    body = {"directory": "runs/a", "name": "big.pt", "files": [{"size_bytes": 30_000_000}]}
    upload = small.http.post("/v1/uploads", json=body).json()
    other = small.root / "somebody-elses"
    other.write_bytes(bytes(20_000_000))
    url = upload["missing"][0]["url"].split("?")[0]

    def put(offset, length):
        return small.http.put(url, params={"offset": offset, "length": length}, content=bytes(length))

    assert put(0, 8_000_000).status_code == 200
    assert refusal(put(8_000_000, 22_000_000)) == (507, "no_space")
    other.unlink()
    assert put(8_000_000, 22_000_000).status_code == 200
    assert small.http.post(f"/v1/uploads/{upload['id']}/commit", json={}).status_code == 201


def test_what_would_have_to_be_copied_must_fit_too(small):
    uploader = Uploader(small, "runs/a")
    held = pieces(8, 3_000_000)
    checkpoint = uploader.save(held, "1.pt")
    assert refusal(uploader.reserve(declared([*pieces(1, 3_000_000), *held]), name="2.pt")) == (507, "no_space")
    assert uploader.content(checkpoint["id"]) == b"".join(held)
    assert small.incoming() == []


def test_a_reserve_is_kept_free_for_what_must_go_on(mounted):
    with LiveServer(mounted, reserve_bytes="20000000") as server:
        first = server.save("runs/a", bytes(10_000_000), epoch=1)
        refused = server.http.post("/v1/checkpoints", params={"directory": "runs/a"}, content=bytes(15_000_000))
        assert (refusal(refused), refused.json()["reserve_bytes"]) == ((507, "no_space"), 20_000_000)
        (mounted / "somebody-elses").write_bytes(bytes(free_bytes(server) - 15_000_000))
        assert refusal(server.http.post("/v1/checkpoints?directory=runs/a", content=b"x")) == (507, "no_space")
        server.http.patch(f"/v1/checkpoints/{first['id']}", json={"tags": ["kept"]}).raise_for_status()
        server.http.delete(f"/v1/checkpoints/{first['id']}").raise_for_status()
        server.save("runs/a", b"x")


def test_a_server_starts_on_a_disk_that_is_quite_full_and_can_make_room(mounted):
    with LiveServer(mounted, reserve_bytes="0") as server:
        saved = [server.save("runs/a", bytes(5_000_000), epoch=epoch) for epoch in (1, 2)]
        assert server.stop() == 0
        fill(mounted / "somebody-elses")
        server.start()
        content = server.http.get(f"/v1/checkpoints/{saved[1]['id']}/content")
        assert content.content == bytes(5_000_000)
        assert refusal(server.http.post("/v1/checkpoints?directory=runs/a", content=bytes(9_000_000))) == (
            507,
            "no_space",
        )
        server.http.delete(f"/v1/checkpoints/{saved[0]['id']}").raise_for_status()
        server.wait_until_freed()
        assert free_bytes(server) > 4_000_000
        server.save("runs/a", bytes(2_000_000), epoch=3)


def test_a_disk_that_somebody_has_filled_can_be_made_less_full(mounted):
    with LiveServer(mounted, reserve_bytes="0") as server:
        saved = server.save("runs/a", bytes(5_000_000), epoch=1)
        fill(mounted / "somebody-elses")
        assert free_bytes(server) < 4096
        server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        server.wait_until_freed()
        assert free_bytes(server) > 5_000_000


def test_space_that_only_the_trash_takes_is_given_to_a_save(mounted):
    with LiveServer(mounted, reserve_bytes="0", undo_window="1h") as server:
        saved = [server.save("runs/a", bytes([epoch]) * 10_000_000, epoch=epoch) for epoch in (1, 2, 3)]
        for checkpoint in saved[:2]:
            assert server.http.delete(f"/v1/checkpoints/{checkpoint['id']}").json()["restorable"]
        server.save("runs/a", bytes(15_000_000), epoch=4)
        gone, kept = (server.http.post(f"/v1/checkpoints/{checkpoint['id']}/restore") for checkpoint in saved[:2])
        assert refusal(gone) == (410, "checkpoint_removed"), "the oldest went first"
        assert kept.status_code == 200
        assert server.http.get(f"/v1/checkpoints/{saved[1]['id']}/content").content == bytes([2]) * 10_000_000


def test_what_would_not_fit_even_without_the_trash_leaves_the_trash_alone(mounted):
    with LiveServer(mounted, reserve_bytes="0", undo_window="1h") as server:
        saved = [server.save("runs/a", bytes([epoch]) * 10_000_000, epoch=epoch) for epoch in (1, 2)]
        server.http.delete(f"/v1/checkpoints/{saved[0]['id']}").raise_for_status()
        wanted = free_bytes(server) + 10_500_000
        body = {"directory": "runs/a", "name": "big.pt", "files": [{"size_bytes": wanted}]}
        assert refusal(server.http.post("/v1/uploads", json=body)) == (507, "no_space")
        params = {"directory": "runs/a", "epoch": 3}
        assert refusal(server.http.post("/v1/checkpoints", params=params, content=bytes(wanted))) == (507, "no_space")
        server.http.post(f"/v1/checkpoints/{saved[0]['id']}/restore").raise_for_status()
        assert server.http.get(f"/v1/checkpoints/{saved[0]['id']}/content").content == bytes([1]) * 10_000_000
