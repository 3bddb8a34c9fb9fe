"""The spool: in order for any number of writers, within its limits, and durable when a put returns."""

import json
import logging
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from holdfast import OutOfSpace
from holdfast._spool import disposal
from holdfast._spool import item as _items
from holdfast._spool.spool import Spool, default_folder
from tests.crash.harness.tracing import needs_strace
from tests.data.pieces import Pieces, save_of
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, eventually

SIZE = 10_000
SERVER = "http://server"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


@pytest.fixture
def queue(folder):
    return Spool(folder).queue(SERVER, "runs/a")


def file_of(size=SIZE):
    return Pieces(os.urandom(size))


def names(queue):
    return [item.name for item in queue.items()]


def python(code, *arguments, **options):
    """Start a process that runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=PROJECT, stdout=subprocess.PIPE, text=True, **options
    )


def output(process):
    try:
        text, _ = process.communicate(timeout=DEADLINE_S)
    finally:
        process.kill()
    assert process.returncode == 0
    return text


# putting


def test_what_was_put_waits_in_order(queue):
    items = [queue.put(save_of(epoch), file_of()) for epoch in (3, 1, 2)]
    assert queue.items() == items
    assert [item.order for item in items] == [1, 2, 3]
    assert names(queue) == queue.names() == [f"checkpoint_epoch_000{epoch}.pt" for epoch in (3, 1, 2)]
    assert queue.has_items()
    assert [item.folder.name.split("-")[:2] for item in items] == [[f"{n:012d}", str(SIZE)] for n in (1, 2, 3)]


def test_an_empty_queue_makes_no_folder(queue, folder):
    assert (queue.items(), queue.parked(), queue.has_items(), queue.known) == ([], [], False, 0)
    with queue.claimed() as mine:
        assert not mine
    assert not folder.exists()


def test_nobody_else_may_look(queue, folder):
    item = queue.put(save_of(), file_of())
    for path in (folder, queue.folder, item.folder):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    for path in (queue.folder / "queue.json", item.folder / "item.json", item.folder / "state.pt"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_each_directory_of_each_server_has_a_queue_of_its_own(folder):
    spool = Spool(folder)
    where = [(SERVER, "runs/a"), (SERVER, "runs_a"), ("http://other", "runs/a"), (SERVER, "../../a"), (SERVER, ".b")]
    for server, directory in where:
        spool.queue(server, directory).put(save_of(), file_of())
    found = spool.queues()
    assert sorted((queue.server, queue.directory) for queue in found) == sorted(where)
    assert all(queue.folder.parent == folder and not queue.folder.name.startswith(".") for queue in found)
    assert {queue.directory for queue in spool.queues("http://other")} == {"runs/a"}


PUT = """
import sys
from pathlib import Path
from holdfast._spool.spool import Spool
from tests.data.pieces import Pieces, save_of
Spool(Path(sys.argv[1])).queue("http://server", "runs/a").put(save_of(1), Pieces(bytes(50_000)))
"""


@needs_strace
def test_it_is_durable_before_it_has_its_name_and_the_name_before_the_answer(folder, tmp_path):
    log = tmp_path / "calls.log"
    calls = "trace=?mkdir,?rename,?renameat,?renameat2,fsync,pwrite64"
    strace = ["strace", "-f", "-y", "-s", "200", "-o", log, "-e", calls, "-e", "signal=none"]
    subprocess.run([*strace, sys.executable, "-c", PUT, folder], cwd=PROJECT, check=True)
    seen = [happened for line in log.read_text().splitlines() if (happened := _call(line, folder)) is not None]
    calls = [call for call in dict.fromkeys(seen) if not call.endswith("/order")]
    bytes_and_facts = calls.index("pwrite64 spool/QUEUE/.new/state.pt") + 1  # both wait for the disk at the same time
    calls[bytes_and_facts : bytes_and_facts + 2] = sorted(calls[bytes_and_facts : bytes_and_facts + 2], reverse=True)
    assert calls == [
        "mkdir spool",
        "fsync .",
        "mkdir spool/QUEUE",
        "fsync spool",
        "fsync spool/QUEUE/.queue",
        "rename spool/QUEUE/.queue spool/QUEUE/queue.json",
        "fsync spool/QUEUE",
        "mkdir spool/QUEUE/.new",
        "pwrite64 spool/QUEUE/.new/state.pt",
        "fsync spool/QUEUE/.new/state.pt",
        "fsync spool/QUEUE/.new/item.json",
        "fsync spool/QUEUE/.new",
        "rename spool/QUEUE/.new spool/QUEUE/ITEM",
    ]
    assert seen[-2:] == ["rename spool/QUEUE/.new spool/QUEUE/ITEM", "fsync spool/QUEUE"]
    assert seen.index("fsync spool/QUEUE/.new/state.pt") > _last(seen, "pwrite64 spool/QUEUE/.new/state.pt")


def _call(line, folder):
    """Normalise a line of strace: paths relative to the spool's parent, without what differs each time."""
    found = re.match(r"\d+ +(mkdir|fsync|pwrite64|rename(?:at2?)?)\((.*)", line)
    if found is None:
        return None
    paths = [path for path in re.findall(r'["<](/[^">]*)[">]', found[2]) if path.startswith(str(folder.parent))]
    if not paths:
        return None
    text = " ".join(os.path.relpath(path, folder.parent) for path in paths)
    text = re.sub(r"\.(new|queue)-[-\w]+", r".\1", re.sub(r"runs_a-\w+", "QUEUE", text))
    return re.sub(r"at2?$", "", found[1]) + " " + re.sub(r"\d{12}-\d+-\w{32}", "ITEM", text)


