"""Writers of a shared upload over plain HTTP, as another client than ours would be one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from blake3 import blake3

CHUNK = 4096
"""A short chunk, so that small files have several."""


def chunks_of(data: bytes, *, hashed: bool = True, length: int = CHUNK) -> list[dict[str, Any]]:
    """The chunks of a file, as they are declared."""
    pieces = [data[start : start + length] for start in range(0, len(data), length)]
    digests = [{"digest": blake3(piece).hexdigest()} if hashed else {} for piece in pieces]
    return [{"length": len(piece), **digest} for piece, digest in zip(pieces, digests, strict=True)]


@dataclass
class Reserved:
    """One attempt of a job, which several writers fill."""

    http: httpx.Client
    id: str
    attempt: int = 0
    answer: Mapping[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"/v1/uploads/{self.id}"

    def declare(
        self, writer: str, files: Mapping[str, bytes], *, hashed: bool = True, attempt: int | None = None
    ) -> httpx.Response:
        """Declare files; the raw response."""
        described = [
            {"path": path, "size_bytes": len(data), "chunks": chunks_of(data, hashed=hashed)}
            for path, data in files.items()
        ]
        body = {"writer": writer, "attempt": self.attempt if attempt is None else attempt, "files": described}
        return self.http.post(f"{self.url}/files", json=body)

    def send(self, answer: Mapping[str, Any], files: Mapping[str, bytes]) -> int:
        """Send what an answer lists as missing; the number of bytes."""
        sent = 0
        for wanted in answer["missing"]:
            data = files[wanted["file"]][wanted["offset"] : wanted["offset"] + wanted["length"]]
            self.http.put(wanted["url"], content=data).raise_for_status()
            sent += len(data)
        return sent

    def put(self, writer: str, files: Mapping[str, bytes], *, hashed: bool = True) -> int:
        """Declare files and send what they lack; the number of bytes sent."""
        answer = self.declare(writer, files, hashed=hashed)
        assert answer.status_code == 200, answer.text
        return self.send(answer.json(), files)

    def ready(self, writer: str, *, attempt: int | None = None, **body: Any) -> httpx.Response:
        """Report a writer as ready; the raw response."""
        named = {"writer": writer, "attempt": self.attempt if attempt is None else attempt}
        return self.http.post(f"{self.url}/ready", json={**named, **body})

    def commit(self, *, attempt: int | None = None, headers: Mapping[str, str] | None = None, **body: Any) -> Any:
        """Commit; the raw response."""
        named = {"attempt": self.attempt if attempt is None else attempt}
        return self.http.post(f"{self.url}/commit", json={**named, **body}, headers=headers)

    def remove(self, writer: str, path: str, *, attempt: int | None = None) -> httpx.Response:
        """Remove a file; the raw response."""
        params = {"writer": writer, "attempt": self.attempt if attempt is None else attempt}
        return self.http.delete(f"{self.url}/files/{path}", params=params)

    def rename(self, writer: str, path: str, to: str, *, attempt: int | None = None) -> httpx.Response:
        """Rename a file; the raw response."""
        body = {"writer": writer, "attempt": self.attempt if attempt is None else attempt, "path": path, "to": to}
        return self.http.post(f"{self.url}/rename", json=body)

    def get(self, **params: Any) -> dict[str, Any]:
        """The upload as it is now."""
        answer = self.http.get(self.url, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def facts(directory: str, **more: Any) -> dict[str, Any]:
    """The body of a reservation."""
    return {"directory": directory, "name": "step-10", "save_id": "job-1-step-10", "shared": True, "step": 10, **more}


def reserve(http: httpx.Client, directory: str, **more: Any) -> Reserved:
    """Reserve a shared upload, or join it."""
    body = facts(directory, **more)
    answer = http.post("/v1/uploads", json=body)
    assert answer.status_code in {200, 201}, answer.text
    return Reserved(http, answer.json()["id"], body.get("attempt", 0), answer.json())


def contents(http: httpx.Client, checkpoint: Mapping[str, Any]) -> dict[str, bytes]:
    """The bytes of each file of a checkpoint."""
    return {
        file["path"]: http.get(f"/v1/checkpoints/{checkpoint['id']}/files/{file['path']}").content
        for file in checkpoint["files"]
    }


def code(answer: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    return answer.status_code, answer.json().get("code", "")
