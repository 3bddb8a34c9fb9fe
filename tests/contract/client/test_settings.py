"""Settings of a client: those of a manager, without torch, and nothing is sent before the first call."""

import os
import subprocess
import sys

import pytest

import holdfast
from holdfast import CheckpointManager, Client, InvalidRequest, NotAllowed
from tests.support.forwarder import Forwarder
from tests.support.tokens import mint

WITHOUT_TORCH = """
import sys
import holdfast
known = set(sys.modules)
assert not any(name.startswith(("holdfast.client", "holdfast._query")) for name in known), "imported too early"
directory, to = sys.argv[1:]
with holdfast.Client() as client:
    events = client.watch(directory, since=0)
    best = client.best(directory)
    assert next(events).checkpoint_id == best.id
    assert client.directory(directory).count == len(client.checkpoints(directory)) == 1
    assert client.download(best, to).read_bytes() == b"bytes"
    client.tag(client.pin(best), "kept")
    client.change(best, metric=0.1)
    client.prune(directory)
    client.delete(client.unpin(best))
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def test_a_client_imports_no_torch(server, directory, tmp_path):
    server.save(directory, b"bytes", epoch=1, metric=0.5)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, directory, str(tmp_path / "a.pt")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "HOLDFAST_URL": server.url},
    )
    assert {"torch", "numpy", "pandas", "typer"} & set(done.stdout.split()) == set()


def test_a_name_that_is_not_public_is_an_attribute_error():
    assert set(holdfast.__all__) <= set(dir(holdfast))
    with pytest.raises(AttributeError, match="Clint"):
        holdfast.Clint  # noqa: B018


def test_constructing_and_closing_a_client_sends_nothing(server):
    with Forwarder(server.url) as forwarder, Client(forwarder.url):
        pass
    assert forwarder.connections == 0


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        pytest.param({"server": "ftp://host"}, InvalidRequest, id="a URL"),
        pytest.param({"token": "two words"}, ValueError, id="a token"),
        pytest.param({"timeout_s": 0}, ValueError, id="no time"),
        pytest.param({"patience_s": "long"}, TypeError, id="a text as time"),
        pytest.param({"prefix": "../up"}, InvalidRequest, id="a prefix"),
        pytest.param({"prefix": 3}, TypeError, id="a number as prefix"),
    ],
)
def test_a_setting_that_cannot_work_is_refused_at_once(options, kind):
    with pytest.raises(kind):
        Client(**options)


def test_the_environment_sets_the_server_and_the_token(guarded, monkeypatch, tmp_path):
    monkeypatch.setenv("HOLDFAST_URL", guarded.url)
    token = mint(guarded.root, "read")
    monkeypatch.setenv("HOLDFAST_TOKEN", token)
    assert Client().latest("team/runs").epoch == 1
    monkeypatch.delenv("HOLDFAST_TOKEN")
    (tmp_path / "token").write_text(token)
    monkeypatch.setenv("HOLDFAST_TOKEN_FILE", str(tmp_path / "token"))
    assert Client().latest("team/runs").epoch == 1
    assert Client(token_file=tmp_path / "token").latest("team/runs").epoch == 1
    monkeypatch.delenv("HOLDFAST_TOKEN_FILE")
    with pytest.raises(NotAllowed):
        Client().latest("team/runs")


def test_a_token_with_a_prefix_reaches_what_is_below_it(guarded, directory):
    admin = mint(guarded.root, "admin")
    for name in (f"team/{directory}", f"other/{directory}"):
        CheckpointManager(name, server=guarded.url, token=admin).save({}, epoch=1, metric=0.5)
    with Client(guarded.url, token=mint(guarded.root, "read", prefix="team")) as client:
        assert client.best(f"team/{directory}").epoch == 1
        for ask in (client.best, client.directory, client.checkpoints, client.directories, client.watch):
            with pytest.raises(NotAllowed, match="'team'"):
                ask(f"other/{directory}")
        with pytest.raises(NotAllowed, match="'write'"):
            client.pin(f"team/{directory}/best")


@pytest.mark.parametrize("by_environment", [True, False], ids=["environment", "argument"])
def test_names_go_without_the_prefix_both_ways(server, directory, monkeypatch, by_environment):
    saved = server.save(f"team/{directory}", name="a.pt", metric=0.5)
    if by_environment:
        monkeypatch.setenv("HOLDFAST_PREFIX", "team")
    with Client(server.url, prefix=None if by_environment else "/team/") as client:
        events = client.watch(directory, since=0)
        assert (event := next(events)).directory == directory
        assert event.checkpoint_id == saved["id"]
        [found] = client.directories(directory)
        assert (found.name, found.server_name, found.latest.directory) == (directory, f"team/{directory}", directory)
        best = client.best(found)
        assert (best.path, best.server_directory) == (f"{directory}/a.pt", f"team/{directory}")
        assert client.checkpoint(best.path) == best == client.checkpoints(directory)[0]
        assert client.prune(directory, policy={"max_checkpoints": 0}).directories[0].directory == directory
        assert directory in [each.name for each in client.directories()]
        client.delete(best.path)
    monkeypatch.setenv("HOLDFAST_PREFIX", "team")
    assert Client(server.url, prefix="").directory(f"team/{directory}").count == 0