def _last(seen, what):
    return len(seen) - 1 - seen[::-1].index(what)


MANY = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from holdfast._spool.spool import Spool
from tests.data.pieces import Pieces, save_of
done = []
def put_some(thread):
    queue = Spool(Path(sys.argv[1])).queue("http://server", "runs/a")
    for n in range(15):
        begun = time.monotonic()
        item = queue.put(save_of(n), Pieces(bytes(100)))
        done.append([begun, time.monotonic(), item.order])
with ThreadPoolExecutor() as pool:
    list(pool.map(put_some, range(3)))
print(json.dumps(done))
"""


def test_threads_and_processes_never_get_the_same_number_and_keep_the_order(folder, queue):
    processes = [python(MANY, folder) for _ in range(3)]
    puts = [put for process in processes for put in json.loads(output(process))]
    assert sorted(order for _, _, order in puts) == list(range(1, 136))
    assert [item.order for item in queue.items()] == list(range(1, 136))
    for begun, _, order in puts:
        assert all(earlier < order for _, ended, earlier in puts if ended < begun)


def test_threads_may_make_a_queue_at_the_same_moment(folder):
    for turn in range(30):
        queues = [Spool(folder).queue(SERVER, f"runs/{turn}") for _ in range(6)]
        start, failures = threading.Barrier(6), []

        def put(queue, start=start, failures=failures):
            start.wait()
            try:
                queue.put(save_of(), file_of(10))
                queue.learn(1)
            except Exception as error:
                failures.append(error)

        threads = [threading.Thread(target=put, args=(queue,)) for queue in queues]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert len(queues[0].items()) == 6
        assert json.loads((queues[0].folder / "queue.json").read_text())["directory"] == f"runs/{turn}"
        assert queues[0].known == 1


@pytest.mark.parametrize("said", ["3", "", "garbage", "-5", None])
def test_a_count_that_is_behind_or_lost_costs_no_order(queue, said):
    for epoch in range(5):
        queue.put(save_of(epoch), file_of(10))
    if said is None:
        (queue.folder / "order").unlink()
    else:
        (queue.folder / "order").write_text(said)
    after = queue.spool.queue(queue.server, queue.directory)  # of a process that was started after the power cut
    assert after.put(save_of(5), file_of(10)).order == 6
    assert after.put(save_of(6), file_of(10)).order == 7


def test_numbers_go_on_after_all_was_delivered_or_parked(queue):
    _items.discard(queue.put(save_of(1), file_of(10)).folder)
    queue.park(queue.put(save_of(2), file_of(10)), ValueError("no"))
    assert queue.put(save_of(3), file_of(10)).order == 3


FORK = """
import os, signal, sys
from pathlib import Path
from holdfast._spool.spool import Spool
queue = Spool(Path(sys.argv[1])).queue("http://server", "runs/a")
with queue._numbered(), queue.claimed() as mine:
    assert mine
    child = os.fork()
    if child == 0:
        signal.pause()
