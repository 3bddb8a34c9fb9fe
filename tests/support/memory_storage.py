"""A second implementation of the storage ports: a bucket of immutable objects in memory, without files or folders.

It keeps bytes under the id of a checkpoint rather than its name, and moves none of them on removal, as an object store
would. It shows that neither the ports nor the use cases above them assume a file system.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from urllib.parse import quote, urlencode

from app.core.errors import ForeignFile, NameTaken
from app.core.models import Checkpoint, Directory, File, Manifest, RangeUrl, RootMark, Upload, Version
from app.core.spans import Span, merged
from app.storage import manifest as manifests
from app.storage.ports import Buffer, InventoryEntry, Opened, Partial, RecordTimes, Storage, SurveyedRecord, Trashed


@dataclass(frozen=True)
class Blob:
    """One immutable object."""

    data: bytes
    version: Version
    written_ns: int


@dataclass
class Growing:
    """A file of an upload."""

    data: bytearray = field(default_factory=bytearray)
    written: list[Span] = field(default_factory=list)
    version: Version = ""
    sent: list[Span] = field(default_factory=list)
    """The ranges that clients have sent to URLs."""

    def write(self, offset: int, data: Buffer) -> None:
        self.data.extend(bytes(max(0, offset - len(self.data))))
        self.data[offset : offset + len(data)] = data
        self.written.append(Span(offset, offset + len(data)))
        self.version = ""


@dataclass
class Bucket:
    """All that outlives a process."""

    objects: dict[str, Blob] = field(default_factory=dict)
    uploads: dict[str, dict[str, Growing]] = field(default_factory=dict)
    finalized: Counter[str] = field(default_factory=Counter)
    """By upload, how often it was finalized: each time ends the URLs that were given before."""
    places: set[str] = field(default_factory=set)
    marks: dict[str, RootMark] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    is_protected: bool = False
    refuses_removals: bool = False
    is_formatted: bool = False
    guard: threading.RLock = field(default_factory=threading.RLock)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def new_version(self) -> Version:
        return f"v{next(self.numbers)}"  # no number, as the versions of many stores

    def put(self, key: str, data: bytes) -> None:
        written_ns = int(datetime.now(UTC).timestamp() * 1_000_000_000)
        self.objects[key] = Blob(data, self.new_version(), written_ns)

    def get(self, key: str) -> Blob:
        try:
            return self.objects[key]
        except KeyError as error:
            raise FileNotFoundError(key) from error

    def take(self, upload_id: str, path: str, start: int, data: bytes, finalized: int) -> bool:
        """Take a range that a client sends to its URL; False if the URL is not valid any more."""
        with self.guard:
            if upload_id not in self.uploads or self.finalized[upload_id] != finalized:
                return False
            growing = self.uploads[upload_id].setdefault(path, Growing())
            growing.write(start, data)
            growing.sent.append(Span(start, start + len(data)))
            return True

    def below(self, prefix: str) -> list[str]:
        with self.guard:
            return sorted(key for key in self.objects if key.startswith(prefix))


class MemoryOpened:
    """An object open for reading. It has no descriptor."""

    def __init__(self, bucket: Bucket, key: str) -> None:
        self.blob = bucket.get(key)
        self.size_bytes = len(self.blob.data)
        self.version = self.blob.version
        self._bucket = bucket
        self._key = key

    def is_version_of(self, file: File) -> bool:
        return (self.size_bytes, self.version) == (file.size_bytes, file.version)

    def read(self, offset: int, length: int) -> bytes:
        return self.blob.data[offset : offset + length]

    def evict(self, offset: int, length: int) -> None:
        pass

    def is_as_opened(self) -> bool:
        return True  # objects never change

    def close(self) -> None:
        pass


class MemoryPartial:
    """A file of an upload, open for writing."""

    def __init__(self, growing: Growing) -> None:
        self._growing = growing

    def allocate(self, span: Span) -> None:
        pass

    def write(self, offset: int, data: Buffer) -> None:
        self._growing.write(offset, data)

    def allocated_bytes(self) -> int:
        return len(self._growing.data)

    def share(self, source: Opened, start: int, span: Span) -> bool:
        self.write(span.start, source.read(start, span.stop - span.start))
        return True

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._growing.data[offset : offset + length])

    def size_bytes(self) -> int:
        return len(self._growing.data)

    def written(self) -> Iterator[Span]:
        yield from merged(self._growing.written)


class MemoryContentStore:
    """The content store port over a bucket; ``range_url``, if given, makes the URLs of ranges."""

    range_max_bytes = 16 * 1024 * 1024

    def __init__(self, bucket: Bucket, records: "MemoryRecordStore", url: str | None) -> None:
        self._bucket = bucket
        self._records = records
        self._url = url
        self._remains: set[str] = set()

    # uploads

    def begin(self, upload: Upload) -> None:
        self._bucket.uploads.setdefault(upload.id, {})

    @contextmanager
    def partial(self, upload: Upload, path: str, *, create: bool = True) -> Iterator[Partial]:
        with self._bucket.guard:
            files = self._files(upload.id)
            if path not in files and not create:
                raise FileNotFoundError(path)
            growing = files.setdefault(path, Growing())
        yield MemoryPartial(growing)

    def write_files(self, upload: Upload, contents: Mapping[str, Buffer]) -> None:
        for path, data in contents.items():
            with self.partial(upload, path) as partial:
                partial.write(0, data)

    def write_whole(self, upload: Upload, contents: Mapping[str, Buffer]) -> Mapping[str, Version]:
        self.begin(upload)
        self.write_files(upload, contents)
        return self.finalize(upload)

    def remove_file(self, upload: Upload, path: str) -> None:
        with self._bucket.guard:
            self._files(upload.id).pop(path, None)

    def rename_file(self, upload: Upload, path: str, to: str) -> None:
        with self._bucket.guard:
            files = self._files(upload.id)
            if path in files:
                files[to] = files.pop(path)

    def keep_only(self, upload: Upload) -> None:
        with self._bucket.guard:
            for path in self._files(upload.id).keys() - {file.path for file in upload.files}:
                self.remove_file(upload, path)

    def upload_url(self, upload: Upload, path: str, span: Span) -> RangeUrl | None:
        return self._range_url(f"{upload.id}/{path}", span, finalized=self._bucket.finalized[upload.id])

    def arrived(self, upload: Upload) -> Mapping[str, Sequence[Span]]:
        with self._bucket.guard:
            files = self._bucket.uploads.get(upload.id, {})
            return {path: merged(growing.sent) for path, growing in files.items() if growing.sent}

    def finalize(self, upload: Upload) -> Mapping[str, Version]:
        with self._bucket.guard:
            files = self._files(upload.id)
            self._bucket.finalized[upload.id] += 1
            for file in upload.files:
                if not file.size_bytes:
                    files.setdefault(file.path, Growing())
                elif file.path not in files:
                    raise FileNotFoundError(file.path)
                if file.size_bytes is not None:
                    del files[file.path].data[file.size_bytes :]
                files[file.path].version = files[file.path].version or self._bucket.new_version()
            return {file.path: files[file.path].version for file in upload.files}

    def discard(self, upload_id: str) -> None:
        with self._bucket.guard:
            if self._bucket.refuses_removals:
                self._remains.add(upload_id)
                raise OSError("the bucket removes nothing at the moment")
            self._bucket.uploads.pop(upload_id, None)
            self.unseal(upload_id)
            self._remains.discard(upload_id)

    def sweep(self) -> None:
        for upload_id in tuple(self._remains):
            with suppress(OSError):
                self.discard(upload_id)

    def uploads(self) -> set[str]:
        return set(self._bucket.uploads)

    def _files(self, upload_id: str) -> dict[str, Growing]:
        try:
            return self._bucket.uploads[upload_id]
        except KeyError as error:
            raise FileNotFoundError(upload_id) from error

    def _range_url(self, path: str, span: Span, **more: int) -> RangeUrl | None:
        if self._url is None:
            return None
        query = urlencode({"from": span.start, "to": span.stop, **more})
        return RangeUrl(f"{self._url}/{quote(path)}?{query}", {"X-Signed": "yes"})

    # commit

    def conflict(self, directory: str, name: str, replaces: Checkpoint | None) -> str | None:
        standing = self._records.standing(directory, name)
        if standing is None or (replaces is not None and standing == replaces.id):
            return None
        return self._records.manifest_key(directory, name)

    def seal(self, upload_id: str, manifest: Manifest) -> None:
        self._bucket.put(f"seals/{upload_id}", manifests.dump(manifest))

    def unseal(self, upload_id: str) -> None:
        self._bucket.objects.pop(f"seals/{upload_id}", None)

    def is_sealed(self, upload_id: str) -> bool:
        return f"seals/{upload_id}" in self._bucket.objects

    def sealed(self) -> Sequence[tuple[str, Manifest]]:
        found = [(key.removeprefix("seals/"), self._bucket.get(key).data) for key in self._bucket.below("seals/")]
        seals = [(upload_id, manifests.load(data)) for upload_id, data in found]
        return sorted(seals, key=lambda seal: seal[1].checkpoint.sequence)

    def publish(self, upload_id: str, manifest: Manifest) -> None:
        checkpoint = manifest.checkpoint
        with self._bucket.guard:
            standing = self._records.standing(checkpoint.directory, checkpoint.name)
            if standing not in {None, checkpoint.id, manifest.replaces}:
                raise ForeignFile(f"{checkpoint.directory}/{checkpoint.name} is another checkpoint.")
            if standing is not None and standing == manifest.replaces:
                self._trash_manifest(checkpoint.directory, checkpoint.name, standing)
            for file in checkpoint.files:
                self._move_in(upload_id, checkpoint, file)
            self._records.write_manifest(manifest)

    def _move_in(self, upload_id: str, checkpoint: Checkpoint, file: File) -> None:
        key = self._records.content_key(checkpoint, file)
        growing = self._bucket.uploads.get(upload_id, {}).pop(file.path, None)
        if growing is not None:
            self._bucket.objects[key] = Blob(bytes(growing.data), growing.version, 0)
        elif key not in self._bucket.objects:
            raise FileNotFoundError(key)

    # reading

    def open(self, checkpoint: Checkpoint, file: File) -> Opened:
        if f"trash/{checkpoint.id}" in self._bucket.objects:
            raise FileNotFoundError(checkpoint.stored_at(file))
        return MemoryOpened(self._bucket, self._records.content_key(checkpoint, file))

    def download_url(self, checkpoint: Checkpoint, file: File, span: Span) -> RangeUrl | None:
        return self._range_url(f"{checkpoint.id}/{file.path}", span)

    # removal

    def move_to_trash(self, checkpoint: Checkpoint, *, note: bool = False, is_final: bool = False) -> None:
        with self._bucket.guard:
            if self._records.standing(checkpoint.directory, checkpoint.name) != checkpoint.id:
                return
            if note and checkpoint.removed_at is not None:
                text = f"{checkpoint.removed_at.isoformat()} {checkpoint.removed_because}"
                self._bucket.put(f"notes/{checkpoint.id}", text.encode())
            self._trash_manifest(checkpoint.directory, checkpoint.name, checkpoint.id)

    def _trash_manifest(self, directory: str, name: str, checkpoint_id: str) -> None:
        key = self._records.manifest_key(directory, name)
        self._bucket.put(f"trash/{checkpoint_id}", self._bucket.get(key).data)
        del self._bucket.objects[key]

    def is_in_trash(self, checkpoint: Checkpoint) -> bool:
        keys = [self._records.content_key(checkpoint, file) for file in checkpoint.files]
        return f"trash/{checkpoint.id}" in self._bucket.objects and set(keys) <= self._bucket.objects.keys()

    def restore(self, checkpoint: Checkpoint) -> None:
        with self._bucket.guard:
            trashed = self._bucket.objects.get(f"trash/{checkpoint.id}")
            if trashed is None:
                return
            key = self._records.manifest_key(checkpoint.directory, checkpoint.name)
            if key in self._bucket.objects:
                raise ForeignFile(f"{checkpoint.directory}/{checkpoint.name} is another checkpoint.")
            self._bucket.put(key, trashed.data)
            self._forget(checkpoint.id)

    def purge(self, checkpoint_id: str) -> None:
        with self._bucket.guard:
            if f"trash/{checkpoint_id}" in self._bucket.objects:
                manifest = manifests.load(self._bucket.get(f"trash/{checkpoint_id}").data)
                for file in manifest.checkpoint.files:
                    self._bucket.objects.pop(self._records.content_key(manifest.checkpoint, file), None)
            self._forget(checkpoint_id)

    def _forget(self, checkpoint_id: str) -> None:
        for kind in ("trash", "notes"):
            self._bucket.objects.pop(f"{kind}/{checkpoint_id}", None)

    def trash(self) -> set[str]:
        return {key.removeprefix("trash/") for key in self._bucket.below("trash/")}

    def trashed(self) -> Iterator[Trashed]:
        for checkpoint_id in sorted(self.trash()):
            blob = self._bucket.get(f"trash/{checkpoint_id}")
            moved_at = datetime.fromtimestamp(blob.written_ns / 1_000_000_000, UTC)
            note = self._bucket.objects.get(f"notes/{checkpoint_id}")
            at, because = note.data.decode().split() if note else (moved_at.isoformat(), "replaced")
            yield Trashed(manifests.load(blob.data), datetime.fromisoformat(at), because)  # type: ignore[arg-type]

    def is_writable(self) -> bool:
        return True


class MemoryRecordStore:
    """The record store port over a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    # records

    def write_manifest(self, manifest: Manifest) -> None:
        checkpoint = manifest.checkpoint
        self._bucket.put(self.manifest_key(checkpoint.directory, checkpoint.name), manifests.dump(manifest))

    def standing(self, directory: str, name: str) -> str | None:
        blob = self._bucket.objects.get(self.manifest_key(directory, name))
        return manifests.load(blob.data).checkpoint.id if blob is not None else None

    def make_directory(self, directory: Directory) -> None:
        parent, _, name = directory.name.rpartition("/")
        if parent and self.manifest_key(parent, name) in self._bucket.objects:
            raise NameTaken(f"{directory.name} is a checkpoint.")
        self._bucket.places.add(directory.name)

    def drop_directory(self, name: str) -> None:
        if not self._bucket.below(f"meta/{name}/"):
            self._bucket.places.discard(name)

    def forget_directory(self, name: str) -> None:
        self._bucket.objects.pop(self.directory_key(name), None)
        self.drop_directory(name)

    def write_directory(self, directory: Directory) -> None:
        self._bucket.put(self.directory_key(directory.name), manifests.dump_directory(directory))

    def read(self, directory: str, name: str | None) -> SurveyedRecord:
        return self._found(self.directory_key(directory) if name is None else self.manifest_key(directory, name))

    def times(self, skip: frozenset[str]) -> Iterator[RecordTimes]:
        for directory in sorted({_split(key)[0] for key in self._bucket.below("meta/")}):
            keys = [key for key in self._bucket.below(f"meta/{directory}/") if _split(key)[0] == directory]
            times = {_split(key)[1]: self._bucket.get(key).written_ns for key in keys}
            yield RecordTimes(directory, times.pop("directory", None), times)

    def survey(self) -> Iterator[SurveyedRecord]:
        for key in self._bucket.below("meta/"):
            yield self._found(key)

    def _found(self, key: str) -> SurveyedRecord:
        try:
            data = self._bucket.get(key).data
            warning = None if manifests.is_as_written(data) else "something has changed it since it was written"
            if _split(key)[1] == "directory":
                return SurveyedRecord(key, directory=manifests.load_directory(data), warning=warning)
            manifest = manifests.load(data)
        except (manifests.Unreadable, OSError) as error:
            return SurveyedRecord(key, fault=str(error))
        if key != self.manifest_key(manifest.checkpoint.directory, manifest.checkpoint.name):
            return SurveyedRecord(key, fault=f"it speaks of {manifest.checkpoint.directory}/{manifest.checkpoint.name}")
        for file in manifest.checkpoint.files:
            blob = self._bucket.objects.get(self.content_key(manifest.checkpoint, file))
            if blob is None or len(blob.data) != file.size_bytes:
                return SurveyedRecord(key, fault=f"{file.path} is missing or of another size")
        return SurveyedRecord(key, manifest=manifest, warning=warning)

    # inventory

    def inventory(self) -> Iterator[InventoryEntry]:
        trash = {key.removeprefix("trash/") for key in self._bucket.below("trash/")}
        for key in (*self._bucket.below("data/"), *self._bucket.below("meta/")):
            if key.startswith("meta/") or key.split("/")[1] not in trash:
                blob = self._bucket.get(key)
                yield InventoryEntry(key, False, len(blob.data), blob.version, True)

    def manifest_key(self, directory: str, name: str) -> str:
        return f"meta/{directory}/{name}.json"

    def directory_key(self, name: str) -> str:
        return f"meta/{name}/directory.json"

    def place_key(self, directory: str) -> str | None:
        return None

    def content_key(self, checkpoint: Checkpoint, file: File) -> str:
        return f"data/{checkpoint.id}/{file.path}"

    def is_below(self, key: str, folder: str) -> bool:
        return key == folder  # no key is that of a folder

    def is_record(self, key: str) -> bool:
        return key.startswith("meta/")

    def is_temporary(self, key: str) -> bool:
        return False

    def read_record(self, key: str) -> bytes:
        return self._bucket.get(key).data

    def open_item(self, key: str) -> Opened:
        return MemoryOpened(self._bucket, key)

    def put_back(self, key: str, to: str) -> None:
        with self._bucket.guard:
            if to in self._bucket.objects:
                raise FileExistsError(to)
            self._bucket.objects[to] = self._bucket.get(key)
            del self._bucket.objects[key]

    def drop(self, key: str) -> None:
        self._bucket.objects.pop(key, None)


