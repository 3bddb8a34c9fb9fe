"""Upload of a file by the HTTP interface alone: reserve, send the missing ranges, commit."""

import http.client
import json
import mmap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from blake3 import blake3

CHUNK_BYTES = 8 * 1024 * 1024
CONNECTIONS = 2


def put_file(url: str, path: Path, *, directory: str, epoch: int) -> str:
    """Save a file as a checkpoint, the only one of its directory; return its name. It is durable then."""
    host = urlsplit(url).netloc
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        file = {"size_bytes": path.stat().st_size, "chunks": _chunks(path, pool)}
        policy = {"max_checkpoints": 1, "max_best_checkpoints": 1}
        save = {"directory": directory, "epoch": epoch, "policy": policy, "files": [file]}
        upload = _ask(host, "/v1/uploads", save)
        shares = [upload["missing"][number::CONNECTIONS] for number in range(CONNECTIONS)]
        for done in [pool.submit(_send, host, path, share) for share in shares]:
            done.result()
        name: str = _ask(host, f"/v1/uploads/{upload['id']}/commit", None)["name"]
        return name


def _chunks(path: Path, pool: ThreadPoolExecutor) -> list[dict[str, Any]]:
    def digest(start: int) -> dict[str, Any]:
        piece = whole[start : start + CHUNK_BYTES]
        return {"length": len(piece), "digest": blake3(piece).hexdigest()}

    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        whole = memoryview(data)
        try:
            return list(pool.map(digest, range(0, len(whole), CHUNK_BYTES)))
        finally:
            whole.release()


def _send(host: str, path: Path, ranges: Sequence[dict[str, Any]]) -> None:
    connection = http.client.HTTPConnection(host)
    with path.open("rb", buffering=0) as file:
        for wanted in ranges:
            connection.putrequest(wanted["method"], wanted["url"])
            for name, value in {**wanted["headers"], "Content-Length": str(wanted["length"])}.items():
                connection.putheader(name, value)
            connection.endheaders()
            try:
                connection.sock.sendfile(file, wanted["offset"], wanted["length"])
            except ConnectionError:
                _answer(connection)  # an early refusal says more than a broken pipe
                raise
            _answer(connection)
    connection.close()


def _ask(host: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host)
    try:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request("POST", path, json.dumps(body) if body is not None else None, headers)
        answer: dict[str, Any] = json.loads(_answer(connection))
        return answer
    finally:
        connection.close()


def _answer(connection: http.client.HTTPConnection) -> bytes:
    response = connection.getresponse()
    body = response.read()
    if response.status >= 300:
        raise RuntimeError(f"the server answered {response.status}: {body[:500].decode(errors='replace')}")
    return body
