"""holdfast doctor: findings, advice, and cleaning up."""

import os
import signal
import time

import pytest

from holdfast._spool.spool import Spool
from holdfast._torchfile.writer.layout import layout_of
from holdfast.cli import diagnosis
from holdfast.cli.statuses import Status
from tests.data.pieces import save_of
from tests.support.tokens import mint

QUICK = ("--size", "1", "--time", "5")


@pytest.fixture
def examine(holdfast, guarded, monkeypatch):
    """Run the doctor with a token of such scopes."""

    def examine(*scopes, **where):
        monkeypatch.setenv("HOLDFAST_TOKEN", mint(guarded.root, *scopes, **where))
        return holdfast("doctor", *QUICK, "--server", guarded.url, "--json")

    return examine


def found(done):
    return {finding["check"]: finding for finding in done.json["findings"]}


def test_all_is_well_and_nothing_stays(holdfast, directory, server):
    done = holdfast("doctor", *QUICK, "--directory", directory, "--json")
    assert (done.status, done.complaints) == (0, "")
    checks = ["reach", "token", "save", "upload", "download", "remove", "spool"]
    assert list(found(done)) == checks
    document = done.json
    assert document["ok"] is True
    assert not any(finding["advice"] for finding in document["findings"])
    assert {"answer_s", "save_s", "upload_mib_per_s", "download_mib_per_s"} <= document.keys()
    assert document["token"]["id"] == "anonymous"
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404
    plain = holdfast("doctor", *QUICK, "--directory", directory)
    assert [(row[0], row[1]) for row in plain.rows] == [("ok", check) for check in checks]


def test_slow_transfers_are_ended_early(holdfast, directory):
    done = holdfast("doctor", "--size", 16, "--time", 0.1, "--directory", directory)
    assert done.status == 0
    assert "over 16.0 MiB" not in dict(row[1:3] for row in done.rows)["upload"]


def test_a_server_that_is_not_there(holdfast, free_port):
    done = holdfast("doctor", "--server", f"http://127.0.0.1:{free_port}", "--json")
    assert done.status == Status.NO
    assert list(found(done)) == ["reach", "spool"]
    assert f"HOLDFAST_URL (http://127.0.0.1:{free_port})" in found(done)["reach"]["advice"]


def test_no_token(holdfast, guarded, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    done = holdfast("doctor", "--server", guarded.url, "--json")
    assert (done.status, found(done)["token"]["ok"]) == (Status.NO, False)
    assert "set HOLDFAST_TOKEN" in found(done)["token"]["advice"]


def test_a_token_that_may_only_read(examine):
    done = examine("read")
    assert (done.status, list(found(done))) == (Status.NO, ["reach", "token", "spool"])
    assert "a token with write" in found(done)["token"]["advice"]


def test_a_token_that_may_not_remove_leaves_what_it_saved_and_says_so(examine, guarded, holdfast):
    done = examine("read", "write")
    assert done.status == 0
    left = guarded.http.get("/v1/checkpoints", params={"directory": "holdfast-doctor"}, headers=admin(guarded))
    count = len(left.json()["checkpoints"])
    assert count > 1
    assert found(done)["remove"]["text"].startswith(f"{count} checkpoints in holdfast-doctor stay")
    assert "holdfast rm --all --yes holdfast-doctor" in found(done)["remove"]["advice"]


def admin(guarded):
    return {"Authorization": f"Bearer {mint(guarded.root, 'admin')}"}


def test_a_token_of_a_prefix_needs_that_prefix(examine, monkeypatch):
    done = examine("read", "write", "delete", prefix="team")
    assert "remove" not in found(done), "nothing was saved"
    assert done.status == Status.NO
    assert "HOLDFAST_PREFIX=team" in found(done)["token"]["advice"]
    monkeypatch.setenv("HOLDFAST_PREFIX", "team")
    assert examine("read", "write", "delete", prefix="team").status == 0


def test_what_waits_is_found(holdfast, directory, server, spool):
    Spool(spool).queue(server.url, directory).put({**save_of(1), "directory": directory}, layout_of({"epoch": 1}))
    done = holdfast("doctor", *QUICK, "--directory", f"{directory}/doctor", "--json")
    assert (done.status, found(done)["spool"]["advice"]) == (Status.NO, "holdfast sync")
    [queue] = holdfast("sync", "--list", "--json").json["queues"]
    assert (queue["directory"], queue["waiting"][0]["name"]) == (directory, "checkpoint_epoch_0001.pt")
    assert holdfast("sync").status == 0
    assert holdfast("sync", "--json").json == {"spool": str(spool), "queues": []}


@pytest.mark.parametrize(("step", "number"), [("_upload", signal.SIGINT), ("_download", signal.SIGTERM)])
def test_an_interrupted_diagnosis_removes_what_it_saved(holdfast, directory, server, monkeypatch, step, number):
    def interrupt(examined, *_):
        if step == "_upload":
            examined._send("part-0", diagnosis._Noise(10))  # it has arrived, but the diagnosis does not know that
        os.kill(os.getpid(), number)
        time.sleep(30)

    monkeypatch.setattr(diagnosis.Diagnosis, step, interrupt)
    assert holdfast("doctor", *QUICK, "--directory", directory).status == Status.INTERRUPTED
    assert server.http.get(f"/v1/directories/{directory}").status_code == 404


def test_a_directory_that_was_there_stays(holdfast, directory, server):
    server.save(directory, epoch=1)
    assert holdfast("doctor", *QUICK, "--directory", directory).status == 0
    assert server.names(directory) == ["checkpoint_epoch_0001.pt"]
