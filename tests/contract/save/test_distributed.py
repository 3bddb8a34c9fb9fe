"""Jobs of several processes: one saves, the others give the same answers, and none waits for another."""

import json
import os
import subprocess
import sys
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from holdfast import CheckpointManager, HoldfastWarning, cleanup, save_checkpoint_with_cleanup
from holdfast.errors import WarnOnce
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually

DISTRIBUTED = """
import datetime, json, os, sys, warnings
import torch
import torch.distributed as distributed
import holdfast

def report(**facts):
    print(json.dumps(facts), flush=True)

url, directory = sys.argv[1:]
distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=30))
rank = distributed.get_rank()
for name in ("RANK", "WORLD_SIZE"):  # what torch.distributed says is enough
    del os.environ[name]
manager = holdfast.CheckpointManager(directory, None, server=url)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    paths = [str(manager.save({"rank": rank, "epoch": epoch}, epoch=epoch)) for epoch in (1, 2)]
if rank == 1:  # alone: no other rank takes part
    paths.append(str(manager.save({"rank": rank}, epoch=3)))
answers = []
for epoch, metric in enumerate([0.5, 0.6, 0.4, 0.4]):
    for who in (range(3) if epoch % 2 else reversed(range(3))):  # rank 0 is the first, or the last
        if who == rank:
            with warnings.catch_warnings(record=True):
                found = manager.save_best_if_improved({"epoch": epoch}, metric, epoch=epoch)
            answers.append(str(found))
        distributed.barrier()
with warnings.catch_warnings(record=True):
    holdfast.CheckpointManager(f"{directory}/{rank}", server=url, rank=0).save({"own": rank}, epoch=1)
report(rank=rank, paths=paths, answers=answers, told=[str(one.message) for one in caught])
distributed.destroy_process_group()
"""


