"""Files that several writers declare for one checkpoint: their paths and places, and the part of each writer."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from app.core.errors import InvalidName, PathTaken
from app.core.models import SharedFile, SharedTerms, UploadFile


@dataclass(frozen=True, slots=True)
class WriterStatus:
    """The part of one writer; ``missing_bytes`` is None if the server was started since and has not looked."""

    name: str
    files: int
    size_bytes: int
    missing_bytes: int | None
    is_ready: bool
    active_at: datetime | None


@dataclass(frozen=True, slots=True)
class SharedStatus:
    """The writers of a shared upload; ``missing_writers`` are expected, or have declared files, and are not ready."""

    terms: SharedTerms
    writers: tuple[WriterStatus, ...]
    missing_writers: tuple[str, ...]


@dataclass
class Writer:
    """The part of one writer, as it changes. ``moved_at`` is a time of `time.monotonic`."""

    files: int = 0
    size_bytes: int = 0
    arrived_bytes: int = 0
    is_ready: bool = False
    active_at: datetime | None = None
    moved_at: float | None = None

    def touch(self, *, is_ready: bool | None = None) -> None:
        """Note that it was active, and whether it is ready."""
        self.moved_at = time.monotonic()
        self.is_ready = self.is_ready if is_ready is None else is_ready

    def status(self, name: str, now: datetime) -> WriterStatus:
        """Return its state."""
        active_at = self.active_at
        if self.moved_at is not None:
            active_at = now - timedelta(seconds=time.monotonic() - self.moved_at)
        missing_bytes = max(0, self.size_bytes - self.arrived_bytes)
        return WriterStatus(name, self.files, self.size_bytes, missing_bytes, self.is_ready, active_at)


@dataclass
class DeclaredFiles:
    """The files of one attempt. Not thread-safe.

    ``left`` are the files of earlier attempts, whose bytes may be of use. A place is a number that no other file of the
    upload ever has.
    """

    name: str
    left: dict[str, UploadFile] = field(default_factory=dict)
    next_place: int = 0
    by_path: dict[str, SharedFile] = field(default_factory=dict)
    writers: dict[str, Writer] = field(default_factory=dict)
    totals: Counter[str] = field(default_factory=Counter)
    """The number of files, chunks and tensors, and the bytes."""
    _paths: dict[int, str] = field(default_factory=dict)
    _folders: Counter[str] = field(default_factory=Counter)

    def of(self, writer: str | None) -> tuple[UploadFile, ...]:
        """Return the files of a writer, or of all, by their places."""
        found = [shared for shared in self.by_path.values() if writer in {None, shared.writer}]
        return tuple(shared.file for shared in sorted(found, key=lambda shared: shared.place))

    def at(self, place: int) -> UploadFile | None:
        """Find a file by its place."""
        shared = self.by_path.get(self._paths.get(place, ""))
        return shared.file if shared is not None else None

    def owned(self, writer: str, path: str) -> SharedFile | None:
        """Find a file that a writer has declared; `PathTaken` if another one has."""
        found = self.by_path.get(path)
        if found is not None and found.writer != writer:
            raise taken(path, found.writer)
        return found

    def writer(self, name: str) -> Writer:
        """Return the part of a writer, which may be new."""
        return self.writers.setdefault(name, Writer())

    def unready(self, expected: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the expected writers that are not ready, and of any other that has declared a file."""
        names = dict.fromkeys([*expected, *(name for name, writer in self.writers.items() if writer.files)])
        return tuple(name for name in names if name not in self.writers or not self.writers[name].is_ready)

    def compare(self, writer: str, file: UploadFile) -> SharedFile | None:
        """Return the file as it is to be known, if its declaration says anything new.

        Raises
        ------
        PathTaken
            Another writer has the path, or it is a folder of other files, or below one of them; or the same writer has
            declared it otherwise.
        InvalidName
            The path is that of the checkpoint itself.
        """
        held = self.owned(writer, file.path)
        if held is None:
            self.refuse_path(file.path)
            return SharedFile(writer, self.next_place, file)
        if not held.file.agrees_with(file):
            raise PathTaken(
                f"{file.path!r} was declared with another size or other chunks. Delete it first.",
                file=file.path,
                writer=writer,
            )
        if file.is_hashed and not held.file.is_hashed:
            return replace(held, file=replace(held.file, chunks=file.chunks))
        return None

    def refuse_path(self, path: str) -> None:
        """Refuse a path that no further file can have beside the others; see `compare`."""
        if path == self.name:
            raise InvalidName(f"{path!r} is the name of the checkpoint itself; a file in it needs another one.")
        if self._folders[path]:
            raise PathTaken(f"{path!r} is a folder of other files of this upload.", file=path)
        for folder in above(path):
            if folder in self.by_path:
                raise taken(folder, self.by_path[folder].writer)

    def put(self, shared: SharedFile) -> None:
        """Add a file, or replace its description."""
        if shared.file.path in self.by_path:
            self.remove(shared.file.path)
        self.by_path[shared.file.path] = shared
        self._paths[shared.place] = shared.file.path
        self.next_place = max(self.next_place, shared.place + 1)
        self._weigh(shared, 1)

    def remove(self, path: str) -> SharedFile:
        """Take out a file."""
        shared = self.by_path.pop(path)
        self._paths.pop(shared.place, None)
        self._weigh(shared, -1)
        return shared

    def in_the_way(self, paths: Mapping[str, int | None]) -> Sequence[str]:
        """Return the paths of ``left`` whose bytes cannot stay where files come, given by path with their sizes."""
        found: list[str] = []
        folders = {folder for path in self.left for folder in above(path)} if self.left else set()
        for path, size_bytes in paths.items():
            if path in self.left and self.left[path].size_bytes != size_bytes:
                found.append(path)
            found += [folder for folder in above(path) if folder in self.left]
            if path in folders:
                found += [other for other in self.left if other.startswith(f"{path}/")]
        return list(dict.fromkeys(found))

    def _weigh(self, shared: SharedFile, sign: int) -> None:
        file, writer = shared.file, self.writer(shared.writer)
        size_bytes = file.size_bytes or 0
        writer.files += sign
        writer.size_bytes += sign * size_bytes
        weights = {"files": 1, "bytes": size_bytes}
        weights |= {"chunks": len(file.chunks or ()), "tensors": len(file.tensors or ())}
        for what, count in weights.items():
            self.totals[what] += sign * count
        for folder in above(file.path):
            self._folders[folder] += sign


def above(path: str) -> list[str]:
    """Return the folders of a path."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(1, len(parts))]


def taken(path: str, writer: str) -> PathTaken:
    """Make the refusal of a path that another file has."""
    return PathTaken(f"{path!r} was declared by the writer {writer!r}.", file=path, writer=writer)
