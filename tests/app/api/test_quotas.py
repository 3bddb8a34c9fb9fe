"""Quotas: a save above the quota is refused before its bytes are stored, also among concurrent saves."""

import itertools
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.data.delta_states import Uploader, declared, pieces, refusal
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer

MB = 1_000_000
QUOTAS = {
    **{f"five/{number}": {"max_checkpoints": 5} for number in range(20)},
    **{f"three/{number}": {"max_checkpoints": 3} for number in range(20)},
    **{f"ten/{number}": {"max_bytes": "10MB"} for number in range(20)},
    "outer": {"max_checkpoints": 1},
    "outer/inner": {"max_checkpoints": 9},
}
_numbers = itertools.count()


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A server with quotas and an undo window of an hour."""
    root = tmp_path_factory.mktemp("quotas") / "root"
    with LiveServer(root, quotas=json.dumps(QUOTAS), undo_window="1h") as live:
        yield live


@pytest.fixture
def prefixes(request):
    """Prefixes for this test alone, with quotas of five checkpoints, of three, and of 10 MB."""
    number = next(_numbers)
    return [f"{kind}/{number}" for kind in ("five", "three", "ten")]


def post(server, directory, data=b"bytes", **query):
    return server.http.post("/v1/checkpoints", params={"directory": directory, **query}, content=data)


def incoming_bytes(server):
    """Return the bytes of open uploads in the root, which the server may be removing concurrently."""
    found = 0
    for folder, _, names in os.walk(server.root / ".holdfast" / "incoming"):
        for path in (Path(folder, name) for name in names if name.endswith(".pt")):
            with suppress(FileNotFoundError):
                found += path.stat().st_size
    return found


def test_a_save_too_many_is_refused_with_figures(limited, prefixes):
    _, three, _ = prefixes
    for epoch in range(3):
        limited.save(f"{three}/{epoch}", b"x", epoch=epoch)
    answer = post(limited, f"{three}/new", epoch=9)
    assert refusal(answer) == (507, "quota_exceeded")
    said = answer.json()
    assert [said[key] for key in ("prefix", "unit", "limit", "used", "wanted")] == [three, "checkpoints", 3, 3, 1]
    assert limited.http.get(f"/v1/directories/{three}/new").status_code == 404
    assert not (limited.root / three / "new").exists()
    limited.save(three.replace("three", "threefold"), b"x")


def test_all_quotas_that_cover_a_directory_must_hold(limited):
    limited.save("outer/inner", b"x", name="a.pt")
    answer = post(limited, "outer/inner", name="b.pt")
    assert refusal(answer) == (507, "quota_exceeded")
    assert answer.json()["prefix"] == "outer"


def test_of_eight_that_save_at_once_five_stay(limited, prefixes):
    five, *_ = prefixes
    before = limited.incoming()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: post(limited, f"{five}/{n}", bytes(100_000), epoch=n), range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [507] * 3
    assert sum(len(limited.names(f"{five}/{n}")) for n in range(8) if answers[n].status_code == 201) == 5
    assert limited.incoming() == before


def test_of_eight_unclaimed_uploads_five_are_committed(make_server):
    """A restarted server has lost its claims: commits are still admitted one at a time."""
    live = make_server()
    uploaders = [Uploader(live, f"a/{number}") for number in range(8)]
    data = b"x" * 1000
    begun = [(uploader, uploader.begin({"size_bytes": len(data)})) for uploader in uploaders]
    for uploader, upload in begun:
        assert uploader.put(upload, data).status_code == 200
    live._environment["HOLDFAST_QUOTAS"] = '{"a": {"max_checkpoints": 5}}'
    live.restart()

    def commit(of):
        uploader, upload = of
        uploader.put(upload, data)
        return live.http.post(f"/v1/uploads/{upload['id']}/commit")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(commit, begun))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [507] * 3
    refused = next(upload for (_, upload), answer in zip(begun, answers, strict=True) if answer.status_code == 507)
    committed = next(answer.json() for answer in answers if answer.status_code == 201)
    live.http.delete(f"/v1/checkpoints/{committed['id']}").raise_for_status()
    assert live.http.post(f"/v1/uploads/{refused['id']}/commit").status_code == 201


@pytest.mark.parametrize("known", [True, False], ids=["declared", "streamed"])
def test_bytes_that_do_not_fit_are_not_kept(limited, prefixes, known):
    *_, ten = prefixes
    limited.save(ten, bytes(6 * MB), name="a.pt")
    before, kept = limited.incoming(), []

    def body():
        for _ in range(100):
            kept.append(incoming_bytes(limited))
            yield bytes(MB)

    answer = post(limited, ten, bytes(5 * MB) if known else body(), name="b.pt")
    assert refusal(answer) == (507, "quota_exceeded")
    assert (answer.json()["unit"], answer.json()["limit"], answer.json()["used"]) == ("bytes", 10 * MB, 6 * MB)
    assert max(kept, default=0) < 20 * MB, "it was not cut off"
    assert limited.incoming() == before
    assert [path.name for path in (limited.root / ten).iterdir() if path.suffix] == ["a.pt"]
    limited.save(ten, bytes(4 * MB), name="b.pt")


def test_a_body_of_declared_length_is_refused_before_it_arrives(limited, prefixes):
    *_, ten = prefixes
    with socket.create_connection(("127.0.0.1", httpx.URL(limited.url).port), timeout=DEADLINE_S) as connection:
        lines = (
            f"POST /v1/checkpoints?directory={ten} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {11 * MB}",
            "Expect: 100-continue",
        )
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.recv(12) == b"HTTP/1.1 507"


def test_what_uploads_under_way_have_declared_counts_until_they_end(limited, prefixes):
    *_, ten = prefixes
    first = Uploader(limited, f"{ten}/a")
    begun = first.begin({"size_bytes": 8 * MB}, save_id="the-first-one")
    other = Uploader(limited, f"{ten}/b")
    answer = other.reserve({"size_bytes": 3 * MB})
    assert refusal(answer) == (507, "quota_exceeded")
    assert (answer.json()["used"], answer.json()["wanted"]) == (8 * MB, 3 * MB)
    assert first.reserve({"size_bytes": 8 * MB}, save_id="the-first-one").status_code == 200, "its own counts once"
    assert limited.http.delete(f"/v1/uploads/{begun['id']}").status_code == 204
    other.begin({"size_bytes": 3 * MB})


def test_a_replacement_counts_what_it_adds(limited, prefixes):
    *_, ten = prefixes
    limited.save(ten, bytes(9 * MB), name="a.pt")
    limited.save(ten, b"x" * (10 * MB), name="a.pt")
    assert refusal(post(limited, ten, b"x" * (10 * MB + 1), name="a.pt")) == (507, "quota_exceeded")
    limited.save(ten, b"y", name="a.pt")
    limited.save(ten, b"z" * (9 * MB), name="b.pt")


def test_a_save_that_removes_as_much_as_it_brings_is_taken(limited, prefixes):
    _, three, _ = prefixes
    for epoch in range(5):
        limited.save(three, b"x", epoch=epoch, max_checkpoints=3, max_best_checkpoints=0)
    assert len(limited.names(three)) == 3
    upload = Uploader(limited, three).begin(declared(pieces(1)), name="checkpoint_epoch_0005.pt", epoch=5)
    assert upload["missing"]
    assert refusal(post(limited, three, epoch=6, pinned=True, kind="best")) == (507, "quota_exceeded"), "prunes nothing"


def test_a_late_delivery_obeys(limited, prefixes):
    _, three, _ = prefixes
    for epoch in range(3):
        limited.save(three, b"x", epoch=epoch)
    assert refusal(post(limited, three, epoch=7, saved_after=0)) == (507, "quota_exceeded")


def test_a_repeated_save_is_answered_as_before(limited, prefixes):
    _, three, _ = prefixes
    for epoch in range(3):
        limited.save(three, b"x", epoch=epoch, save_id=f"save-of-{epoch}")
    answer = post(limited, three, b"x", epoch=1, save_id="save-of-1")
    assert (answer.status_code, answer.json()["repeated"]) == (200, True)
    assert post(limited, three, b"x", epoch=1).status_code == 201, "the same content again changes facts only"
    assert refusal(post(limited, three, epoch=9, save_id="save-of-9")) == (507, "quota_exceeded")


def test_a_restoration_counts_and_the_trash_does_not(limited, prefixes):
    _, three, _ = prefixes
    saved = [limited.save(three, b"x", epoch=epoch) for epoch in range(3)]
    assert limited.http.delete(f"/v1/checkpoints/{saved[0]['id']}").status_code == 200
    limited.save(three, b"y", epoch=9)
    restore = f"/v1/checkpoints/{saved[0]['id']}/restore"
    assert refusal(limited.http.post(restore)) == (507, "quota_exceeded")
    assert limited.http.delete(f"/v1/checkpoints/{saved[1]['id']}").status_code == 200
    assert limited.http.post(restore).status_code == 200
    assert limited.http.post(restore).status_code == 200, "one that is live is not refused"


def test_what_is_over_a_lowered_quota_stays_and_can_be_used(make_server):
    live = make_server()
    saved = [live.save("a", b"x" * 1000, epoch=epoch) for epoch in range(3)]
    live._environment["HOLDFAST_QUOTAS"] = '{"": {"max_bytes": 1500, "max_checkpoints": 2}}'
    live.restart()
    assert len(live.names("a")) == 3
    assert live.http.get(f"/v1/checkpoints/{saved[0]['id']}/content").content == b"x" * 1000
    assert live.http.patch(f"/v1/checkpoints/{saved[0]['id']}", json={"pinned": True}).status_code == 200
    assert refusal(post(live, "b", b"")) == (507, "quota_exceeded")
    live.save("a", b"y" * 1000, epoch=2)
    answer = post(live, "a", b"y" * 1001, epoch=1)
    assert (answer.status_code, answer.json()["unit"], answer.json()["prefix"]) == (507, "bytes", "")
    for name in ("checkpoint_epoch_0001.pt", "checkpoint_epoch_0002.pt"):
        found = live.http.get("/v1/checkpoints", params={"directory": "a", "name": name}).json()["checkpoints"][0]
        assert live.http.delete(f"/v1/checkpoints/{found['id']}").status_code == 200
    live.save("b", b"z" * 500)


def test_metrics_tell_limits_and_use(make_server):
    live = make_server(quotas='{"a": {"max_bytes": "1kB", "max_checkpoints": 5}, "b": {"max_bytes": 7}}')
    live.save("a/x", b"12345")
    live.save("ab", b"123")
    lines = live.http.get("/metrics").text.splitlines()
    found = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if line.startswith("holdfast_quota")
    }
    assert found == {
        'holdfast_quota_bytes{prefix="a"}': 1000.0,
        'holdfast_quota_used_bytes{prefix="a"}': 5.0,
        'holdfast_quota_checkpoints{prefix="a"}': 5.0,
        'holdfast_quota_used_checkpoints{prefix="a"}': 1.0,
        'holdfast_quota_bytes{prefix="b"}': 7.0,
        'holdfast_quota_used_bytes{prefix="b"}': 0.0,
    }  # fmt: skip
