"""Adoption leaves the files of other tools unchanged; the checkpoints work like any other, and nothing removes them."""

import errno
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from app.__main__ import main
from app.bootstrap import open_root
from app.core.units import size
from app.settings import Settings
from app.storage.local.disk import linux
from tests.data.samples import below
from tests.support.deadlines import DEADLINE_S
from tests.support.live import PROJECT, LiveServer, eventually

W = b"\x80\x02"
"""The first bytes of a pickle, so that the file passes for weights."""
TIME_NS = 1_700_000_000_123_456_789


@pytest.fixture
def serving(root):
    """Make a server of the root, as a context manager."""
    return lambda: LiveServer(root, scrub_bytes_per_s="0")  # the scrubber would change the answers


@pytest.fixture
def root(tmp_path):
    """Make a root that a server has used before."""
    open_root(Settings(root=tmp_path / "root")).close()
    return tmp_path / "root"


@pytest.fixture
def adopt(root, capsys):
    """Run the command; give its status, its output, and the lines on skipped paths."""

    def run(*arguments):
        capsys.readouterr()
        status = main(["adopt", "--root", str(root), *map(str, arguments)])
        said = capsys.readouterr()
        return status, [line for line in said.out.splitlines() if line[:2] != "  "], said.err.splitlines()

    return run


def put(place: Path, files):
    """Write files by their paths, a second apart in the order given."""
    for number, (path, data) in enumerate(files.items()):
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_bytes(data)
        os.utime(place / path, ns=(TIME_NS, TIME_NS + number * 10**9))


def state(place: Path):
    """Read every file and folder below, with its bytes and its modification time."""
    times = {path.relative_to(place).as_posix(): path.lstat().st_mtime_ns for path in place.rglob("*")}
    return {path: (data, times[path]) for path, data in below(place).items()}


def listed(server, directory, **query):
    answer = server.http.get("/v1/checkpoints", params={"directory": directory, **query})
    assert answer.status_code == 200, answer.text
    return answer.json()["checkpoints"]


LIGHTNING = {
    "epoch=2-step=300.ckpt": W + b"third",
    "epoch=0-step=100.ckpt": W + b"first",
    "epoch=1-step=200.ckpt": W + b"second",
    "hparams.yaml": b"lr: 1",
}
TRANSFORMERS = {
    "checkpoint-1000/model.safetensors": W + b"weights",
    "checkpoint-1000/optimizer.pt": W + b"momenta",
    "checkpoint-1000/rank/.hidden": b"",
    "checkpoint-500/model.safetensors": W + b"old weights",
    "trainer_state.json": b"{}",
}
OLD = {"model.pth": W + b"a", "last.pt": W + b"b" * 9_000_000, "notes.txt": b"c"}


def test_it_is_taken_in_where_it_lies_and_nothing_of_it_changes(root, adopt):
    put(root / "runs/lightning", LIGHTNING)
    put(root / "runs/hf", TRANSFORMERS)
    put(root / "runs/hf/old", OLD)
    before = state(root / "runs")
    status, said, left = adopt(root / "runs")
    assert (status, left) == (0, [])
    assert said == [
        "runs/hf: 2 checkpoints taken in (31 B), 0 known before, 1 other file left as it is",
        "runs/hf/old: 2 checkpoints taken in (8.6 MiB), 0 known before, 1 other file left as it is",
        "runs/lightning: 3 checkpoints taken in (22 B), 0 known before, 1 other file left as it is",
        "In all: 7 checkpoints taken in (3 directories), 0 known before, 0 left alone",
    ]
    after = state(root / "runs")
    gained = {path for path in after if ".holdfast" in path.split("/")}
    homes = {path.rpartition("/.holdfast")[0] for path in gained}  # a folder that gains an entry gets a new time
    assert {path: what for path, what in after.items() if path not in gained | homes} == {
        path: what for path, what in before.items() if path not in homes
    }
    assert homes == {"hf", "hf/old", "lightning"}


