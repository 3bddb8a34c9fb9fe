"""Calls of one writer of a shared upload, each retried for a while if the server is unreachable."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from .._api.retry import RetryDeadline, is_transient
from .._api.server import Server, parse_errors
from .._api.wire import Upload
from .._transfer.upload import RangeSender, attributes_of, chunks_to_json
from .._transfer.upload_source import Source
from ..errors import HoldfastError, IntegrityError, InvalidRequest, ServerUnreachable

FILES_AT_A_TIME = 1000
"""The number of files that are declared in one request."""

T = TypeVar("T")


class SharedCalls:
    """The requests of one writer. Thread-safe.

    Parameters
    ----------
    save : mapping
        The body of the reservation, which all writers send.
    precondition : mapping
        Its headers, such as ``If-None-Match``.
    """

    def __init__(self, server: Server, save: Mapping[str, Any], writer: str, precondition: Mapping[str, str]) -> None:
        self._server = server
        self._save = save
        self._writer = {"writer": writer, "attempt": save["attempt"]}
        self._precondition = precondition
        self._reserving = threading.Lock()
        self._id: str | None = None

    @property
    def upload_id(self) -> str:
        """The id of the upload, which is reserved at the first call."""
        with self._reserving:
            if self._id is None:
                answer = self._patiently(
                    lambda _: self._server.call("POST", "/v1/uploads", body=self._save, precondition=self._precondition)
                )
                with parse_errors():
                    self._id = str(answer["id"])
            return self._id

    def get(self) -> Mapping[str, Any]:
        """Return the upload, with what this writer's files lack."""
        path, params = f"/v1/uploads/{self.upload_id}", {"writer": self._writer["writer"]}
        return self._patiently(lambda _: self._server.call("GET", path, params=params))

    def send(self, files: Mapping[str, Source]) -> None:
        """Declare files and send what they lack; all of their bytes have arrived when this returns."""
        paths = list(files)
        for start in range(0, len(paths), FILES_AT_A_TIME):
            part = {path: files[path] for path in paths[start : start + FILES_AT_A_TIME]}
            self._patiently(lambda patience, part=part: self._send(part, patience), part)  # type: ignore[misc]

    def rename(self, path: str, to: str) -> None:
        """Rename a file of this writer."""
        self._post("rename", {"path": path, "to": to})

    def remove(self, path: str) -> None:
        """Remove a file of this writer; it may be gone already if an answer was lost."""
        address, attempts = f"/v1/uploads/{self.upload_id}/files/{quote(path)}", 0

        def remove(_: RetryDeadline) -> None:
            nonlocal attempts
            attempts += 1
            try:
                self._server.call("DELETE", address, params=self._writer)
            except HoldfastError as error:
                if error.code != "file_not_found" or attempts == 1:
                    raise

        self._patiently(remove)

    def ready(self) -> Mapping[str, Any]:
        """Report this writer as ready, and return the upload."""
        return self._post("ready", {})

    def commit(self, writers: Sequence[str], paths: Sequence[str]) -> Mapping[str, Any]:
        """Commit the upload, and return the checkpoint."""
        body = {"attempt": self._writer["attempt"], "writers": list(writers), "paths": list(paths)}
        return self._patiently(lambda _: self._server.call("POST", f"/v1/uploads/{self.upload_id}/commit", body=body))

    def abort(self) -> None:
        """Abort the whole upload, unless a later attempt has taken it over."""
        params = {"attempt": self._writer["attempt"]}
        try:
            self._patiently(lambda _: self._server.call("DELETE", f"/v1/uploads/{self.upload_id}", params=params))
        except HoldfastError as error:
            if error.code != "upload_not_found":
                raise

    def _post(self, what: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        path = f"/v1/uploads/{self.upload_id}/{what}"
        return self._patiently(lambda _: self._server.call("POST", path, body={**self._writer, **body}))

    def _send(self, files: Mapping[str, Source], patience: RetryDeadline) -> None:
        sender = RangeSender(self._server, files, arrived=lambda *_: patience.progress())
        asked: set[tuple[str, int]] = set()
        while True:
            upload = self._declare(files)
            patience.progress()
            new = {(wanted.file, wanted.offset) for wanted in upload.missing} - asked
            if not new:
                return
            asked |= new
            sender.send_listed(upload)
            if upload.missing_count <= len(upload.missing):
                return

    def _declare(self, files: Mapping[str, Source]) -> Upload:
        described = [
            {
                "path": path,
                "size_bytes": source.size_bytes,
                "chunks": chunks_to_json(source),
                "tensors": source.tensors or None,
                **attributes_of(source),
            }
            for path, source in files.items()
        ]
        address = f"/v1/uploads/{self.upload_id}/files"
        try:
            answer = self._server.call("POST", address, body={**self._writer, "files": described})
        except InvalidRequest as error:
            if error.code != "too_large" or not any(source.tensors for source in files.values()):
                raise
            for source in files.values():  # the index is optional
                source.tensors = None
            return self._declare(files)
        with parse_errors():
            return Upload.from_json(answer)

    def _patiently(self, work: Callable[[RetryDeadline], T], files: Mapping[str, Source] | None = None) -> T:
        """Do some work, again for a while if the server is unreachable or bytes were altered on their way.

        An upload that is gone has expired or was aborted, with the files of all writers: that is final.
        """
        patience = RetryDeadline(self._server.patience_s)
        while True:
            try:
                return work(patience)
            except HoldfastError as error:
                if error.code == "digest_mismatch" and files is not None:
                    _refuse_changed(files, error)
                    error = ServerUnreachable(f"sent bytes are altered on their way: {error}", code=error.code)
                elif error.code == "upload_not_found" or not is_transient(error):
                    raise
                patience.wait(error)


def _refuse_changed(files: Mapping[str, Source], error: HoldfastError) -> None:
    for path, source in files.items():
        if source.has_changed():
            raise IntegrityError(f"{path} was changed while it was being sent", code=error.code) from error
