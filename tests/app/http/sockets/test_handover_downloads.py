"""Downloads of large files by all kinds of clients, with and without socket handover."""

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer

DATA = NOISE[: 5 * MIB]
LARGE = NOISE * 2  # more than the buffers of a connection hold


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    with WiredServer(tmp_path_factory.mktemp("wired") / "root", socket_handover=request.param) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(server):
    with server.keeping_quiet():
        yield


@pytest.fixture(scope="module")
def kept(server):
    return server.save("runs/kept", DATA, name="kept.pt")


@pytest.fixture(scope="module")
def large(server):
    return server.save("runs/kept", LARGE, name="large.pt")


def content(saved):
    return f"/v1/checkpoints/{saved['id']}/content"


@pytest.mark.parametrize(
    ("asked", "status", "start", "stop"),
    [
        pytest.param({}, 200, 0, 5 * MIB, id="whole"),
        pytest.param({"Range": "bytes=0-1048575"}, 206, 0, MIB, id="the beginning"),
        pytest.param({"Range": "bytes=1000001-4999999"}, 206, 1_000_001, 5_000_000, id="the middle"),
        pytest.param({"Range": "bytes=-700000"}, 206, 5 * MIB - 700_000, 5 * MIB, id="the end"),
        pytest.param({"Range": "bytes=5-262147"}, 206, 5, 262_148, id="just too small for a handover"),
        pytest.param({"Range": "bytes=5-262148"}, 206, 5, 262_149, id="just large enough for a handover"),
        pytest.param({"Range": "bytes=7-7"}, 206, 7, 8, id="one byte"),
        pytest.param({"Range": "bytes=0-9,20-29"}, 200, 0, 5 * MIB, id="several ranges"),
        pytest.param({"Range": "bytes=9-5242879", "If-Range": "{etag}"}, 206, 9, 5 * MIB, id="if it is the same"),
        pytest.param({"Range": "bytes=9-5242879", "If-Range": '"x"'}, 200, 0, 5 * MIB, id="if it is another"),
        pytest.param({"If-Match": "{etag}"}, 200, 0, 5 * MIB, id="as wanted"),
        pytest.param({"If-None-Match": "{etag}"}, 304, 0, 0, id="known"),
        pytest.param({"If-Match": '"x"'}, 412, 0, 0, id="not the one wanted"),
        pytest.param({"Range": "bytes=5242880-"}, 416, None, None, id="beyond"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_the_bytes_that_were_asked_for_come(server, kept, asked, status, start, stop, method, version):
    asked = {name: value.format(etag=f'"{kept["files"][0]["digest"]}"') for name, value in asked.items()}
    if method == "HEAD" and status in (206, 416):
        status, start, stop = 200, 0, 5 * MIB
    with server.wire() as wire:
        wire.send(server.ask(method, content(kept), version=version, **asked))
        found = wire.head()
        assert found.status == status
        length = int(found.headers.get("content-length", "0"))
        body = wire.read(0 if method == "HEAD" else length)
        if start is not None:
            assert length == stop - start or status in (304, 412)
            assert body == (b"" if method == "HEAD" else DATA[start:stop])
        if status == 206:
            assert found.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
        if version == "1.0":
            assert wire.is_ended()
        else:
            wire.send(server.live)
            assert wire.answer().status == 200


def test_a_connection_gives_one_file_after_another(server, kept, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        for _ in range(3):
            wire.send(server.ask("GET", content(kept)))
            assert wire.answer().body == DATA
            wire.send(server.ask("PUT", place, DATA), DATA)
            assert wire.answer().status == 200
    assert server.commit(place) == DATA


def test_downloads_and_uploads_that_are_asked_for_at_once_come_in_order(server, kept, directory):
    place = server.begin(directory, DATA)
    get, put = server.ask("GET", content(kept)), server.ask("PUT", place, DATA) + DATA
    with server.wire() as wire:
        wire.send(get, get, server.live)
        assert [wire.answer().body == DATA for _ in range(3)] == [True, True, False]
        wire.send(get, put[: -len(DATA)], DATA[: 64 * KIB])
        assert wire.answer().body == DATA
        wire.send(DATA[64 * KIB :])
        assert wire.answer().status == 200
        wire.send(put, get)
        assert wire.answer().status == 200
        assert wire.answer().body == DATA
    assert server.commit(place) == DATA


def test_a_question_that_comes_with_a_body_is_answered_all_the_same(server, kept):
    with server.wire() as wire:
        wire.send(server.ask("GET", content(kept), DATA), DATA)
        assert wire.answer().body == DATA
        wire.send(server.live)
        assert wire.answer().status == 200


def test_a_slow_reader_gets_everything(server, large):
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(server.ask("GET", content(large)))
        assert wire.head().status == 200
        for start in range(0, len(LARGE), MIB):
            assert wire.read(MIB) == LARGE[start : start + MIB]
            server.http.get("/health/live").raise_for_status()
        wire.send(server.live)
        assert wire.answer().status == 200


@pytest.mark.parametrize("read", [0, 1, 9 * MIB])
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_a_reader_that_leaves_is_forgotten(server, large, read, reset):
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(server.ask("GET", content(large)))
        wire.head()
        wire.read(read)
        assert eventually(lambda: server.opened("large.pt"))
        assert eventually(lambda: server.handed_over() == server.has_handover)
        wire.leave(reset=reset)
    assert eventually(lambda: not server.opened("large.pt") and server.handed_over() == 0)


def test_a_reader_that_leaves_with_further_questions_open_is_forgotten(server, large):
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(*[server.ask("GET", content(large))] * 3, server.live)
        assert wire.head().status == 200
        assert eventually(lambda: server.opened("large.pt"))
    assert eventually(lambda: not server.opened("large.pt") and server.handed_over() == 0)


def test_a_hundred_readers_that_leave_leave_nothing_behind(server, large):
    def ten():
        for number in range(10):
            with server.wire(receive_buffer=16 * KIB) as wire:
                wire.send(server.ask("GET", content(large)))
                wire.head()
                wire.leave(reset=bool(number % 2))
        assert eventually(lambda: not server.opened("large.pt") and server.handed_over() == 0)
        return server.threads(), len(server.opened())

    threads, descriptors = ten()
    for _ in range(10):
        now = ten()
    assert now[0] <= threads + 12  # the size of the thread pool
    assert now[1] <= descriptors + 3


def test_a_reader_gets_all_of_a_file_that_is_removed_meanwhile(server, directory):
    saved = server.save(directory, LARGE, name="going.pt")
    with server.wire(receive_buffer=16 * KIB) as wire:
        wire.send(server.ask("GET", content(saved)))
        assert wire.head().status == 200
        begun = wire.read(MIB)
        server.http.delete(f"/v1/checkpoints/{saved['id']}").raise_for_status()
        server.wait_until_freed()
        assert not (server.root / directory / "going.pt").exists()
        assert begun + wire.read(len(LARGE) - MIB) == LARGE
        wire.send(server.ask("GET", content(saved)))
        assert wire.answer().code == "checkpoint_removed"
    assert eventually(lambda: not server.opened("going.pt"))
