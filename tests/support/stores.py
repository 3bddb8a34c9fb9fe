"""The stores that the conformance suite holds to the promises of the ports, and the accidents that befall each."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from app.storage.local.store import LocalStorage
from app.storage.ports import Storage
from tests.support.bucket_server import serving_bucket
from tests.support.memory_storage import Blob, Bucket, memory_storage


class Store(Protocol):
    """One place of a store, which is opened as by servers one after the other."""

    def open(self) -> Storage:
        """Open it as a server does that starts."""

    def overwrite(self, key: str, data: bytes) -> None:
        """Put other bytes under a key, as another tool would."""

    def interrupt_record(self, key: str) -> str | None:
        """Leave what a crash amid the writing of a record leaves, and return its key; None if that is nothing."""

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        """Let each removal fail."""
        yield

    def close(self) -> None:
        """End what serves the store."""


class LocalStore:
    """A root on the disk."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "root"

    def open(self) -> Storage:
        return LocalStorage(self.root, version="1")

    def overwrite(self, key: str, data: bytes) -> None:
        (self.root / key).write_bytes(data)

    def interrupt_record(self, key: str) -> str | None:
        record = self.root / key
        left = record.with_name(f".{record.name}.new")
        left.write_bytes(record.read_bytes()[:10])
        return left.relative_to(self.root).as_posix()

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError("the disk failed")

        with monkeypatch.context() as patch:
            patch.setattr("shutil.rmtree", refuse)
            yield

    def close(self) -> None:
        pass


class MemoryStore:
    """A bucket, whose clients send and fetch ranges through the server."""

    def __init__(self, _: Path) -> None:
        self.bucket = Bucket()
        self.url: str | None = None

    def open(self) -> Storage:
        return memory_storage(self.bucket, url=self.url)

    def overwrite(self, key: str, data: bytes) -> None:
        self.bucket.objects[key] = Blob(data, self.bucket.new_version(), self.bucket.objects[key].written_ns)

    def interrupt_record(self, key: str) -> str | None:
        return None

    @contextmanager
    def failing(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        self.bucket.refuses_removals = True
        yield
        self.bucket.refuses_removals = False

    def close(self) -> None:
        pass


class MemoryStoreWithUrls(MemoryStore):
    """A bucket that gives its clients URLs."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._serving = ExitStack()
        self.url = self._serving.enter_context(serving_bucket(self.bucket)).url

    def close(self) -> None:
        self._serving.close()


STORES = [
    pytest.param(LocalStore, id="local"),
    pytest.param(MemoryStore, id="memory"),
    pytest.param(MemoryStoreWithUrls, id="memory with urls"),
]


class Restartable:
    """A store that can be released and opened again, as by the next server."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = store.open()

    def restart(self) -> Storage:
        self.now.close()
        self.now = self.store.open()
        return self.now

    def close(self) -> None:
        self.now.close()
        self.store.close()