def test_what_was_taken_in_is_served_like_any_other(root, adopt, serving):
    put(root / "runs/lightning", LIGHTNING)
    put(root / "runs/hf", TRANSFORMERS)
    put(root / "runs/hf/old", OLD)
    adopt(root / "runs")
    with serving() as server:
        found = listed(server, "runs/lightning")
        assert [(one["epoch"], one["step"], one["metadata"], one["sequence"]) for one in found] == [
            (0, 100, {}, 1),
            (1, 200, {}, 2),
            (2, 300, {}, 3),
        ]
        assert {(one["kind"], one["metric"], one["is_best"], one["pinned"]) for one in found} == {
            ("regular", None, False, False)
        }
        assert datetime.fromisoformat(found[2]["created_at"]) == datetime.fromtimestamp(TIME_NS // 10**9, UTC).replace(
            microsecond=123456
        )
        assert [one["name"] for one in listed(server, "runs/hf")] == ["checkpoint-500", "checkpoint-1000"]
        assert [one["name"] for one in listed(server, "runs/hf/old")] == ["model.pth", "last.pt"]
        for one in (*found, *listed(server, "runs/hf"), *listed(server, "runs/hf/old")):
            for file in one["files"]:
                answer = server.http.get(file["url"])
                assert answer.headers["etag"].strip('"') == file["digest"]
                assert answer.content == (root / file["stored_at"]).read_bytes()
        latest = server.http.get("/v1/checkpoints/latest", params={"directory": "runs/lightning"}).json()
        assert latest["name"] == "epoch=2-step=300.ckpt"
        best = server.http.get("/v1/checkpoints/best", params={"directory": "runs/lightning"})
        assert best.json()["code"] == "no_best"
        later = server.http.get("/v1/checkpoints", params={"directory": "runs/lightning", "step_min": 200}).json()
        assert [one["step"] for one in later["checkpoints"]] == [200, 300]


def test_later_saves_and_prunes_remove_nothing_of_it(root, adopt, serving):
    put(root / "runs/a", LIGHTNING)
    adopt(root / "runs/a")
    with serving() as server:
        saved = server.save("runs/a", b"new", epoch=3, metric=1, max_checkpoints=1, max_best_checkpoints=1, mode="min")
        assert (saved["sequence"], saved["removed"]) == (4, [])
        pruned = server.http.post("/v1/prune", json={"directory": "runs/a"}).json()
        assert pruned["freed_bytes"] == 0
        assert len(server.names("runs/a")) == 4
        before = listed(server, "runs/a"), server.http.get("/v1/directories").json()
        server.stop()
        for path in (root / ".holdfast").glob("catalog.db*"):
            path.unlink()
        assert main(["reindex", "--root", str(root)]) == 0
        server.start()
        assert (listed(server, "runs/a"), server.http.get("/v1/directories").json()) == before


def test_a_folder_outside_the_root_is_copied_and_left_as_it_was(root, adopt, tmp_path, serving):
    source = tmp_path / "elsewhere"
    put(source, {**LIGHTNING, **{f"hf/{path}": data for path, data in TRANSFORMERS.items()}})
    before = state(source)
    assert adopt(source, "--as", "team/run")[0] == 0
    assert state(source) == before
    copied = state(root / "team/run")
    ours = {path: what for path, what in copied.items() if ".holdfast" not in path and what[0] is not None}
    others = {"hparams.yaml", "hf/trainer_state.json"}
    assert ours == {path: what for path, what in before.items() if what[0] is not None and path not in others}
    assert list((root / ".holdfast/incoming").iterdir()) == []
    status, said, _ = adopt(source, "--as", "team/run")
    assert (status, said[-1]) == (0, "In all: 0 checkpoints taken in (0 directories), 5 known before, 0 left alone")
    assert state(root / "team/run") == copied
    with serving() as server:
        assert server.names("team/run/hf") == ["checkpoint-500", "checkpoint-1000"]


def test_without_a_name_its_own_path_is_its_name(root, adopt, tmp_path):
    put(tmp_path / "elsewhere", {"a.pt": W + b"a"})
    assert adopt(tmp_path / "elsewhere")[0] == 0
    assert (root / (tmp_path / "elsewhere").relative_to("/") / "a.pt").read_bytes() == W + b"a"


