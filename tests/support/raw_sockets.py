"""Raw HTTP requests over sockets, to a server with or without socket handover, and inspection of its resources."""

import fcntl
import json
import random
import select
import socket
import struct
import termios
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlencode, urlsplit

from app.core import digests
from tests.support.live import LiveServer, eventually

KIB, MIB = 1024, 1024 * 1024
NOISE = random.Random(7).randbytes(20 * MIB)


class Answer(NamedTuple):
    """What a server said. An interim answer has no body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str | None:
        """Why it refused."""
        return json.loads(self.body)["code"] if self.status >= 400 else None


class Wire:
    """One connection on which a test says exactly what it wants, and hears every byte that is answered."""

    def __init__(self, url: str, *, receive_buffer: int | None = None) -> None:
        where = urlsplit(url)
        self.socket = socket.socket()
        self.socket.settimeout(30)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            self.socket.connect((where.hostname, where.port))
        except BaseException:
            self.socket.close()
            raise
        self._answers = self.socket.makefile("rb")

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def send(self, *parts: bytes) -> None:
        """Say something, in one piece."""
        self.socket.sendall(b"".join(parts))

    def drip(self, *pieces: bytes, every_s: float = 0) -> bool:
        """Say piece after piece, until the server says something or ends the connection; whether it did."""
        for piece in pieces:
            try:
                self.socket.sendall(piece)
            except ConnectionError:
                return True
            if select.select([self.socket], [], [], every_s)[0]:
                return True
        return False

    def unsent_bytes(self) -> int:
        """Return the number of bytes that the server's end has not taken from this one's buffer."""
        found: int = struct.unpack("i", fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4)))[0]
        return found

    def read(self, count: int) -> bytes:
        """So many bytes, or fewer where the server ends the connection."""
        return self._answers.read(count)

    def head(self) -> Answer:
        """The next answer without its body."""
        status = self._answers.readline()
        assert status, "the server ended the connection"
        lines = iter(lambda: self._answers.readline().decode().strip(), "")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(int(status.split()[1]), headers, b"")

    def answer(self) -> Answer:
        """The next answer."""
        found = self.head()
        length = int(found.headers.get("content-length", "0"))
        body = self.read(length)
        assert len(body) == length, "the server ended the connection within an answer"
        return found._replace(body=body)

    def is_ended(self) -> bool:
        """Whether the server ends the connection without another word."""
        try:
            return self._answers.read(1) == b""
        except ConnectionError:
            return True

    def leave(self, *, reset: bool = False) -> None:
        """End the connection; with a reset, as a machine does that was switched off and on."""
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._answers.close()
        self.socket.close()


class WiredServer(LiveServer):
    """A server with or without socket handover."""

    def __init__(self, root: Path, *, socket_handover: bool, **settings: str) -> None:
        super().__init__(root, socket_handover=str(socket_handover).lower(), **settings)
        self.has_handover = socket_handover

    def wire(self, **options: int) -> Wire:
        """A new connection."""
        return Wire(self.url, **options)

    def ask(
        self, method: str, target: str, body: bytes | None = None, version: str = "1.1", **headers: str | int
    ) -> bytes:
        """A request as it goes over the wire, with the length of its body but not the body."""
        said = {"Host": urlsplit(self.url).netloc, **({} if body is None else {"Content-Length": len(body)}), **headers}
        lines = [f"{method} {target} HTTP/{version}", *(f"{k.replace('_', '-')}: {v}" for k, v in said.items())]
        return "\r\n".join([*lines, "", ""]).encode()

    @property
    def live(self) -> bytes:
        """A request that any server answers."""
        return self.ask("GET", "/health/live")

    # uploads

    def begin(self, directory: str, data: bytes, *, name: str = "model.pt", cut: int | None = MIB) -> str:
        """Reserve an upload of one file, cut into chunks that are declared; where its ranges are to be put."""
        file: dict[str, object] = {"size_bytes": len(data)}
        if cut is not None:
            pieces = [data[start : start + cut] for start in range(0, len(data), cut)]
            file["chunks"] = [{"length": len(piece), "digest": digests.of_chunk(piece)} for piece in pieces]
        answer = self.http.post("/v1/uploads", json={"directory": directory, "name": name, "files": [file]})
        assert answer.status_code == 201, answer.text
        return f"/v1/uploads/{answer.json()['id']}/files/{name}"

    def missing(self, place: str) -> list[tuple[int, int]]:
        """Where bytes of an upload are missing, and how many."""
        found = self.http.get(place.partition("/files/")[0]).json()["missing"]
        joined: list[tuple[int, int]] = []
        for wanted in found:
            offset, length = wanted["offset"], wanted["length"]
            if joined and sum(joined[-1]) == offset:
                offset, length = joined[-1][0], joined.pop()[1] + length
            joined.append((offset, length))
        return joined

    def commit(self, place: str) -> bytes:
        """Commit an upload; the bytes that the server then serves."""
        answer = self.http.post(place.partition("/files/")[0] + "/commit")
        assert answer.status_code == 201, answer.text
        checkpoint = answer.json()
        return (self.root / checkpoint["directory"] / checkpoint["name"]).read_bytes()

    @contextmanager
    def keeping_quiet(self) -> Iterator[None]:
        """Do something that gives the server nothing to complain of."""
        before = len(self.log())
        yield
        complaints = self.log()[before:]
        assert "ERROR" not in complaints, complaints
        assert "Traceback" not in complaints, complaints

    # the resources that it holds

    def opened(self, within: str = "") -> list[str]:
        """What its descriptors lead to, as far as that contains a text."""
        found = []
        for descriptor in Path(f"/proc/{self.process_id}/fd").iterdir():
            try:
                found.append(str(descriptor.readlink()))
            except FileNotFoundError:
                continue
        return [link for link in found if within in link]

    def received_files(self, place: str) -> list[str]:
        """The files into which it is receiving an upload's bytes; one that several requests fill counts for each."""
        upload, _, name = place.removeprefix("/v1/uploads/").partition("/files/")
        return self.opened(f"/incoming/{upload}/files/{name}")

    def handed_over(self) -> int:
        """Return the number of sockets that are handed over, as the server holds those twice."""
        return sum(count - 1 for count in Counter(self.opened("socket:")).values())

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.process_id}/task").iterdir()))

    def is_listening(self) -> bool:
        """Whether it takes new connections."""
        try:
            self.wire().leave()
        except ConnectionRefusedError:
            return False
        return True

    def is_ready(self) -> bool:
        """Whether it takes new work."""
        return self.http.get("/health/ready").status_code == 200

    @contextmanager
    def stopping(self, *, while_it_waits: bool = False) -> Iterator[None]:
        """Ask it to stop, do something before it has, and assert that it then ends with status 0.

        The block begins when it takes no more connections, or already while it waits for transfers.
        """
        with ThreadPoolExecutor(1) as threads:
            stopped = threads.submit(self.stop)
            assert eventually(lambda: not (self.is_ready() if while_it_waits else self.is_listening()))
            yield
            assert stopped.result() == 0


def query(**wanted: object) -> str:
    """The query of a URL."""
    return "?" + urlencode(wanted)
