"""A server with tokens, directories with a history, and a running training job."""

import json
from contextlib import closing, contextmanager
from urllib.parse import quote

from app.bootstrap import open_root
from app.http.authentication import COOKIE
from app.settings import Settings
from tests.browser.sweep import fill_all
from tests.browser.training import Training
from tests.support.live import LiveServer
from tests.support.tokens import bearer, mint

_QUOTAS = {"language": {"max_bytes": "30GB"}, "vision": {"max_bytes": "25GB", "max_checkpoints": 100}}


class Site:
    """The server under test. ``server.http`` has every scope."""

    def __init__(self, folder, jobs):
        root = folder / "root"
        with closing(open_root(Settings(root=root))) as service:
            fill_all(service.context)
        self.server = LiveServer(
            root, undo_window="1h", scrub_bytes_per_s="0", writer_window_s="3600", quotas=json.dumps(_QUOTAS)
        )
        self.server.start()
        self.token = mint(root, "admin")
        self.server.http.headers.update(bearer(self.token))
        self.training = Training(jobs, folder / "orders", url=self.server.url, token=self.token)
        self.cookie = self.session(self.token)

    def close(self):
        """Stop the training job and the server."""
        self.training.close()
        self.server.__exit__(None, None, None)

    @property
    def url(self):
        """Address of the server."""
        return self.server.url

    def session(self, token):
        """Sign in with a token and return the session cookie."""
        answer = self.server.http.post("/sign-in", content=f"token={token}")
        assert answer.status_code == 303
        value = answer.cookies[COOKIE]
        self.server.http.cookies.clear()
        return {"name": COOKIE, "value": value, "url": self.url, "httpOnly": True, "sameSite": "Strict"}

    def directory(self, name):
        """Return the address of a directory's page."""
        return f"{self.url}/directories/{quote(name)}"

    def checkpoint(self, directory, name):
        """Return the address of a checkpoint's page."""
        return f"{self.url}/checkpoints/{self.found(directory, name)['id']}"

    def checkpoints(self, directory, **query):
        """Return the checkpoints of a directory, oldest first."""
        asked = {"directory": directory, "page_size": 1000, "order_by": "position", **query}
        return self.server.http.get("/v1/checkpoints", params=asked).raise_for_status().json()["checkpoints"]

    def names(self, directory):
        """Return the names of a directory's checkpoints."""
        return [each["name"] for each in self.checkpoints(directory)]

    def found(self, directory, name):
        """Return the live checkpoint of a name."""
        return next(each for each in self.checkpoints(directory) if each["name"] == name)

    @contextmanager
    def upload(self, directory, name, *, size_bytes, arrived_bytes):
        """Keep an upload open within the block."""
        body = {"directory": directory, "name": name, "files": [{"path": name, "size_bytes": size_bytes}]}
        upload = self.server.http.post("/v1/uploads", json=body).raise_for_status().json()
        address = f"/v1/uploads/{upload['id']}"
        content = bytes(arrived_bytes)
        self.server.http.put(f"{address}/files/{name}", params={"offset": 0}, content=content).raise_for_status()
        yield
        self.server.http.delete(address).raise_for_status()

    def policy(self, directory):
        """Return the policy of a directory."""
        return self.server.http.get(f"/v1/directories/{directory}").raise_for_status().json()["policy"]