print(child, flush=True)
sys.stdin.read()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""


def test_a_process_that_was_forked_meanwhile_holds_nobody_up(folder, queue):
    queue.put(save_of(1), file_of(10))
    process = python(FORK, folder, stdin=subprocess.PIPE)
    child = int(process.stdout.readline())
    try:
        putting = python(PUT, folder)
        try:
            assert putting.wait(DEADLINE_S) == 0
        finally:
            putting.kill()
            putting.communicate()
        with queue.claimed() as mine:
            assert mine
    finally:
        process.communicate("")
    assert process.returncode == 0
    assert not Path(f"/proc/{child}").exists()


INHERITED = """
import os, sys
from pathlib import Path
from holdfast._api.server import Server
from holdfast._save.target import SaveTarget
from holdfast._spool.spool import Spool
target = SaveTarget(Server("http://server"), "runs/a", Spool(Path(sys.argv[1])), None, 1.0)
courier = target.courier
child = os.fork()
if child == 0:
    os._exit(target.courier is courier or target.courier is not target.courier)
assert target.courier is courier
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_process_has_a_courier_of_its_own_as_it_inherits_no_thread(folder):
    assert output(python(INHERITED, folder)) == ""


# bounds


def filled(queue, *saves):
    for save in saves:
        queue.put(save, file_of())


BEST = {"kind": "best"}


@pytest.mark.parametrize(
    ("saves", "dropped"),
    [
        pytest.param([{}, {}, {}], 0, id="the oldest"),
        pytest.param([{"is_best": True}, {}, {}], 1, id="not one that is flagged"),
        pytest.param([{"pinned": True}, {}, {}], 1, id="not one that is pinned"),
        pytest.param([BEST, {}, {}], 1, id="not one that was saved as the best"),
        pytest.param([{"metric": 0.1}, {"metric": 0.3}, {"metric": 0.2}], 1, id="not the best by metric"),
        pytest.param([{"metric": 0.3}, {"metric": 0.1}, {"metric": 0.2}], 0, id="one with a worse metric"),
        pytest.param([{"metric": 0.1}, {"metric": 0.1}, {"metric": 0.1}], 1, id="the older of equals is the best"),
        pytest.param([{"metric": "NaN"}, {"metric": 0.3}, {}], 0, id="one whose metric is no number"),
        pytest.param(
            [{"metric": m, "policy": {"mode": "max", "max_best_checkpoints": 1}} for m in (0.3, 0.1, 0.2)],
            1,
            id="not the best where larger is better",
        ),
        pytest.param(
            [{"metric": m, "policy": {"mode": "min", "max_best_checkpoints": 2}} for m in (0.1, 0.2, 0.3)],
            2,
            id="not the best two",
        ),
        pytest.param(
            [{"metric": m, "policy": {"mode": "min", "max_best_checkpoints": 0}} for m in (0.1, 0.2, 0.3)],
            0,
            id="where none is kept as the best",
        ),
        pytest.param([{"policy": {"max_checkpoints": 2}}, {}, {}], 0, id="one of the function alone"),
    ],
)
def test_the_oldest_that_nobody_will_miss_is_dropped_and_named(folder, caplog, saves, dropped):
    queue = Spool(folder, max_bytes=3 * SIZE).queue(SERVER, "runs/a")
    filled(queue, *(save_of(epoch, **save) for epoch, save in enumerate(saves)))
    assert caplog.records == []
    queue.put(save_of(9), file_of())
    left = [f"checkpoint_epoch_{epoch:04d}.pt" for epoch in (0, 1, 2, 9) if epoch != dropped]
    assert names(queue) == left
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"checkpoint_epoch_{dropped:04d}.pt was dropped" in record.getMessage()


@pytest.mark.parametrize(
    "saves",
    [
        pytest.param([BEST, BEST], id="saved as the best"),
        pytest.param([{"is_best": True}, {"pinned": True}], id="flagged and pinned"),
        pytest.param([{"metric": m, "policy": {"max_best_checkpoints": None}} for m in (1, 2)], id="all are the best"),
    ],
)
def test_where_nothing_may_go_nothing_is_put(folder, caplog, saves):
    queue = Spool(folder, max_bytes=2 * SIZE).queue(SERVER, "runs/a")
    filled(queue, *(save_of(epoch, **save) for epoch, save in enumerate(saves)))
    before = sorted(folder.rglob("*"))
    with pytest.raises(OutOfSpace, match="none of which may be dropped"):
        queue.put(save_of(9), file_of())
    assert sorted(folder.rglob("*")) == before
    assert caplog.records == []


def test_nothing_is_dropped_for_what_does_not_fit_all_the_same(folder, caplog):
    queue = Spool(folder, max_bytes=3 * SIZE).queue(SERVER, "runs/a")
    filled(queue, save_of(0), save_of(1), save_of(2))
    with pytest.raises(OutOfSpace):
        queue.put(save_of(9), file_of(4 * SIZE))
    assert len(queue.items()) == 3
    assert caplog.records == []


def test_the_newest_of_another_directory_stays_and_what_it_has_beside_goes_by_age(folder, caplog):
    spool = Spool(folder, max_bytes=4 * SIZE)
    one, other = spool.queue(SERVER, "runs/one"), spool.queue(SERVER, "runs/other")
    filled(other, save_of(0), save_of(1))
    filled(one, save_of(2), save_of(3))
    for age, item in enumerate([*other.items(), *one.items()]):
        os.utime(item.folder, (1000 + age, 1000 + age))
    filled(one, save_of(4), save_of(5))
    assert names(other) == ["checkpoint_epoch_0001.pt"]
    assert names(one) == [f"checkpoint_epoch_000{epoch}.pt" for epoch in (3, 4, 5)]


def test_what_is_parked_counts_and_is_never_dropped(folder):
    queue = Spool(folder, max_bytes=2 * SIZE).queue(SERVER, "runs/a")
    queue.park(queue.put(save_of(0), file_of()), ValueError("no"))
    filled(queue, save_of(1), save_of(2))
    assert [item.name for item in queue.parked()] == ["checkpoint_epoch_0000.pt"]
    assert names(queue) == ["checkpoint_epoch_0002.pt"]


def test_room_that_became_free_elsewhere_is_used(folder, caplog):
    queue = Spool(folder, max_bytes=2 * SIZE).queue(SERVER, "runs/a")
    filled(queue, save_of(0), save_of(1))
    Spool(folder).queue(SERVER, "runs/a").clear()
    filled(queue, save_of(2), save_of(3))
    assert len(queue.items()) == 2
    assert caplog.records == []


@pytest.fixture
def small_disk(tmp_path):
    """A disk of a MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_it_takes_no_more_than_its_share_of_the_disk(small_disk):
    queue = Spool(small_disk, max_share=0.5).queue(SERVER, "runs/a")
    for epoch in range(10):
        queue.put(save_of(epoch), file_of(100_000))
    assert names(queue) == [f"checkpoint_epoch_000{epoch}.pt" for epoch in range(5, 10)]


