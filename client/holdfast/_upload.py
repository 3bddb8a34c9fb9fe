"""Send a checkpoint: reserve, send what is missing, commit."""

import os
import secrets
import socket
from collections.abc import Mapping
from typing import Any

from . import _digests, _layout
from ._http import Server
from ._wire import Committed, Upload

_WRITER: dict[int, str] = {}


def save(server: Server, save: Mapping[str, Any], state: Any) -> Committed:
    """Send a state as a checkpoint of one file; durable on the server when this returns.

    Parameters
    ----------
    save : mapping
        What the API's ``POST /v1/uploads`` takes, without the files and the writer.
    state : dict
        Whatever ``torch.save`` takes.

    Raises
    ------
    HoldfastError
        The server refused, or could not be reached.
    """
    data = _layout.serialize(state)
    chunks = [{"length": chunk.length, "digest": chunk.digest} for chunk in _digests.cut(data)]
    file = {"size_bytes": len(data), "chunks": chunks, "tensors": _layout.tensor_index(data)}
    body = {**save, "writer": writer(), "files": [file]}
    upload = Upload.from_json(server.call("POST", "/v1/uploads", body=body))
    for missing in upload.missing:
        part = data[missing.offset : missing.offset + missing.length]
        server.send(missing.method, missing.url, missing.headers, part)
    return Committed.from_json(server.call("POST", f"/v1/uploads/{upload.id}/commit"))


def writer() -> str:
    """Who saves: this process, under a name that no other one has."""
    process = os.getpid()
    if process not in _WRITER:
        host = socket.gethostname().encode("ascii", "replace").decode()
        _WRITER[process] = f"{host[:100]}:{process}:{secrets.token_hex(4)}"
    return _WRITER[process]
