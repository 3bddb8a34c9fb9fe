"""Attempts: a restarted job takes a shared upload over, and what is left of the earlier attempt is fenced off."""

import threading

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import MIB, Wire
from tests.support.shared_uploads import code, contents, facts, reserve

A = {"shard-0.bin": b"a" * 20_000}
B = {"shard-1.bin": b"b" * 20_000}


@pytest.fixture
def before(server, directory):
    shared = reserve(server.http, directory, writers=["rank-0", "rank-1"], metric=1.0)
    shared.put("rank-0", A)
    shared.put("rank-1", B)
    shared.ready("rank-0")
    return shared


def later(server, directory, **more):
    return reserve(server.http, directory, attempt=1, **more)


def test_a_later_attempt_sends_nothing_again_whoever_declares_it(server, directory, before):
    after = later(server, directory, writers=["rank-0"], metric=0.5)
    assert after.id == before.id
    assert after.answer["shared"]["missing_writers"] == ["rank-0"], "readiness begins anew"
    assert after.put("rank-0", A | B) == 0
    assert after.ready("rank-0").status_code == 200
    committed = after.commit().json()
    assert (committed["metric"], contents(server.http, committed)) == (0.5, A | B)


def test_every_request_of_an_earlier_attempt_is_refused(server, directory, before):
    wanted = before.declare("rank-0", {"late.bin": b"z" * 9000}).json()["missing"][0]
    small = before.declare("rank-0", {"s/1": b"1", "s/2": b"2"}).json()["batches"][0]
    after = later(server, directory)
    refusals = [
        before.declare("rank-0", {"new": b"n"}),
        server.http.put(wanted["url"], content=b"z" * 9000),
        server.http.put(small["url"], content=b"12"),
        before.ready("rank-0"),
        before.commit(),
        before.remove("rank-0", "shard-0.bin"),
        before.rename("rank-0", "shard-0.bin", "x"),
        server.http.delete(before.url, params={"attempt": 0}),
        server.http.post("/v1/uploads", json=facts(directory, writers=["rank-0", "rank-1"], metric=1.0)),
    ]
    assert {code(answer) for answer in refusals} == {(409, "attempt_superseded")}
    assert {answer.json()["attempt"] for answer in refusals} == {1}
    assert after.get()["shared"]["writers"] == []


def test_an_attempt_that_is_not_reserved_is_no_attempt(before):
    assert code(before.ready("rank-0", attempt=1)) == (422, "invalid_request")
    assert code(before.commit(attempt=7)) == (422, "invalid_request")


def test_files_that_are_not_declared_again_are_not_in_the_checkpoint(server, directory, before):
    """A world of another size: one writer less."""
    after = later(server, directory)
    assert after.put("rank-0", {"shard-0.bin": b"c" * 30_000, "index.json": b"{}"}) == 30_002
    after.ready("rank-0")
    assert contents(server.http, after.commit().json()) == {"shard-0.bin": b"c" * 30_000, "index.json": b"{}"}
    root = server.root / directory / "step-10"
    assert sorted(path.name for path in root.iterdir()) == ["index.json", "shard-0.bin"]


def test_only_what_is_the_same_is_taken_over(server, directory, before):
    after = later(server, directory)
    changed = A["shard-0.bin"][:8192] + b"x" + A["shard-0.bin"][8193:]
    assert after.put("rank-1", {"shard-0.bin": changed}) == 4096
    assert after.put("rank-1", B, hashed=False) == 20_000, "without digests the server cannot know"
    after.ready("rank-1")
    assert contents(server.http, after.commit().json()) == {"shard-0.bin": changed} | B


@pytest.mark.parametrize("path", ["shard-0.bin/inside", "shard-0.bin"])
def test_a_path_of_an_earlier_attempt_may_become_a_folder_or_shorter(server, directory, before, path):
    after = later(server, directory)
    assert after.put("rank-0", {path: b"short"}) == 5
    after.ready("rank-0")
    assert contents(server.http, after.commit().json()) == {path: b"short"}


def test_a_folder_of_an_earlier_attempt_may_become_a_file(server, directory):
    before = reserve(server.http, directory)
    before.put("rank-0", {"a/b/c": b"1", "a/b/d": b"2"})
    after = later(server, directory)
    after.put("rank-0", {"a": b"a file"})
    after.ready("rank-0")
    assert contents(server.http, after.commit().json()) == {"a": b"a file"}


def test_a_rename_onto_a_path_of_an_earlier_attempt_keeps_the_new_bytes(server, directory, before):
    after = later(server, directory)
    after.put("rank-0", {"tmp": b"new bytes"})
    assert after.rename("rank-0", "tmp", "shard-0.bin").status_code == 204
    after.ready("rank-0")
    assert contents(server.http, after.commit().json()) == {"shard-0.bin": b"new bytes"}


def test_a_later_attempt_after_the_commit_finds_the_checkpoint(server, directory, before):
    before.ready("rank-1")
    committed = before.commit().json()
    after = later(server, directory)
    assert (after.answer["state"], after.answer["checkpoint"]["id"]) == ("committed", committed["id"])


def test_the_name_of_a_save_does_not_change(server, directory, before):
    answer = server.http.post("/v1/uploads", json=facts(directory, attempt=1, name="step-11"))
    assert code(answer) == (422, "save_id_reused")
    assert before.get()["shared"]["attempt"] == 0


def test_the_writers_of_a_later_attempt_agree_among_themselves(server, directory, before):
    later(server, directory, metric=0.5)
    assert code(server.http.post("/v1/uploads", json=facts(directory, attempt=1))) == (409, "writers_disagree")
    assert later(server, directory, metric=0.5).id == before.id


def test_bytes_under_way_are_fenced_off(server, directory, before):
    """A writer that is amid a range when its attempt ends: the rest of its bytes is not written."""
    data = b"q" * (5 * MIB)
    wanted = before.declare("rank-0", {"slow.bin": data}, hashed=False).json()["missing"][0]
    with Wire(server.url) as wire:
        head = f"PUT {wanted['url']} HTTP/1.1\r\nHost: {server.url.removeprefix('http://')}\r\n"
        wire.send(f"{head}Content-Length: {len(data)}\r\n\r\n".encode(), data[: 4 * MIB + 100])
        assert eventually(lambda: before.get(writer="rank-0")["missing_bytes"] == MIB), "a part was written"
        after = later(server, directory)
        after.declare("rank-0", {"slow.bin": b"n" * (5 * MIB)}, hashed=False)
        wire.send(data[4 * MIB + 100 :])
        answer = wire.answer()
    assert (answer.status, answer.code) == (409, "attempt_superseded")
    assert after.get()["missing_bytes"] == 5 * MIB


def test_writers_of_two_attempts_that_reserve_at_once_end_with_the_later_one(server, directory):
    reserve(server.http, directory)
    answers = []

    def ask(attempt):
        answers.append(server.http.post("/v1/uploads", json=facts(directory, attempt=attempt)))

    threads = [threading.Thread(target=ask, args=(number % 4,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = {code(answer) for answer in answers if answer.status_code != 200}
    assert refused <= {(409, "attempt_superseded"), (409, "upload_busy")}
    shared = reserve(server.http, directory, attempt=3)
    assert shared.answer["shared"]["attempt"] == 3
    assert shared.put("rank-0", A) == 20_000
