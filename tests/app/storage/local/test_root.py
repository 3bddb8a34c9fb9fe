"""Ownership of a root, and the roots that are refused."""

import json
import os
import shutil
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from app.core.errors import RootLocked, RootUnusable
from app.storage.local.store import LocalStorage
from tests.data.samples import below, descriptors, published

ONE = {"model.pt": b"weights"}


def opened(root):
    return closing(LocalStorage(root, version="1"))


def test_one_process_owns_a_root(tmp_path):
    with opened(tmp_path), pytest.raises(RootLocked, match=f"process id {os.getpid()}"):
        LocalStorage(tmp_path, version="1")
    with opened(tmp_path) as again:
        assert again.content.is_writable()


def test_nobody_else_can_take_its_lock(tmp_path):
    lock = tmp_path / ".holdfast" / "lock"
    for _ in range(2):
        with opened(tmp_path):
            assert lock.stat().st_mode & 0o777 == 0o600
        lock.chmod(0o644)  # as older versions made it


def test_a_root_is_new_once(tmp_path):
    for new in (True, False):
        with opened(tmp_path) as storage:
            assert storage.marks.is_new is new


@pytest.mark.parametrize(
    "text",
    [
        pytest.param('{"format": 3, "written_by": "9.0"}', id="newer"),
        pytest.param("{}", id="unknown"),
        pytest.param("[1]", id="no object"),
        pytest.param("{", id="damaged"),
    ],
)
def test_a_root_of_another_layout_is_refused_untouched(tmp_path, text):
    with opened(tmp_path) as storage:
        published(storage, ONE)
    record = tmp_path / ".holdfast" / "format.json"
    assert json.loads(record.read_text())["format"] == 2
    record.write_text(text)
    before = below(tmp_path)
    with pytest.raises(RootUnusable):
        LocalStorage(tmp_path, version="2")
    assert below(tmp_path) == before


def test_a_root_of_the_layout_before_is_upgraded_when_all_is_well(tmp_path):
    with opened(tmp_path):
        pass
    record = tmp_path / ".holdfast" / "format.json"
    record.write_text('{"format": 1, "written_by": "0.1.0"}')
    with opened(tmp_path) as storage:
        assert json.loads(record.read_text())["format"] == 1
        assert not storage.marks.is_new
        storage.marks.upgrade()
    assert json.loads(record.read_text())["format"] == 2


def test_a_root_that_was_refused_is_let_go(tmp_path):
    with opened(tmp_path):
        pass
    record = tmp_path / ".holdfast" / "format.json"
    good, _ = record.read_text(), record.write_text('{"format": 3}')
    with pytest.raises(RootUnusable):
        LocalStorage(tmp_path, version="1")
    record.write_text(good)
    with opened(tmp_path) as storage:
        assert not storage.marks.is_new


def test_those_who_ask_at_once_whether_it_is_writable_share_one_try(tmp_path):
    tries = []

    def watch(event, arguments):
        if event == "os.rename" and arguments[1] == "probe":
            tries.append(event)
            time.sleep(0.01)

    sys.addaudithook(watch)
    with opened(tmp_path) as storage, ThreadPoolExecutor(40) as threads:
        answers = [threads.submit(storage.content.is_writable) for _ in range(200)]
        assert all(answer.result() for answer in answers)
    assert 1 <= len(tries) <= 20


def test_a_root_that_cannot_be_written_is_not_writable(tmp_path):
    with opened(tmp_path / "root") as storage:
        before = below(tmp_path)
        assert storage.content.is_writable()
        assert below(tmp_path) == before
        shutil.rmtree(storage.tree.root)
        assert not storage.content.is_writable()


def test_a_file_is_no_root(tmp_path):
    (tmp_path / "root").write_bytes(b"theirs")
    with pytest.raises(RootUnusable, match="cannot be the root"):
        LocalStorage(tmp_path / "root", version="1")
    assert below(tmp_path) == {"root": b"theirs"}


def test_the_lock_names_its_owner_alone(tmp_path):
    with opened(tmp_path):
        pass
    (tmp_path / ".holdfast" / "lock").write_text("12345678901234567890\n")
    with opened(tmp_path):
        assert (tmp_path / ".holdfast" / "lock").read_text() == f"{os.getpid()}\n"


def test_no_descriptor_is_left_open(tmp_path):
    before = descriptors()
    with opened(tmp_path) as storage:
        made = published(storage, ONE)
        storage.content.open(made, made.files[0]).close()
        with pytest.raises(RootLocked):
            LocalStorage(tmp_path, version="1")
        assert list(storage.records.survey())
        storage.content.move_to_trash(made)
        storage.content.purge(made.id)
    (tmp_path / ".holdfast" / "format.json").write_text("{}")
    with pytest.raises(RootUnusable):
        LocalStorage(tmp_path, version="1")
    assert descriptors() == before
