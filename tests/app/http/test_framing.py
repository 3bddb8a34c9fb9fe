"""Framing: requests that two parsers could read differently are refused, and so is everything behind them."""

import pytest

from tests.support.live import eventually
from tests.support.raw_sockets import KIB, MIB, NOISE, WiredServer

TOKEN = "secret-0123456789abcdef"
DATA = NOISE[:MIB]
HOST = b"Host: localhost\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    with WiredServer(tmp_path_factory.mktemp("wired") / "root", socket_handover=request.param) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(server):
    with server.keeping_quiet():
        yield


class Canary:
    """Return a checkpoint, and the request that would remove it."""

    def __init__(self, server, directory):
        self._server, self._id = server, server.save(directory)["id"]
        self.removal = server.ask("DELETE", f"/v1/checkpoints/{self._id}")

    @property
    def lives(self):
        return self._server.http.get(f"/v1/checkpoints/{self._id}").json()["removed_at"] is None


@pytest.fixture
def canary(server, directory):
    return Canary(server, directory)


def refused(wire, code="invalid_http", status=400):
    """Expect an ordinary refusal, and then the end of the connection."""
    answer = wire.answer()
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    assert "content-digest" in answer.headers
    return wire.is_ended()


def post(*lines):
    return b"POST /v1/prune HTTP/1.1\r\n" + HOST + b"".join(line + b"\r\n" for line in lines) + b"\r\n"


