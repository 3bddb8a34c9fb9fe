"""Responses as they arrive: their framing, what follows on the connection, and what is refused."""

import io

import pytest

from holdfast._connection.answer import Answer, MalformedAnswer
from holdfast._connection.messages import target_of
from holdfast._connection.raw_connections import GATHERED_BYTES, gathered


class Dripping(io.RawIOBase):
    """Bytes that arrive one at a time."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def readinto(self, view):
        return self._data.readinto(memoryview(view)[:1])


def arriving(text, *, dripping=False):
    data = text.encode("latin-1")
    return io.BufferedReader(Dripping(data) if dripping else io.BytesIO(data))


def head(*fields, status="200 OK", version="1.1"):
    return "\r\n".join([f"HTTP/{version} {status}", *fields, "", ""])


CHUNKED = "Transfer-Encoding: chunked"
ANSWERS = [
    pytest.param(head("Content-Length: 5"), "bytes", False, id="a length"),
    pytest.param(head("content-length:5"), "bytes", False, id="a name in lower case"),
    pytest.param(head("Content-Length: 5", "Content-Length: 5"), "bytes", False, id="the length twice"),
    pytest.param(head("Content-Length: 5", "Connection: close"), "bytes", True, id="the last one"),
    pytest.param(head("Content-Length: 5", "Connection: x, Close"), "bytes", True, id="the last one, among others"),
    pytest.param(head("Content-Length: 5", version="1.0"), "bytes", True, id="of HTTP/1.0"),
    pytest.param(head("Content-Length: 5", "Connection: keep-alive", version="1.0"), "bytes", False, id="kept alive"),
    pytest.param(head(status="100 Continue") + head("Content-Length: 5"), "bytes", False, id="an interim one first"),
    pytest.param(head("Content-Length: 5", status="200"), "bytes", False, id="without a reason"),
    pytest.param(head(CHUNKED), "2\r\nby\r\n3;x=y\r\ntes\r\n0\r\n\r\n", False, id="chunks"),
    pytest.param(head(CHUNKED), "5\r\nbytes\r\n00\r\nX-After: all\r\n\r\n", False, id="chunks and fields after"),
    pytest.param(head(CHUNKED, "Content-Length: 9"), "5\r\nbytes\r\n0\r\n\r\n", True, id="chunks and a length"),
    pytest.param(head(), "bytes", True, id="until the end"),
    pytest.param("HTTP/1.1 200 OK\nContent-Length: 5\n\n", "bytes", False, id="line feeds alone"),
]


@pytest.mark.parametrize("dripping", [False, True], ids=["at once", "dripping"])
@pytest.mark.parametrize(("text", "body", "is_last"), ANSWERS)
def test_a_body_ends_where_its_head_says(text, body, is_last, dripping):
    follows = "" if text == head() else "HTTP/1.1 204 No Content\r\n\r\n"
    stream = arriving(text + body + follows, dripping=dripping)
    answer = Answer(stream)
    assert (answer.status, answer.read(), answer.is_complete, answer.is_last) == (200, b"bytes", True, is_last)
    if follows:
        after = Answer(stream)
        assert (after.status, after.read(), after.is_complete) == (204, b"", True)


@pytest.mark.parametrize(("text", "body", "is_last"), ANSWERS)
def test_a_body_is_read_into_memory_in_pieces(text, body, is_last):
    answer, found = Answer(arriving(text + body, dripping=True)), bytearray(8)
    count = 0
    while more := answer.readinto(memoryview(found)[count : count + 2]):
        count += more
    assert bytes(found[:count]) == b"bytes"
    assert answer.is_complete


def test_a_long_body_is_read_up_to_a_limit():
    answer = Answer(arriving(head("Content-Length: 5") + "bytes"))
    assert (answer.read(3), answer.length, answer.is_complete) == (b"byt", 2, False)


def test_fields_have_lower_case_names_and_are_joined():
    answer = Answer(arriving(head("Content-Length: 0", "X-One:  a ", "x-one: b", "X-Two:", "X-Three: \xe4")))
    assert answer.headers == {"content-length": "0", "x-one": "a, b", "x-two": "", "x-three": "ä"}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param("HTTP/2 200\r\n\r\n", id="another version"),
        pytest.param("HTTP/1.1 20 OK\r\n\r\n", id="no status"),
        pytest.param("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", id="a head that ends early"),
        pytest.param(head("Content Length: 5"), id="a name with a space"),
        pytest.param(head("Content-Length : 5"), id="a space after a name"),
        pytest.param(head("X-Folded: a", " b"), id="a folded line"),
        pytest.param(head("X-Nul: a\0b"), id="a NUL"),
        pytest.param(head("X-Return: a\rb"), id="a return within a line"),
        pytest.param(head("Content-Length: -5"), id="a negative length"),
        pytest.param(head("Content-Length: 5, 6"), id="two lengths"),
        pytest.param(head("Content-Length: 5x"), id="no length"),
        pytest.param(head("Transfer-Encoding: gzip, chunked"), id="another encoding"),
        pytest.param(head(*(f"X-{number}: a" for number in range(200))), id="many fields"),
        pytest.param(head(f"X-Long: {'a' * 100_000}"), id="a long line"),
        pytest.param(head(status="100 Continue") * 20, id="nothing but interim ones"),
        pytest.param(head("Content-Length: 5") + "byt", id="a body that ends early"),
        pytest.param(head("Content-Length: 999999999999999") + "byt", id="a length that is a lie"),
        pytest.param(head(CHUNKED) + "5\r\nbytes", id="chunks that end early"),
        pytest.param(head(CHUNKED) + "5\r\nbytes\r\n", id="chunks without a last one"),
        pytest.param(head(CHUNKED) + "4\r\nbytes\r\n0\r\n\r\n", id="a longer chunk than it says"),
        pytest.param(head(CHUNKED) + "x\r\nbytes\r\n0\r\n\r\n", id="a chunk without a length"),
        pytest.param(head(CHUNKED) + "-5\r\nbytes\r\n0\r\n\r\n", id="a chunk of a negative length"),
    ],
)
def test_what_is_no_response_is_refused(text):
    with pytest.raises(MalformedAnswer):
        Answer(arriving(text)).read()


@pytest.mark.parametrize(
    ("url", "params", "target"),
    [
        pytest.param("http://a", {}, "/", id="no path"),
        pytest.param("http://a/b%20c", {}, "/b%20c", id="quoted already"),
        pytest.param("http://a/ä", {}, "/%C3%A4", id="not quoted yet"),
        pytest.param("http://a/b?x=1", {}, "/b?x=1", id="a query"),
        pytest.param("http://a/b?x=1", {"y": 2}, "/b?x=1&y=2", id="a query and a parameter"),
        pytest.param("http://a/b", {"a b": "c/d&e", "f": True}, "/b?a%20b=c%2Fd%26e&f=true", id="parameters"),
    ],
)
def test_targets(url, params, target):
    assert target_of(url, params) == target


def test_small_pieces_are_joined_and_large_ones_are_passed_on():
    large = memoryview(bytes(GATHERED_BYTES))
    found = list(gathered(b"head", [b"a", b"b", large, b"c", bytes(GATHERED_BYTES - 1), b"d"]))
    assert [bytes(piece[:6]) for piece in found] == [b"headab", bytes(6), b"c" + bytes(5), b"d"]
    assert found[1] is large
    assert b"".join(found) == b"headab" + large + b"c" + bytes(GATHERED_BYTES - 1) + b"d"
