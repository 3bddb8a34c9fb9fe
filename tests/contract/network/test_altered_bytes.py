"""A network that garbles a byte of a message: the receiver notices, and nothing is accepted."""

import pytest

from holdfast import ServerUnreachable
from holdfast._api.directory import RemoteDirectory
from holdfast._api.server import Server
from tests.support.forwarder import Forwarder


class Garbling:
    """Replace bytes in each message that has them, in one direction."""

    def __init__(self, old, new, *, up):
        assert len(old) == len(new)
        self.old, self.new, self.up = old, new, up
        self.count = 0

    def __call__(self, up, piece):
        if up is not self.up:
            return piece
        self.count += piece.count(self.old)
        return piece.replace(self.old, self.new)


@pytest.fixture
def garbling(server):
    """A forwarder to the server that replaces bytes, its log, and a client behind it."""
    forwarders = []

    def make(old, new, *, up):
        change = Garbling(old, new, up=up)
        forwarder = Forwarder(server.url, change=change).__enter__()
        forwarders.append(forwarder)
        return change, Server(forwarder.url, patience_s=0)

    yield make
    for forwarder in forwarders:
        forwarder.__exit__(None, None, None)


def reservation(directory):
    return {"directory": directory, "name": "a.pt", "metric": 0.25, "files": [{"size_bytes": 3}]}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param(b'"metric":0.25', b'"metric":0.35', id="a metric"),
        pytest.param(b'"name":"a.pt"', b'"name":"b.pt"', id="a name"),
        pytest.param(b'"name":"a.pt"', b'"game":"a.pt"', id="a field"),
        pytest.param(b'"files":[', b'"files":{', id="what is JSON no more"),
    ],
)
def test_a_request_that_was_altered_is_refused(server, directory, garbling, old, new):
    change, client = garbling(old, new, up=True)
    before = server.incoming()
    with pytest.raises(ServerUnreachable) as raised:
        client.call("POST", "/v1/uploads", body=reservation(directory))
    assert raised.value.code == "body_altered"
    assert change.count == 1
    assert server.incoming() == before


def test_without_the_digest_it_would_be_taken(server, directory, garbling):
    change, client = garbling(b'"metric":0.25', b'"metric":0.35', up=True)
    body = b'{"directory":"%s","metric":0.25,"files":[{"size_bytes":3}]}' % directory.encode()
    headers = {"Content-Type": "application/json"}
    assert server.http.post(f"{client.url}/v1/uploads", content=body, headers=headers).status_code == 201
    assert change.count == 1


def test_names_of_any_script_arrive_as_they_were_sent(server, directory, garbling):
    _, client = garbling(b"nothing", b"nothing", up=True)
    name = "überprüft-模型.pt"
    upload = client.call("POST", "/v1/uploads", body={**reservation(directory), "name": name})
    assert upload["name"] == name


def test_an_answer_that_was_altered_is_not_believed(server, directory, garbling):
    server.save(directory, epoch=1, metric=0.25)
    change, client = garbling(b'"metric":0.25', b'"metric":0.35', up=False)
    with pytest.raises(ServerUnreachable, match="was altered on its way"):
        RemoteDirectory(client, directory).latest()
    with pytest.raises(ServerUnreachable, match="was altered on its way"):
        list(RemoteDirectory(client, directory).checkpoints())
    assert change.count == 2


def test_a_refusal_that_was_altered_is_not_believed(directory, garbling):
    change, client = garbling(b"directory_not_found", b"directory_not_bound", up=False)
    with pytest.raises(ServerUnreachable, match="was altered on its way"):
        RemoteDirectory(client, directory).latest()
    assert change.count == 2  # in the code and in the type


def test_an_answer_whose_digest_was_altered_is_not_believed(garbling):
    _, client = garbling(b"content-digest: sha-256=:", b"content-digest: sha-256=;", up=False)
    with pytest.raises(ServerUnreachable, match="was altered on its way"):
        client.call("GET", "/v1/info")


def test_answers_of_servers_that_give_no_digest_are_believed(garbling):
    change, client = garbling(b"content-digest", b"x-older-server", up=False)
    assert client.call("GET", "/v1/info")["api"] == "v1"
    assert change.count == 1


def test_another_directorys_checkpoints_are_not_taken_for_this_ones(server, directory, garbling):
    there = directory.replace("/checkpoints", "/checkpointz")
    server.save(there, epoch=1, metric=0.25)
    server.save(directory, epoch=2, metric=0.5)
    change, client = garbling(b"%2Fcheckpoints", b"%2Fcheckpointz", up=True)
    remote = RemoteDirectory(client, directory)
    for ask in (lambda: remote.best("min"), remote.latest, lambda: list(remote.checkpoints())):
        with pytest.raises(ServerUnreachable, match="about another directory"):
            ask()
    assert change.count == 3


@pytest.mark.parametrize("exists", [False, True])
def test_that_another_directory_is_empty_says_nothing_of_this_one(server, directory, garbling, exists):
    there = directory.replace("/checkpoints", "/checkpointz")
    if exists:
        server.http.put(f"/v1/directories/{there}", json={"max_checkpoints": 1}).raise_for_status()
    server.save(directory, epoch=2, metric=0.5)
    _, client = garbling(b"%2Fcheckpoints", b"%2Fcheckpointz", up=True)
    remote = RemoteDirectory(client, directory)
    for ask in (lambda: remote.best("min"), remote.latest):
        with pytest.raises(ServerUnreachable, match="about another directory"):
            ask()


def test_another_checkpoint_is_not_taken_for_the_one_that_was_named(server, directory, garbling):
    server.save(directory, name="a.pt")
    server.save(directory, b"others", name="b.pt")
    _, client = garbling(b"name=a.pt", b"name=b.pt", up=True)
    with pytest.raises(ServerUnreachable, match="about another checkpoint"):
        RemoteDirectory(client, directory).named("a.pt")
