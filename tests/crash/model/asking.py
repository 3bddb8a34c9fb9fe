"""Requests about one directory of a server, in the words of the model; and saves as Hypothesis thinks them up."""

import json
import random
from typing import Any

import httpx
from blake3 import blake3
from hypothesis import strategies as st

from tests.crash.model.directory_model import FACTS, LIMITS, Content, Wanted, on_the_wire
from tests.support.live import LiveServer

_made = random.Random(0)
SMALL, OTHER = _made.randbytes(10), _made.randbytes(5000)
LARGE = _made.randbytes(300_000)  # large enough that a thread receives it
FOLDER = (("model.bin", OTHER), ("parts/config.json", SMALL))
CONTENTS = [Content((("", SMALL),)), Content((("", OTHER),)), Content((("", LARGE),))]
ALL_CONTENTS = [*CONTENTS, Content(FOLDER)]

metrics = st.sampled_from(
    [None, None, 0.5, 1.0, -2.0, 0.25, 3.0, 0.0, -0.0, 0.5, 1e308, 5e-324, float("nan"), float("inf"), float("-inf")]
)
epochs = st.sampled_from([None, 0, 1, 2, 3, 4, 5, 6])
steps = st.sampled_from([None, None, None, 0, 10, 20, 25])
retentions = st.sampled_from(["policy", "policy", "policy", "policy", "manual"])
metadata = st.sampled_from([{}, {}, {"acc": 0.5}, {"acc": 1}, {"acc": 0.75}, {"acc": "NaN"}, {"acc": True, "lr": 0.1}])
tags = st.sampled_from([(), (), ("a",), ("b", "a")])
modes = st.sampled_from([None, None, None, "min", "min", "max"])
seldom = st.sampled_from([False, False, False, False, True])
limits = st.sampled_from(
    [
        *({} for _ in range(4)),
        {"max_checkpoints": 3, "max_best_checkpoints": 3},
        {"max_checkpoints": 2, "max_best_checkpoints": 1},
        {"max_checkpoints": 0},
        {"max_checkpoints": 5},
        {"max_best_checkpoints": 2},
        {"max_checkpoints": 1, "max_best_checkpoints": 0, "keep_every_epochs": 2},
        {"keep_every_epochs": 3},
        {"max_checkpoints": 1, "keep_every_steps": 10},
    ]
)
limits_with_none = st.sampled_from(
    [
        {},
        {"max_checkpoints": None},
        {"max_best_checkpoints": None},
        dict.fromkeys(LIMITS),
        {"max_checkpoints": 2, "max_best_checkpoints": None},
        {"max_checkpoints": None, "max_best_checkpoints": 1},
        {"max_checkpoints": 4, "keep_every_epochs": None},
        {"max_checkpoints": 4, "keep_every_steps": None},
    ]
)


def saves(**chosen: Any) -> st.SearchStrategy[Wanted]:
    """Saves whose parts are drawn one by one, but for those that are chosen."""
    parts = {
        "content": st.sampled_from(CONTENTS),
        "name": st.sampled_from([None, None, None, "a.pt", "b.pt", "c.pt"]),
        "kind": st.sampled_from(["regular", "regular", "best"]),
        "epoch": epochs,
        "step": steps,
        "retention": retentions,
        "metric": metrics,
        "is_best": seldom,
        "pinned": seldom,
        "tags": tags,
        "metadata": metadata,
        "mode": modes,
        "limits": limits,
        "save_id": seldom.map(lambda without: None if without else ""),  # an empty one is to be numbered
    }
    return st.builds(Wanted, **(parts | chosen))


class Asking:
    """One directory of a server."""

    def __init__(self, server: LiveServer, directory: str) -> None:
        self.server = server
        self.directory = directory

    def get(self, path: str, **query: Any) -> httpx.Response:
        return self.server.http.get(path, params={"directory": self.directory, **query})

    def about(self, method: str, **more: Any) -> httpx.Response:
        """The directory itself."""
        return self.server.http.request(method, f"/v1/directories/{self.directory}", **more)

    def prune(self, *, dry_run: bool) -> httpx.Response:
        return self.server.http.post("/v1/prune", json={"directory": self.directory, "dry_run": dry_run})

    def save(self, wanted: Wanted, http: httpx.Client | None = None) -> httpx.Response:
        """A save in one request."""
        ((_, data),) = wanted.content.files
        query = {**self._said(wanted), "metadata": json.dumps(wanted.metadata), "mode": wanted.mode, **wanted.limits}
        told = {key: value for key, value in query.items() if value is not None}
        return (http or self.server.http).post("/v1/checkpoints", params=told, content=data)

    def reserve(self, wanted: Wanted, *, hashed: bool) -> httpx.Response:
        """The first step of a save by an upload."""
        policy = {**wanted.limits, **({"mode": wanted.mode} if wanted.mode else {})}
        files = [self._file(path, data, hashed=hashed) for path, data in wanted.content.files]
        return self.server.http.post("/v1/uploads", json={**self._said(wanted), "policy": policy, "files": files})

    def send(self, upload: dict[str, Any], content: Content) -> None:
        """Send what the server lacks, as it asks for it."""
        by_path = {path or upload["name"]: data for path, data in content.files}
        for lack in upload["missing"]:
            piece = by_path[lack["file"]][lack["offset"] : lack["offset"] + lack["length"]]
            self.server.http.request(
                lack["method"], lack["url"], headers=lack["headers"], content=piece
            ).raise_for_status()

    def commit(self, upload_id: str, content: Content) -> httpx.Response:
        """The last step; what could not be copied after all is sent first."""
        while True:
            answer = self.server.http.post(f"/v1/uploads/{upload_id}/commit")
            if answer.status_code != 409 or answer.json()["code"] != "ranges_missing":
                return answer
            self.send(self.server.http.get(f"/v1/uploads/{upload_id}").json(), content)

    def _said(self, wanted: Wanted) -> dict[str, Any]:
        facts = {name: getattr(wanted, name) for name in FACTS} | {"metric": on_the_wire(wanted.metric)}
        return {
            **facts,
            "directory": self.directory,
            "name": wanted.name,
            "save_id": wanted.save_id,
            "saved_after": wanted.known,
            "only_if_improved": wanted.only_if_improved,
        }

    def _file(self, path: str, data: bytes, *, hashed: bool) -> dict[str, Any]:
        file: dict[str, Any] = {"size_bytes": len(data), **({"path": path} if path else {})}
        if hashed:
            file["chunks"] = [{"length": len(data), "digest": blake3(data).hexdigest()}]
        return file
