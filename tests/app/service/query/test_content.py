"""Content: a touched file is read and hashed once for each state, as long as its verification is remembered."""

import os
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.errors import Altered
from app.core.models import Save, UploadFile
from app.core.spans import Span
from app.service.query import content
from app.service.state.caches import Caches, LruCache
from app.settings import Settings
from tests.data.samples import feed

DIRECTORY = "runs/a"


@pytest.fixture
def checkpoints(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened


@pytest.fixture
def reads(monkeypatch):
    """The files that were read and hashed, in order."""
    read = []
    verify = content.fault_in

    def note(opened, where, *given):
        read.append(where)
        return verify(opened, where, *given)

    monkeypatch.setattr(content, "fault_in", note)
    return read


def save(checkpoints, name, data):
    files = (UploadFile(name, len(data)),)
    upload = checkpoints.reservations.reserve(Save(directory=DIRECTORY, name=name, files=files)).upload
    with checkpoints.uploads.receive(upload.id, name, Span(0, len(data))) as receiver:
        feed(receiver, data)
        receiver.finish()
    return checkpoints.commits.commit(upload.id).checkpoint


def touch(tmp_path, name, at_s):
    os.utime(tmp_path / "root" / DIRECTORY / name, (at_s, at_s))


def load(checkpoints, checkpoint):
    checkpoints.contents.open(checkpoint.id).opened.close()


def test_an_untouched_file_is_not_read(checkpoints, reads):
    load(checkpoints, save(checkpoints, "1.pt", b"one"))
    assert reads == []


def test_a_touched_file_is_read_once_for_each_touch(checkpoints, reads, tmp_path):
    one = save(checkpoints, "1.pt", b"one")
    for times in (1, 2):
        touch(tmp_path, "1.pt", times)
        load(checkpoints, one)
        load(checkpoints, one)
        assert reads == [f"{DIRECTORY}/1.pt"] * times


def test_an_evicted_verification_is_repeated(checkpoints, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints.contents, "_caches", Caches(verified=LruCache(1)))
    one, two = save(checkpoints, "1.pt", b"one"), save(checkpoints, "2.pt", b"two")
    touch(tmp_path, "1.pt", 1)
    touch(tmp_path, "2.pt", 1)
    for checkpoint in (one, two, two, one):
        load(checkpoints, checkpoint)
    assert reads == [f"{DIRECTORY}/{name}" for name in ("1.pt", "2.pt", "1.pt")]


def test_a_verification_does_not_vouch_for_a_later_change(checkpoints, tmp_path):
    one = save(checkpoints, "1.pt", b"one")
    touch(tmp_path, "1.pt", 1)
    load(checkpoints, one)
    (tmp_path / "root" / DIRECTORY / "1.pt").write_bytes(b"two")
    with pytest.raises(Altered):
        load(checkpoints, one)
