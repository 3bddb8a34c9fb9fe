"""Uploaders and downloaders of a stress test: their bytes follow from a number, so that any reader can check them."""

import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx
from blake3 import blake3

from tests.support.deadlines import DEADLINE_S

CHUNK_BYTES = 256 * 1024
POLICY: dict[str, Any] = {"mode": "min", "max_checkpoints": 2, "max_best_checkpoints": 2}


Position = tuple[int, int]
NOWHERE: Position = (-1, -1)


def position(told: dict[str, Any]) -> Position:
    """The place in the order of a checkpoint that the server describes."""
    return told["saved_after"], told["sequence"]


@dataclass(frozen=True)
class Made:
    """The save of a number: its files, and its facts."""

    seed: int

    @property
    def name(self) -> str:
        return f"{self.seed:07d}" + ("" if self.is_folder else ".pt")

    @property
    def is_folder(self) -> bool:
        return self.seed % 6 == 5

    @property
    def sizes(self) -> dict[str, int]:
        """By path."""
        if self.is_folder:
            return {"model.bin": 700_000 + self.seed, "optimizer.bin": 10_000, "parts/config.json": 100 + self.seed % 7}
        sizes = (10_000, 10_000, 20_000, 60_000, 60_000, 300_000, 1_000_000, 3_000_000)
        return {self.name: random.Random(self.seed).choice(sizes) + self.seed % 1000}

    @property
    def facts(self) -> dict[str, Any]:
        """New bests keep coming, some of them equal; a few are not numbers."""
        drawn = random.Random(-1 - self.seed)
        metric: float | str = round(1000.0 - self.seed * 0.01 + drawn.random(), 1)
        kind = "best" if drawn.random() < 0.2 else "regular"
        return {"kind": kind, "epoch": self.seed, "metric": "NaN" if self.seed % 10 == 3 else metric}

    def data(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of a file, or some of them."""
        length = self.sizes[path] - start if length is None else length
        return blake3(f"{self.seed}/{path}".encode()).digest(length=length, seek=start)


@dataclass
class Ledger:
    """The acknowledged saves of one directory."""

    directory: str
    acknowledged: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each save the sequence, the seed, and after which sequence it was saved."""
    newest: Position = NOWHERE
    best: tuple[float, Position] = (float("inf"), NOWHERE)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, seed: int, told: dict[str, Any]) -> None:
        with self._guard:
            self.acknowledged.append((told["sequence"], seed, told["saved_after"]))
            self.newest = max(self.newest, position(told))
            if told["metric"] != "NaN":
                self.best = min(self.best, (told["metric"], position(told)))


class Traffic:
    """The state that all threads share."""

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.end = time.monotonic() + seconds
        self.seeds = itertools.count(1)
        self.done: Counter[str] = Counter()
        self.failed = threading.Event()

    @property
    def goes_on(self) -> bool:
        return time.monotonic() < self.end and not self.failed.is_set()


class Worker(ABC):
    """A thread's way to the server; it does what it does until the time is over."""

    def __init__(self, traffic: Traffic, ledger: Ledger, number: int) -> None:
        self.traffic, self.ledger = traffic, ledger
        self.random = random.Random(number)
        self.done: Counter[str] = Counter()

    def work(self) -> Counter[str]:
        """The number of its requests by kind."""
        try:
            with httpx.Client(base_url=self.traffic.url, timeout=DEADLINE_S) as self.http:
                while self.traffic.goes_on:
                    self.once()
        except BaseException:
            self.traffic.failed.set()
            raise
        return self.done

    @abstractmethod
    def once(self) -> None:
        """One piece of its work."""

    def ask(self, method: str, url: str, *right: int, **more: Any) -> httpx.Response:
        """A request whose answer has one of these statuses."""
        answer = self.http.request(method, url, **more)
        assert answer.status_code in right, (method, url, answer.status_code, answer.text[:1000])
        return answer


class Uploader(Worker):
    """Saves, each time in one of three ways."""

    def once(self) -> None:
        made = Made(next(self.traffic.seeds))
        hashed = self.random.random() < 0.5
        if made.is_folder or self.random.random() < 0.4:
            answer = self._by_upload(made, hashed=hashed)
            self.done["uploads"] += 1
        else:
            query = {"directory": self.ledger.directory, "name": made.name, **made.facts, **POLICY}
            (path,) = made.sizes
            answer = self.ask("POST", "/v1/checkpoints", 201, params=query, content=made.data(path))
            self.done["single shots"] += 1
        self.ledger.add(made.seed, answer.json())

    def _by_upload(self, made: Made, *, hashed: bool) -> httpx.Response:
        pieces = [
            (path, start, min(CHUNK_BYTES, size - start))
            for path, size in made.sizes.items()
            for start in range(0, size, CHUNK_BYTES)
        ]
        files = [
            {
                "path": path,
                "size_bytes": size,
                "chunks": [_chunk(made, p, hashed=hashed) for p in pieces if p[0] == path],
            }
            for path, size in made.sizes.items()
        ]
        body = {"directory": self.ledger.directory, "name": made.name, **made.facts, "policy": POLICY, "files": files}
        upload = self.ask("POST", "/v1/uploads", 201, json=body).json()
        self.random.shuffle(pieces)
        for path, start, length in pieces:
            url = f"/v1/uploads/{upload['id']}/files/{path}"
            self.ask("PUT", url, 200, params={"offset": start}, content=made.data(path, start, length))
        return self.ask("POST", f"/v1/uploads/{upload['id']}/commit", 201)


