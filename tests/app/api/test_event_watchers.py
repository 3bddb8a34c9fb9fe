"""Many streams of events at once: none misses an event or gets one twice, and a slow one holds up no other."""

import re
import socket
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from app.service.state.events.watcher import LAST_WORDS_S
from tests.support.deadlines import DEADLINE_S
from tests.support.live import LiveServer, eventually
from tests.support.tokens import bearer, mint, revoke

SAVES, WRITERS = 1000, 4
DIRECTORIES = ["runs/a", "runs/ab", "runs/a/deep", "other"]
PREFIXES = ["", "runs", "runs/a", "runs/a/deep", "other", "nothing"]
AT = "2026-01-01T00:00:00.000000Z"
SMALL = 4096
"""The size of the buffer of a client that does not read, in bytes."""


class Stream:
    """A stream of events on a socket of its own, which is read only when asked."""

    def __init__(self, server, prefix="", *, after=None, follow=True, buffer=None, headers=None):
        self._socket = socket.socket()
        if buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self._socket.settimeout(60)
        host, port = server.url.removeprefix("http://").split(":")
        self._socket.connect((host, int(port)))
        fields = {"Host": "localhost", **(headers or {})}
        if after is not None:
            fields["Last-Event-ID"] = str(after)
        lines = [f"GET /v1/events?prefix={prefix}&follow={follow} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items())]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        self._file = self._socket.makefile("rb")
        self.began = after
        self.is_whole = False
        """True once the response has ended as it should."""

    def close(self):
        self._file.close()
        self._socket.close()

    def opened(self):
        """Wait for the head."""
        assert b" 200 " in self._file.readline()
        while self._file.readline() != b"\r\n":
            pass
        return self

    def messages(self):
        """Yield the fields of each message, without comments, until the stream ends."""
        text = ""
        for chunk in self._chunks():
            text += chunk.decode()
            *whole, text = text.split("\n\n")
            for message in whole:
                if not message.startswith(":"):
                    yield dict(line.split(": ", 1) for line in message.split("\n"))
        assert not text, "the stream ended within an event"

    def ids(self):
        """Yield the id of each event; remember the one that the stream begins after."""
        for message in self.messages():
            if "event" in message:
                yield int(message["id"])
            else:
                self.began = int(message["id"])

    def _chunks(self):
        while line := self._file.readline():
            size = int(line, 16)
            data = self._file.read(size)
            self._file.readline()
            if not size:
                self.is_whole = True
                return
            yield data


@contextmanager
def stream(server, prefix="", **options):
    with closing(Stream(server, prefix, **options)) as opened:
        yield opened.opened()


def add_events(root: Path, count: int, *, directory="runs/a", size=1000):
    """Write events as another process would that shares the catalog."""
    with closing(sqlite3.connect(root / ".holdfast" / "catalog.db", timeout=DEADLINE_S)) as catalog, catalog:
        rows = [(AT, directory, f'{{"name": "{number:0{size}}"}}') for number in range(count)]
        catalog.executemany("INSERT INTO events (at, type, directory, data) VALUES (?, 'checkpoint.saved', ?, ?)", rows)


def ids_of(server, prefix, after=0):
    with stream(server, prefix, after=after, follow=False) as replay:
        return list(replay.ids())


def follow(server, prefix, after, last):
    """Follow a stream, resuming it if it is cut, until the event with this id; return all ids, and the begin."""
    found, began = [], after
    while True:
        with stream(server, prefix, after=found[-1] if found else began) as opened:
            for each in opened.ids():
                if each > last:
                    return found, began if began is not None else opened.began
                found.append(each)
            began = opened.began if began is None else began


def test_watchers_that_join_amid_saves_get_each_event_once_and_in_order(tmp_path):
    with LiveServer(tmp_path / "root", synced=False) as server:
        counted, saved = threading.Semaphore(0), threading.Barrier(WRITERS + 1)

        def write(number):
            for turn in range(SAVES // WRITERS):
                server.save(DIRECTORIES[number], epoch=turn, max_checkpoints=2)
                counted.release()
            saved.wait(300)

        def watch(number):
            prefix, after = PREFIXES[number % len(PREFIXES)], 0 if number % 4 == 0 else None
            with stream(server, prefix, after=after) as opened:
                ids = []
                for message in opened.messages():
                    if "event" not in message:
                        opened.began = int(message["id"])
                    elif message["event"] == "directory.policy_changed" and "last" in message["data"]:
                        return prefix, opened.began, ids
                    else:
                        ids.append(int(message["id"]))
            raise AssertionError("the stream ended")

        with ThreadPoolExecutor(WRITERS + 48) as threads:
            writers = [threads.submit(write, number) for number in range(WRITERS)]
            watchers = []
            for number in range(48):
                for _ in range(SAVES // 60):
                    assert counted.acquire(timeout=DEADLINE_S)
                watchers.append(threads.submit(watch, number))
            saved.wait(300)
            for writer in writers:
                writer.result()
            for prefix in PREFIXES:
                if prefix:
                    last = f"{prefix}/last"
                    server.http.put(f"/v1/directories/{last}", json={"max_checkpoints": 1}).raise_for_status()
            results = [watcher.result(timeout=DEADLINE_S) for watcher in watchers]
        for prefix, began, ids in results:
            everything = ids_of(server, prefix, began)
            assert ids == everything[: len(ids)], (prefix, began)
            assert ids == sorted(set(ids))
            assert len(everything) - len(ids) <= len(PREFIXES) - 1, "only the last events may follow"
        assert min(len(ids) for prefix, began, ids in results if began == 0 and prefix == "") > SAVES


def test_a_watcher_that_does_not_read_is_cut_and_can_resume_while_others_go_on(own_server):
    count = 8000
    own_server.save("runs/b")
    with stream(own_server, "runs/a", after=0, buffer=SMALL) as slow:
        assert follow_all(own_server, count) == ids_of(own_server, "runs/a")
        assert eventually(lambda: "too slow" in own_server.log())
        received = list(slow.ids())
        assert slow.is_whole
    everything = ids_of(own_server, "runs/a")
    assert received == everything[: len(received)]
    assert 0 < len(received) < count
    assert received + ids_of(own_server, "runs/a", received[-1]) == everything


def follow_all(server, count):
    """Let another process write events; return the ids that a client gets that reads and resumes."""
    with ThreadPoolExecutor(1) as threads:
        with stream(server, "runs/a") as opened:
            first = opened.messages()
            began = int(next(first)["id"])
        reading = threads.submit(follow, server, "runs", began, began + count)
        add_events(server.root, count)
        server.save("runs/after")
        found, _ = reading.result(timeout=DEADLINE_S)
    return found


@pytest.mark.alone
def test_watchers_that_do_not_read_take_a_bounded_amount_of_memory(own_server):
    watchers, count = 40, 16_000
    with ExitStack() as opened:
        for _ in range(watchers):
            opened.enter_context(stream(own_server, "runs/a", after=0, buffer=SMALL))
        before = resident_bytes(own_server)
        add_events(own_server.root, count)
        assert eventually(lambda: cut_of(own_server) == watchers)
        grown = resident_bytes(own_server) - before
    assert grown < watchers * 1_500_000 < watchers * count * 1000 / 10


def cut_of(server):
    """Return the number of streams that the server has cut."""
    return sum(int(found) for found in re.findall(r"cut (\d+) event streams", server.log()))


def resident_bytes(server):
    status = Path(f"/proc/{server.process_id}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def test_events_of_another_process_arrive(own_server):
    with stream(own_server, "runs/a") as opened:
        messages = opened.messages()
        assert "event" not in next(messages)
        add_events(own_server.root, 3, directory="runs/ab")
        add_events(own_server.root, 2)
        assert [next(messages)["event"] for _ in range(2)] == ["checkpoint.saved"] * 2


def test_a_stream_ends_with_its_token_and_gets_no_event_of_afterwards(make_server):
    server = make_server(admin_token="a-long-token-for-admins")
    admin = bearer("a-long-token-for-admins")
    tokens = [mint(server.root, "read") for _ in range(2)]
    with ExitStack() as opened:
        ended, also_ended, going_on = (
            opened.enter_context(stream(server, headers=bearer(token))).messages()
            for token in (tokens[0], tokens[0], tokens[1])
        )
        for messages in (ended, also_ended, going_on):
            next(messages)
        assert revoke(server.root, tokens[0][5:15])
        saved = server.http.post("/v1/checkpoints?directory=runs/a", content=b"bytes", headers=admin)
        assert saved.status_code == 201
        assert next(going_on)["event"] == "checkpoint.saved"
        assert list(ended) == list(also_ended) == []


def test_a_stream_whose_client_does_not_read_does_not_keep_the_server_from_stopping(make_server):
    server = make_server(shutdown_timeout_s="1000")
    with stream(server, "runs/a", after=0, buffer=SMALL):
        add_events(server.root, 16_000)
        assert eventually(lambda: cut_of(server) == 1)
        assert server.stop() == 0  # waits 30 s
    assert LAST_WORDS_S < 30
    assert "Traceback" not in server.log()


def test_a_replay_is_whole_although_the_server_stops(make_server):
    server = make_server(shutdown_timeout_s="1000")
    add_events(server.root, 8000)
    with stream(server, after=0, follow=False, buffer=SMALL) as replay:
        server.tell_to_stop()
        assert eventually(lambda: server.http.get("/health/ready").status_code == 503)
        assert len(list(replay.ids())) == 8000
        assert replay.is_whole
        assert server.wait() == 0
