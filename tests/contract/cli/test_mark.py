"""holdfast pin, tag, rm, restore and prune: changes, confirmation, and messages about undo."""

import pytest

from holdfast.cli.commands import mark
from holdfast.cli.statuses import Status
from tests.support.tokens import bearer, mint


@pytest.fixture
def paths(server, directory):
    """Three checkpoints; the second is the best."""
    for epoch, metric in enumerate([0.5, 0.1, 0.3]):
        server.save(directory, b"bytes", epoch=epoch, metric=metric)
    return [f"{directory}/checkpoint_epoch_{epoch:04d}.pt" for epoch in range(3)]


def test_pins(holdfast, directory, paths):
    assert holdfast("pin", *paths[:2]).rows == [[paths[0], "pinned"], [paths[1], "pinned"]]
    assert holdfast("unpin", paths[0]).rows == [[paths[0], "no marks"]]
    [found] = holdfast("pin", "--off", f"{directory}/best", "--json").json["checkpoints"]
    assert (found["name"], found["pinned"]) == ("checkpoint_epoch_0001.pt", False)


def test_tags(holdfast, paths):
    assert holdfast("tag", paths[0], "--add", "a", "-a", "b").rows == [[paths[0], "#a, #b"]]
    assert holdfast("tag", paths[0], "--add", "c", "--add", "b", "--remove", "a").rows == [[paths[0], "#b, #c"]]
    assert holdfast("tag", paths[0]).status == Status.MISUSE


def test_nothing_is_changed_where_one_is_not_found(holdfast, paths, directory):
    assert holdfast("pin", paths[0], f"{directory}/none").status == Status.NOT_FOUND
    assert holdfast("rm", "--yes", paths[0], f"{directory}/none").status == Status.NOT_FOUND
    assert len(holdfast("ls", directory).rows) == 3
    assert holdfast("unpin", paths[0]).rows == [[paths[0], "no marks"]]


def test_a_removal_without_a_terminal_needs_yes(holdfast, paths, directory):
    for arguments in (["rm", paths[0]], ["rm", "--all", directory]):
        done = holdfast(*arguments)
        assert (done.status, "confirm with --yes" in done.complaints) == (Status.MISUSE, True)
    assert len(holdfast("ls", directory).rows) == 3


def test_removing(holdfast, paths, server, directory):
    assert holdfast("rm", "--yes", *paths[:2]).rows == [[path, "removed", "cannot be undone"] for path in paths[:2]]
    assert server.names(directory) == ["checkpoint_epoch_0002.pt"]
    assert holdfast("restore", paths[0]).status == Status.NOT_FOUND


def test_what_is_pinned_is_not_removed_and_the_others_are(holdfast, paths, server, directory):
    holdfast("pin", paths[0])
    alone = holdfast("rm", "-y", paths[0])
    assert (alone.status, "[pinned]" in alone.complaints) == (Status.NO, True)
    both = holdfast("rm", "-y", *paths[:2])
    assert (both.status, [row[0] for row in both.rows]) == (Status.NO, [paths[1]])
    everything = holdfast("rm", "-y", "--all", directory)
    assert (everything.status, "pinned checkpoints stay" in everything.complaints) == (Status.NO, True)
    assert everything.rows == [[directory, "removed 1 checkpoint, 5 B", "cannot be undone"]]
    assert server.names(directory) == ["checkpoint_epoch_0000.pt"]
    assert holdfast("rm", "-y", "--include-pinned", paths[0]).status == Status.MISUSE
    document = holdfast("rm", "-y", "--all", "--include-pinned", directory, "--json").json
    assert document["directories"][0]["removed"] == ["checkpoint_epoch_0000.pt"]
    assert holdfast("rm", "-y", "--all", "no/where").status == Status.NOT_FOUND