class MemoryRootMarks:
    """The root marks port over a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        self.is_new = not (bucket.is_formatted or bucket.objects)
        self._bucket = bucket
        self.upgrade()

    def last_opening(self) -> RootMark | None:
        return self._bucket.marks.get("last")

    def note_opening(self, opened: RootMark) -> None:
        self._bucket.marks["last"] = opened

    def upgrade(self) -> None:
        self._bucket.is_formatted = True

    @property
    def is_protected(self) -> bool:
        return self._bucket.is_protected

    def protect(self) -> None:
        self._bucket.is_protected = True

    @property
    def revoked(self) -> frozenset[str]:
        return frozenset(self._bucket.revoked)

    def revoke(self, token_id: str) -> None:
        self._bucket.revoked.add(token_id)


def memory_storage(bucket: Bucket, *, url: str | None = None) -> Storage:
    """Open a bucket; with ``url``, clients send and fetch ranges there instead of through the server."""
    records = MemoryRecordStore(bucket)
    return Storage(content=MemoryContentStore(bucket, records, url), records=records, marks=MemoryRootMarks(bucket))


def _split(key: str) -> tuple[str, str]:
    """Return the directory and the name of a record."""
    directory, _, name = key.removeprefix("meta/").rpartition("/")
    return directory, name.removesuffix(".json")
