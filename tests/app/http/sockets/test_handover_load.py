"""Many slow clients, and a server that shuts down, with and without socket handover."""

import contextlib
import re
import threading

import pytest

from app.http.sockets.transfer import THREADS
from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer, query

DATA = NOISE[: 12 * MIB]
LARGE = NOISE * 2  # more than the buffers of a connection hold
SLICE = 300 * KIB
PATIENT = "300"  # seconds that a stopping server waits for transfers, however slow the machine is

both_ways = pytest.mark.parametrize("has_handover", [True, False], ids=["handover", "plain"])


@pytest.fixture
def make_wired(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(WiredServer(tmp_path / "root", **settings))


# slow clients


def stalled_upload(server, place, number):
    """Begin an upload that stops after its first byte; a call of the result sends the rest."""
    wire = server.wire()
    part = NOISE[number * SLICE : (number + 1) * SLICE]
    wire.send(server.ask("PUT", place + query(offset=number * SLICE), part), part[:1])

    def go_on():
        wire.send(part[1:])
        assert wire.answer().status == 200

    return wire, go_on


def stalled_download(server, saved):
    """Begin a download whose client does not read; a call of the result reads everything."""
    wire = server.wire(receive_buffer=16 * KIB)
    wire.send(server.ask("GET", f"/v1/checkpoints/{saved['id']}/content"))
    return wire, lambda: wire.answer().body == LARGE


@both_ways
def test_many_slow_clients_do_not_delay_other_clients(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover)
    uploads, downloads = 50, 40
    assert min(uploads, downloads) > THREADS
    large = server.save("runs/a", LARGE, name="large.pt")
    place = server.begin("runs/a", NOISE, name="slow.pt", cut=None)
    with contextlib.ExitStack() as stack:
        stalled = [stalled_upload(server, place, number) for number in range(uploads)]
        stalled += [stalled_download(server, large) for _ in range(downloads)]
        for wire, _ in stalled:
            stack.enter_context(wire)
        assert eventually(lambda: server.handed_over() == (uploads + downloads if has_handover else 0))
        assert eventually(lambda: len(server.opened("large.pt")) == downloads)
        assert eventually(lambda: len(server.received_files(place)) == uploads)

        assert server.http.get("/health/live").status_code == 200
        assert server.names("runs/a") == ["large.pt"]
        other = server.begin("runs/a", DATA, name="other.pt")
        server.http.put(other, content=DATA).raise_for_status()
        assert server.commit(other) == DATA
        assert server.save("runs/a", DATA, name="more.pt")["size_bytes"] == len(DATA)
        assert server.http.get(f"/v1/checkpoints/{large['id']}/content").content == LARGE

        for _, go_on in (stalled[0], stalled[uploads - 1], stalled[uploads], stalled[-1]):
            assert go_on() is not False
    assert eventually(lambda: server.handed_over() == 0 and not server.opened("large.pt"))
    assert "Traceback" not in server.log()


@both_ways
def test_others_are_answered_while_many_upload(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover)
    data = memoryview(LARGE)[: 32 * MIB]
    server.save("runs/a", b"bytes", name="a.pt")
    faults, under_way = [], threading.Semaphore(0)

    def upload(place):
        with server.wire() as wire:
            for _ in range(3):
                wire.send(server.ask("PUT", place, data))
                under_way.release()
                wire.send(data)
                if (answer := wire.answer()).status != 200:
                    faults.append(answer)

    places = [server.begin("runs/a", data, name=f"{number}.pt", cut=None) for number in range(4)]
    threads = [threading.Thread(target=upload, args=[place]) for place in places]
    for thread in threads:
        thread.start()
    under_way.acquire()
    answers = 0
    while any(thread.is_alive() for thread in threads):
        assert server.http.get("/health/live").status_code == 200
        assert server.names("runs/a") == ["a.pt"]
        answers += 1
    for thread in threads:
        thread.join()
    assert faults == []
    assert answers >= 3
    stall = re.search(r"^holdfast_event_loop_stall_seconds (\S+)$", server.http.get("/metrics").text, re.M)
    assert stall is not None
    assert 0 <= float(stall[1]) < 1
    assert all(server.commit(place) == data for place in places)


# the server is shutting down


@both_ways
def test_a_body_in_progress_is_received_before_the_server_stops(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover, shutdown_timeout_s=PATIENT)
    place = server.begin("runs/a", DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), DATA[: 6 * MIB])
        assert eventually(lambda: server.missing(place) == [(4 * MIB, 8 * MIB)])
        with server.stopping(while_it_waits=True):
            wire.send(DATA[6 * MIB :])
            assert wire.answer().status == 200
            assert wire.is_ended()
    assert "Traceback" not in server.log()
    upload, _, path = place.removeprefix("/v1/uploads/").partition("/")
    assert (server.root / ".holdfast" / "incoming" / upload / path).read_bytes() == DATA


@both_ways
def test_a_body_that_ends_after_the_time_limit_is_answered_before_the_server_stops(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover, shutdown_timeout_s="1")
    place = server.begin("runs/a", DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), DATA[:-KIB])
        with server.stopping():
            wire.send(DATA[-KIB:])
            answer = wire.answer()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert wire.is_ended()


@both_ways
def test_a_download_in_progress_is_finished_before_the_server_stops(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover, shutdown_timeout_s=PATIENT)
    saved = server.save("runs/a", LARGE)
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(server.ask("GET", f"/v1/checkpoints/{saved['id']}/content"))
        found = wire.head()
        assert found.status == 200
        begun = wire.read(MIB)
        with server.stopping(while_it_waits=True):
            assert begun + wire.read(len(LARGE) - MIB) == LARGE
            assert wire.is_ended()
    assert "Traceback" not in server.log()


@both_ways
def test_clients_that_stall_do_not_keep_the_server_from_stopping(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover, shutdown_timeout_s="1")
    saved = server.save("runs/a", LARGE, name="large.pt")
    place = server.begin("runs/a", DATA, name="begun.pt")
    with server.wire(receive_buffer=16 * KIB) as reader, server.wire() as writer:
        reader.send(server.ask("GET", f"/v1/checkpoints/{saved['id']}/content"))
        assert reader.head().status == 200
        writer.send(server.ask("PUT", place, DATA), DATA[: 6 * MIB])
        assert eventually(lambda: server.missing(place) == [(4 * MIB, 8 * MIB)])
        assert eventually(lambda: server.handed_over() == (2 if has_handover else 0))
        with server.stopping():
            pass
    assert "never retrieved" not in server.log()
    server.start()
    assert server.missing(place) == [(4 * MIB, 8 * MIB)]
    server.http.put(place, content=DATA).raise_for_status()
    assert server.commit(place) == DATA