def test_nothing_that_exists_is_overwritten_by_a_copy(root, adopt, tmp_path):
    put(tmp_path / "elsewhere", dict.fromkeys(["a.pt", "b.pt", "checkpoint-1/x", "c.pt", "link.pt"], W + b"new"))
    put(root / "runs", {"a.pt": W + b"old", "checkpoint-1/y": b"old"})  # of the same size and time
    (root / "runs/b.pt").mkdir()
    (root / "runs/link.pt").symlink_to("nowhere")
    status, said, left = adopt(tmp_path / "elsewhere", "--as", "runs")
    assert (status, len(left)) == (3, 4)
    assert all("nothing is overwritten" in line or "empty folder" in line for line in left)
    assert said[0].startswith("runs: 1 checkpoint taken in")
    assert (root / "runs/a.pt").read_bytes() == W + b"old"
    assert below(root / "runs/checkpoint-1") == {"y": b"old"}


def test_a_second_run_takes_in_only_what_is_new(root, adopt, serving):
    put(root / "runs", {"epoch_1.pt": W + b"1", "epoch_2.pt": W + b"2"})
    adopt(root / "runs")
    put(root / "runs", {"epoch_0.pt": W + b"0"})
    before = below(root / "runs/.holdfast")
    status, said, _ = adopt(root / "runs")
    assert (status, said[0]) == (0, "runs: 1 checkpoint taken in (3 B), 2 known before")
    after = below(root / "runs/.holdfast")
    assert {path for path in after if after[path] != before.get(path)} <= {"epoch_0.pt.json", "directory.json"}
    with serving() as server:
        assert server.names("runs") == ["epoch_1.pt", "epoch_2.pt", "epoch_0.pt"]


def test_a_dry_run_changes_nothing(root, adopt, tmp_path):
    put(root / "runs", LIGHTNING)
    put(tmp_path / "elsewhere", TRANSFORMERS)
    before = state(root / "runs"), sorted(path.name for path in root.iterdir())
    assert adopt(root / "runs", "--dry-run")[1][0].startswith("runs: 3 checkpoints would be taken in")
    assert adopt(tmp_path / "elsewhere", "--dry-run", "--as", "x")[1][0].startswith("x: 2 checkpoints would be taken")
    assert (state(root / "runs"), sorted(path.name for path in root.iterdir())) == before


def make_deep_link(place):
    put(place, {"checkpoint-5/model.pt": W + b"x"})
    (place / "checkpoint-5/link").symlink_to("/etc/passwd")


