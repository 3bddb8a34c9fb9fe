"""Diagnosis of a server from this machine: reach, token, a small save, upload and download speed, removal.

Each question is asked only if those before it were answered. All that it saves is removed again.
"""

import secrets
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .._api import digests
from .._api.retry import RetryDeadline
from .._api.wire import Chunk
from .._transfer import download, upload
from .._transfer.contents import file_of
from ..errors import CheckpointNotFound, HoldfastError, NotAllowed, OutOfSpace, ServerFailed, ServerUnreachable
from . import formatting
from .session import Json, Session, wire

_MIB = 1024 * 1024
_SHARES = (1 / 16, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""The parts of a measured transfer: each as large as those before it, so that a slow transfer can end early."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes
    ----------
    check : str
        The check: ``reach``, ``token``, ``save``, ``upload``, ``download``, ``remove`` or ``spool``.
    ok : bool
    text : str
        The result in words.
    advice : str
        The advice; empty if nothing needs to be done.
    """

    check: str
    ok: bool
    text: str
    advice: str = ""


class Diagnosis:
    """The checks of a server, each of which needs those before it."""

    def __init__(self, session: Session, directory: str, size_mib: int, time_s: float) -> None:
        self._session = session
        self._server = session.server
        self._directory = directory
        self._size_bytes = size_mib * _MIB
        self._time_s = time_s
        self._mark = secrets.token_hex(4)
        self._tried: list[str] = []
        self.figures: Json = {}

    def results(self) -> Iterator[CheckResult]:
        """Yield the results of checks as they are made; stop where no further check makes sense."""
        try:
            before = time.monotonic()
            info = self._session.ask("/v1/info")
            took_s = time.monotonic() - before
        except HoldfastError as error:
            yield CheckResult(*_unreached(self._server.url, error))
            return
        self.figures["answer_s"] = round(took_s, 6)
        text = f"{self._server.url} answers in {took_s * 1000:.1f} ms: {info['name']} {info['version']}"
        yield CheckResult("reach", True, text)
        may = info["token"]
        self.figures["token"] = may
        yield self._token(may)
        if _allows(may, "write"):
            yield from self._transfers(_allows(may, "delete"))

    def _token(self, may: Json) -> CheckResult:
        lacking = [scope for scope in ("read", "write") if not _allows(may, scope)]
        where = f"below {may['prefix']!r}" if may["prefix"] else "everywhere"
        who = "no token is needed" if may["id"] == "anonymous" else f"the token {may['id']} is known"
        until = f" until {may['expires_at']}" if may["expires_at"] else ""
        text = f"{who}: {', '.join(may['scopes'])} {where}{until}"
        outside = may["prefix"] and not f"{self._directory}/".startswith(f"{may['prefix']}/")
        if lacking:
            return CheckResult(
                "token", False, text, f"to save, ask the operator for a token with {' and '.join(lacking)}"
            )
        if outside:
            return CheckResult(
                "token", False, text, f"set HOLDFAST_PREFIX={shlex.quote(may['prefix'])}, so that directories are there"
            )
        return CheckResult("token", True, text)

    def _transfers(self, may_remove: bool) -> Iterator[CheckResult]:
        kept: list[Json] = []
        existed = self._exists()
        try:
            yield self._save(kept)
            yield self._measured("upload", self._upload(kept))
            yield self._measured("download", self._download(kept[1:] or kept))
        except HoldfastError as error:
            yield CheckResult("save", False, str(error), _advice(error))
        finally:
            removed = self._remove(may_remove, existed) if self._tried else None
        if removed is not None:
            yield removed

    def _save(self, kept: list[Json]) -> CheckResult:
        before = time.monotonic()
        kept.append(self._send("small", _Noise(1000)))
        took_s = time.monotonic() - before
        self.figures["save_s"] = round(took_s, 6)
        where = self._session.shown(self._directory)
        return CheckResult("save", True, f"a small save to {where} is durable after {took_s * 1000:.1f} ms")

    def _upload(self, kept: list[Json]) -> Iterator[tuple[int, float]]:
        for place, share in enumerate(_SHARES):
            noise = _Noise(int(share * self._size_bytes))
            before = time.monotonic()
            kept.append(self._send(f"part-{place}", noise))
            yield noise.size_bytes, time.monotonic() - before

    def _download(self, kept: list[Json]) -> Iterator[tuple[int, float]]:
        for found in kept:
            before = time.monotonic()
            file = file_of(self._server, wire(found))
            download.into_stream(self._server, file, lambda _: None, False)
            yield file.size_bytes, time.monotonic() - before

    def _measured(self, what: str, moved: Iterator[tuple[int, float]]) -> CheckResult:
        """Measure a transfer; stop if the next part, as large as all before it, would take too long."""
        size_bytes, took_s = 0, 0.0
        for count, seconds in moved:
            size_bytes += count
            took_s += seconds
            if 2 * took_s > self._time_s:
                break
        mib_per_s = size_bytes / _MIB / max(took_s, 1e-6)
        self.figures[f"{what}_mib_per_s"] = round(mib_per_s, 3)
        return CheckResult(what, True, f"{mib_per_s:,.0f} MiB/s over {formatting.size(size_bytes)} in {took_s:.2f} s")

    def _send(self, name: str, noise: "_Noise") -> Json:
        self._tried.append(f"{self._mark}-{name}")  # noted before it is sent: an interrupted save may have arrived
        save = {
            "directory": self._directory,
            "name": self._tried[-1],
            "metadata": {"made_by": "holdfast doctor"},
        }
        patience = RetryDeadline(self._time_s)
        try:
            committed = upload.send_files(self._server, save, {None: noise}, patience=patience, progress=False)
        except NotAllowed:  # so nothing has arrived
            self._tried.pop()
            raise
        return self._session.ask(f"/v1/checkpoints/{committed.checkpoint.id}")

    def _remove(self, may: bool, existed: bool) -> CheckResult | None:
        """Remove the saved checkpoints, and the directory if it is new and empty again."""
        where = self._session.shown(self._directory)
        advice = f"remove them with a token that has the scope delete: holdfast rm --all --yes {where}"
        try:
            kept = [each for name in self._tried for each in self._session.named(self._directory, name)]
            saved = formatting.count(len(kept), "checkpoint")
            if not kept:
                return None
            if not may:
                return CheckResult("remove", True, f"{saved} in {where} stay: the token may not remove", advice)
            for each in kept:
                self._server.call("DELETE", f"/v1/checkpoints/{each['id']}")
            after = self._session.ask(f"/v1/checkpoints/{kept[-1]['id']}")
        except HoldfastError as error:
            return CheckResult("remove", False, f"what was saved in {where} stays: {error}", advice)
        bytes_too = ", and their bytes until the undo window is over" if after["restorable"] else ""
        if not existed and self._remove_directory():
            return CheckResult("remove", True, f"removed {saved} in {where}, and the directory")
        return CheckResult("remove", True, f"removed {saved} in {where}; their facts stay{bytes_too}")

    def _exists(self) -> bool:
        """Tell if the directory exists. True if that is unknown, so that it is left alone."""
        try:
            return self._session.described(self._directory) is not None
        except HoldfastError:
            return True

    def _remove_directory(self) -> bool:
        """Remove the directory if it is empty; return True if it is gone. Older servers refuse this request."""
        try:
            path, params = f"/v1/directories/{quote(self._directory)}", {"only_empty": True}
            return bool(self._server.call("DELETE", path, params=params).get("directory_removed"))
        except HoldfastError:
            return False


class _Noise:
    """A file of random bytes, which no server has."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.tensors: list[dict[str, Any]] | None = None
        self._data = memoryview(secrets.token_bytes(size_bytes))
        starts = range(0, size_bytes, digests.CHUNK_BYTES)
        self.spans = [(start, min(digests.CHUNK_BYTES, size_bytes - start)) for start in starts]
        parts = [self._data[offset : offset + length] for offset, length in self.spans]
        self._chunks = tuple(
            Chunk(offset, length, digests.of_chunk(part))
            for (offset, length), part in zip(self.spans, parts, strict=True)
        )

    def read(self, place: int) -> tuple[memoryview, str]:
        chunk = self._chunks[place]
        return self._data[chunk.offset : chunk.offset + chunk.length], chunk.digest

    def chunks(self) -> tuple[Chunk, ...]:
        return self._chunks

    def sample(self, count: int) -> set[str]:
        return {chunk.digest for chunk in self._chunks[:count]}

    def has_changed(self) -> bool:
        return False


def _allows(may: Json, scope: str) -> bool:
    return scope in may["scopes"] or "admin" in may["scopes"]


def _unreached(url: str, error: HoldfastError) -> tuple[str, bool, str, str]:
    """Return a finding for a server that did not answer."""
    if isinstance(error, NotAllowed) and error.status in (401, 403):
        return "token", False, str(error), _advice(error)
    return "reach", False, str(error), _advice(error).format(url=url)


def _advice(error: HoldfastError) -> str:
    by_code = {
        "unauthorized": "set HOLDFAST_TOKEN or HOLDFAST_TOKEN_FILE; the operator makes one with holdfast-server token",
        "forbidden": "ask the operator for a token with that scope",
        "host_not_allowed": "use the server's IP address, or ask the operator to set HOLDFAST_ALLOWED_HOSTS",
        "directory_not_found": "set HOLDFAST_PREFIX to the prefix of the token",
        "quota_exceeded": "remove checkpoints, or ask the operator for a larger quota",
    }
    by_kind: list[tuple[type[Exception], str]] = [
        (
            ServerUnreachable,
            "check that the server runs, that HOLDFAST_URL ({url}) is its URL, and any proxy in between",
        ),
        (ServerFailed, "check the server's log, and whether something else answers at HOLDFAST_URL"),
        (OutOfSpace, "ask the operator to free space on the server's disk"),
        (CheckpointNotFound, "check whether another process removes checkpoints there"),
        (NotAllowed, "ask the operator about the scopes of the token"),
    ]
    found = by_code.get(error.code)
    return found or next((text for kind, text in by_kind if isinstance(error, kind)), "check the server's log")
