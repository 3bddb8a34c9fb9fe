"""Calls of the API for paths: what is there, and the saves, copies and removals of a file system."""

import errno
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, unquote

from .._api.retry import READERS_PATIENCE, RetryDeadline
from .._api.server import Server, parse_errors
from .._arguments.name_grammar import check_checkpoint, check_directory, refused
from .._transfer import upload
from .._transfer.upload_source import Source
from ..errors import CheckpointExists, CheckpointNotFound, HoldfastError, InvalidRequest
from .names import ALIASES, decoded, encoded, parts_of

_PAGE = 1000
_COPIED_BYTES_PER_S = 32 * 1024 * 1024
"""The rate at which a slow disk copies: a copy is answered when it is durable."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Something at a path. Times are those of the commit; of a directory, of its first and its last save.

    ``path`` is the one that was asked for; ``real_path`` is the server's, with real names where there are aliases.
    """

    path: str
    real_path: str
    type: str
    size_bytes: int
    created_at: datetime | None
    modified_at: datetime | None
    checkpoint_id: str | None
    digest: str | None
    etag: str | None
    url: str | None

    @classmethod
    def from_json(cls, path: str, data: Mapping[str, Any]) -> Self:
        return cls(
            path=path,
            real_path=data["path"],
            type=data["type"],
            size_bytes=data["size_bytes"] or 0,
            created_at=_time(data["created_at"]),
            modified_at=_time(data["modified_at"]),
            checkpoint_id=data["checkpoint_id"],
            digest=data["digest"],
            etag=data["etag"],
            url=data["url"],
        )

    @property
    def is_file(self) -> bool:
        """Whether it is a file; everything else is a directory of a file system."""
        return self.type == "file"

    @property
    def inner(self) -> str:
        """The path of a file within its checkpoint."""
        return unquote((self.url or "").partition("/files/")[2])