AMBIGUOUS = [
    pytest.param(post(b"Content-Length: 5", b"Transfer-Encoding: chunked") + b"0\r\n\r\n", id="CL.TE"),
    pytest.param(post(b"Transfer-Encoding: chunked", b"Content-Length: 5") + b"0\r\n\r\n", id="TE.CL"),
    pytest.param(post(b"Content-Length: 2", b"Content-Length: 0") + b"{}", id="CL.CL"),
    pytest.param(post(b"Content-Length: 2", b"Content-Length: 2") + b"{}", id="CL.CL, the same"),
    pytest.param(post(b"Content-Length: 2, 2") + b"{}", id="a list of lengths"),
    pytest.param(post(b"Content-Length: +2") + b"{}", id="a length with a sign"),
    pytest.param(post(b"Content-Length: -2") + b"{}", id="a negative length"),
    pytest.param(post(b"Content-Length: 0x2") + b"{}", id="a length in another base"),
    pytest.param(post(b"Content-Length: 0 2") + b"{}", id="a length with a space"),
    pytest.param(post(b"Content-Length:") + b"{}", id="no length"),
    pytest.param(post(b"Content-Length: 18446744073709551618") + b"{}", id="a length that wraps around"),
    pytest.param(post(b"Transfer-Encoding: xchunked") + b"0\r\n\r\n", id="TE.TE, xchunked"),
    pytest.param(post(b"Transfer-Encoding: gzip, chunked") + b"0\r\n\r\n", id="TE.TE, two codings"),
    pytest.param(post(b"Transfer-Encoding: chunked, identity") + b"0\r\n\r\n", id="TE.TE, not chunked in the end"),
    pytest.param(post(b"Transfer-Encoding: identity") + b"0\r\n\r\n", id="TE.TE, identity"),
    pytest.param(post(CHUNKED + b"Transfer-Encoding: chunked") + b"0\r\n\r\n", id="TE.TE, twice"),
    pytest.param(post(b"Transfer-Encoding: x\r\n" + CHUNKED) + b"0\r\n\r\n", id="TE.TE, two headers"),
    pytest.param(post(b"Transfer-Encoding : chunked") + b"0\r\n\r\n", id="TE.TE, a space before the colon"),
    pytest.param(post(b"Transfer-Encoding:\x0bchunked") + b"0\r\n\r\n", id="TE.TE, a vertical tab"),
    pytest.param(post(b"Transfer-Encoding:\r\n chunked") + b"0\r\n\r\n", id="TE.TE, folded"),
    pytest.param(post(b'Transfer-Encoding: "chunked"') + b"0\r\n\r\n", id="TE.TE, quoted"),
    pytest.param(b"POST /v1/prune HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n", id="chunks in HTTP/1.0"),
    pytest.param(post(b"Host: localhost"), id="two hosts"),
    pytest.param(post(b"Authorization: a", b"Authorization: b"), id="two tokens"),
    pytest.param(post(b"Content-Type: a/b", b"Content-Type: b/c"), id="two types"),
    pytest.param(b"POST /v1/prune HTTP/1.1\r\n\r\n", id="no host"),
    pytest.param(post(b"X: a", b" b"), id="a folded line"),
    pytest.param(b"GET /health/live HTTP/1.1\r\n " + HOST + b"\r\n", id="a folded first line"),
    pytest.param(b"GET /health/live HTTP/1.1\nHost: localhost\n\n", id="bare LF"),
    pytest.param(post(b"X: a\nContent-Length: 5"), id="a bare LF in a header"),
    pytest.param(post(b"X: a\rContent-Length: 5"), id="a bare CR in a header"),
    pytest.param(post(b"X: a\0b"), id="a NUL in a value"),
    pytest.param(post(b"X\0: ab"), id="a NUL in a name"),
    pytest.param(post(b"X y: ab"), id="a space in a name"),
    pytest.param(post(b": ab"), id="no name"),
    pytest.param(post(b"ab"), id="no colon"),
    pytest.param(b"GET /health/live\r\n", id="HTTP/0.9"),
    pytest.param(b"GET /health/live HTTP/0.9\r\n" + HOST + b"\r\n", id="HTTP/0.9, by name"),
    pytest.param(b"GET /health/live HTTP/2.0\r\n" + HOST + b"\r\n", id="HTTP/2.0, by name"),
    pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", id="HTTP/2"),
    pytest.param(post(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings"), id="an upgrade to HTTP/2"),
    pytest.param(post(b"Upgrade: websocket", b"Connection: upgrade"), id="an upgrade to a websocket"),
    pytest.param(b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n", id="CONNECT"),
    pytest.param(b"CONNECT /health/live HTTP/1.1\r\n" + HOST + b"\r\n", id="CONNECT of a path"),
    pytest.param(b"GET http://other.example/health/live HTTP/1.1\r\n" + HOST + b"\r\n", id="an absolute target"),
    pytest.param(b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", id="no target"),
    pytest.param(b"GET /health/live#part HTTP/1.1\r\n" + HOST + b"\r\n", id="a target with a fragment"),
    pytest.param(b"GET /h\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n", id="a target beyond ASCII"),
    pytest.param(b"get /health/live HTTP/1.1\r\n" + HOST + b"\r\n", id="no method"),
    pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", id="TLS"),
]

BAD_CHUNKS = [
    pytest.param(b"x\r\n\r\n0\r\n\r\n", id="no size"),
    pytest.param(b"-2\r\n{}\r\n0\r\n\r\n", id="a negative size"),
    pytest.param(b"0x2\r\n{}\r\n0\r\n\r\n", id="a size with a prefix"),
    pytest.param(b"2 \r\n{}\r\n0\r\n\r\n", id="a size with a space"),
    pytest.param(b"10000000000000002\r\n{}\r\n0\r\n\r\n", id="a size that wraps around"),
    pytest.param(b"2\n{}\r\n0\r\n\r\n", id="a bare LF behind a size"),
    pytest.param(b"2;a\n{}\r\n0\r\n\r\n", id="a bare LF in an extension"),
    pytest.param(b"2\r\n{} \r\n0\r\n\r\n", id="more than its size"),
    pytest.param(b"2\r\n{}0\r\n\r\n", id="no line end behind a chunk"),
    pytest.param(b"2\r\n{}\r\n0\r\nContent-Length: 2\r\n\r\n", id="a length behind"),
    pytest.param(b"2\r\n{}\r\n0\r\n X: a\r\n\r\n", id="a folded trailer"),
]


def test_a_removal_that_is_asked_for_properly_is_done(server, canary):
    with server.wire() as wire:
        wire.send(post(b"Content-Length: 2"), b"{}", canary.removal)
        assert [wire.answer().status, wire.answer().status] == [422, 200]
    assert not canary.lives


@pytest.mark.parametrize("request_", AMBIGUOUS)
@pytest.mark.parametrize("place", ["first", "behind another"])
def test_an_ambiguous_request_is_refused_with_all_that_follows(server, canary, request_, place):
    with server.wire() as wire:
        wire.send(b"" if place == "first" else server.live, request_, canary.removal)
        assert place == "first" or wire.answer().status == 200
        assert refused(wire)
    assert canary.lives


@pytest.mark.parametrize("chunks", BAD_CHUNKS)
def test_bad_chunks_are_refused_with_all_that_follows(server, canary, chunks):
    with server.wire() as wire:
        wire.send(post(CHUNKED.strip()), chunks, canary.removal)
        assert refused(wire)
    assert canary.lives


def test_a_request_whose_body_is_bad_is_not_done(server, canary):
    with server.wire() as wire:
        wire.send(canary.removal[:-2], CHUNKED, b"\r\nx\r\n")
        assert refused(wire)
    assert canary.lives


def test_bad_chunks_behind_good_ones_leave_nothing_of_a_save(server, directory):
    before = server.incoming()
    with server.wire() as wire:
        wire.send(server.ask("POST", f"/v1/checkpoints?directory={directory}", Transfer_Encoding="chunked"))
        wire.send(b"80000\r\n", bytes(512 * KIB), b"\r\n")
        assert eventually(lambda: server.incoming() != before)
        wire.send(b"80000\r\n", bytes(512 * KIB), b"!\n", server.live)
        assert refused(wire)
    assert eventually(lambda: server.incoming() == before)
    assert server.http.get("/v1/checkpoints", params={"directory": directory}).status_code == 404


@pytest.mark.parametrize("size", [10, 100 * KIB, MIB])
@pytest.mark.parametrize("garbage", [b"\0" * 100, b"GARBAGE\r\n\r\n", b"GET /health/live HTTP/1.1\nHost: a\n\n"])
def test_garbage_behind_a_body_is_answered_in_its_turn(server, canary, directory, size, garbage):
    place = server.begin(directory, DATA[:size], cut=None)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA[:size]), DATA[:size], garbage, canary.removal)
        assert wire.answer().status == 200
        assert refused(wire)
    assert canary.lives
    assert server.commit(place) == DATA[:size]


@pytest.mark.parametrize("size", [10, 100 * KIB, MIB])
@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_nothing_is_done_behind_the_last_request(server, canary, directory, size, version):
    place = server.begin(directory, DATA[:size], cut=None)
    ends = {"Connection": "close" if version == "1.1" else "keep-alive"}
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA[:size], version, **ends), DATA[:size], canary.removal, canary.removal)
        assert wire.answer().status == 200
        assert wire.is_ended()
    assert canary.lives