def test_a_disk_that_is_full_of_other_things_is_made_room_on(small_disk):
    queue = Spool(small_disk, max_share=1.0).queue(SERVER, "runs/a")
    queue.put(save_of(0), file_of(300_000))
    (small_disk / "other").write_bytes(bytes(500_000))
    queue.put(save_of(1), file_of(300_000))
    assert names(queue) == ["checkpoint_epoch_0001.pt"]


def test_a_quota_is_made_room_in_and_only_where_that_helps(small_disk, monkeypatch, caplog):
    disk = shutil.disk_usage(small_disk)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: disk._replace(total=2**40, free=2**40))
    queue = Spool(small_disk).queue(SERVER, "runs/a")
    for epoch in range(5):
        queue.put(save_of(epoch), file_of(300_000))
    assert names(queue) == [f"checkpoint_epoch_000{epoch}.pt" for epoch in (2, 3, 4)]
    assert caplog.text.count("was dropped") == 2
    with pytest.raises(OSError, match="No space"):
        queue.put(save_of(5), file_of(1_000_000))
    assert len(queue.items()) == 3


@pytest.mark.parametrize("pages", [1, 30], ids=["what is said of it", "nothing but its beginning"])
def test_a_disk_that_fills_up_meanwhile_is_left_as_it_was(small_disk, pages):
    queue = Spool(small_disk, max_share=1.0).queue(SERVER, "runs/a")
    _items.discard(queue.put(save_of(0), file_of(10)).folder)
    source = Filling(small_disk / "other", 60 * 4096 - 1, pages)
    before = sorted(path for path in small_disk.rglob("*"))
    with pytest.raises(OSError, match="No space"):
        queue.put(save_of(1), source)
    (small_disk / "other").unlink()
    assert sorted(path for path in small_disk.rglob("*")) == before
    assert queue.put(save_of(2), file_of()).name == "checkpoint_epoch_0002.pt"