class Store:
    """The tree of a server, below a prefix."""

    def __init__(self, server: Server, prefix: str) -> None:
        self.server = server
        self.prefix = prefix

    def entry(self, path: str) -> Entry:
        """Return what is at a path; raise `CheckpointNotFound` if nothing is."""
        return self._page(path, {"page_size": 1})[0]

    def listing(self, path: str) -> tuple[Entry, list[Entry]]:
        """Return what is at a path, and the entries of the level below it."""
        found, listed = self._page(path, {"page_size": _PAGE})
        entries = list(self._children(path, listed["entries"]))
        while (token := listed.get("next_page_token")) is not None:
            listed = self.server.ask(
                "/v1/tree", params={"path": found.real_path, "page_size": _PAGE, "page_token": token}
            )
            entries += self._children(path, listed["entries"])
        return found, entries

    def real(self, path: str) -> str:
        """Return a path with the real names where it has aliases."""
        parts = path.split("/")
        end = next((place + 1 for place, part in enumerate(parts) if part in ALIASES), None)
        if end is None:
            return path
        found = self.entry("/".join(parts[:end])).real_path.removeprefix(f"{self.prefix}/" if self.prefix else "")
        return "/".join([*map(decoded, found.split("/")), *parts[end:]])

    def check(self, path: str) -> None:
        """Raise `InvalidRequest` if a path cannot be that of a file."""
        self._place(path)

    def save(
        self, path: str, source: Source, seen: str | None, *, before_commit: Callable[[], object] = lambda: None
    ) -> str:
        """Save a file at a path, and return its ``ETag``.

        Parameters
        ----------
        seen : str or None
            The ``ETag`` of the file that may be replaced; None if none was there.

        Raises
        ------
        CheckpointExists
            Another writer has saved there since (``precondition_failed``), or a directory is there.
        InvalidRequest
            The path cannot be that of a file. Nothing was sent.
        """
        directory, name = self._place(path)
        save = {"directory": directory, "name": name, "retention": "manual", "save_id": secrets.token_hex(16)}

        def send(precondition: Mapping[str, str]) -> str:
            patience = RetryDeadline(READERS_PATIENCE * self.server.patience_s)
            committed = upload.send_files(
                self.server,
                save,
                {None: source},
                patience=patience,
                progress=False,
                before_commit=before_commit,
                precondition=precondition,
            )
            with parse_errors():
                return f'"{committed.answer["files"][0]["digest"]}"'

        return str(self._unless_replaced(path, seen, send))

    def copy(self, entry: Entry, path: str, seen: str | None) -> None:
        """Copy a file, or a whole checkpoint, to a path; the server copies the bytes. For the rest see `save`."""
        directory, name = self._place(path)
        changes = self._only(entry, name) if entry.is_file else {}
        body = {"directory": directory, "name": name, "retention": "manual", **changes}
        longer_s = entry.size_bytes / _COPIED_BYTES_PER_S

        def send(precondition: Mapping[str, str]) -> Any:
            return self.server.call(
                "POST",
                f"/v1/checkpoints/{entry.checkpoint_id}/copy",
                body={**body, "save_id": secrets.token_hex(16)},
                longer_s=longer_s,
                precondition=precondition,
            )

        self._unless_replaced(path, seen, send)

    def remove(self, entry: Entry) -> None:
        """Remove a file, or a whole checkpoint; one that was replaced in the meantime stays.

        Raises
        ------
        OSError
            The file is one of several of a checkpoint, which do not change.
        """
        precondition = {"If-Match": entry.etag} if entry.etag else {}
        try:
            self.server.call("DELETE", f"/v1/checkpoints/{entry.checkpoint_id}", precondition=precondition)
        except CheckpointNotFound as error:
            if error.code != "checkpoint_removed":
                raise
        except CheckpointExists as error:
            if error.code != "precondition_failed":
                raise
            raise unchangeable(entry.path) from error

    def remove_all(self, path: str) -> None:
        """Remove the checkpoints of all directories at and below a path.

        Raises
        ------
        CheckpointExists
            Some are pinned; all others are removed.
        """
        pinned: list[str] = []
        for directory in list(self._directories(path)):
            done = self.server.call("DELETE", f"/v1/directories/{quote(directory)}")
            pinned += [f"{directory}/{name}" for name in done["pinned"]]
        if pinned:
            raise CheckpointExists(f"{pinned[0]!r} is pinned, and was not removed [pinned]", code="pinned")

    def link(self, entry: Entry, lifetime_s: int) -> str:
        """Return a signed link to a file."""
        params = {"file": entry.inner, "lifetime_s": lifetime_s}
        found = self.server.call("POST", f"/v1/checkpoints/{entry.checkpoint_id}/links", params=params)
        return str(found["url"])

    def _page(self, path: str, params: Mapping[str, Any]) -> tuple[Entry, dict[str, Any]]:
        missing: HoldfastError | None = None
        for name in self._candidates(path):
            try:
                found = self.server.ask("/v1/tree", params={"path": name or None, **params})
            except CheckpointNotFound as error:
                missing = missing or error
                continue
            with parse_errors():
                return Entry.from_json(path, found), found
        raise CheckpointNotFound(f"there is nothing at {path!r}", code=missing.code if missing else None)

    def _candidates(self, path: str) -> Iterator[str]:
        """Yield the server's names for a path: within a checkpoint, names that begin with a dot are not escaped."""
        parts = parts_of(path)
        prefix = self.prefix.split("/") if self.prefix else []
        yield "/".join([*prefix, *map(encoded, parts)])
        for place, part in enumerate(parts):
            if part.startswith(".") and place > 1:
                inner = (f".{encoded(each[1:])}" if each.startswith(".") else encoded(each) for each in parts[place:])
                yield "/".join([*prefix, *map(encoded, parts[:place]), *inner])

    def _children(self, path: str, listed: list[Mapping[str, Any]]) -> Iterator[Entry]:
        before = f"{path}/" if path else ""
        with parse_errors():
            yield from (Entry.from_json(before + decoded(each["name"]), each) for each in listed)

    def _place(self, path: str) -> tuple[str, str]:
        """Return the directory and the name of the checkpoint that a file becomes."""
        parts = parts_of(path)
        for alias in ALIASES:
            if alias in parts:
                raise refused(path, "file to write", f"{alias} stands for a checkpoint that is there. Give its name")
        whole = [*(self.prefix.split("/") if self.prefix else []), *map(encoded, parts)]
        if len(whole) < 2:
            raise refused(path, "file", "it has no directory. Give a path such as 'runs/a/model.pt'")
        return check_directory("/".join(whole[:-1])), check_checkpoint(whole[-1])

    def _only(self, entry: Entry, name: str) -> dict[str, Any]:
        """Return the part of a copy's body that selects one file of its checkpoint, under a new name."""
        facts = self.server.ask(f"/v1/checkpoints/{entry.checkpoint_id}")
        files = [each["path"] for each in facts["files"]]
        if files == [facts["name"]] and entry.real_path == f"{facts['directory']}/{facts['name']}":
            return {}
        keep = entry.inner
        drop = [each for each in files if each != keep]
        return {"drop": drop, "rename": {keep: name}}

    def _unless_replaced(self, path: str, seen: str | None, send: Callable[[Mapping[str, str]], Any]) -> Any:
        try:
            return send({"If-Match": seen} if seen else {"If-None-Match": "*"})
        except CheckpointExists as error:
            if error.code == "precondition_failed":
                if seen and error.problem.get("checkpoint_id") is None:  # removed since: there is nothing to lose
                    return self._unless_replaced(path, None, send)
                what = "has replaced" if seen else "has saved"
                raise CheckpointExists(
                    f"another writer {what} {path!r} since this one looked at it; nothing was saved here "
                    f"[{error.code}]. Read what is there, and write again, or choose another name",
                    code=error.code,
                    problem=error.problem,
                ) from error
            if error.code != "name_taken":
                raise
            self._refuse_parent(path.rpartition("/")[0])
            if not self._frees(path):
                raise
            return send({"If-None-Match": "*"})

    def _refuse_parent(self, parent: str) -> None:
        """Refuse a file below a file, or within a checkpoint of several files."""
        try:
            found = self.entry(parent)
        except CheckpointNotFound:
            return
        if found.is_file:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), parent)
        if found.type != "directory":
            raise unchangeable(parent)

    def _frees(self, path: str) -> bool:
        """Remove the directory at a path that holds nothing any more; tell if that made room for a file."""
        directory = "/".join(self._place(path))
        try:
            done = self.server.call("DELETE", f"/v1/directories/{quote(directory)}", params={"only_empty": True})
        except (CheckpointNotFound, InvalidRequest, PermissionError):
            return False
        return bool(done.get("directory_removed"))

    def _directories(self, path: str) -> Iterator[str]:
        params: dict[str, Any] = {"prefix": next(self._candidates(path)), "page_size": _PAGE}
        while True:
            page = self.server.ask("/v1/directories", params=params)
            yield from (each["directory"] for each in page["directories"] if each["count"])
            if (token := page.get("next_page_token")) is None:
                return
            params["page_token"] = token


def unchangeable(path: str) -> OSError:
    """Return the error for a change within a checkpoint of several files."""
    why = "is in a checkpoint of several files, which does not change: copy it elsewhere, or save the checkpoint anew"
    return OSError(errno.EROFS, f"{path!r} {why}")


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text is not None else None
