"""One connection that asks a server for pages and lists, with as little work of its own as possible."""

import http.client
import json
import time
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

TIMEOUT_S = 60.0


class Connection:
    """A connection that is kept, as ``with Connection(url) as connection:``."""

    def __init__(self, url: str) -> None:
        self._http = http.client.HTTPConnection(urlsplit(url).netloc, timeout=TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str) -> bytes:
        """Return the body of an answer.

        Raises
        ------
        TimeoutError
            The server was silent for `TIMEOUT_S`.
        RuntimeError
            It has refused.
        """
        try:
            status, body = self._exchange(path)
        except TimeoutError as error:
            self._http.close()
            raise TimeoutError(f"no answer to {path} within {TIMEOUT_S:.0f} s") from error
        except BaseException:
            self._http.close()
            raise
        if status != 200:
            raise RuntimeError(f"the server answered {status} to {path}: {body[:300]!r}")
        return body

    def _exchange(self, path: str) -> tuple[int, bytes]:
        """Ask, on a new connection if the server has closed this one: it does while another root is being filled."""
        try:
            self._http.request("GET", path)
            response = self._http.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            self._http.close()
            self._http.request("GET", path)
            response = self._http.getresponse()
        return response.status, response.read()

    def json(self, path: str) -> Any:
        """Return the JSON of an answer."""
        return json.loads(self.get(path))

    def took_s(self, path: str) -> float:
        """Return the seconds from the request to the end of the answer."""
        started = time.perf_counter()
        self.get(path)
        return time.perf_counter() - started
