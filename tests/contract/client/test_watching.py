"""Events that a client watches: each once, also after a broken connection, and from the moment of the call."""

import threading
from itertools import islice

import pytest

from holdfast import CheckpointNotFound, Client, HoldfastWarning, ServerUnreachable
from holdfast._api import retry
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """Shorten the waits between attempts."""
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.1)


def epochs(events):
    return [int(event.data["name"][-7:-3]) for event in events]


def test_past_events_with_their_facts(client, server, directory):
    saved = server.save(directory, epoch=1)
    server.save(f"{directory}-other", epoch=1)
    server.http.patch(f"/v1/checkpoints/{saved['id']}", json={"pinned": True})
    first, second = islice(client.watch(directory, since=0), 2)
    assert (first.type, first.directory, first.checkpoint_id) == ("checkpoint.saved", directory, saved["id"])
    assert first.data == {"name": "checkpoint_epoch_0001.pt", "sequence": 1}
    assert (second.type, second.data["changed"]) == ("checkpoint.changed", ["pinned"])
    assert first.id < second.id
    assert first.at <= second.at
    assert next(client.watch(directory, since=first.id)) == second


def test_nothing_is_missed_between_the_call_and_the_first_event(client, server, directory):
    server.save(directory, epoch=1)
    events = client.watch(directory)
    for epoch in (2, 3):
        server.save(directory, epoch=epoch)
    assert epochs(islice(events, 2)) == [2, 3]


def test_no_event_is_lost_or_repeated_when_connections_break(server, directory, caplog):
    for epoch in range(3):
        server.save(directory, epoch=epoch)
    seen = []

    def cut_twice(up, piece):
        if not up and b"checkpoint.saved" in piece:
            seen.append(piece)
            return len(seen) in (1, 3)
        return False

    with Forwarder(server.url, watch=cut_twice) as forwarder, Client(forwarder.url) as client:
        events = client.watch(directory, since=0)
        found = [*islice(events, 3)]
        server.save(directory, epoch=3)
        server.save(directory, epoch=4)
        found += islice(events, 2)
    assert epochs(found) == list(range(5))
    assert len(seen) >= 4, "the connections were not cut"
    assert "trying again" in caplog.text


def test_it_resumes_where_it_began_if_the_connection_breaks_before_the_first_event(server, directory):
    pieces = []

    def cut_at_the_first(up, piece):
        if not up and b"checkpoint.saved" in piece:
            pieces.append(piece)
            return len(pieces) == 1
        return False

    with Forwarder(server.url, watch=cut_at_the_first) as forwarder, Client(forwarder.url) as client:
        events = client.watch(directory)
        server.save(directory, epoch=1)
        assert epochs(islice(events, 1)) == [1]
    assert len(pieces) == 2, "it was not cut off"


def test_a_restarted_server_is_found_again(own_server):
    with Client(own_server.url) as client:
        events = client.watch()
        own_server.save("runs/a", epoch=1)
        assert epochs(islice(events, 1)) == [1]
        own_server.restart()
        own_server.save("runs/a", epoch=2)
        assert epochs(islice(events, 1)) == [2]


def test_dropped_events_are_a_warning_and_newer_ones_follow(own_server):
    with Client(own_server.url) as client:
        own_server.save("runs/a", epoch=1)
        events = client.watch(since=0)
        assert epochs(islice(events, 1)) == [1]
        own_server.stop()
        (own_server.root / ".holdfast/catalog.db").unlink()
        own_server.start()
        with pytest.warns(HoldfastWarning, match="the catalog was rebuilt") as warned:
            event = next(events)
        assert (event.type, event.directory, event.checkpoint_id) == ("catalog.rebuilt", "", None)
        assert warned[0].filename == __file__
        own_server.save("runs/a", epoch=2)
        assert epochs(islice(events, 1)) == [2]


def test_a_position_that_no_event_has_is_refused_at_once(client, server, directory):
    server.save(directory)
    with pytest.raises(CheckpointNotFound) as raised:
        client.watch(directory, since=2**52)
    assert raised.value.code == "events_trimmed"
    with pytest.raises(ValueError, match="since"):
        client.watch(directory, since=-1)


def test_a_server_that_is_not_there_is_an_error_of_the_call(free_port):
    with pytest.raises(ServerUnreachable):
        Client(f"http://127.0.0.1:{free_port}", patience_s=0).watch()


def test_closing_the_client_ends_the_iteration_and_the_client_works_on(client, server, directory):
    server.save(directory, epoch=1)
    events, found, arrived = client.watch(directory, since=0), [], threading.Event()

    def follow():
        for event in events:
            found.append(event)
            arrived.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert arrived.wait(DEADLINE_S)
    client.close()
    thread.join(DEADLINE_S)
    assert not thread.is_alive()
    assert epochs(found) == [1]
    assert client.latest(directory).epoch == 1
    assert epochs(islice(client.watch(directory, since=0), 1)) == [1]
