"""Folders of many files: few requests, everything verified, and replaced only as a whole."""

import os
import time
from collections import Counter

import pytest

from holdfast._api import wire
from holdfast._transfer import fsync
from holdfast._transfer.folders import download_folder
from tests.support.forwarder import Forwarder

HEAD = b"HTTP/1.1"


@pytest.fixture
def folder(tmp_path):
    """700 small files, a large one, and an empty one."""
    made = tmp_path / "made"
    (made / "sub").mkdir(parents=True)
    for number in range(700):
        (made / "sub" / f"{number}.bin").write_bytes(os.urandom(64))
    (made / "large.bin").write_bytes(os.urandom(300_000))
    (made / "empty").touch()
    return made


def contents(root):
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Requests:
    """Count the requests that pass, and those among them for batches."""

    def __init__(self):
        self.all = self.batches = 0

    def __call__(self, up, piece):
        if up and HEAD in piece:
            self.all += 1
            self.batches += b"/batch?files=" in piece.split(b"\r\n")[0]
        return False


def test_many_files_take_few_requests_both_ways(holdfast, directory, server, folder, tmp_path):
    up, down = Requests(), Requests()
    with Forwarder(server.url, watch=up) as forwarder:
        assert holdfast("put", folder, directory, "--server", forwarder.url).status == 0
    with Forwarder(server.url, watch=down) as forwarder:
        assert holdfast("get", f"{directory}/made", "-o", tmp_path / "got", "--server", forwarder.url).status == 0
    assert contents(tmp_path / "got") == contents(folder)
    assert (up.batches, down.batches) == (1, 1)
    assert max(up.all, down.all) < 10, (up.all, down.all)


def test_a_server_that_knows_no_batches_is_sent_and_asked_for_each_file(
    holdfast, directory, server, folder, tmp_path, monkeypatch
):
    for number in range(100, 700):
        (folder / "sub" / f"{number}.bin").unlink()
    monkeypatch.setattr(wire.Batch, "all_from_json", lambda data: ())
    assert holdfast("put", folder, directory, "--name", "made").status == 0
    assert holdfast("get", f"{directory}/made", "-o", tmp_path / "got").status == 0
    assert contents(tmp_path / "got") == contents(folder)


def test_a_batch_that_is_altered_on_its_way_is_made_good_file_by_file(holdfast, directory, server, folder, tmp_path):
    assert holdfast("put", folder, directory).status == 0
    sent = (folder / "sub" / "77.bin").read_bytes()
    altered = []

    def alter(up, piece):
        if not up and sent in piece and not altered:
            altered.append(piece)
            return piece.replace(sent, bytes(64))
        return piece

    with Forwarder(server.url, change=alter) as forwarder:
        assert holdfast("get", f"{directory}/made", "-o", tmp_path / "got", "--server", forwarder.url).status == 0
    assert altered
    assert contents(tmp_path / "got") == contents(folder)


def test_what_is_damaged_on_the_server_leaves_nothing_behind(holdfast, directory, server, folder, tmp_path):
    assert holdfast("put", folder, directory).status == 0
    (server.root / directory / "made" / "sub" / "77.bin").write_bytes(bytes(64))
    done = holdfast("get", f"{directory}/made", "-o", tmp_path / "there" / "got")
    assert done.status != 0
    assert "sub/77.bin was changed on the disk" in done.complaints
    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_that_is_there_keeps_its_other_files(holdfast, directory, folder, tmp_path):
    assert holdfast("put", folder, directory).status == 0
    got = tmp_path / "got" / "made"
    (got / "sub").mkdir(parents=True)
    (got / "mine").write_text("mine")
    (got / "sub" / "7.bin").write_text("old")
    assert holdfast("get", f"{directory}/made", "-o", got.parent).status == 0
    assert contents(got) == {**contents(folder), "mine": b"mine"}


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/null")])
def test_what_is_no_plain_file_is_not_replaced_and_nothing_else_is(holdfast, directory, folder, tmp_path, make):
    assert holdfast("put", folder, directory).status == 0
    got = tmp_path / "got" / "made"
    (got / "sub").mkdir(parents=True)
    make(got / "sub" / "7.bin")
    done = holdfast("get", f"{directory}/made", "-o", got.parent)
    assert done.status != 0
    assert str(got / "sub" / "7.bin") in done.complaints
    assert list(got.rglob("*")) == [got / "sub", got / "sub" / "7.bin"]


@pytest.mark.parametrize("many", [1, 10_000], ids=["together", "one by one"])
def test_files_are_durable_before_they_have_their_place(tmp_path, monkeypatch, many, holdfast, directory, folder):
    monkeypatch.setattr(fsync, "MANY", many)
    monkeypatch.setattr(fsync, "_is_trusted", lambda _: True)
    said = []
    for module, name in ((fsync, "_sync_file_system"), (fsync, "sync"), (download_folder, "_put")):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, real=real, name=name: (said.append(name), real(*given)))
    assert holdfast("put", folder, directory).status == 0
    assert holdfast("get", f"{directory}/made", "-o", tmp_path / "got").status == 0
    place = said.index("_put")
    assert set(said[:place]) == {"_sync_file_system" if many == 1 else "sync"}
    assert place == (1 if many == 1 else 702 + 2)


