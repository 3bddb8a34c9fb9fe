"""Connections of the client's own: slow peers that are not silent, and peers that answer before the end of a body."""

import socket
import threading
import time
from contextlib import closing, contextmanager

import pytest

from holdfast._connection.messages import Address, NoAnswer
from holdfast._connection.raw_connections import RawConnections
from tests.support.deadlines import DEADLINE_S

MIB = 1024 * 1024
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@contextmanager
def peer(serve):
    """A peer that treats one connection as ``serve`` does; its address."""
    with closing(socket.socket()) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def run():
            connection, _ = listener.accept()
            with closing(connection):
                serve(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield Address("http", *listener.getsockname())
        thread.join(DEADLINE_S)


@pytest.fixture
def connections():
    with closing(RawConnections(DEADLINE_S, lambda: None)) as found:
        yield found


def test_a_peer_that_takes_bytes_slowly_is_not_silent(connections):
    """One piece takes longer than the longest silence."""
    silence_s, length = 4.0, 8 * MIB

    def serve(connection):
        ends, received = time.monotonic() + 1.5 * silence_s, 0
        while received < length:
            received += len(connection.recv(16 * 1024))
            if time.monotonic() < ends:
                time.sleep(0.02)
        connection.sendall(OK)

    slow = RawConnections(silence_s, lambda: None)
    with closing(slow), peer(serve) as address:
        began = time.monotonic()
        answer = slow.send(address, "PUT", "/", {"Content-Length": str(length)}, [bytes(length)])
    assert answer.status == 200
    assert time.monotonic() - began > silence_s


def test_a_peer_that_takes_nothing_is_silent():
    ended, length = threading.Event(), {"Content-Length": str(64 * MIB)}
    with closing(RawConnections(0.5, lambda: None)) as connections, peer(lambda _: ended.wait(DEADLINE_S)) as address:
        with pytest.raises(NoAnswer, match="timed out"):
            connections.send(address, "PUT", "/", length, [bytes(64 * MIB)])
        ended.set()


def test_an_answer_before_the_end_of_a_body_is_read(connections):
    """Such as that of an intermediary with a limit."""

    def serve(connection):
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlimit")

    with peer(serve) as address:
        answer = connections.request(address, "POST", "/", {}, bytes(32 * MIB), DEADLINE_S, DEADLINE_S)
    assert (answer.status, answer.body) == (413, b"limit")
