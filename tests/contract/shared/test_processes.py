"""Processes as writers: killed, restarted and left over, with a server that may be killed as well."""

import os
import signal
import time

import pytest

from holdfast import CheckpointManager
from tests.contract.shared import ranks
from tests.support.live import eventually


def saved(server, directory):
    """The content of the only checkpoint, and the files of it."""
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    return {
        file["path"]: server.http.get(f"/v1/checkpoints/{found['id']}/files/{file['path']}").content
        for file in found["files"]
    }


def uploads(server, directory):
    return server.http.get("/v1/uploads", params={"directory": directory}).json()["uploads"]


@pytest.mark.parametrize("more", [{}, {"commit_when_ready": True}], ids=["rank 0 commits", "the server commits"])
def test_four_writers_fill_one_folder_at_once(server, directory, spawn, queue, more):
    started = [spawn(ranks.save, server.url, directory, rank, 4, queue, more) for rank in range(4)]
    results = dict(queue.get(timeout=120) for _ in started)
    assert results == dict.fromkeys(range(4), f"{directory}/step-10")
    assert saved(server, directory) == {f"shard-{rank}.bin": ranks.shard(rank) for rank in range(4)}
    assert server.names(directory) == ["step-10"]


def test_a_writer_that_was_killed_is_named_and_a_new_attempt_takes_over(server, directory, spawn, queue, pipe):
    ours, theirs = pipe
    dead = spawn(ranks.save_and_stop, server.url, directory, 1, 2, theirs, {})
    assert ours.recv() == "sent"
    os.kill(dead.pid, signal.SIGKILL)
    dead.join()
    first = ranks.part_of(server.url, directory, 0, 2)
    first.add("shard-0.bin", ranks.shard(0))
    first.ready()
    with pytest.raises(RuntimeError, match="rank-1") as refusal:
        first.commit()
    assert refusal.value.code == "writers_missing"
    with pytest.raises(TimeoutError, match="missing writers: rank-1"):
        first.wait_committed(0.2)
    (listed,) = uploads(server, directory)
    assert (listed["shared"]["missing_writers"], listed["arrived_bytes"]) == (["rank-1"], 600_000)
    missing = 0
    for rank in range(2):
        part = ranks.part_of(server.url, directory, rank, 2, attempt=1)
        described = {"path": f"shard-{rank}.bin", "size_bytes": 300_000, "chunks": chunks(rank)}
        body = {"writer": f"rank-{rank}", "attempt": 1, "files": [described]}
        answer = server.http.post(f"/v1/uploads/{part.upload_id}/files", json=body)
        missing += answer.json()["missing_bytes"]
    assert missing == 0
    for rank in range(2):
        spawn(ranks.save, server.url, directory, rank, 2, queue, {"attempt": 1})
    assert {queue.get(timeout=120) for _ in range(2)} == {(rank, f"{directory}/step-10") for rank in range(2)}
    assert saved(server, directory) == {f"shard-{rank}.bin": ranks.shard(rank) for rank in range(2)}


def chunks(rank):
    from holdfast._shared.sources import source_of

    return [
        {"length": chunk.length, "digest": chunk.digest} for chunk in source_of("shard", ranks.shard(rank)).chunks()
    ]


def test_what_is_left_of_an_earlier_attempt_can_do_nothing(server, directory, spawn, pipe):
    ours, theirs = pipe
    spawn(ranks.go_on, server.url, directory, 0, 1, theirs, {})
    assert ours.recv() == "sent"
    later = ranks.part_of(server.url, directory, 0, 1, attempt=1)
    later.add("shard-0.bin", ranks.shard(0))
    ours.send("go on")
    assert ours.poll(60)
    assert set(ours.recv()) == {"attempt_superseded"}
    later.ready()
    later.commit()
    assert saved(server, directory) == {"shard-0.bin": ranks.shard(0)}


def test_a_world_of_another_size(server, directory):
    for rank in range(3):
        ranks.part_of(server.url, directory, rank, 3).add(f"shard-{rank}.bin", ranks.shard(rank))
    for rank in range(2):
        part = ranks.part_of(server.url, directory, rank, 2, attempt=1, commit_when_ready=True)
        part.add(f"shard-{rank}.bin", ranks.shard(rank))
        made = part.ready()
    assert str(made) == f"{directory}/step-10"
    assert saved(server, directory).keys() == {"shard-0.bin", "shard-1.bin"}


