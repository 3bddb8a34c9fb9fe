"""TLS termination in front of the server: bodies arrive in pieces of any size, from a single peer."""

import asyncio
import contextlib
import ssl
import subprocess
import threading
from urllib.parse import urlsplit

import httpx
import pytest

from holdfast import CheckpointManager
from tests.support.deadlines import DEADLINE_S
from tests.support.raw_sockets import MIB, NOISE, WiredServer

DATA = NOISE[: 9 * MIB]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return a self-signed certificate for loopback, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    made = folder / "certificate.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=loopback"
    more = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    subprocess.run(
        [*command.split(), *more, "-out", made[0], "-keyout", made[1]],
        check=True,
        capture_output=True,
        timeout=DEADLINE_S,
    )
    return made


@contextlib.contextmanager
def in_front_of(server, certificate):
    """Terminate TLS in front of a server, as nginx would; yields the address to use."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    where, loop, ready, ending = urlsplit(server.url), asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    port = 0

    async def pump(reader, writer):
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(64 * 1024):
                writer.write(data)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()

    async def connected(reader, writer):
        behind = await asyncio.open_connection(where.hostname, where.port)
        await asyncio.gather(pump(reader, behind[1]), pump(behind[0], writer))

    async def serve():
        nonlocal port
        listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        ready.set()
        await ending.wait()
        listening.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=10) if others else None

    def run():
        asyncio.set_event_loop(loop)
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(DEADLINE_S)
    try:
        yield f"https://127.0.0.1:{port}"
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()


@pytest.fixture(scope="module", params=[True, False], ids=["handover", "plain"])
def server(request, tmp_path_factory):
    with WiredServer(tmp_path_factory.mktemp("wired") / "root", socket_handover=request.param) as live:
        yield live


@pytest.fixture(autouse=True)
def quiet(server):
    with server.keeping_quiet():
        yield


@pytest.fixture
def address(server, certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    with in_front_of(server, certificate) as url:
        yield url


def test_bytes_go_through_tls_both_ways(server, address, certificate, directory):
    place = server.begin(directory, DATA)
    with httpx.Client(
        base_url=address, verify=ssl.create_default_context(cafile=certificate[0]), timeout=DEADLINE_S
    ) as http:
        for _ in range(2):
            assert http.put(place, content=DATA).status_code == 200
        spoilt = http.put(place, content=b"!" + DATA[1:])
        assert (spoilt.status_code, spoilt.json()["code"]) == (422, "digest_mismatch")
        assert http.put(place, content=DATA).status_code == 200
        assert server.commit(place) == DATA
        saved = http.post("/v1/checkpoints", params={"directory": directory, "name": "b.pt"}, content=DATA).json()
        url = f"/v1/checkpoints/{saved['id']}/content"
        assert http.get(url).content == DATA
        assert http.get(url, headers={"Range": "bytes=1000000-8000000"}).content == DATA[1_000_000:8_000_001]


def test_the_client_saves_and_loads_through_tls(server, address, directory, tmp_path):
    manager = CheckpointManager(directory, server=address)
    path = manager.save({"weights": DATA}, epoch=1, loss=0.5)
    assert manager.load_latest() == {"weights": DATA}
    copy = manager.download(path, to=tmp_path)
    assert copy.read_bytes() == (server.root / directory / path.name).read_bytes()
    CheckpointManager(directory, server=server.url).save({"weights": DATA[::-1]}, epoch=2, loss=0.4)
    assert CheckpointManager(directory, server=address).load_best() == {"weights": DATA[::-1]}
