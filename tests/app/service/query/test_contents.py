"""Content: a touched file is read and hashed once for each state, as long as its verification is remembered."""

import os
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.errors import Altered
from app.core.models import Save, UploadFile
from app.core.spans import Span
from app.service.query import contents
from app.service.state.caches import Caches, LruCache
from app.settings import Settings
from tests.data.samples import feed

DIRECTORY = "runs/a"


@pytest.fixture
def service(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened


@pytest.fixture
def reads(monkeypatch):
    """The files that were read and hashed, in order."""
    read = []
    verify = contents.fault_in

    def note(opened, file, *given):
        read.append(f"{DIRECTORY}/{file.path}")
        return verify(opened, file, *given)

    monkeypatch.setattr(contents, "fault_in", note)
    return read


def save(service, name, data):
    files = (UploadFile(name, len(data)),)
    upload = service.reservations.reserve(Save(directory=DIRECTORY, name=name, files=files)).upload
    with service.transfers.receive(upload.id, name, Span(0, len(data))) as receiver:
        feed(receiver, data)
        receiver.finish()
    return service.commits.commit(upload.id).checkpoint


def touch(tmp_path, name, at_s):
    os.utime(tmp_path / "root" / DIRECTORY / name, (at_s, at_s))


def load(service, checkpoint):
    service.contents.open(checkpoint.id).opened.close()


def test_an_untouched_file_is_not_read(service, reads):
    load(service, save(service, "1.pt", b"one"))
    assert reads == []


def test_a_touched_file_is_read_once_for_each_touch(service, reads, tmp_path):
    one = save(service, "1.pt", b"one")
    for times in (1, 2):
        touch(tmp_path, "1.pt", times)
        load(service, one)
        load(service, one)
        assert reads == [f"{DIRECTORY}/1.pt"] * times


def test_an_evicted_verification_is_repeated(service, reads, tmp_path, monkeypatch):
    monkeypatch.setattr(service.contents, "_caches", Caches(verified=LruCache(1)))
    one, two = save(service, "1.pt", b"one"), save(service, "2.pt", b"two")
    touch(tmp_path, "1.pt", 1)
    touch(tmp_path, "2.pt", 1)
    for checkpoint in (one, two, two, one):
        load(service, checkpoint)
    assert reads == [f"{DIRECTORY}/{name}" for name in ("1.pt", "2.pt", "1.pt")]


def test_a_verification_does_not_vouch_for_a_later_change(service, tmp_path):
    one = save(service, "1.pt", b"one")
    touch(tmp_path, "1.pt", 1)
    load(service, one)
    (tmp_path / "root" / DIRECTORY / "1.pt").write_bytes(b"two")
    with pytest.raises(Altered):
        load(service, one)