def test_a_server_that_is_killed_amid_the_sending(own_server, directory, spawn, pipe):
    ours, theirs = pipe
    first = ranks.part_of(own_server.url, directory, 0, 2, commit_when_ready=True)
    first.add("shard-0.bin", ranks.shard(0))
    first.ready()
    spawn(ranks.send_slowly, own_server.url, directory, 1, 2, theirs, {"commit_when_ready": True})
    assert ours.poll(60)
    assert ours.recv() == "some"
    own_server.kill()
    time.sleep(0.5)  # the writer meets a server that is away
    own_server.start()
    (listed,) = uploads(own_server, directory)
    states = {writer["writer"]: writer["is_ready"] for writer in listed["shared"]["writers"]}
    assert states["rank-0"] is True, "who is ready survives"
    assert ours.poll(120)
    assert ours.recv() == f"{directory}/step-10"
    found = saved(own_server, directory)
    assert found == {"shard-0.bin": ranks.shard(0)} | {
        f"rank-1/{number}.bin": bytes([number]) * 20_000 for number in range(60)
    }
    assert first.wait_committed(10) == first.path


def test_bytes_that_a_restarted_server_lacks_make_a_writer_unready(own_server, directory):
    part = ranks.part_of(own_server.url, directory, 0, 1)
    part.add("shard-0.bin", ranks.shard(0))
    part.ready()
    own_server.kill()
    stored = own_server.root / ".holdfast" / "incoming" / part.upload_id / "files" / "step-10" / "shard-0.bin"
    stored.write_bytes(b"x" + stored.read_bytes()[1:])
    own_server.start()
    assert part.status.missing_writers == ("rank-0",)
    with pytest.raises(RuntimeError, match="rank-0"):
        part.commit()
    part.add("shard-0.bin", ranks.shard(0))
    part.ready()
    part.commit()
    assert saved(own_server, directory) == {"shard-0.bin": ranks.shard(0)}


def test_two_thousand_small_files_of_two_writers(server, directory, spawn, queue):
    began = time.monotonic()
    for rank in range(2):
        spawn(ranks.send_many, server.url, directory, rank, 2, 1000, queue)
    assert [queue.get(timeout=120) for _ in range(2)] == [f"{directory}/step-10"] * 2
    assert time.monotonic() - began < 60
    (found,) = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    assert len(found["files"]) == 2000


def test_the_last_ones_that_are_ready_at_the_same_moment_commit_exactly_once(server, directory, spawn, queue):
    """Fifty rounds of two writers that declare and are ready at once."""
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    manager = CheckpointManager(directory, server=server.url, on_unreachable="raise", max_checkpoints=None)
    barrier = Barrier(2)

    def write(round_number, rank):
        part = manager.shared_save(
            f"step-{round_number}",
            save_id=f"round-{round_number:05}",
            writer=f"rank-{rank}",
            writers=["rank-0", "rank-1"],
            commit_when_ready=True,
            step=round_number,
        )
        barrier.wait(60)
        part.add(f"shard-{rank}", b"%d" % rank)
        barrier.wait(60)
        made = part.ready()
        return made, part.wait_committed(60)

    with ThreadPoolExecutor(2) as pool:
        for round_number in range(50):
            done = list(pool.map(write, [round_number] * 2, range(2)))
            assert {path.name for _, path in done} == {f"step-{round_number}"}
            assert [made for made, _ in done].count(None) <= 1, "at least one of them has learnt of the commit"
    checkpoints = server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    assert [found["sequence"] for found in checkpoints] == list(range(1, 51))
    assert {len(found["files"]) for found in checkpoints} == {2}
    audit = server.http.get("/v1/audit", params={"prefix": directory, "page_size": 1000}).json()["lines"]
    assert [line["action"] for line in audit].count("checkpoint.saved") == 50
    assert eventually(lambda: uploads(server, directory) == [])