def run_ranks(script, size, port, *arguments):
    """Run a job, and return the report of each process, by rank."""
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(size),
        "OMP_NUM_THREADS": "1",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            env={**os.environ, **environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        told = [process.communicate(timeout=DEADLINE_S) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert [process.returncode for process in processes] == [0] * size, told
    return [json.loads(out.splitlines()[-1]) for out, _ in told]


def test_the_processes_of_a_job_under_torch_distributed(server, directory, free_port, make_manager):
    reports = run_ranks(DISTRIBUTED, 3, free_port, server.url, directory)
    assert [report["rank"] for report in reports] == [0, 1, 2]
    paths = [f"{directory}/checkpoint_epoch_000{epoch}.pt" for epoch in (1, 2, 3)]
    assert [report["paths"] for report in reports] == [paths[:2], paths, paths[:2]]
    bests = [f"{directory}/best_epoch_0000.pt", "None", f"{directory}/best_epoch_0002.pt", "None"]
    assert [report["answers"] for report in reports] == [bests] * 3
    assert reports[0]["told"] == []
    for rank in (1, 2):
        (told,) = reports[rank]["told"]
        assert f"rank {rank} does not save" in told
        assert "rank=0" in told
    manager = make_manager()
    assert [found["epoch"] for found in manager.checkpoints] == [1, 2]
    assert manager.load(paths[0]) == {"rank": 0, "epoch": 1}
    assert manager.load_best() == {"epoch": 2}
    for rank in range(3):
        assert make_manager(checkpoint_dir=f"{directory}/{rank}").load_latest() == {"own": rank}


@pytest.fixture
def as_rank_1(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")


@pytest.mark.usefixtures("as_rank_1")
def test_a_process_that_torchrun_started_does_not_save_and_says_so_once(server, directory, make_manager):
    manager = make_manager()
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        path = manager.save({"n": 1}, epoch=3)
    assert path == Path(directory) / "checkpoint_epoch_0003.pt"
    assert manager.save({"n": 1}, epoch=4, wait=False) == Path(directory) / "checkpoint_epoch_0004.pt"
    assert manager.pending == []
    assert manager.save({"n": 1}).name.startswith("checkpoint_2")
    manager.close()
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


@pytest.mark.usefixtures("as_rank_1")
@pytest.mark.parametrize("away", [False, True], ids=["there", "away"])
def test_the_function_saves_on_rank_0_only(server, directory, monkeypatch, spool, free_port, away):
    monkeypatch.setattr(cleanup, "_warn_once", WarnOnce())
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    url = f"http://127.0.0.1:{free_port}" if away else server.url
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        assert save_checkpoint_with_cleanup({}, directory, "a.pt", server=url) == Path(directory) / "a.pt"
    save_checkpoint_with_cleanup({}, directory, "a.pt", server=url)  # a second warning would be an error
    assert list(spool.iterdir()) == []
    if not away:
        assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404
        save_checkpoint_with_cleanup({"own": 1}, directory, "a.pt", server=url, rank=0)
        assert server.names(directory) == ["a.pt"]


def test_only_rank_0_removes_everything(make_manager):
    """The other ranks call it later, when rank 0 may have saved again."""
    manager = make_manager()
    manager.save({}, epoch=1)
    with pytest.warns(HoldfastWarning, match="rank 1 does not remove"):
        make_manager(rank=1).cleanup_all()
    assert [checkpoint["epoch"] for checkpoint in manager.checkpoints] == [1]
    manager.cleanup_all()
    assert manager.checkpoints == []


def test_whoever_is_told_to_be_rank_0_saves(make_manager):
    manager = make_manager(rank=0)
    manager.save({"n": 1}, epoch=3)
    assert manager.load_latest() == {"n": 1}


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_all_ranks_say_the_same_of_the_best_whoever_asks_first(make_manager, order, mode, background):
    managers = [make_manager(rank=rank, mode=mode, background=background) for rank in (0, 1)]
    sign = 1 if mode == "min" else -1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HoldfastWarning)
        for epoch, metric in enumerate([0.5, 0.5, 0.6, 0.3, 0.4, 0.3, 0.1]):
            answers = []
            for rank in order:
                answers.append(managers[rank].save_best_if_improved({"epoch": epoch}, sign * metric, epoch=epoch))
                assert managers[rank].wait(DEADLINE_S)
            assert answers[0] == answers[1]
            assert (answers[0] is not None) is (epoch in {0, 3, 6})


@pytest.mark.parametrize("metric", [float("nan"), float("inf")])
def test_a_best_that_is_no_number_is_nothing_on_all_ranks(make_manager, metric):
    for rank in (0, 1):
        with pytest.warns(HoldfastWarning, match="never the best"):
            assert make_manager(rank=rank).save_best_if_improved({}, metric, epoch=1) is None


def test_a_rank_that_does_not_save_raises_for_what_could_not_be_saved(make_manager):
    """This is needed for all ranks to end together."""
    manager = make_manager(rank=1)
    with pytest.raises(TypeError):
        manager.save({}, epoch=1, note=object())
    with pytest.raises(TypeError):
        manager.save_best_if_improved({}, None, epoch=1)


@pytest.mark.alone
def test_while_the_server_is_away_every_rank_answers_with_the_path_and_waits_for_it_once(own_server):
    manager = CheckpointManager("runs/a", server=own_server.url, rank=1, patience_s=1)
    own_server.kill()
    with pytest.warns(HoldfastWarning, match="rank 1 does not save"):
        manager.save({}, epoch=0)
    waited_s = []
    for epoch in range(6):
        start = time.monotonic()
        found = manager.save_best_if_improved({}, 0.5, epoch=epoch)
        waited_s.append(time.monotonic() - start)
        assert found == Path("runs/a") / f"best_epoch_000{epoch}.pt"
    assert waited_s[0] < 3
    assert sum(waited_s[1:]) < 1
    own_server.start()
    with pytest.warns(HoldfastWarning, match="kept in"):  # this process believes it away until it is delivered
        CheckpointManager("runs/a", server=own_server.url, rank=0).save({}, epoch=1, metric=0.1)
    assert eventually(lambda: manager.save_best_if_improved({}, 0.5, epoch=7) is None), "it never asks again"


def test_an_answer_that_is_none_of_the_servers_costs_no_rank_its_life(free_port):
    """A proxy that answers 502 while the server restarts."""

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(502)

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port), Proxy) as proxy:
        Thread(target=proxy.serve_forever, daemon=True).start()
        manager = CheckpointManager("runs/a", server=f"http://127.0.0.1:{free_port}", rank=1, patience_s=0.1)
        with pytest.warns(HoldfastWarning, match="rank 1"):
            assert manager.save_best_if_improved({}, 0.5, epoch=1) == Path("runs/a/best_epoch_0001.pt")
        proxy.shutdown()
