"""States made of pieces, and saves of them over the API, for tests of what need not be sent."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

from app.core import digests
from app.core.models import Chunk
from tests.support.live import LiveServer, eventually

PIECE_BYTES = 4096

_seeds = itertools.count()


def pieces(count: int, length: int = PIECE_BYTES) -> list[bytes]:
    """So many pieces that no other test has."""
    made = random.Random(next(_seeds))
    return [made.randbytes(length) for _ in range(count)]


def chunks_of(state: Sequence[bytes]) -> tuple[Chunk, ...]:
    """The chunk list of a state."""
    return tuple(Chunk(len(piece), digests.of_chunk(piece)) for piece in state)


def declared(state: Sequence[bytes], *, hashed: bool = True, **more: Any) -> dict[str, Any]:
    """A file of an upload: each piece a chunk, with its digest or only with its length."""
    chunks = [
        {"length": chunk.length, "digest": chunk.digest} if hashed else {"length": chunk.length}
        for chunk in chunks_of(state)
    ]
    return {"size_bytes": sum(map(len, state)), "chunks": chunks, **more}


class Uploader:
    """Saves states to one directory of a server, step by step."""

    def __init__(self, server: LiveServer, directory: str) -> None:
        self.server = server
        self.http = server.http
        self.directory = directory

    def reserve(self, *files: dict[str, Any], name: str = "x.pt", **more: Any) -> Any:
        body = {"directory": self.directory, "name": name, "files": list(files), **more}
        return self.http.post("/v1/uploads", json=body)

    def begin(self, *files: dict[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.reserve(*files, **more)
        assert answer.status_code == 201, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def put(self, upload: dict[str, Any], data: bytes, offset: int = 0, path: str | None = None) -> Any:
        url = f"/v1/uploads/{upload['id']}/files/{path or upload['name']}"
        return self.http.put(url, params={"offset": offset}, content=data)

    def send(self, upload: dict[str, Any], **contents: Sequence[bytes]) -> None:
        """Send what an upload asked for; ``contents`` by path, or ``state`` for an upload of one file."""
        for wanted in upload["missing"]:
            data = b"".join(contents.get(wanted["file"]) or contents["state"])
            body = data[wanted["offset"] : wanted["offset"] + wanted["length"]]
            answer = self.http.request(wanted["method"], wanted["url"], content=body)
            assert answer.status_code == 200, answer.text

    def get(self, upload: dict[str, Any]) -> dict[str, Any]:
        answer = self.http.get(f"/v1/uploads/{upload['id']}")
        assert answer.status_code == 200, answer.text
        return answer.json()  # type: ignore[no-any-return]

    def commit(self, upload: dict[str, Any], *files: dict[str, Any]) -> Any:
        body = {"files": [{key: file[key] for key in ("path", "chunks") if key in file} for file in files]}
        return self.http.post(f"/v1/uploads/{upload['id']}/commit", json=body if files else None)

    def abandon(self, upload: dict[str, Any]) -> Any:
        return self.http.delete(f"/v1/uploads/{upload['id']}")

    def save(self, state: Sequence[bytes], name: str = "x.pt", **more: Any) -> dict[str, Any]:
        """A whole save of one file that must succeed."""
        upload = self.begin(declared(state), name=name, **more)
        self.send(upload, state=state)
        return self.committed(upload, state)

    def committed(self, upload: dict[str, Any], state: Sequence[bytes]) -> dict[str, Any]:
        """The checkpoint that an upload of one file becomes; it must have become this state."""
        answer = self.commit(upload)
        assert answer.status_code == 201, answer.text
        checkpoint = answer.json()
        assert self.content(checkpoint["id"]) == b"".join(state)
        assert self.path(checkpoint["name"]).read_bytes() == b"".join(state)
        assert upload["id"] not in self.server.incoming()
        return checkpoint  # type: ignore[no-any-return]

    def content(self, checkpoint_id: str) -> bytes:
        answer = self.http.get(f"/v1/checkpoints/{checkpoint_id}/content")
        assert answer.status_code == 200, answer.text
        return answer.content  # type: ignore[no-any-return]

    def path(self, name: str) -> Any:
        return self.server.root / self.directory / name

    def incoming(self, upload: dict[str, Any], path: str | None = None) -> Any:
        return self.server.root / ".holdfast" / "incoming" / upload["id"] / "files" / (path or upload["name"])

    def wait_until_there(self, upload: dict[str, Any], state: Sequence[bytes]) -> None:
        """Return once the server has copied all that it promised."""
        file = self.incoming(upload)  # it is created with its first bytes
        assert eventually(lambda: file.exists() and file.read_bytes() == b"".join(state)), "nothing was copied"


def asked(answer: dict[str, Any]) -> list[tuple[str, int, int]]:
    """List the ranges that an answer asks for: file, offset and length."""
    return [(wanted["file"], wanted["offset"], wanted["length"]) for wanted in answer["missing"]]


def refusal(answer: Any) -> tuple[int, str]:
    """The status and the code of a refusal."""
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.status_code, answer.json()["code"]