@pytest.mark.parametrize("size", [10, 100 * KIB, MIB])
def test_a_body_longer_than_declared_ends_the_connection(server, canary, directory, size):
    place = server.begin(directory, DATA[:size], cut=None)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA[:size]), DATA[:size], b"{}", canary.removal)
        assert wire.answer().status == 200
        assert refused(wire)
    assert canary.lives


@pytest.mark.parametrize("size", [1000, 100 * KIB, MIB])
def test_a_body_shorter_than_declared_includes_the_bytes_that_follow(server, canary, directory, size):
    place = server.begin(directory, DATA[:size], cut=None)
    with server.wire() as wire:
        wire.send(server.ask("PUT", place, DATA[:size]), DATA[: size - 900], canary.removal)
        wire.send(b"x" * (900 - len(canary.removal)))
        assert wire.answer().status == 200
    assert canary.lives
    assert canary.removal in server.commit(place)


def test_trailers_are_no_headers(server, tmp_path):
    token = f"Authorization: Bearer {TOKEN}\r\n".encode()
    prune = post(CHUNKED + b"Content-Type: application/json")
    with (
        WiredServer(tmp_path / "guarded", socket_handover=server.has_handover, admin_token=TOKEN) as guarded,
        guarded.wire() as wire,
    ):
        wire.send(prune, b"2\r\n{}\r\n0\r\n", token, b"\r\n")
        assert wire.answer().code == "unauthorized"
        wire.send(prune[:-2], token, b"\r\n2\r\n{}\r\n0\r\n\r\n")
        assert wire.answer().code == "invalid_request"
