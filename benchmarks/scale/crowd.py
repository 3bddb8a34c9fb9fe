"""Many connections in a process of their own: watchers of events, slow downloads, or uploads.

Run as ``python -m benchmarks.scale.crowd KIND URL COUNT ID``. It says ``ready`` once all are connected, and ends when
its input does, or once all uploads are committed.
"""

import http.client
import os
import selectors
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from benchmarks.checkout import OURS
from benchmarks.plan import MIB

UPLOAD_BYTES = 64 * MIB
PIECE_BYTES = 64 * 1024
RECEIVE_BUFFER_BYTES = 64 * 1024
TURN_S = 1.0
PATIENCE_S = 300


class Crowd:
    """Such a process, as ``with Crowd("watchers", url, 1000) as crowd:``; all are connected then."""

    def __init__(self, kind: str, url: str, count: int, checkpoint_id: str = "") -> None:
        command = [sys.executable, "-m", "benchmarks.scale.crowd", kind, url, str(count), checkpoint_id]
        self._process = subprocess.Popen(
            command, cwd=OURS.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        try:
            self._expect("ready")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._process.kill()
        with self._process:
            pass

    def wait(self) -> None:
        """Wait until the process has ended by itself, as uploads do.

        Raises
        ------
        RuntimeError
            An upload has failed.
        """
        if self._process.wait(PATIENCE_S):
            raise RuntimeError("an upload has failed; what it said is above")

    def _expect(self, word: str) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != word:
            raise RuntimeError("the connections could not be made; what they said is above")


def main(kind: str, url: str, count: str, checkpoint_id: str) -> None:
    """Hold so many connections until the input ends."""
    host = urlsplit(url).netloc
    match kind:
        case "watchers":
            _receive(_connected(host, int(count), "/v1/events"), pace_s=0.0)
        case "downloads":
            path = f"/v1/checkpoints/{checkpoint_id}/content"
            _receive(_connected(host, int(count), path, RECEIVE_BUFFER_BYTES), pace_s=TURN_S)
        case "uploads":
            _upload(host, int(count))


def _connected(host: str, count: int, path: str, buffer_bytes: int | None = None) -> list[socket.socket]:
    """Return connections that have received the head of an answer."""
    name, _, port = host.partition(":")
    found = []
    for _ in range(count):
        connection = socket.socket()
        if buffer_bytes is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.connect((name, int(port)))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        found.append(connection)
    for connection in found:
        head = connection.recv(1024)
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"the server answered {head[:200]!r}")
    return found


def _receive(connections: list[socket.socket], pace_s: float) -> None:
    """Read from all of them until the input ends: whatever comes, or one piece of each in every turn."""
    ended = _input_ended()
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            connection.setblocking(False)
            selector.register(connection, selectors.EVENT_READ)
        print("ready", flush=True)
        while not ended.is_set():
            for key, _ in selector.select(timeout=0.2):
                if not key.fileobj.recv(PIECE_BYTES):  # type: ignore[union-attr]
                    raise RuntimeError("the server has closed a connection")
            ended.wait(pace_s)


def _upload(host: str, count: int) -> None:
    """Save a file in a request of each connection, all at once."""
    data = os.urandom(MIB)
    begin = threading.Event()
    failed: list[BaseException] = []
    threads = [
        threading.Thread(target=_caught, args=(lambda number=number: _send(host, number, data, begin), failed))
        for number in range(count)
    ]
    for thread in threads:
        thread.start()
    print("ready", flush=True)
    begin.set()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def _send(host: str, number: int, data: bytes, begin: threading.Event) -> None:
    connection = http.client.HTTPConnection(host, timeout=300)
    connection.connect()
    begin.wait()
    connection.putrequest("POST", f"/v1/checkpoints?directory=uploads/{number}&name=model.pt")
    connection.putheader("Content-Length", str(UPLOAD_BYTES))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    for _ in range(UPLOAD_BYTES // len(data)):
        connection.send(data)
    response = connection.getresponse()
    body = response.read()
    if response.status != 201:
        raise RuntimeError(f"the server answered {response.status}: {body[:300]!r}")
    connection.close()


def _caught(action: Callable[[], None], failed: list[BaseException]) -> None:
    try:
        action()
    except BaseException as error:
        failed.append(error)


def _input_ended() -> threading.Event:
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, daemon=True).start()
    return ended


if __name__ == "__main__":
    main(*sys.argv[1:])
