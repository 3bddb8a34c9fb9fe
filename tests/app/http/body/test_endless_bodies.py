"""Endless requests: every part of a request that never ends is refused once it is too large."""

import pytest

from tests.support.raw_sockets import KIB, WiredServer

LIMIT = 16 * KIB
PIECE = 1000
HOST = b"Host: localhost\r\n"
POST = b"POST /v1/prune HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("wired") / "root"
    with WiredServer(root, socket_handover=request.param, max_header_bytes=str(LIMIT)) as live:
        yield live


ENDLESS = [
    pytest.param(b"GET /", b"a" * PIECE, id="an address"),
    pytest.param(b"", b"\r\n" * (PIECE // 2), id="line ends before a request"),
    pytest.param(b"G", b"G" * PIECE, id="a method"),
    pytest.param(POST, b"x" * PIECE, id="the name of a header"),
    pytest.param(POST + b"X: ", b"x" * PIECE, id="the value of a header"),
    pytest.param(POST + b"X:", b" " * PIECE, id="a header of spaces"),
    pytest.param(POST, b"x: y\r\n" * (PIECE // 6), id="headers"),
    pytest.param(CHUNKED, b"0" * PIECE, id="the size of a chunk"),
    pytest.param(CHUNKED + b"1;", b"x" * PIECE, id="the extension of a chunk"),
    pytest.param(CHUNKED, b"1;" + b"x" * PIECE + b"\r\nx\r\n", id="extensions of chunks"),
    pytest.param(CHUNKED + b"0\r\nX: ", b"x" * PIECE, id="the value of a trailer"),
    pytest.param(CHUNKED + b"0\r\n", b"x: y\r\n" * (PIECE // 6), id="trailers"),
]


@pytest.mark.parametrize(("beginning", "piece"), ENDLESS)
def test_what_never_ends_is_refused(server, beginning, piece):
    with server.wire() as wire:
        wire.drip(beginning, *[piece] * 1000)
        answer = wire.answer()
        garbage = beginning == b"G"  # the request is invalid in any case, so its size does not matter
        assert (answer.status, answer.code) == ((400, "invalid_http") if garbage else (431, "headers_too_large"))
        assert wire.is_ended()


@pytest.mark.parametrize("end", [b"\r\n\r\n", b""], ids=["whole", "without end"])
@pytest.mark.parametrize("behind", [False, True], ids=["first", "behind another"])
def test_a_head_that_is_too_large_is_refused_also_in_one_piece(server, end, behind):
    with server.wire() as wire:
        wire.send(server.live if behind else b"", POST, b"X: ", b"x" * 2 * LIMIT, end)
        assert not behind or wire.answer().status == 200
        assert wire.answer().code == "headers_too_large"
        assert wire.is_ended()


def test_a_head_that_is_just_small_enough_is_taken(server):
    with server.wire() as wire:
        live = b"GET /health/live HTTP/1.1\r\n" + HOST + b"X: "
        head = live + b"x" * (LIMIT - len(live) - 4) + b"\r\n\r\n"
        wire.send(head * 5)
        assert [wire.answer().status for _ in range(5)] == [200] * 5


def test_many_small_requests_and_many_small_chunks_are_taken(server, directory):
    data = bytes(range(250)) * 40
    with server.wire() as wire:
        wire.send(server.live * 1000)
        assert [wire.answer().status for _ in range(1000)] == [200] * 1000
        wire.send(server.ask("POST", f"/v1/checkpoints?directory={directory}&name=a", Transfer_Encoding="chunked"))
        wire.send(b"".join(b"1\r\n%c\r\n" % byte for byte in data), b"0\r\n\r\n", server.live)
        assert [wire.answer().status, wire.answer().status] == [201, 200]
    assert (server.root / directory / "a").read_bytes() == data
