"""Large bodies over every form of HTTP, with and without socket handover."""

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer, query

DATA = NOISE[: 5 * MIB]
SIZES = [300 * KIB, 4 * MIB + 1, 20 * MIB]


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    with WiredServer(tmp_path_factory.mktemp("wired") / "root", socket_handover=request.param) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(server):
    with server.keeping_quiet():
        yield


def test_a_socket_is_handed_over_for_large_bodies_only(server, directory):
    place = server.begin(directory, DATA, cut=None)
    with server.wire() as small, server.wire() as large, server.wire() as chunked:
        small.send(server.ask("PUT", place, DATA[: 256 * KIB - 1]), b"x")
        chunked.send(server.ask("PUT", f"{place}?length={MIB}", Transfer_Encoding="chunked"), b"80000\r\nx")
        large.send(server.ask("PUT", place, DATA), b"x")
        assert eventually(lambda: len(server.received_files(place)) == 3)
        assert eventually(lambda: server.handed_over() == server.has_handover)
    assert eventually(lambda: server.handed_over() == 0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [MIB, None], ids=["declared", "undeclared"])
def test_a_range_arrives_as_it_was_sent(server, directory, size, cut):
    data = NOISE[:size]
    place = server.begin(directory, data, cut=cut)
    answer = server.http.put(place, content=data)
    assert (answer.status_code, answer.json()["length"]) == (200, size)
    assert server.commit(place) == data


@pytest.mark.parametrize("size", SIZES)
def test_a_single_shot_arrives_as_it_was_sent(server, directory, size):
    data = NOISE[:size]
    saved = server.save(directory, data, save_id="the-same-save")
    assert (saved["size_bytes"], (server.root / directory / saved["name"]).read_bytes() == data) == (size, True)
    again = server.http.post(
        "/v1/checkpoints", params={"directory": directory, "save_id": "the-same-save"}, content=data
    )
    assert (again.status_code, again.json()["id"]) == (200, saved["id"])


def test_a_connection_takes_one_request_after_another(server, directory):
    data = NOISE[: 8 * MIB]
    place = server.begin(directory, data)
    with server.wire() as wire:
        for offset in range(0, len(data), 2 * MIB):
            part = data[offset : offset + 2 * MIB]
            wire.send(server.ask("PUT", place + query(offset=offset), part), part)
            assert wire.answer().status == 200
            wire.send(server.live)
            assert wire.answer().status == 200
        shot = server.ask("POST", "/v1/checkpoints" + query(directory=directory, name="other.pt"), DATA)
        wire.send(shot, DATA)
        assert wire.answer().status == 201
        wire.send(server.live)
        assert wire.answer().status == 200
    assert server.commit(place) == data
    assert (server.root / directory / "other.pt").read_bytes() == DATA


@pytest.mark.parametrize("size", [300 * KIB, 5 * MIB])
@pytest.mark.parametrize(
    "order",
    [
        pytest.param("PL", id="a question behind a body"),
        pytest.param("LP", id="a body behind a question"),
        pytest.param("PP", id="a body behind a body"),
        pytest.param("LPLLPPL", id="many of both"),
    ],
)
def test_requests_are_answered_in_the_order_in_which_they_were_sent_at_once(server, directory, size, order):
    data = NOISE[:size]
    place = server.begin(directory, data)
    put = server.ask("PUT", place, data) + data
    with server.wire() as wire:
        wire.send(*(put if kind == "P" else server.live for kind in order))
        answers = [wire.answer() for _ in order]
        assert [answer.status for answer in answers] == [200] * len(order)
        assert ["P" if b'"offset"' in answer.body else "L" for answer in answers] == list(order)
        wire.send(server.live)
        assert wire.answer().status == 200
    assert server.commit(place) == data


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_a_request_that_is_the_last_one_is_answered_and_the_connection_ended(server, directory, version):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(
            server.ask("PUT", place, DATA, version, **({"Connection": "close"} if version == "1.1" else {})), DATA
        )
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert wire.is_ended()
    assert server.commit(place) == DATA