def test_nothing_is_left_of_what_could_not_be_given_a_number(queue):
    queue.learn(1)
    (queue.folder / "order").mkdir()
    before = sorted(queue.folder.rglob("*"))
    with pytest.raises(IsADirectoryError):
        queue.put(save_of(1), file_of())
    assert sorted(queue.folder.rglob("*")) == before


class Filling(Pieces):
    """A put while another process fills the disk: it leaves as many pages as are needed, less one."""

    def __init__(self, other, size, pages_less):
        super().__init__(os.urandom(size))
        self._other, self._left = other, 4096 * (-(-size // 4096) + 1 - pages_less)

    def reading_order(self):
        free = shutil.disk_usage(self._other.parent).free
        self._other.write_bytes(bytes(free - self._left))
        return super().reading_order()


# incomplete, foreign or corrupt files

HANGING = """
import sys, time
from pathlib import Path
from holdfast._spool.spool import Spool
from tests.data.pieces import Pieces, save_of
class Endless(Pieces):
    def read(self, place):
        if place:
            print("half", flush=True)
            time.sleep(600)
        return super().read(place)
    def reading_order(self):
        return [0, 1]
Spool(Path(sys.argv[1])).queue("http://server", "runs/a").put(save_of(1), Endless(bytes(8192)))
"""


def test_what_a_killed_process_left_is_ignored_and_removed_a_day_later(folder, queue):
    process = python(HANGING, folder)
    assert process.stdout.readline() == "half\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (half_done,) = queue.folder.glob(".new-*")
    assert eventually((half_done / "state.pt").exists)
    assert (queue.items(), queue.has_items()) == ([], False)
    queue.put(save_of(2), file_of())
    assert half_done.exists(), "it may be under way"
    os.utime(half_done, (time.time() - 90_000,) * 2)
    Spool(folder).queue(SERVER, "runs/a").put(save_of(3), file_of())
    assert not half_done.exists()
    assert names(queue) == ["checkpoint_epoch_0002.pt", "checkpoint_epoch_0003.pt"]


def test_foreign_files_and_folders_are_left_alone_and_not_taken_for_checkpoints(folder, queue):
    queue.put(save_of(1), file_of())
    for place in (folder, queue.folder):
        (place / "notes.txt").write_text("of somebody else")
        (place / "000000000002-10-short").mkdir()
        (place / "0").mkdir()
    (folder / "list").mkdir()
    (folder / "list" / "queue.json").write_text("[]")
    (queue.folder / f"{3:012d}-10-{'a' * 32}").write_text("a file, not a folder")
    assert names(queue) == ["checkpoint_epoch_0001.pt"]
    assert [found.folder for found in Spool(folder).queues()] == [queue.folder]
    queue.clear()
    assert not queue.has_items()
    assert (queue.folder / "notes.txt").exists()
    assert (queue.folder / "0").is_dir()


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"version": 1, "server": "http://server", "directory": "runs/b"}']
)
def test_a_queue_that_has_forgotten_whose_it_is_is_told_again(folder, queue, content):
    queue.put(save_of(1), file_of())
    (queue.folder / "queue.json").write_text(content)
    Spool(folder).queue(SERVER, "runs/a").put(save_of(2), file_of())
    (found,) = Spool(folder).queues(SERVER)
    assert (found.directory, len(found.items())) == ("runs/a", 2)


