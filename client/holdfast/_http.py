"""One server over HTTP: the only place that knows httpx."""

import json
import os
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from .errors import IntegrityError, ServerFailed, ServerUnreachable, from_problem

DEFAULT_URL = "http://127.0.0.1:8420"
PIECE_BYTES = 1024 * 1024  # httpcore copies what remains after each partial send, so pieces must be small
CONNECT_TIMEOUT_S = 10.0


class Server:
    """A Holdfast server. Sends nothing before the first request; connections are not shared with forked processes.

    Parameters
    ----------
    url : str, optional
        Where it is; ``HOLDFAST_URL`` by default, else ``http://127.0.0.1:8420``.
    token : str, optional
        The bearer token; ``HOLDFAST_TOKEN`` by default.
    timeout_s : float
        How long, in seconds, the server may be silent before it counts as unreachable.
    """

    def __init__(self, url: str | None = None, token: str | None = None, timeout_s: float = 300.0) -> None:
        self.url = (url or os.environ.get("HOLDFAST_URL") or DEFAULT_URL).rstrip("/")
        self._token = token or os.environ.get("HOLDFAST_TOKEN") or None
        self._timeout = httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S)
        self._guard = threading.Lock()
        self._client: httpx.Client | None = None
        self._owner = 0

    def call(
        self, method: str, path: str, *, params: Mapping[str, Any] | None = None, body: Any = None
    ) -> dict[str, Any]:
        """A request with JSON both ways.

        Raises
        ------
        ServerUnreachable
            The connection could not be made, or broke.
        HoldfastError
            The server refused; see `holdfast.errors`.
        """
        given = {name: value for name, value in (params or {}).items() if value is not None}
        with self._translated():
            answer = self._http().request(method, path, params=given, json=body)
        _refuse(answer)
        return _parsed(answer)

    def send(self, method: str, url: str, headers: Mapping[str, str], data: memoryview) -> None:
        """Send raw bytes where the server wants them."""
        pieces = (bytes(data[start : start + PIECE_BYTES]) for start in range(0, len(data), PIECE_BYTES))
        length = {"Content-Length": str(len(data)), "Content-Type": "application/octet-stream"}
        with self._translated():
            answer = self._http().request(method, url, headers={**headers, **length}, content=pieces)
        _refuse(answer)

    def fetch(self, method: str, url: str, headers: Mapping[str, str], length: int) -> Iterator[bytes]:
        """The raw bytes of a range, as they come.

        Raises
        ------
        IntegrityError
            There are more or fewer than ``length`` bytes.
        """
        received = 0
        with self._translated(), self._http().stream(method, url, headers=dict(headers)) as answer:
            if answer.is_error:
                answer.read()
            _refuse(answer)
            for piece in answer.iter_raw(PIECE_BYTES):
                received += len(piece)
                if received > length:
                    break
                yield piece
        if received != length:
            raise IntegrityError(f"{url}: {received} bytes came where {length} were asked for")

    def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        with self._guard:
            if self._client is not None and self._owner == os.getpid():
                self._client.close()
            self._client = None

    def _http(self) -> httpx.Client:
        with self._guard:
            if self._client is None or self._owner != os.getpid():
                headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
                self._client = httpx.Client(base_url=self.url, headers=headers, timeout=self._timeout)
                self._owner = os.getpid()
                weakref.finalize(self, self._client.close)
            return self._client

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL, httpx.DecodingError) as error:
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(f"no answer from the Holdfast server at {self.url}: {reason}") from error


def _refuse(answer: httpx.Response) -> None:
    if answer.is_success:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = None
    raise from_problem(answer.status_code, problem if isinstance(problem, dict) else {})


def _parsed(answer: httpx.Response) -> dict[str, Any]:
    if not answer.content:
        return {}
    try:
        found = answer.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise ServerFailed(f"{answer.request.url} did not answer with JSON; is it a Holdfast server?")
    return found