def test_a_small_file_is_opened_once_for_a_put(holdfast, directory, folder, monkeypatch):
    opened, real = Counter(), os.open

    def count(path, *given, **named):
        opened[str(path)] += 1
        return real(path, *given, **named)

    monkeypatch.setattr(os, "open", count)
    assert holdfast("put", folder, directory).status == 0
    assert {opened[str(path)] for path in folder.rglob("*.bin") if path.stat().st_size == 64} == {1}


def test_a_manifest_that_another_process_replaced_is_noticed_by_the_next_save(holdfast, own_server, folder):
    """The server caches which checkpoint a name has, and reads it again if its manifest is another file."""
    assert holdfast("put", folder, "runs", "--server", own_server.url).status == 0
    place = own_server.root / "runs" / ".holdfast" / "made.json"
    written = place.read_bytes()
    own_server.kill()
    own_server.start()
    for number in (1, 2):
        (folder / "large.bin").write_bytes(bytes([number]))
        assert holdfast("put", folder, "runs", "--server", own_server.url).status == 0
    place.with_name("other").write_bytes(written)
    place.with_name("other").replace(place)
    (folder / "large.bin").write_bytes(b"3")
    done = holdfast("put", folder, "runs", "--server", own_server.url)
    assert done.status != 0
    assert "runs/made exists and was not written by this server" in done.complaints


@pytest.mark.alone
def test_a_file_costs_no_more_among_many(holdfast, directory, tmp_path):
    """The time for each of 10,000 files is about that of 100 or 1,000: no step is quadratic."""
    took = {}
    for count in (100, 1000, 10_000, 1000):
        folder = tmp_path / f"of-{count}"
        folder.mkdir(exist_ok=True)
        for number in range(count):
            (folder / str(number)).write_bytes(os.urandom(64))
        for command in (
            ("put", folder, directory),
            ("get", f"{directory}/of-{count}", "-o", tmp_path / "got" / f"{len(took)}"),
        ):
            start = time.perf_counter()
            assert holdfast(*command).status == 0
            key = command[0], count
            took[key] = min(took.get(key, 60.0), (time.perf_counter() - start) / count)
    for command in ("put", "get"):
        assert took[command, 10_000] < 2 * min(took[command, 100], took[command, 1000]), took


def like(root):
    """Return the permissions and times of a folder and of everything in it."""
    found = [(path, path.stat()) for path in (root, *sorted(root.rglob("*")))]
    return {path.relative_to(root).as_posix(): (oct(kind.st_mode), kind.st_mtime_ns) for path, kind in found}


@pytest.fixture
def varied(tmp_path):
    """A folder with an empty one in it, a program, and old times."""
    made = tmp_path / "varied"
    (made / "empty" / "inner").mkdir(parents=True)
    (made / "sub").mkdir()
    for number in range(3):
        (made / "sub" / f"{number}.bin").write_bytes(bytes([number]))
    (made / "run.sh").write_text("true")
    (made / "run.sh").chmod(0o755)
    (made / "sub").chmod(0o700)
    for number, path in enumerate(sorted(made.rglob("*"), reverse=True)):
        os.utime(path, ns=(10**18 + number, 10**18 + number))
    os.utime(made, ns=(5, 5))
    return made


def test_a_folder_comes_back_with_its_empty_folders_permissions_and_times(holdfast, directory, varied, tmp_path):
    assert holdfast("put", varied, directory).status == 0
    assert holdfast("get", f"{directory}/varied", "-o", tmp_path / "got").status == 0
    assert like(tmp_path / "got") == like(varied)
    (varied / "run.sh").chmod(0o640)
    assert holdfast("put", varied, directory).status == 0  # the same content with other attributes
    assert holdfast("get", f"{directory}/varied", "-o", tmp_path / "again").status == 0
    assert like(tmp_path / "again") == like(varied)
    (varied / "run.sh").chmod(0o4777)
    assert holdfast("put", varied / "run.sh", directory).status == 0
    assert holdfast("get", f"{directory}/run.sh", "-o", tmp_path / "single").status == 0
    assert oct((tmp_path / "single").stat().st_mode) == oct(0o100777 & ~0o022)
    assert (tmp_path / "single").stat().st_mtime_ns == (varied / "run.sh").stat().st_mtime_ns


def test_attributes_survive_a_catalog_that_is_made_anew(holdfast, own_server, varied, tmp_path):
    assert holdfast("put", varied, "runs", "--server", own_server.url).status == 0
    own_server.kill()
    for path in (own_server.root / ".holdfast").glob("catalog.db*"):
        path.unlink()
    own_server.start()
    assert holdfast("get", "runs/varied", "-o", tmp_path / "got", "--server", own_server.url).status == 0
    assert like(tmp_path / "got") == like(varied)