def test_one_that_cannot_be_read_is_neither_named_nor_dropped(folder):
    queue = Spool(folder, max_bytes=2 * SIZE).queue(SERVER, "runs/a")
    filled(queue, save_of(1), save_of(2))
    (queue.items()[0].folder / "item.json").write_text("{}")
    assert queue.names() == ["checkpoint_epoch_0002.pt"]
    filled(queue, save_of(3))
    assert names(queue) == [None, "checkpoint_epoch_0003.pt"]


# notes on the directory


def known(queue):
    return json.loads((queue.folder / "known.json").read_text())


def test_what_is_known_only_grows(queue):
    queue.learn(5)
    queue.learn(3)
    assert (queue.known, known(queue)) == (5, {"sequence": 5})
    loaded = {"name": "a.pt", "kind": "regular", "sequence": 4, "file_digest": "d"}
    queue.learn(4, loaded)
    assert known(queue) == {"sequence": 5, "loaded": loaded}
    queue.learn(6)
    assert known(queue)["loaded"]["name"] == "a.pt"
    assert known(queue)["sequence"] == 6


def test_a_checkpoint_was_saved_after_what_anybody_on_this_machine_knew(folder, queue):
    assert queue.put(save_of(1), file_of()).facts()["save"]["saved_after"] == 0
    queue.learn(5)
    assert queue.put(save_of(2), file_of()).facts()["save"]["saved_after"] == 5
    Spool(folder).queue(SERVER, "runs/a").learn(9)
    assert queue.put(save_of(3), file_of()).facts()["save"]["saved_after"] == 9
    Spool(folder).queue(SERVER, "runs/b").learn(11)
    assert queue.put(save_of(4), file_of()).facts()["save"]["saved_after"] == 9


@pytest.mark.parametrize("content", ["", "[]", '{"sequence": "many"}', "\0\0"])
def test_a_damaged_note_of_what_is_known_is_as_none(folder, queue, content):
    queue.learn(5)
    (queue.folder / "known.json").write_text(content)
    other = Spool(folder).queue(SERVER, "runs/a")
    assert other.known == 0
    other.learn(7)
    assert known(queue) == {"sequence": 7}


def test_what_cannot_be_noted_is_known_all_the_same(tmp_path):
    (tmp_path / "spool").write_text("a file stands where the folder should")
    queue = Spool(tmp_path / "spool").queue(SERVER, "runs/a")
    queue.learn(5)
    assert queue.known == 5


# delivering


def test_only_one_may_deliver(folder, queue):
    queue.put(save_of(), file_of())
    other = Spool(folder).queue(SERVER, "runs/a")
    with queue.claimed() as mine, other.claimed(wait_s=0.05) as theirs:
        assert (mine, theirs) == (True, False)
    with other.claimed() as mine:
        assert mine


def test_who_waits_is_given_the_queue_when_it_is_free(folder, queue):
    queue.put(save_of(), file_of())
    other, claimed = Spool(folder).queue(SERVER, "runs/a"), threading.Event()

    def wait():
        with other.claimed(wait_s=20) as mine:
            assert mine
            claimed.set()

    with queue.claimed():
        thread = threading.Thread(target=wait)
        thread.start()
        assert not claimed.wait(0.2)
    assert claimed.wait(DEADLINE_S)
    thread.join()