@pytest.mark.parametrize("outside", [False, True], ids=["in place", "copied"])
@pytest.mark.parametrize(
    ("make", "said", "status"),
    [
        pytest.param(lambda p: (p / "a.pt").symlink_to("/etc/passwd"), "a.pt: it is a link", 3, id="a link"),
        pytest.param(lambda p: (p / "b").symlink_to("/etc"), "b: it is a link", 0, id="a link to a folder"),
        pytest.param(lambda p: os.mkfifo(p / "a.pt"), "a.pt: it is neither", 3, id="a pipe"),
        pytest.param(lambda p: (p / "a.pt").touch(), "a.pt: it is empty", 3, id="an empty file"),
        pytest.param(lambda p: (p / "checkpoint-5").mkdir(), "checkpoint-5: it is an empty", 3, id="an empty folder"),
        pytest.param(lambda p: put(p, {".a.pt": W + b"x"}), ".a.pt: it is hidden", 3, id="a hidden file"),
        pytest.param(lambda p: put(p, {".git/a.pt": W + b"x"}), ".git: it is hidden", 0, id="a hidden folder"),
        pytest.param(lambda p: put(p, {"a;b.pt": W + b"x"}), "may not have", 3, id="a name outside the grammar"),
        pytest.param(lambda p: put(p, {"a;b/c.pt": W + b"x"}), "may not have", 3, id="a folder outside the grammar"),
        pytest.param(lambda p: put(p, {os.fsdecode(b"\xff/c.pt"): b"x"}), "\\udcff", 3, id="a name that is no text"),
        pytest.param(lambda p: put(p, {"a\n\x1b.pt": W + b"x"}), "\\x1b", 3, id="a name that upsets terminals"),
        pytest.param(make_deep_link, "checkpoint-5: 'link' in it is a link", 3, id="a folder with a link"),
        pytest.param(
            lambda p: put(p, {"checkpoint-5/.holdfast/x": b"x"}), "checkpoint-5:", 3, id="a folder with records"
        ),
    ],
)
def test_what_cannot_be_taken_in_is_left_alone_and_named(root, adopt, tmp_path, outside, make, said, status):
    place = tmp_path / "elsewhere" if outside else root / "runs"
    put(place, {"good.pt": W + b"good"})
    make(place)
    before = sorted(os.fsencode(path) for path in place.rglob("*"))
    found, lines, left = adopt(place, *(["--as", "runs"] if outside else []))
    assert (found, len(left)) == (status, 1), left
    assert said in left[0]
    assert left[0].isprintable()
    assert lines[0].startswith("runs: 1 checkpoint taken in")
    assert [path for path in sorted(os.fsencode(path) for path in place.rglob("*")) if path in before] == before
    assert [path.name for path in (root / "runs/.holdfast").glob("*.pt.json")] == ["good.pt.json"]


def test_a_directory_whose_policy_would_remove_it_is_refused_with_a_way_out(root, adopt, serving):
    with serving() as server:
        server.save("runs/a", b"ours", name="ours.pt", max_checkpoints=3)
        server.stop()
        put(root / "runs/a", {"epoch_1.pt": W + b"1"})
        put(root / "runs/b", {"epoch_1.pt": W + b"1"})
        before = state(root / "runs/a")
        status, said, left = adopt(root / "runs")
        assert (status, said[-1].split(" (")[0]) == (3, "In all: 1 checkpoint taken in")
        assert "max_checkpoints=3" in left[0]
        assert 'PUT /v1/directories/runs/a {"max_checkpoints": null, "max_best_checkpoints": null}' in left[0]
        assert state(root / "runs/a") == before
        server.start()
        keeping = {"max_checkpoints": None, "max_best_checkpoints": None}
        server.http.put("/v1/directories/runs/a", json=keeping).raise_for_status()
        server.stop()
        assert adopt(root / "runs")[0] == 0
        server.start()
        assert server.names("runs/a") == ["ours.pt", "epoch_1.pt"]


def test_a_directory_of_ours_that_keeps_everything_takes_it_in_after_its_own(root, adopt, serving):
    with serving() as server:
        server.save("runs", b"ours", epoch=9, mode="max", keep_every_epochs=3)
        upload = {"directory": "runs", "name": "folder", "files": [{"path": "in.pt", "size_bytes": 0}]}
        made = server.http.post("/v1/uploads", json=upload).json()
        server.http.post(f"/v1/uploads/{made['id']}/commit").raise_for_status()
        server.stop()
        put(root / "runs", {"epoch_1.pt": W + b"1"})
        status, said, left = adopt(root)
        assert (status, left) == (0, [])
        assert said[0] == "runs: 1 checkpoint taken in (3 B), 2 known before"
        server.start()
        assert server.names("runs") == ["checkpoint_epoch_0009.pt", "folder", "epoch_1.pt"]
        policy = server.http.get("/v1/directories/runs").json()["policy"]
        assert policy == {
            "mode": "max",
            "max_checkpoints": None,
            "max_best_checkpoints": None,
            "keep_every_epochs": 3,
            "keep_every_steps": None,
            "set_by_operator": ["max_best_checkpoints", "max_checkpoints"],
        }
        assert server.save("runs", b"more", epoch=10)["sequence"] == 4


