"""holdfast ls, show and tensors: output for people and programs, and exit statuses."""

import json

import pytest
import torch

from holdfast import CheckpointManager
from holdfast.cli.statuses import Status
from tests.support.tokens import mint

ESC = "\x1b[31m"


def save(manager, losses):
    for epoch, loss in enumerate(losses):
        manager.save({"model": {"w": torch.zeros(4, 8), "b": torch.zeros(8)}, "epoch": epoch}, epoch=epoch, loss=loss)


@pytest.fixture
def run(make_manager, directory):
    """A directory of three checkpoints, of five that were saved."""
    save(make_manager(max_checkpoints=2, max_best_checkpoints=1), [0.9, 0.3, 0.5, 0.7, 0.6])
    return directory


def test_directories_below_a_prefix(holdfast, run, server):
    above = run.rpartition("/")[0]
    done = holdfast("ls", above)
    assert done.status == 0
    [[name, count, size, best, latest, saved]] = done.rows
    found = server.http.get(f"/v1/directories/{run}").json()
    assert (name, count, size, best) == (run, "3", str(found["size_bytes"]), "0.3")
    assert (latest, saved) == ("checkpoint_epoch_0004.pt", found["latest"]["created_at"])
    assert holdfast("ls", above, "--json").json == {"directories": [found]}
    assert [row[0] for row in holdfast("ls").rows].count(run) == 1
    assert holdfast("ls", run, "--directories").rows == done.rows


def test_checkpoints_of_a_directory_newest_first(holdfast, run, server):
    done = holdfast("ls", run)
    assert [(row[0], row[1], row[2], row[6]) for row in done.rows] == [
        ("checkpoint_epoch_0004.pt", "4", "0.6", "-"),
        ("checkpoint_epoch_0003.pt", "3", "0.7", "-"),
        ("checkpoint_epoch_0001.pt", "1", "0.3", "the best"),
    ]
    assert [row[0][-4] for row in holdfast("ls", run, "--order", "best", "--limit", 2).rows] == ["1", "4"]
    assert holdfast("ls", run, "--limit", 0).rows == []
    removed = {row[0]: row[6] for row in holdfast("ls", run, "--removed").rows}
    assert removed["checkpoint_epoch_0000.pt"] == "pruned"
    assert len(removed) == 5
    document = holdfast("ls", run, "--json").json
    assert document["directory"] == run
    assert [found["name"] for found in document["checkpoints"]] == server.names(run, order_by="-position")


def test_directories_in_another_order(holdfast, directory, server):
    small = [f"{directory}/{number}" for number in range(3)]
    for name in small:
        server.save(name, epoch=1)
    assert [row[0] for row in holdfast("ls", directory, "--order=-name").rows] == small[::-1]


@pytest.mark.parametrize(
    ("arguments", "status", "complaint"),
    [
        pytest.param(["ls", "no/where"], Status.NOT_FOUND, "no directory at or below 'no/where'", id="no directory"),
        pytest.param(["ls", "--order", "x"], Status.MISUSE, "directories are ordered by name, count", id="an order"),
        pytest.param(
            ["ls", "--removed"], Status.MISUSE, "for the checkpoints of a directory", id="removed directories"
        ),
        pytest.param(["ls", "--limit", "x"], Status.MISUSE, "Invalid value for '--limit'", id="no number"),
        pytest.param(["show", "no/where/x.pt"], Status.NOT_FOUND, "no checkpoint 'x.pt' in 'no/where'", id="no such"),
        pytest.param(["show", "no/where/best"], Status.NOT_FOUND, "no directory 'no/where'", id="no best"),
        pytest.param(["show", "x", "--server", "foo"], Status.MISUSE, "'foo', which is no URL", id="no URL"),
        pytest.param(["show", "nothing"], Status.NOT_FOUND, "there is no directory 'nothing'", id="neither"),
        pytest.param(["tensors", "x.pt"], Status.MISUSE, "give DIRECTORY/NAME", id="a bare name"),
        pytest.param(["show", "a/../b"], Status.MISUSE, "without '..'", id="no name"),
        pytest.param(["get", "a//.holdfast/b"], Status.MISUSE, "", id="a name that is refused"),
    ],
)
def test_what_fails_is_one_line_and_a_status(holdfast, arguments, status, complaint):
    for more in ([], ["--json"]):
        done = holdfast(*arguments, *more)
        assert (done.status, done.raw) == (status, b"")
        assert done.complaints.startswith("holdfast: ")
        assert complaint in done.complaints
        assert done.complaints.count("\n") == 1


def test_show_a_directory_and_a_checkpoint(holdfast, run, server):
    facts = {row[0]: row[1:] for row in holdfast("show", run).rows}
    assert facts["checkpoints"] == ["3"]
    assert facts["keeps"] == ["the last 2, the best 1; min is best"]
    assert facts["best"] == ["checkpoint_epoch_0001.pt  metric 0.3"]
    assert holdfast("show", run, "--json").json == {"directory": server.http.get(f"/v1/directories/{run}").json()}
    by_path = holdfast("show", f"{run}/checkpoint_epoch_0001.pt")
    assert by_path == holdfast("show", run, "best") == holdfast("show", f"{run}/best")
    facts = {row[0]: row[1:] for row in by_path.rows}
    assert facts["stays"] == ["best 1 of 1"]
    assert facts["metadata.loss"] == ["0.3"]
    document = holdfast("show", run, "latest", "--json").json
    assert [reason["code"] for reason in document["reasons"]] == ["newest", "last"]
    [file] = holdfast("show", run, "best", "--json").json["checkpoint"]["files"]
    assert facts["file"] == [file["path"], str(file["size_bytes"]), file["digest"]]


