"""No token, login or signed link appears in a message, warning, log line, chained exception, spool file or output."""

import json
import logging
import re
import socket
import threading
import traceback
import warnings
from contextlib import contextmanager, suppress

import pytest
import torch

from holdfast import CheckpointManager
from holdfast._api import retry
from holdfast._api.server import Server
from holdfast._api.wire import Range
from holdfast.cli import main
from tests.support.deadlines import DEADLINE_S

TOKEN, LOGIN, PROXY, SIGNED = (
    "hfst_0123456789_TOKENTOKEN",
    "PassWordOfTheUrl",
    "PassWordOfTheProxy",
    "SIGNATURESIGNATURE",
)
SECRETS = (TOKEN, LOGIN, PROXY, SIGNED, "dXNlcjpQYXNz", "dXNlcjpQYXNzV29yZE9mVGhl")
LINK = f"/bucket/key?X-Amz-Credential=me&X-Amz-Signature={SIGNED}"


@pytest.fixture(autouse=True)
def _bare(monkeypatch):
    monkeypatch.setattr(retry, "LONGEST_WAIT_S", 0.05)
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def answer(status, body, kind="application/json", *headers):
    lines = [f"HTTP/1.1 {status} X", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*lines, *headers, "", body]).encode("latin-1")


def problem(status, code):
    """A refusal that repeats the whole request, headers included."""

    def say(asked):
        return answer(
            status,
            json.dumps({"type": f"urn:holdfast:problem:{code}", "code": code, "detail": f"no: {asked}"}),
            "application/problem+json",
        )

    return say


def ranges(url, **headers):
    """A reservation or a list of chunks with this range."""

    def say(asked):
        if "/v1/uploads" not in asked.partition("\r\n")[0]:
            return problem(404, "directory_not_found")(asked)
        size = json.loads(asked.partition("\r\n\r\n")[2])["files"][0]["size_bytes"]
        wanted = {"file": "a", "method": "PUT", "url": url, "headers": headers, "offset": 0, "length": size}
        return answer(201, json.dumps({"id": "u", "state": "open", "missing": [wanted], "saved_after": 0}))

    return say


def echo_page(status):
    return lambda asked: answer(status, f"<title>Error</title><pre>{asked}</pre>", "text/html")


def moved(asked):
    return answer(302, "", "text/html", f"Location: https://user:{LOGIN}@login.example/x?token={TOKEN}")


WAYS = {
    "401": problem(401, "unauthorized"),
    "403": problem(403, "forbidden"),
    "404": problem(404, "directory_not_found"),
    "413": problem(413, "too_large"),
    "422": problem(422, "invalid_request"),
    "500": problem(500, "internal"),
    "507": problem(507, "no_space"),
    "page 200": echo_page(200),
    "page 401": echo_page(401),
    "page 407": echo_page(407),
    "page 502": echo_page(502),
    "JSON that is no answer": lambda asked: answer(200, json.dumps({"asked": asked})),
    "no JSON": lambda asked: answer(200, asked),
    "altered": lambda asked: answer(200, "{}", "application/json", "Content-Digest: sha-256=:AAAA:"),
    "garbage": lambda asked: asked.encode(),
    "a header that is none": lambda asked: f"HTTP/1.1 200 OK\r\n{TOKEN} x\r\n\r\n".encode(),
    "a status that is none": lambda asked: f"HTTP/1.1 {TOKEN} OK\r\n\r\n".encode(),
    "hangs up": lambda asked: b"",
    "an encoding that is none": lambda asked: answer(200, asked, "application/json", "Content-Encoding: gzip"),
    "moved": moved,
    "moved in a circle": lambda asked: answer(307, "", "text/html", f"Location: {asked.split()[1]}"),
    "moved nowhere": lambda asked: answer(301, "", "text/html", f"Location: http://[{TOKEN}"),
    "a link that is away": ranges(f"http://127.0.0.1:1{LINK}"),
    "a link that is refused": ranges(f"http://localhost:PORT{LINK}"),
    "a link with a login": ranges(f"http://user:{LOGIN}@127.0.0.1:1{LINK}"),
    "a link by TLS": ranges(f"https://127.0.0.1:1{LINK}"),
    "a link that is none": ranges(f"http://127.0.0.1:1{LINK} x"),
    "a link with a port that is none": ranges(f"http://127.0.0.1:{SIGNED}/x"),
    "a link to nowhere": ranges(f"http://[{SIGNED}/x"),
    "a link of another kind": ranges(f"ftp://127.0.0.1{LINK}"),
    "a signed header that is none": ranges("/x", Authorization=f"AWS4 {SIGNED}\r\nX: y"),
    "a header that is no text": ranges("/x", Authorization=f"AWS4 {SIGNED}é"),
    "a name of a header that is none": ranges("/x", **{f"X {SIGNED}": "y"}),
}


