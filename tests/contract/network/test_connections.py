"""Connections to the server: proxies, TLS, timeouts, and a token that goes to no other host."""

import gc
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
import weakref
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest
import torch

from holdfast import (
    CheckpointManager,
    CheckpointNotFound,
    IntegrityError,
    InvalidRequest,
    NotAllowed,
    OutOfSpace,
    ServerFailed,
    ServerUnreachable,
)
from holdfast._api.server import Server, read_into
from holdfast._api.wire import Range
from holdfast._connection.httpx_clients import Clients
from holdfast._runtime import parallel
from tests.data.states import assert_same
from tests.support.deadlines import DEADLINE_S
from tests.support.forwarder import Forwarder

MIB = 1024 * 1024
AT_ONCE = {"patience_s": 0.1, "on_unreachable": "raise"}
STATE = {"a": torch.arange(6 * MIB // 4), "b": torch.ones(3)}
NO_HEADERS, PROBLEM = {}, {"Content-Type": "application/problem+json; charset=utf-8"}
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _direct(monkeypatch):
    """Hide this machine's settings of proxies and certificates from these tests."""
    for name in (*PROXIES, *map(str.upper, PROXIES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@contextmanager
def serving(handler):
    """Run a server on loopback with a handler class; yield its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=lambda: server.serve_forever(0.01), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


class Proxy:
    """An HTTP proxy that records its requests."""

    def __init__(self):
        self.asked = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                where = urlsplit(self.path)
                proxy.asked.append((self.command, where.path, len(body)))
                beyond = http.client.HTTPConnection(where.hostname, where.port, timeout=DEADLINE_S)
                target = where.path + (f"?{where.query}" if where.query else "")
                beyond.request(self.command, target, body, dict(self.headers))
                answer = beyond.getresponse()
                data = answer.read()
                beyond.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                with suppress(ConnectionError):  # the client may close the connection early
                    self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = pass_on

            def log_message(self, *_):
                pass

        self.handler = Handler


@pytest.fixture
def proxy():
    """A running proxy; its URL is ``proxy.url``."""
    found = Proxy()
    with serving(found.handler) as port:
        found.url = f"http://127.0.0.1:{port}"
        yield found


def save_and_load(url, directory, **options):
    """Save, and load in every way; each load must return the saved state."""
    manager = CheckpointManager(directory, server=url, **options)
    path = manager.save(STATE, epoch=1, metric=0.5)
    assert_same(manager.load(path), STATE)
    assert_same(manager.load_best(only=("b",)), {"b": STATE["b"]})
    return path


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_everything_goes_through_the_proxy_that_the_environment_names(server, directory, monkeypatch, proxy, name):
    monkeypatch.setenv(name, proxy.url)
    path = save_and_load(server.url, directory)
    assert_same(torch.load(server.root / path), STATE)
    sent = [length for method, _, length in proxy.asked if method == "PUT"]
    assert sum(sent) == (server.root / path).stat().st_size
    assert {method for method, _, _ in proxy.asked} == {"POST", "PUT", "GET"}
    assert any(where.endswith("/content") or "/files/" in where for method, where, _ in proxy.asked if method == "GET")


@pytest.mark.parametrize("exempt", ["127.0.0.1", "localhost,127.0.0.1", "*"])
def test_hosts_that_need_no_proxy_are_reached_without(server, directory, monkeypatch, proxy, exempt):
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", exempt)
    save_and_load(server.url, directory)
    assert proxy.asked == []


def test_a_proxy_for_tls_alone_is_not_asked_for_anything_else(server, directory, monkeypatch, proxy):
    monkeypatch.setenv("https_proxy", proxy.url)
    save_and_load(server.url, directory)
    assert proxy.asked == []


def test_a_proxy_that_is_not_there_is_an_unreachable_server(server, directory, monkeypatch, free_port):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port}")
    with pytest.raises(ServerUnreachable):
        save_and_load(server.url, directory, **AT_ONCE)


def test_what_a_proxy_alters_is_noticed(server, directory, monkeypatch, proxy):
    path = CheckpointManager(directory, server=server.url).save(STATE, epoch=1)
    with (server.root / path).open("r+b") as file:
        times = os.fstat(file.fileno())
        file.seek(MIB)
        file.write(b"\xff\xff")
    os.utime(server.root / path, ns=(times.st_atime_ns, times.st_mtime_ns))
    monkeypatch.setenv("http_proxy", proxy.url)
    with pytest.raises(IntegrityError):
        CheckpointManager(directory, server=server.url).load(path)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for localhost: (certificate, key)."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def encrypted(server, certificate):
    """A forwarder to the server over TLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    with Forwarder(server.url, tls=context) as forwarder:
        yield forwarder


def test_a_certificate_that_the_environment_trusts_is_good_for_ranges_too(
    server, directory, monkeypatch, encrypted, certificate
):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    path = save_and_load(encrypted.url, directory)
    assert encrypted.up_bytes > 6 * MIB
    assert encrypted.down_bytes > 6 * MIB
    assert_same(torch.load(server.root / path), STATE)


def test_an_untrusted_certificate_is_an_unreachable_server(directory, encrypted):
    with pytest.raises(ServerUnreachable, match=r"(?i)certificate"):
        save_and_load(encrypted.url, directory, **AT_ONCE)
    wanted = Range("a.pt", "GET", f"{encrypted.url}/bytes", {}, 0, 5)
    with pytest.raises(ServerUnreachable, match=r"(?i)certificate"), Server("http://127.0.0.1:1").fetch(wanted):
        pass
    assert encrypted.up_bytes == 0


@pytest.mark.parametrize("content", [None, b"no certificate"], ids=["not there", "damaged"])
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_that_cannot_be_read_matter_only_where_tls_is_spoken(
    server, directory, monkeypatch, tmp_path, variable, content
):
    place = tmp_path / "certificates.pem"
    if content is not None:
        place.write_bytes(content)
    monkeypatch.setenv(variable, str(place))
    save_and_load(server.url, directory, **AT_ONCE)
    with pytest.raises(InvalidRequest, match=f"{variable} names {place}.* cannot be read") as raised:
        CheckpointManager(directory, server="https://localhost:1")
    assert not isinstance(raised.value, OSError)  # this must not read as "no checkpoint yet"
    monkeypatch.setenv("http_proxy", "https://localhost:1")
    with pytest.raises(InvalidRequest, match=f"{variable} names"):
        CheckpointManager(directory, server=server.url)
    wanted = Range("a.pt", "GET", "https://localhost:1/bytes", {}, 0, 5)
    monkeypatch.delenv("http_proxy")
    with pytest.raises(ServerUnreachable, match=variable), Server(server.url).fetch(wanted):
        pass


def test_a_certificate_for_another_name_is_an_unreachable_server(monkeypatch, encrypted, certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    url = encrypted.url.replace("localhost", "127.0.0.1")
    wanted = Range("a.pt", "GET", f"{url}/bytes", {}, 0, 5)
    with pytest.raises(ServerUnreachable):
        CheckpointManager("runs/a", server=url, **AT_ONCE).load_latest()
    with pytest.raises(ServerUnreachable), Server(url).fetch(wanted):
        pass
    assert encrypted.up_bytes == 0


@pytest.fixture
def silent():
    """Yield the URL of a listener that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda manager: manager.load_latest(), id="load"),
        pytest.param(lambda manager: manager.save({}, epoch=1), id="save"),
        pytest.param(lambda manager: manager.checkpoints, id="list"),
    ],
)
def test_a_silent_server_is_unreachable_after_the_timeout(silent, ask):
    started = time.monotonic()
    with pytest.raises(ServerUnreachable):
        ask(CheckpointManager("runs/a", server=silent, timeout_s=0.5, **AT_ONCE))
    assert 0.5 <= time.monotonic() - started < 10


def test_a_range_that_never_comes_is_unreachable_when_the_time_is_over(silent):
    server = Server(silent, timeout_s=0.5)
    started = time.monotonic()
    with pytest.raises(ServerUnreachable), server.fetch(Range("a.pt", "GET", "/bytes", {}, 0, 5)):
        pass
    assert 0.5 <= time.monotonic() - started < 5


def test_a_range_that_the_server_does_not_read_is_unreachable_after_the_timeout(silent):
    """More bytes than the kernels in between buffer."""
    server, data = Server(silent, timeout_s=0.5), memoryview(bytes(MIB))
    started = time.monotonic()
    with pytest.raises(ServerUnreachable):
        server.send(Range("a.pt", "PUT", "/bytes", {}, 0, 64 * MIB), (data for _ in range(64)))
    assert 0.5 <= time.monotonic() - started < 5


class Recorder:
    """A server that gives every request the same response, and records paths, headers and bodies."""

    def __init__(self, status=200, body=b"bytes", headers=NO_HEADERS):
        self.asked = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self):
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                recorder.asked.append((self.command, self.path, dict(self.headers), data))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers.items():
                    self.send_header(name, value.replace("HOST", self.headers["Host"]))
                self.end_headers()
                with suppress(ConnectionError):
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = answer

            def log_message(self, *_):
                pass

        self.handler = Handler


@pytest.fixture
def make_recorder():
    """Make recorders that run; their URL is ``recorder.url``."""
    with ExitStack() as stack:

        def make(**answer):
            recorder = Recorder(**answer)
            recorder.url = f"http://127.0.0.1:{stack.enter_context(serving(recorder.handler))}"
            return recorder

        yield make


def move(server, method, url):
    """Fetch or send a range of five bytes."""
    wanted = Range("a.pt", method, url, {"X-Signed": "by the storage"}, 0, 5)
    if method == "PUT":
        server.send(wanted, [b"by", memoryview(b"tes")])
        return b"bytes"
    with server.fetch(wanted) as reader:
        found = bytearray(5)
        assert reader.readinto(memoryview(found)) == 5
        return bytes(found)


@pytest.mark.parametrize("through", ["directly", "through a proxy"])
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_token_is_sent_to_its_own_server_only(make_recorder, proxy, monkeypatch, method, through):
    ours, other = make_recorder(), make_recorder()
    if through == "through a proxy":
        monkeypatch.setenv("http_proxy", proxy.url)
    server = Server(ours.url, token="secret")
    for url in ("/bytes", f"{ours.url}/bytes?x=1", f"{other.url}/bytes", other.url.replace("127.0.0.1", "localhost")):
        assert move(server, method, url) == b"bytes"
    assert [headers.get("Authorization") for _, _, headers, _ in ours.asked] == ["Bearer secret"] * 2
    assert [headers.get("Authorization") for _, _, headers, _ in other.asked] == [None] * 2
    assert "secret" not in repr(other.asked)
    assert [path for _, path, _, _ in ours.asked] == ["/bytes", "/bytes?x=1"]
    for _, _, headers, data in [*ours.asked, *other.asked]:
        assert headers["X-Signed"] == "by the storage"
        assert data == (b"bytes" if method == "PUT" else b"")


def test_a_token_is_not_sent_to_a_host_whose_name_begins_like_its_own(make_recorder):
    other = make_recorder()
    port = urlsplit(other.url).port
    server = Server("http://127.0.0.1", token="secret")
    move(server, "GET", f"http://127.0.0.1:{port}/bytes")
    assert "secret" not in repr(other.asked)


def test_a_token_gets_bytes_from_a_server_that_wants_one(make_server, directory):
    live = make_server(admin_token="secret-0123456789")
    with pytest.raises(NotAllowed):
        CheckpointManager(directory, server=live.url).save(STATE, epoch=1)
    save_and_load(live.url, directory, token="secret-0123456789")


@pytest.mark.parametrize(
    ("status", "problem", "error"),
    [
        pytest.param(401, {"code": "unauthorized"}, NotAllowed, id="no token"),
        pytest.param(403, {"code": "forbidden"}, NotAllowed, id="not allowed"),
        pytest.param(410, {"code": "checkpoint_removed"}, CheckpointNotFound, id="removed"),
        pytest.param(409, {"code": "altered"}, IntegrityError, id="altered"),
        pytest.param(507, {"code": "no_space"}, OutOfSpace, id="a full disk"),
        pytest.param(500, {"code": "internal"}, ServerFailed, id="a failure"),
        pytest.param(404, {}, ServerFailed, id="another service"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize("through", ["directly", "through a proxy"])
def test_a_refusal_of_a_range_says_why_and_is_no_broken_connection(
    make_recorder, proxy, monkeypatch, status, problem, error, method, through
):
    if through == "through a proxy":
        monkeypatch.setenv("http_proxy", proxy.url)
    body = json.dumps({"type": f"urn:holdfast:problem:{problem['code']}", **problem} if problem else {}).encode()
    server = Server(make_recorder(status=status, body=body, headers=PROBLEM).url)
    with pytest.raises(error) as raised:
        move(server, method, "/bytes")
    assert not isinstance(raised.value, ServerUnreachable)


def test_connections_are_kept_and_used_again(server, directory):
    with Forwarder(server.url) as forwarder:
        manager = CheckpointManager(directory, server=forwarder.url)
        for epoch in range(8):
            manager.load(manager.save({"a": torch.randn(50_000)}, epoch=epoch))
        assert forwarder.connections <= parallel.CONNECTIONS


def test_an_idle_connection_that_the_server_closed_is_no_failure(own_server):
    manager = CheckpointManager("runs/a", server=own_server.url)
    for epoch in range(3):
        path = manager.save({"a": torch.full((70_000,), float(epoch))}, epoch=epoch)
        own_server.restart()
        assert manager.load(path)["a"][0] == epoch


def in_child(do):
    """Run a function in a forked process and return its exit status."""
    process = os.fork()
    if process == 0:
        try:
            do()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return process


def test_connections_may_be_opened_while_others_are_cut():
    class Stream:
        def get_extra_info(self, _):
            return opened[-1]

    def cut():
        while not ended.is_set():
            try:
                clients.sockets.abort()
            except RuntimeError as error:
                failures.append(error)

    clients, ended, failures, opened = Clients(1.0), threading.Event(), [], []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=cut)
    thread.start()
    try:
        end = time.monotonic() + 2
        while time.monotonic() < end and not failures:
            with ExitStack() as stack:
                opened = []
                for _ in range(300):
                    opened.append(stack.enter_context(socket.socket()))
                    clients.sockets.notice("connection.connect_tcp.complete", {"return_value": Stream()})
    finally:
        ended.set()
        thread.join()
        sys.setswitchinterval(interval)
    assert failures == []


def test_a_request_that_another_thread_cuts_fails_at_once(silent):
    server, failures = Server(silent, timeout_s=30), []

    def ask():
        try:
            server.call("GET", "/v1/info")
        except ServerUnreachable as error:
            failures.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    while thread.is_alive():
        server.abort()
        thread.join(0.01)
    assert len(failures) == 1


class Dripping(BaseHTTPRequestHandler):
    """A server whose response never ends: a byte comes every now and then."""

    protocol_version = "HTTP/1.1"
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"

    def do_GET(self):
        with suppress(OSError):
            self.wfile.write(self.head)
            while True:
                self.wfile.write(b" ")
                time.sleep(0.05)

    def log_message(self, *_):
        pass


class DrippingHead(Dripping):
    """The same, amid the head of the response."""

    head = b"HTTP/1.1 200 OK\r\nX-Long: "


@pytest.mark.parametrize("handler", [Dripping, DrippingHead])
def test_an_answer_that_drips_is_unreachable_when_the_time_is_over(handler, monkeypatch):
    monkeypatch.setattr("holdfast._connection.raw_connections.SLOWEST_BYTES_PER_S", 1e9)
    wanted = Range("a.pt", "GET", "/bytes", {}, 0, 1_000_000)
    with serving(handler) as port:
        server = Server(f"http://127.0.0.1:{port}", timeout_s=0.5)
        started = time.monotonic()
        with pytest.raises(ServerUnreachable):
            server.call("GET", "/v1/info")
        with pytest.raises(ServerUnreachable), server.fetch(wanted) as reader:
            read_into(reader, memoryview(bytearray(1_000_000)))
        assert 1.0 <= time.monotonic() - started < 10


def test_small_saves_and_loads_start_no_threads(server, directory, monkeypatch):
    manager = CheckpointManager(directory, server=server.url)
    state = {f"{n}": torch.randn(MIB // 4 // 8) for n in range(8)}
    path = manager.save(state, epoch=1)  # it starts the thread that listens for signals
    monkeypatch.setattr(threading.Thread, "start", lambda thread: pytest.fail(f"{thread.name} was started"))
    assert_same(manager.load(path), state)
    manager.save({name: tensor + 1 for name, tensor in state.items()}, epoch=2)


@pytest.mark.filterwarnings("ignore:.*use of fork", "ignore:another process")
def test_a_forked_process_has_connections_of_its_own(server, directory):
    with Forwarder(server.url) as forwarder:
        manager = CheckpointManager(directory, None, None, server=forwarder.url)
        state = {"a": torch.arange(1000), "b": torch.ones(20_000)}
        path = manager.save(state, epoch=0)
        before = forwarder.connections

        def use(epochs):
            for epoch in epochs:
                assert_same(manager.load(path), state)
                manager.save(state, epoch=epoch)

        children = [in_child(lambda first=first: use(range(first, first + 5))) for first in (10, 20)]
        use(range(30, 35))
        assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
        use(range(40, 42))
        assert forwarder.connections > before
    names = {
        f"checkpoint_epoch_{epoch:04d}.pt" for epoch in (0, *range(10, 15), *range(20, 25), *range(30, 35), 40, 41)
    }
    assert set(server.names(directory)) == names


def test_a_garbage_collected_manager_closes_its_connections(server, directory):
    manager = CheckpointManager(directory, server=server.url)
    manager.load(manager.save(STATE, epoch=1))
    gone = weakref.ref(manager._remote.server)
    gc.disable()
    try:
        del manager
        assert gone() is None
    finally:
        gc.enable()