def test_a_removal_is_undone(holdfast, guarded, directory, monkeypatch):
    there = ("--server", guarded.url)
    monkeypatch.setenv("HOLDFAST_TOKEN", token := mint(guarded.root, "admin"))
    for data in (b"old", b"new"):
        query = {"directory": directory, "name": "a.pt"}
        guarded.http.post("/v1/checkpoints", params=query, content=data, headers=bearer(token)).raise_for_status()
    path = f"{directory}/a.pt"
    assert holdfast("restore", path, *there).status == Status.NO, "it is there"
    assert holdfast("rm", "-y", path, *there).rows == [[path, "removed", "can be restored: holdfast restore"]]
    assert holdfast("ls", directory, "--removed", *there).rows[0][6] == "deleted (can be restored)"
    assert holdfast("restore", path, *there).rows == [[path, "restored"]]
    assert holdfast("get", path, "-o", "-", *there).raw == b"new"
    assert holdfast("restore", f"{directory}/never", *there).status == Status.NOT_FOUND
    [cleared] = holdfast("rm", "-y", "--all", directory, *there).rows
    assert (cleared[0], cleared[2]) == (directory, "can be restored: holdfast restore")


def policy(server, directory, **limits):
    assert server.http.put(f"/v1/directories/{directory}", json=limits).status_code == 200


def test_pruning(holdfast, paths, server, directory):
    policy(server, directory, max_checkpoints=1, max_best_checkpoints=0)
    dry = holdfast("prune", directory, "--dry-run")
    assert [(row[0], row[3], row[4]) for row in dry.rows] == [
        (paths[2], "stays", "newest, last 1 of 1"),
        (paths[1], "goes", "-"),
        (paths[0], "goes", "-"),
    ]
    assert len(server.names(directory)) == 3
    assert holdfast("prune", directory).status == Status.MISUSE, "there is no terminal to confirm on"
    document = holdfast("prune", "--prefix", directory, "--yes", "--json").json
    assert (document["dry_run"], document["freed_bytes"]) == (False, 10)
    assert server.names(directory) == ["checkpoint_epoch_0002.pt"]
    assert holdfast("prune", directory).status == 0, "there is nothing to ask about"


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["runs/a", "--prefix", "runs"], id="both"),
        pytest.param(["runs/a", "--last", "3"], id="another policy, for good"),
        pytest.param(["--prefix", "runs", "--last", "3", "--dry-run"], id="another policy, everywhere"),
    ],
)
def test_prunings_that_make_no_sense(holdfast, arguments):
    assert holdfast("prune", *arguments, "--yes").status == Status.MISUSE


def test_another_policy_is_tried(holdfast, paths, server, directory):
    policy(server, directory, max_checkpoints=3, mode="min")
    for options, staying in [
        (["--last", 1, "--best", 0], [2]),
        (["--last", 1, "--best", 1], [2, 1]),
        (["--last", 1, "--best", 1, "--mode", "max"], [2, 0]),
        (["--last", 0, "--best", 0, "--every", 2], [2, 0]),
    ]:
        done = holdfast("prune", directory, "--dry-run", *options)
        assert done.status == 0
        assert [int(row[0][-4]) for row in done.rows if row[3] == "stays"] == staying, options
    assert len(server.names(directory)) == 3
    assert server.http.get(f"/v1/directories/{directory}").json()["policy"]["max_checkpoints"] == 3


@pytest.mark.parametrize(
    ("answer", "wanted"), [("y\n", True), ("YES\n", True), ("\n", False), ("no\n", False), ("", False)]
)
def test_only_a_yes_is_one(monkeypatch, capsys, answer, wanted):
    class Terminal:
        isatty = staticmethod(lambda: True)
        readline = staticmethod(lambda: answer)

    monkeypatch.setattr(mark.sys, "stdin", Terminal)
    monkeypatch.setattr(mark.sys.stderr, "isatty", lambda: True, raising=False)
    assert mark.confirmed("Remove it?", yes=False) is wanted
    assert capsys.readouterr().err == "Remove it? [y/N] "


def test_removing_a_directory_needs_all(holdfast, server, directory):
    server.save(directory, epoch=1)
    done = holdfast("rm", "--yes", directory)
    assert (done.status, "is a directory: use --all to remove all its checkpoints" in done.complaints) == (2, True)
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).json()["checkpoints"]
    assert "both given" in holdfast("prune", directory, "--prefix", "x").complaints