def test_a_folder_that_is_written_to_meanwhile_is_left_for_later(root, adopt):
    put(root / "runs", {"a.pt": W + b"a" * 1000, "b.pt": W + b"b"})
    ended = threading.Event()

    def write():
        with (root / "runs/a.pt").open("ab", buffering=0) as file:
            while not ended.is_set():
                file.write(b"more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        status, said, left = adopt(root / "runs")
    finally:
        ended.set()
        writer.join()
    assert status == 3
    assert "was changed while it was read" in left[0]
    assert said[0].startswith("runs: 1 checkpoint taken in")
    assert adopt(root / "runs")[:2] == (0, [
        f"runs: 1 checkpoint taken in ({size((root / 'runs/a.pt').stat().st_size)}), 1 known before",
        "In all: 1 checkpoint taken in (1 directory), 1 known before, 0 left alone",
    ])  # fmt: skip


@pytest.fixture
def while_copying(monkeypatch):
    """Run an action once half of the first copied file is there."""

    def arrange(happens):
        copy, happened = os.copy_file_range, []

        def copying(source, target, count, *offsets):
            if happened:
                return copy(source, target, count, *offsets)
            copied = copy(source, target, count // 2, *offsets)
            happened.append(happens())
            return copied

        monkeypatch.setattr(os, "copy_file_range", copying)
        monkeypatch.setattr(linux, "share", lambda *_: False)  # shared blocks would be copied in one moment

    return arrange


def rewrite(path, data):
    """Overwrite bytes of a file, and restore its modification time."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(data)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: rewrite(path, W + b"b" * 1000), id="its bytes"),
        pytest.param(lambda path: path.write_bytes(W + b"b" * 1000), id="its bytes and its time"),
        pytest.param(lambda path: path.write_bytes(W + b"b" * 2000), id="its size"),
        pytest.param(lambda path: (path.rename(path.with_suffix(".old")), path.write_bytes(W + b"b")), id="its name"),
        pytest.param(lambda path: path.unlink(), id="it is removed"),
    ],
)
def test_a_copy_of_what_was_changed_meanwhile_is_not_taken_in(root, adopt, tmp_path, while_copying, change):
    source = tmp_path / "elsewhere"
    put(source, {"a.pt": W + b"a" * 1000, "b.pt": W + b"b"})
    while_copying(lambda: change(source / "a.pt"))
    status, said, left = adopt(source, "--as", "runs")
    assert (status, len(left)) == (3, 1)
    assert "a.pt was changed while it was read; let its writer finish, then adopt again" in left[0]
    assert said[0].startswith("runs: 1 checkpoint taken in")
    assert not (root / "runs/a.pt").exists()
    assert adopt(source, "--as", "runs")[0] == 0
    assert below(root / "runs").get("a.pt") == below(source).get("a.pt")


def test_the_files_of_a_folder_are_copied_at_one_moment_or_not_at_all(root, adopt, tmp_path, while_copying):
    source = tmp_path / "elsewhere"
    names = [f"checkpoint-1/{number}.bin" for number in range(2)]
    put(source, dict.fromkeys(names, W + b"a" * 1000))
    while_copying(lambda: [rewrite(source / name, W + b"b" * 1000) for name in names])
    status, _, left = adopt(source, "--as", "runs")
    assert (status, len(left)) == (3, 1)
    assert "was changed while it was read" in left[0]
    assert not (root / "runs/checkpoint-1").exists()
    assert adopt(source, "--as", "runs")[0] == 0
    assert set(below(root / "runs/checkpoint-1").values()) == {W + b"b" * 1000}


@pytest.mark.parametrize(
    ("late", "then"),
    [
        pytest.param("b.pt", lambda path: path.write_bytes(W + b"B" * 10), id="a file"),
        pytest.param("checkpoint-1/model.bin", lambda path: path.write_bytes(W + b"B"), id="a file of a folder"),
        pytest.param("checkpoint-1/new.bin", lambda path: path.write_bytes(W + b"new"), id="a new file of a folder"),
    ],
)
def test_a_copy_is_not_put_in_its_place_before_it_was_checked(root, adopt, tmp_path, while_copying, late, then):
    """Otherwise it would be a foreign file in its own place for ever."""
    source = tmp_path / "elsewhere"
    put(source, {"a.pt": W + b"a" * 1000, "b.pt": W + b"b", "checkpoint-1/model.bin": W + b"b"})
    while_copying(lambda: then(source / late))  # after the scan and before the copy of this file
    status, said, left = adopt(source, "--as", "runs")
    assert (status, len(left)) == (3, 1)
    assert "was changed while it was read" in left[0]
    assert said[0].startswith("runs: 2 checkpoints taken in")
    assert not (root / "runs" / late.split("/")[0]).exists()
    assert list((root / ".holdfast/incoming").iterdir()) == []
    status, said, left = adopt(source, "--as", "runs")
    assert (status, left) == (0, [])
    assert said[0].startswith("runs: 1 checkpoint taken in")
    assert (root / "runs" / late).read_bytes() == (source / late).read_bytes()


def test_a_name_whose_copy_was_refused_stays_free(root, adopt, tmp_path, serving, while_copying):
    source = tmp_path / "elsewhere"
    put(source, {"a.pt": W + b"a" * 1000, "b.pt": W + b"b"})
    while_copying(lambda: (source / "b.pt").write_bytes(b"B" * 10))
    assert adopt(source, "--as", "runs")[0] == 3
    with serving() as server:
        assert server.save("runs", b"ours", name="b.pt")["name"] == "b.pt"


class FailingSync:
    """An fsync that fails once, and then records the successful calls with the modification times."""

    def __init__(self, number: int) -> None:
        self._left, self._sync = number, os.fsync
        self.failed: os.stat_result | None = None
        self.held = -1
        self.later: list[os.stat_result] = []

    def __call__(self, descriptor: int) -> None:
        self._left -= 1
        if self._left == 0:
            self.failed, self.held = os.fstat(descriptor), os.dup(descriptor)  # or its number might be reused
            time.sleep(0.02)  # so that a later change has another time
            raise OSError(errno.EIO, "it cannot be made durable")
        self._sync(descriptor)
        self.later.append(os.fstat(descriptor))

    def believed(self, root: Path) -> bool:
        """Tell if the file whose sync failed is there, and was synced again without having been rewritten."""
        failed = self.failed
        there = [path for path in root.rglob("*") if failed is not None and os.path.samestat(path.lstat(), failed)]
        synced = [one.st_ctime_ns for one in self.later if failed is not None and os.path.samestat(one, failed)]
        return bool(there) and not (synced and failed is not None and max(synced) > failed.st_ctime_ns)


def test_what_could_not_be_made_durable_is_copied_anew(root, adopt, tmp_path, monkeypatch):
    source = tmp_path / "elsewhere"
    put(source, {"a.pt": W + b"a", "checkpoint-1/model.bin": W + b"b"})
    for number in itertools.count(1):
        sync = FailingSync(number)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", sync)
            with suppress(OSError):
                adopt(source, "--as", f"runs{number}")
            if sync.failed is None:
                break
            status, _, left = adopt(source, "--as", f"runs{number}")
        assert (status, left) == (0, []), number
        assert not sync.believed(root), f"fsync {number}"
        os.close(sync.held)
    assert number > 15


@pytest.mark.parametrize(
    ("between", "outside"),
    [("nothing", False), ("a server", True), ("a reindex", False)],
    ids=["in place", "copied, then a save", "in place, then a reindex"],
)
def test_a_run_that_was_killed_is_completed_by_the_next(root, adopt, tmp_path, outside, between, serving):
    count = 200
    place, more = (tmp_path / "elsewhere", ["--as", "runs"]) if outside else (root / "runs", [])
    put(place, {f"epoch_{number}.pt": W + b"%d" % number for number in range(count)})
    command = [sys.executable, "-m", "app", "adopt", "--root", str(root), str(place), *more]
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert eventually(lambda: len(list((root / "runs/.holdfast").glob("epoch_*"))) > 10)
    process.kill()
    assert process.wait(timeout=DEADLINE_S) == -signal.SIGKILL, "it was done before it was killed"
    written = len(list((root / "runs/.holdfast").glob("epoch_*")))
    assert 0 < written < count
    assert b'"max_checkpoints"' in (root / "runs/.holdfast/directory.json").read_bytes(), "limits come before manifests"
    if between == "a server":
        with serving() as server:
            server.save("runs", b"meanwhile", name="meanwhile.pt")
    if between == "a reindex":
        assert main(["reindex", "--root", str(root)]) == 0
    status, said, left = adopt(place, *more)
    assert (status, left) == (0, [])
    taken = count - (written if between == "a reindex" else 0)
    assert said[0].startswith(f"runs: {taken} checkpoints taken in"), said
    with serving() as server:
        names = [name for name in server.names("runs") if name != "meanwhile.pt"]
        assert names == [f"epoch_{number}.pt" for number in range(count)]
        before = listed(server, "runs", page_size=1000)
        assert len({one["sequence"] for one in before}) == len(before)
        server.stop()
        assert main(["reindex", "--root", str(root)]) == 0
        server.start()
        assert listed(server, "runs", page_size=1000) == before
        assert server.incoming() == []


def test_a_manifest_that_the_catalog_does_not_know_is_not_replaced(root, adopt, serving):
    with serving() as server:
        server.save("runs/a", W + b"ours", name="x.pt", metric=1)
        server.stop()
        subprocess.run(["cp", "-a", root / "runs/a", root / "runs/b"], check=True)
        before = state(root / "runs")
        status, _, left = adopt(root / "runs")
        assert status == 3
        assert "runs/b/x.pt: runs/b/.holdfast/x.pt.json is the manifest of something else" in left[0]
        assert state(root / "runs") == before


def test_what_lies_in_the_root_itself_has_no_directory(root, adopt):
    put(root, {"a.pt": W + b"a", "runs/b.pt": W + b"b"})
    status, said, left = adopt(root)
    assert (status, len(left)) == (3, 1)
    assert "a.pt: a checkpoint in the root itself has no directory" in left[0]
    assert said[0].startswith("runs: 1 checkpoint taken in")


def test_a_pickle_is_never_opened(root, adopt, tmp_path, serving):
    trap = tmp_path / "trap"
    put(root / "runs", {"a.pt": W + b"cos\nsystem\n(S'touch %s'\ntR." % os.fsencode(trap)})
    assert adopt(root / "runs")[0] == 0
    with serving() as server:
        assert server.names("runs") == ["a.pt"]
    assert not trap.exists()


@pytest.mark.parametrize(
    ("place", "more", "said"),
    [
        pytest.param("nowhere", [], "cannot be read", id="nothing"),
        pytest.param("a.pt", [], "not a folder", id="a file"),
        pytest.param(".", [], "holds the server's root", id="a folder around the root"),
        pytest.param("root/.holdfast", [], "own records", id="the records"),
        pytest.param("root/runs", ["--as", "x"], "in the root already", id="a name for what has one"),
        pytest.param("elsewhere", ["--as", "../x"], "begins with a dot", id="a name that leads out"),
        pytest.param("elsewhere", ["--as", "/x"], "absolute", id="a name from the top"),
        pytest.param("else;where", [], "--as", id="a path that is no name"),
    ],
)
def test_what_cannot_run_says_why(root, adopt, tmp_path, place, more, said):
    put(
        tmp_path,
        {"a.pt": W + b"a", "elsewhere/a.pt": W + b"a", "else;where/a.pt": W + b"a", "root/runs/a.pt": W + b"a"},
    )
    before = below(root / "runs")
    status, lines, left = adopt(tmp_path / place, *more)
    assert (status, lines, len(left)) == (2, [], 1)
    assert said in left[0]
    assert below(root / "runs") == before


def test_it_does_not_run_beside_a_server(root, adopt, serving):
    put(root / "runs", {"a.pt": W + b"a"})
    with serving():
        status, _, left = adopt(root / "runs")
    assert status == 2
    assert "in use by another Holdfast process" in left[0]