@contextmanager
def saying(say):
    """Run a server that gives every request the same response; yield its port."""

    def talk(connection):
        with connection, suppress(OSError):
            asked = b""
            while b"\r\n\r\n" not in asked:
                if not (piece := connection.recv(65536)):
                    return
                asked += piece
            head, _, body = asked.partition(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            while length and len(body) < int(length[1]):
                body += connection.recv(65536)
            text = (head + b"\r\n\r\n" + body).decode("latin-1")
            is_link = b"/bucket/key" in head.partition(b"\r\n")[0]
            said = answer(403, f"<Error>{LINK}</Error>", "application/xml") if is_link else say(text)
            connection.sendall(said.replace(b"PORT", str(port).encode()))

    def serve():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield port
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(DEADLINE_S)


class Said:
    """Collect all output of a call, whether it succeeds or not."""

    def __init__(self, caplog, capsys):
        caplog.set_level(logging.DEBUG, logger="holdfast")
        self._caplog, self._capsys = caplog, capsys
        self.texts = []

    def during(self, do):
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                do()
            except Exception as error:
                self.texts += traceback.format_exception(error)
                self.texts += [repr(each) for each in chain(error)]
                self.texts.append(repr(getattr(error, "problem", "")) if is_refusal_in_words(error) else "")
        self.texts += [str(warning.message) for warning in warned]

    def all(self, *folders):
        files = [path for folder in folders for path in folder.rglob("*.json")]
        logged = [
            f"{record.getMessage()} {record.exc_text}" for record in self._caplog.records if record.name == "holdfast"
        ]
        return "\n".join([*self.texts, *logged, *self._capsys.readouterr(), *(path.read_text() for path in files)])


def is_refusal_in_words(error):
    return hasattr(error, "problem")


def chain(error):
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


@pytest.fixture
def said(caplog, capsys):
    return Said(caplog, capsys)


def use(said, url, directory, spool, **options):
    """Use every operation of a job and every command against a server."""
    for more in ({}, {"on_unreachable": "raise"}):
        with suppress(ValueError):
            manager = CheckpointManager(directory, server=url, patience_s=0, timeout_s=2, drain_s=1, **options, **more)
            said.during(lambda manager=manager: manager.save({"w": torch.zeros(1000)}, epoch=1))
            said.during(lambda manager=manager: manager.save_best_if_improved({}, 0.5, epoch=2, wait=False))
            said.during(manager.close)
            said.during(manager.load_latest)
            said.during(manager.resume)
            said.during(lambda manager=manager: manager.load("a.pt"))
            said.during(lambda manager=manager: manager.checkpoints)
            said.during(manager.cleanup_all)
            said.texts += [repr(manager), repr(vars(manager)), repr(vars(manager._remote.server))]
    for command in (["ls", "--json"], ["doctor", "--size", "1", "--time", "0.1"], ["sync", "--patience", "0"]):
        server = [] if command[0] == "sync" else ["--server", url]
        said.during(lambda command=command, server=server: main([*command, *server]))


@pytest.mark.parametrize("way", WAYS)
def test_whatever_a_server_says_no_secret_is_repeated(said, directory, spool, monkeypatch, way):
    monkeypatch.setenv("HOLDFAST_TOKEN", TOKEN)
    with saying(WAYS[way]) as port:
        use(said, f"http://127.0.0.1:{port}", directory, spool)
    text = said.all(spool)
    assert len(text) > 500, "nothing was said"
    assert [secret for secret in SECRETS if secret in text] == []


@pytest.mark.parametrize("way", ["401", "page 407", "garbage", "a link that is refused"])
def test_a_login_in_the_url_or_of_a_proxy_is_not_repeated_either(said, directory, spool, monkeypatch, way):
    monkeypatch.delenv("HOLDFAST_TOKEN", raising=False)
    with saying(WAYS[way]) as port:
        use(said, f"http://user:{LOGIN}@127.0.0.1:{port}", directory, spool)
        monkeypatch.setenv("http_proxy", f"http://user:{PROXY}@127.0.0.1:{port}")
        monkeypatch.setenv("HOLDFAST_TOKEN", TOKEN)
        use(said, "http://server.example", directory, spool)
    for proxy in ("127.0.0.1:1", "127.0.0.1:port", "", "["):
        for scheme in ("http", "https", "socks5", "socks4"):
            monkeypatch.setenv("http_proxy", f"{scheme}://user:{PROXY}@{proxy}")
            said.during(lambda: CheckpointManager(directory, server="http://server.example"))
            use(said, "http://server.example", directory, spool) if scheme == "http" else None
    assert [secret for secret in SECRETS if secret in said.all(spool)] == []


@pytest.mark.parametrize(
    "wanted",
    [
        Range("a", "GET", f"http://127.0.0.1:1{LINK}", {}, 0, 5),
        Range("a", "GET", f"http://127.0.0.1:1{LINK}\n", {}, 0, 5),
        Range("a", "GET", f"gopher://127.0.0.1{LINK}", {}, 0, 5),
        Range("a", "GET", "/x", {"Authorization": f"{SIGNED}\n"}, 0, 5),
        Range("a", f"G {SIGNED}", "/x", {}, 0, 5),
        Range("a", "GET", f"PORT{LINK}", {}, 0, 5),
    ],
    ids=["away", "a line break", "another kind", "a header", "a method", "refused"],
)
def test_a_signed_range_is_not_repeated(said, wanted):
    with saying(problem(403, "forbidden")) as port:
        url = wanted.url.replace("PORT", f"http://localhost:{port}")
        wanted = Range(wanted.file, wanted.method, url, wanted.headers, wanted.offset, wanted.length)
        server = Server(f"http://127.0.0.1:{port}", TOKEN, timeout_s=2)

        def fetch():
            with server.fetch(wanted):
                pass

        said.during(fetch)
        said.during(lambda: server.send(wanted, [b"bytes"]))
    text = said.all()
    assert text.count("holdfast.errors") >= 2, "an error of another kind came through"
    assert [secret for secret in SECRETS if secret in text] == []


JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N"
MISPLACED = {
    "the token as its file": lambda: CheckpointManager("runs/a", token_file=TOKEN),
    "another kind of token as the file": lambda: CheckpointManager("runs/a", token_file=JWT),
    "the token as the server": lambda: CheckpointManager("runs/a", server=TOKEN),
    "another kind of token as the server": lambda: CheckpointManager("runs/a", server=JWT),
    "the token as the server's path": lambda: CheckpointManager("runs/a", server=f"ftp://host/{TOKEN}"),
    "a login in a name": lambda: CheckpointManager(f"http://u:{LOGIN}@host/runs/a"),
    "a login without a scheme": lambda: CheckpointManager(f"u:{LOGIN}@host:/runs/a"),
    "a token in a query": lambda: CheckpointManager(f"http://host/runs/a?token={TOKEN}"),
    "a signature in a query": lambda: CheckpointManager(f"https://host{LINK}"),
    "a signed link that is loaded": lambda: CheckpointManager("runs/a").load(f"http://host/v1/links/{SIGNED}"),
    "a signed link that is fetched": lambda: main(["get", f"http://host/v1/links/{SIGNED}"]),
    "a login that is listed": lambda: main(["ls", f"http://u:{LOGIN}@host/runs"]),
    "a bucket to fetch into": lambda: main(["get", "a/latest", "-o", f"s3://key:{LOGIN}@bucket/x"]),
    "a bucket to save from": lambda: main(["put", f"s3://key:{LOGIN}@bucket/x", "runs/a"]),
    "the token as the command's server": lambda: main(["ls", "--server", TOKEN]),
    "a folder of the spool": lambda: CheckpointManager("runs/a", spool_dir=f"http://u:{LOGIN}@host/x"),
}


@pytest.mark.parametrize("use", MISPLACED.values(), ids=MISPLACED)
def test_a_secret_in_the_wrong_place_is_not_repeated(said, use):
    said.during(use)
    text = said.all()
    assert text.strip(), "nothing was refused"
    assert [secret for secret in (*SECRETS, JWT) if secret in text] == []