def test_a_client_that_expects_100_gets_it(server, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        for _ in range(2):
            wire.send(server.ask("PUT", place, DATA, Expect="100-continue"))
            assert wire.head() == (100, {}, b"")
            wire.send(DATA)
            assert wire.answer().status == 200
    assert server.commit(place) == DATA


def test_a_client_that_asks_first_and_does_not_wait_is_served(server, directory):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA, Expect="100-continue"), DATA)
        answer = wire.answer()
        assert (wire.answer() if answer.status == 100 else answer).status == 200
    assert server.commit(place) == DATA


def chunked(data, piece):
    for start in range(0, len(data), piece):
        part = data[start : start + piece]
        yield b"%x\r\n%b\r\n" % (len(part), part)
    yield b"0\r\n\r\n"


@pytest.mark.parametrize("piece", [10_000, 700 * KIB, 5 * MIB])
def test_a_body_in_chunks_arrives_as_it_was_sent(server, directory, piece):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place + query(length=len(DATA)), Transfer_Encoding="chunked"))
        wire.send(*chunked(DATA, piece), server.live)
        assert [wire.answer().status, wire.answer().status] == [200, 200]
        shot = "/v1/checkpoints" + query(directory=directory, name="other.pt")
        wire.send(server.ask("POST", shot, Transfer_Encoding="chunked"), *chunked(DATA, piece))
        assert wire.answer().status == 201
    assert server.commit(place) == DATA
    assert (server.root / directory / "other.pt").read_bytes() == DATA


@pytest.mark.parametrize(
    ("length", "body", "in_chunks"),
    [
        pytest.param(2 * MIB, MIB, False, id="shorter"),
        pytest.param(MIB, 2 * MIB, False, id="longer"),
        pytest.param(2 * MIB, MIB, True, id="shorter, in chunks"),
        pytest.param(MIB, 2 * MIB, True, id="longer, in chunks"),
        pytest.param(9 * MIB, 9 * MIB, False, id="beyond the file"),
    ],
)
def test_a_body_of_another_length_than_declared_is_refused(server, directory, length, body, in_chunks):
    place = server.begin(directory, DATA)
    data = NOISE[:body]
    target = place + query(length=length)
    with server.wire() as wire:
        if in_chunks:
            wire.send(server.ask("PUT", target, Transfer_Encoding="chunked"), *chunked(data, 100_000))
        else:
            wire.send(server.ask("PUT", target, data), data)
        answer = wire.answer()
        assert (answer.status, answer.code) == (422, "wrong_length")
        wire.send(server.ask("PUT", place, DATA), DATA)
        assert wire.answer().status == 200
    assert server.commit(place) == DATA


def test_a_body_that_drips_in_arrives_as_it_was_sent(server, directory):
    data = NOISE[: 300 * KIB]
    place = server.begin(directory, data)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, data))
        for start in range(0, len(data), 3001):
            wire.send(data[start : start + 3001])
            server.http.get("/health/live").raise_for_status()  # the time that the server needs to see the drop
        assert wire.answer().status == 200
        wire.send(server.live)
        assert wire.answer().status == 200
    assert server.commit(place) == data


@pytest.mark.parametrize("early", [0, 1, 64 * KIB, 2 * MIB])
def test_a_body_may_begin_with_the_headers_and_end_later(server, directory, early):
    place = server.begin(directory, DATA)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA), DATA[:early])
        assert eventually(lambda: server.handed_over() == server.has_handover)
        wire.send(DATA[early:])
        assert wire.answer().status == 200
    assert server.commit(place) == DATA


def test_headers_may_come_piece_by_piece(server, directory):
    place = server.begin(directory, DATA)
    head = server.ask("PUT", place, DATA)
    with server.wire() as wire:
        for start in range(0, len(head), 40):
            wire.send(head[start : start + 40])
            server.http.get("/health/live").raise_for_status()
        wire.send(DATA)
        assert wire.answer().status == 200
    assert server.commit(place) == DATA