def test_what_is_refused_is_parked_with_the_reason_and_may_wait_again_where_it_stood(queue):
    first, second = queue.put(save_of(1), file_of()), queue.put(save_of(2), file_of())
    place = queue.park(first, OutOfSpace("it is pinned", code="pinned"))
    assert queue.items() == [second]
    (parked,) = queue.parked()
    assert (parked.folder, parked.name) == (place, "checkpoint_epoch_0001.pt")
    assert json.loads((place / "refusal.json").read_text())["code"] == "pinned"
    assert queue.refusal(parked) == "it is pinned"
    (place / "refusal.json").write_text("{")
    assert queue.refusal(parked) == "for a reason that is not known"
    queue.unpark()
    assert queue.items() == [first, second]
    assert sorted(path.name for path in first.folder.iterdir()) == ["item.json", "state.pt"]


def test_all_of_it_can_be_given_up(folder, queue):
    queue.park(queue.put(save_of(1), file_of()), ValueError("no"))
    queue.put(save_of(2), file_of())
    queue.clear()
    assert (queue.items(), queue.parked(), Spool(folder).queues()) == ([], [], [])


def test_what_killed_jobs_left_half_written_takes_room_too(folder):
    limited = Spool(folder, max_bytes=3 * SIZE).queue(SERVER, "runs/a")
    limited.prepare()
    half_done = limited.folder / f"{_items.HALF_DONE}{'0' * 32}"
    half_done.mkdir()
    (half_done / "state.pt").write_bytes(bytes(2 * SIZE + 1))
    with pytest.raises(OutOfSpace):
        limited.put(save_of(1), file_of())
    shutil.rmtree(half_done)
    limited.put(save_of(1), file_of())


def test_a_home_that_nobody_knows_is_a_spool_that_cannot_be_written(monkeypatch):
    def unknown():
        raise RuntimeError("Could not determine home directory.")

    for name in ("HOLDFAST_SPOOL", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", unknown)
    with pytest.raises(OSError, match="Not a directory"):
        Spool(default_folder()).queue(SERVER, "runs/a").put(save_of(1), file_of())


@pytest.mark.parametrize("content", [None, "garbage", "{}", '{"server": 1, "directory": 2}'])
def test_a_queue_whose_description_is_lost_is_known_by_what_waits_there(folder, queue, content):
    item = queue.put(save_of(1) | {"directory": "runs/a"}, file_of())
    (queue.folder / "queue.json").unlink()
    if content is not None:
        (queue.folder / "queue.json").write_text(content)
    found = Spool(folder).queues(SERVER)
    assert [(each.server, each.directory, each.items()) for each in found] == [(SERVER, "runs/a", [item])]


def test_a_queue_that_cannot_be_known_any_more_is_named_once(folder, queue, caplog):
    item = queue.put(save_of(1), file_of())
    (queue.folder / "queue.json").unlink()
    (item.folder / "item.json").write_text("garbage")
    assert Spool(folder).queues() == Spool(folder).queues() == []
    assert [str(queue.folder) in each.getMessage() for each in caplog.records] == [True]


def test_a_folder_that_another_process_removes_hides_no_other_queue(folder, monkeypatch):
    for directory in ("runs/a", "runs/b", "runs/c"):
        Spool(folder).queue(SERVER, directory).put(save_of(1), file_of())
    gone, scandir = Spool(folder).queue(SERVER, "runs/b").folder, os.scandir
    (gone / "queue.json").unlink()

    def scan(path="."):
        if str(path).startswith(str(gone)):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    assert [each.directory for each in Spool(folder).every_queue()] == ["runs/a", "runs/c"]
    monkeypatch.undo()


def test_a_spool_that_is_removed_meanwhile_is_tidy(folder, queue, monkeypatch):
    queue.put(save_of(1), file_of())

    def scan(path="."):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(os, "scandir", scan)
    disposal.tidy([queue], folder)
    monkeypatch.undo()
    assert len(queue.items()) == 1
