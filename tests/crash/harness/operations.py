"""Operations during which a server is killed or its disk fails, and what must hold afterwards."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.crash.harness.tracing import Tracer
from tests.support.live import LiveServer, eventually

OLD, NEW, LARGE = b"old bytes", b"new bytes, and more of them", bytes(range(256)) * 1200
HERE, ELSEWHERE = "runs/a", "runs/kept"

Attach = Callable[[int], Tracer]


def save(server: LiveServer, name: str, data: bytes, **query: str | int) -> httpx.Response:
    """A save in one request."""
    params: dict[str, Any] = {"directory": HERE, "name": name, **query}
    return server.http.post("/v1/checkpoints", params=params, content=data)


def saved(server: LiveServer, name: str, data: bytes) -> str:
    """A save that must succeed; the checkpoint's id."""
    return str(server.save(HERE, data, name=name)["id"])


@dataclass(frozen=True)
class Operation:
    """Something that a client asks for, and may ask for again with the same words."""

    name: str
    prepare: Callable[[LiveServer], str]
    ask: Callable[[LiveServer, str], httpx.Response]
    undo_window: str = "0"

    def server(self, root: Path, **settings: str) -> LiveServer:
        """A server that it can be asked of, not yet started."""
        return LiveServer(root, undo_window=self.undo_window, **settings)

    def run(self, server: LiveServer, prepared: str, attach: Attach) -> tuple[Tracer, httpx.Response | None]:
        """Ask under the eyes of a tracer; no answer where the server died."""
        tracer = attach(server.process_id)
        try:
            return tracer, self.ask(server, prepared)
        except httpx.TransportError:
            return tracer, None
        except BaseException:
            tracer.detach()
            raise


class Starting(Operation):
    """A start after a commit was killed midway: it is traced from its first moment."""

    def run(self, server: LiveServer, prepared: str, attach: Attach) -> tuple[Tracer, httpx.Response | None]:
        tracers: list[Tracer] = []
        server.at_birth = lambda process_id: tracers.append(attach(process_id))
        try:
            server.start()
            return tracers[0], server.http.get("/health/live")
        except (httpx.HTTPStatusError, httpx.TransportError, RuntimeError) as error:
            return tracers[0], getattr(error, "response", None)
        finally:
            server.at_birth = None


def _upload(server: LiveServer, _: str) -> httpx.Response:
    files = {"large.bin": LARGE, "inner/small.bin": NEW}
    body = {"directory": HERE, "name": "folder", "save_id": "the-new-one"}
    body |= {"files": [{"path": path, "size_bytes": len(data)} for path, data in files.items()]}  # type: ignore[dict-item]
    answer = server.http.post("/v1/uploads", json=body)
    if not answer.is_success or answer.json()["state"] == "committed":
        return answer
    upload = answer.json()
    for missing in upload["missing"]:
        path = missing["url"].split("/files/")[1].split("?")[0]
        start, length = missing["offset"], missing["length"]
        answer = server.http.put(missing["url"], content=files[path][start : start + length])
        if not answer.is_success:
            return answer
    return server.http.post(f"/v1/uploads/{upload['id']}/commit")


def _three(server: LiveServer) -> str:
    for number in range(3):
        saved(server, f"{number}.pt", OLD)
    server.http.put(f"/v1/directories/{HERE}", json={"max_checkpoints": 1}).raise_for_status()
    return ""


def _killed_midway(server: LiveServer) -> str:
    saved(server, "x.pt", OLD)
    gone = saved(server, "gone.pt", OLD)
    _kill(server, "renameat", 1, lambda: server.http.delete(f"/v1/checkpoints/{gone}"))
    server.at_birth = None
    server.restart()
    _kill(server, "linkat", 1, lambda: _replace(server, ""))
    server.kill()
    return ""


def _deleted(server: LiveServer) -> str:
    files = {"model.bin": OLD, "inner/state.bin": LARGE}
    body = {"directory": HERE, "name": "folder", "files": [{"path": p, "size_bytes": len(files[p])} for p in files]}
    upload = server.http.post("/v1/uploads", json=body).json()
    for missing in upload["missing"]:
        server.http.put(missing["url"], content=files[missing["file"]]).raise_for_status()
    saved(server, "newer.pt", NEW)
    answer = server.http.post(f"/v1/uploads/{upload['id']}/commit").raise_for_status()
    gone = str(answer.json()["id"])
    server.http.delete(f"/v1/checkpoints/{gone}").raise_for_status()
    return gone