def test_what_is_shown_to_programs_is_exact(holdfast, directory, server):
    facts = {"metric": 0.06765109300613403, "metadata": json.dumps({"a": {"b": [1, None]}, "c": True, "d": 1 / 3})}
    server.save(directory, b"bytes", name="a.pt", **facts)
    shown = {row[0]: row[1] for row in holdfast("show", f"{directory}/a.pt").rows}
    assert shown["metric"] == "0.06765109300613403"
    assert shown["metadata.a"] == '{"b":[1,null]}'
    assert (shown["metadata.c"], shown["metadata.d"]) == ("true", "0.3333333333333333")
    assert holdfast("ls", directory).rows[0][2] == "0.06765109300613403"


def test_a_checkpoint_that_is_called_best_is_meant_before_the_best(holdfast, directory, server):
    server.save(directory, b"first", name="real.pt", metric=0.1)
    assert "real.pt" in holdfast("show", directory, "best").said
    server.save(directory, b"second", name="best", metric=0.2)
    assert holdfast("show", f"{directory}/best").rows[0] == ["checkpoint", f"{directory}/best"]


def test_the_tensors_of_a_checkpoint(holdfast, run):
    done = holdfast("tensors", run, "best")
    assert [row[:5] for row in done.rows] == [
        ["model.w", "float32", "[4, 8]", "128", "0.800000"],
        ["model.b", "float32", "[8]", "32", "0.200000"],
    ]
    assert [row[0] for row in holdfast("tensors", f"{run}/best", "--search", "L.W").rows] == ["model.w"]
    missing = holdfast("tensors", f"{run}/best", "--search", "nothing", "--json")
    assert (missing.status, missing.json["tensors"]) == (Status.NO, [])
    entry = holdfast("tensors", f"{run}/best", "--json").json["tensors"][0]
    assert {"file", "name", "dtype", "shape", "offset", "size_bytes"} == set(entry)


def test_no_tensors_were_declared(holdfast, directory, server):
    server.save(directory, epoch=1)
    done = holdfast("tensors", directory, "latest")
    assert done.status == Status.NOT_FOUND
    assert "[no_tensor_index]" in done.complaints


def test_names_are_those_that_the_job_uses(holdfast, server, directory, monkeypatch):
    monkeypatch.setenv("HOLDFAST_PREFIX", f"team/{directory}")
    CheckpointManager("the/job", server=server.url).save({}, epoch=1, loss=0.5)
    assert [row[0] for row in holdfast("ls").rows] == ["the/job"]
    assert holdfast("show", "the/job/best").rows[0] == ["checkpoint", "the/job/checkpoint_epoch_0001.pt"]
    assert holdfast("show", "the/job", "--json").json["directory"]["directory"] == f"team/{directory}/the/job"
    monkeypatch.delenv("HOLDFAST_PREFIX")
    assert holdfast("show", "the/job").status == Status.NOT_FOUND


def test_nothing_that_is_shown_speaks_to_the_terminal(holdfast, directory, server):
    server.save(directory, epoch=1, metadata='{"note": "a\\u001b[31m\\tb"}')
    done = holdfast("show", directory, "latest")
    assert ESC not in done.said
    assert ["metadata.note", "a\\x1b[31m\\tb"] in done.rows


def test_what_a_token_does_not_allow(holdfast, guarded, monkeypatch):
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    done = holdfast("ls", "--server", guarded.url)
    assert (done.status, "[unauthorized]" in done.complaints) == (Status.NOT_ALLOWED, True)
    monkeypatch.setenv("HOLDFAST_TOKEN", mint(guarded.root, "read"))
    assert [row[0] for row in holdfast("ls", "team/runs", "-d", "--server", guarded.url).rows] == ["team/runs"]
    shown = holdfast("show", "team/runs/best", "--server", guarded.url, "--json")
    assert (shown.status, shown.json["reasons"]) == (0, None)
    assert holdfast("pin", "team/runs/best", "--server", guarded.url).status == Status.NOT_ALLOWED
    monkeypatch.setenv("HOLDFAST_TOKEN", mint(guarded.root, "read", prefix="other"))
    assert holdfast("ls", "team", "--server", guarded.url).status == Status.NOT_ALLOWED


def test_a_server_that_is_not_there(holdfast, free_port):
    done = holdfast("ls", "--server", f"http://127.0.0.1:{free_port}")
    assert (done.status, done.complaints.count("\n")) == (Status.UNREACHABLE, 1)


def test_the_summaries_of_commands_are_whole(holdfast):
    said = holdfast("--help").said.partition("Commands:")[2]
    assert "..." not in said
    assert "\u2026" not in said
    assert "remove the others" in " ".join(said.split())
