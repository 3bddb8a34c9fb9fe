"""Hundreds of slow transfers: little memory for each, no thread, and no delay for other clients."""

import contextlib
import re
import select
import statistics
import threading
import time
from pathlib import Path

import pytest

from app.http.sockets.transfer import THREADS
from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer, query

pytestmark = pytest.mark.alone

LARGE = NOISE + NOISE  # more than the buffers of a connection hold
DOWNLOADS, UPLOADS = 200, 60
UPLOAD_BYTES, SENT_BYTES = 8 * MIB, 5 * MIB
BYTES_PER_DOWNLOAD = MIB
BYTES_PER_UPLOAD = 3 * MIB
OTHERS = 12
"""The threads that a server may have made for other work meanwhile."""

both_ways = pytest.mark.parametrize("has_handover", [True, False], ids=["handover", "plain"])


@pytest.fixture
def make_wired(tmp_path):
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(WiredServer(tmp_path / "root", **settings))


def resident_bytes(server):
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{server.process_id}/status").read_text(), re.M)
    return int(found[1]) * KIB


def download(server, saved):
    wire = server.wire(receive_buffer=16 * KIB)
    wire.send(server.ask("GET", f"/v1/checkpoints/{saved['id']}/content"))
    return wire


@contextlib.contextmanager
def slow_downloads(server, saved, *, reading):
    """Hold many downloads, of which each reads a little every second or nothing."""
    ended = threading.Event()
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(download(server, saved)) for _ in range(DOWNLOADS)]
        for wire in wires:
            assert wire.head().status == 200
        assert len(server.opened(saved["name"])) == DOWNLOADS

        def read():
            while not ended.is_set():
                for wire in wires:
                    if select.select([wire.socket], [], [], 0)[0]:
                        wire.socket.recv(64 * KIB)
                ended.wait(0.2)

        reader = threading.Thread(target=read)
        if reading:
            reader.start()
        try:
            yield wires
        finally:
            ended.set()
            if reading:
                reader.join()


@both_ways
def test_slow_downloads_take_little_memory_and_delay_no_other_client(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover)
    saved = server.save("runs/a", LARGE, name="large.pt")
    whole = f"/v1/checkpoints/{saved['id']}/content"
    assert server.http.get(whole).content == LARGE
    alone_s = [timed(server, whole) for _ in range(5)]
    before = resident_bytes(server)
    with slow_downloads(server, saved, reading=True):
        healths_s = [timed(server, "/health/live") for _ in range(100)]
        beside_s = [timed(server, whole) for _ in range(5)]
        assert resident_bytes(server) - before < DOWNLOADS * BYTES_PER_DOWNLOAD
    assert min(beside_s) < 5 * min(alone_s)  # the best of five, as this process reads all the others meanwhile
    assert statistics.median(healths_s) < statistics.median(alone_s)
    assert eventually(lambda: not server.opened("large.pt") and server.handed_over() == 0)


def timed(server, path):
    began = time.perf_counter()
    server.http.get(path).raise_for_status()
    return time.perf_counter() - began


@both_ways
def test_slow_uploads_take_little_memory_and_arrive_as_they_were_sent(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover)
    server.save("runs/a", NOISE, name="warm.pt")
    before = resident_bytes(server)
    data = [NOISE[number * KIB :][:UPLOAD_BYTES] for number in range(UPLOADS)]
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(server.wire()) for _ in range(UPLOADS)]
        for number, wire in enumerate(wires):
            save = "/v1/checkpoints" + query(directory=f"uploads/{number}", name="model.pt")
            wire.send(server.ask("POST", save, data[number]), data[number][:SENT_BYTES])
        assert eventually(lambda: not any(wire.unsent_bytes() for wire in wires))
        assert eventually(lambda: len(server.opened("/incoming/")) == UPLOADS)
        assert resident_bytes(server) - before < UPLOADS * BYTES_PER_UPLOAD
        for number, wire in enumerate(wires):
            wire.send(data[number][SENT_BYTES:])
        assert [wire.answer().status for wire in wires] == [201] * UPLOADS
    for number in range(UPLOADS):
        assert (server.root / "uploads" / str(number) / "model.pt").read_bytes() == data[number]


@both_ways
def test_stalled_downloads_hold_no_thread_and_leave_nothing_behind(make_wired, has_handover):
    server = make_wired(socket_handover=has_handover, idle_timeout_s="5")
    saved = server.save("runs/a", LARGE, name="large.pt")
    assert server.http.get(f"/v1/checkpoints/{saved['id']}/content").content == LARGE
    sockets = len(server.opened("socket:"))
    with slow_downloads(server, saved, reading=False):
        assert server.threads() < THREADS + 40 + OTHERS  # those that began the downloads are in a pool of 40
        assert eventually(lambda: not server.opened("large.pt"))
        assert server.handed_over() == 0
        assert len(server.opened("socket:")) <= sockets
    assert server.names("runs/a") == ["large.pt"]