def _restored_midway(server: LiveServer) -> str:
    gone = saved(server, "gone.pt", OLD)
    server.http.delete(f"/v1/checkpoints/{gone}").raise_for_status()
    _kill(server, "linkat", 1, lambda: _restore(server, gone))
    server.kill()
    return gone


def _restore(server: LiveServer, gone: str) -> httpx.Response:
    return server.http.post(f"/v1/checkpoints/{gone}/restore")


def _kill(server: LiveServer, call: str, number: int, ask: Callable[[], object]) -> None:
    tracer = Tracer.killing(server.process_id, server.root.parent, call, number)
    try:
        ask()
    except httpx.TransportError:
        tracer.wait()
        return
    finally:
        tracer.detach()
    raise AssertionError("it was to be killed")


def _replace(server: LiveServer, _: str) -> httpx.Response:
    return save(server, "x.pt", NEW, save_id="the-new-one")


OPERATIONS = {
    operation.name: operation
    for operation in (
        Operation("first save", lambda _: "", lambda server, _: save(server, "new.pt", NEW, save_id="the-new-one")),
        Operation("upload", lambda server: saved(server, "old.pt", OLD), _upload),
        Operation("replace", lambda server: saved(server, "x.pt", OLD), _replace),
        Operation("prune", _three, lambda server, _: server.http.post("/v1/prune", json={"directory": HERE})),
        Operation(
            "delete",
            lambda server: saved(server, "old.pt", OLD),
            lambda server, old: server.http.delete(f"/v1/checkpoints/{old}"),
        ),
        Operation(
            "pin",
            lambda server: saved(server, "old.pt", OLD),
            lambda server, old: server.http.patch(f"/v1/checkpoints/{old}", json={"pinned": True}),
        ),
        Operation(
            "policy",
            lambda server: saved(server, "old.pt", OLD),
            lambda server, _: server.http.put(f"/v1/directories/{HERE}", json={"max_checkpoints": 5}),
        ),
        Operation("restore", _deleted, _restore, undo_window="1h"),
        Starting("start", _killed_midway, _replace),
        Starting("start after a restoration", _restored_midway, _restore, undo_window="1h"),
    )
}


# assertions


def state(server: LiveServer, directory: str = HERE) -> dict[str, Any]:
    """Return a directory as a client sees it: its limit, and of each checkpoint the pin and all its bytes."""
    found = server.http.get(f"/v1/directories/{directory}")
    listed = server.http.get("/v1/checkpoints", params={"directory": directory})
    if found.status_code == 404:
        return {}
    seen: dict[str, Any] = {"": found.raise_for_status().json()["policy"]["max_checkpoints"]}
    for checkpoint in listed.raise_for_status().json()["checkpoints"]:
        at = f"/v1/checkpoints/{checkpoint['id']}/files"
        paths = [file["path"] for file in checkpoint["files"]]
        contents = {path: server.http.get(f"{at}/{path}").raise_for_status().content for path in paths}
        seen[checkpoint["name"]] = (checkpoint["pinned"], contents)
    return seen


def everything_is_in_order(server: LiveServer) -> None:
    """Rows, manifests and files agree, and nothing is left over."""
    server.wait_until_freed()
    own = server.root / ".holdfast"
    assert eventually(lambda: server.incoming() == [], 5), server.incoming()
    assert eventually(lambda: list((own / "trash").iterdir()) == [], 5)
    assert state(server, ELSEWHERE) == {"": None, "kept.pt": (False, {"kept.pt": OLD})}
    seen = state(server)
    place = server.root / HERE
    if seen:
        limit = seen.pop("")
        assert sorted(path.name for path in place.iterdir()) == sorted([".holdfast", *seen])
        assert eventually(lambda: _manifests(place) == {name: pinned for name, (pinned, _) in seen.items()}, 5)
        if limit is not None:
            kept = json.loads((place / ".holdfast" / "directory.json").read_text())
            assert kept["policy"]["max_checkpoints"] == limit
    for name, (_, contents) in seen.items():
        folder = (place / name).is_dir()
        found = {path: (place / name / path if folder else place / name).read_bytes() for path in contents}
        assert found == contents
    strays = [path for path in server.root.rglob(".*") if path.name != ".holdfast"]
    assert [path for path in strays if path.name != ".gitignore"] == []


def _manifests(place: Path) -> dict[str, bool]:
    """The names in the manifests of a directory, and whether they say that they are pinned."""
    manifests = [path for path in (place / ".holdfast").iterdir() if path.name != "directory.json"]
    said = [json.loads(path.read_text())["checkpoint"] for path in manifests]
    assert sorted(path.name for path in manifests) == sorted(f"{one['name']}.json" for one in said)
    return {one["name"]: one["facts"]["pinned"] for one in said}