def _chunk(made: Made, piece: tuple[str, int, int], *, hashed: bool) -> dict[str, Any]:
    data = made.data(*piece)
    return {"length": len(data), **({"digest": blake3(data).hexdigest()} if hashed else {})}


class Downloader(Worker):
    """Fetches what is latest, best or listed, and knows every byte of it."""

    def once(self) -> None:
        if not self.ledger.acknowledged:
            time.sleep(0.01)
            return
        what = self.random.choice(
            ["latest", "best" if self.ledger.best[1] != NOWHERE else "latest", "listed", "listed"]
        )
        if what == "listed":
            listed = self.ask("GET", "/v1/checkpoints", 200, params={"directory": self.ledger.directory}).json()
            self._fetch(self.random.choice(listed["checkpoints"]))
        elif self.random.random() < 0.5:
            newest, best = self.ledger.newest, self.ledger.best
            query = {"directory": self.ledger.directory}
            found = self.ask("GET", f"/v1/checkpoints/{what}", 200, params=query).json()
            self._is_no_older(what, found, newest, best)
            self._fetch(found)
        else:
            self._content_of(what)
        self.done[what] += 1

    def _content_of(self, what: str) -> None:
        """The bytes themselves, without knowing of which checkpoint until they come."""
        newest, best = self.ledger.newest, self.ledger.best
        url, query = f"/v1/checkpoints/{what}/content", {"directory": self.ledger.directory}
        with self.http.stream("GET", url, params=query) as answer:
            if answer.status_code == 409:
                assert answer.read()
                assert answer.json()["code"] == "several_files"
                return
            assert answer.status_code == 200, (url, answer.status_code, answer.read())
            made = Made(int(answer.headers["x-checkpoint-name"].removesuffix(".pt")))
            assert self._received(answer) == made.data(made.name)
            found_id = answer.headers["x-checkpoint-id"]
        found = self.ask("GET", f"/v1/checkpoints/{found_id}", 200).json()
        assert found["name"] == made.name
        self._is_no_older(what, found, newest, best)

    def _is_no_older(self, what: str, found: dict[str, Any], newest: Position, best: tuple[float, Position]) -> None:
        """Not before the newest, or worse than the best, that was acknowledged when it was asked for."""
        if what == "latest":
            assert position(found) >= newest
        else:
            assert (found["metric"], position(found)) <= best

    def _fetch(self, found: dict[str, Any]) -> None:
        """A file of a checkpoint, whole or in ranges; it may be gone only if it was removed."""
        made = Made(found["epoch"])
        file = self.random.choice(found["files"])
        assert {f["path"]: f["size_bytes"] for f in found["files"]} == made.sizes
        ranges = self._ranges(file["size_bytes"]) if self.random.random() < 0.4 else [None]
        for part in ranges:
            headers = {"Range": f"bytes={part[0]}-{part[0] + part[1] - 1}"} if part else {}
            with self.http.stream("GET", file["url"], headers=headers) as answer:
                if answer.status_code == 410:
                    break
                assert answer.status_code == (206 if part else 200), (file["url"], answer.status_code, answer.read())
                assert self._received(answer) == made.data(file["path"], *(part or ()))
                self.done["ranges" if part else "whole files"] += 1
        else:
            return
        assert self.ask("GET", f"/v1/checkpoints/{found['id']}", 200).json()["removed_because"] == "pruned"
        self.done["pruned meanwhile"] += 1

    def _ranges(self, size_bytes: int) -> list[Any]:
        step = max(1, size_bytes // 3)
        return [(start, min(step, size_bytes - start)) for start in range(0, size_bytes, step)]

    def _received(self, answer: httpx.Response) -> bytes:
        """Read the body; now and then so slowly that the checkpoint is pruned before the end."""
        slow = self.random.random() < 0.1
        received = bytearray()
        for piece in answer.iter_raw():
            received += piece
            if slow and len(received) % 5 == 0:
                time.sleep(0.02)
        return bytes(received)
