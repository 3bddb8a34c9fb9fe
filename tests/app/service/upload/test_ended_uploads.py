"""Uploads that have ended: threads that still know them write nothing more, and repeats take their place."""

from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.errors import UploadBusy, UploadNotFound
from app.core.models import Save, UploadFile
from app.core.spans import Span
from app.service.commit import single_request
from app.settings import Settings
from tests.data.samples import feed


@pytest.fixture
def service(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened


def save(size_bytes):
    return Save(directory="runs/a", name="a.pt", save_id="one", files=(UploadFile("a.pt", size_bytes),))


def test_an_upload_that_was_read_before_its_abort_is_not_begun_again(service):
    upload = service.reservations.reserve(save(5)).upload
    service.aborts.abort(upload.id)
    with pytest.raises(UploadNotFound):
        service.transfers.missing(upload)
    with pytest.raises(UploadNotFound), service.transfers.receive(upload.id, "a.pt", Span(0, 5)):
        pass
    assert service.context.storage.content.uploads() == set()


def test_a_request_is_not_overtaken_while_its_bytes_come(service):
    with service.single_requests.begin(save(None)) as first:
        feed(first, b"bytes")
        with pytest.raises(UploadBusy), service.single_requests.begin(save(None)):
            pass
        committed = first.finish()
    with service.single_requests.begin(save(None)) as repeat:
        feed(repeat, b"bytes")
        assert repeat.finish().checkpoint.id == committed.checkpoint.id


def test_two_requests_may_repeat_a_committed_save_at_once(service):
    with service.single_requests.begin(save(None)) as first:
        feed(first, b"bytes")
        committed = first.finish()
    with service.single_requests.begin(save(None)) as one, service.single_requests.begin(save(None)) as other:
        for repeat in (one, other):
            feed(repeat, b"bytes")
            assert repeat.finish().checkpoint.id == committed.checkpoint.id


def test_a_request_whose_bytes_have_stopped_coming_is_replaced(service, monkeypatch):
    monkeypatch.setattr(single_request, "LULL_S", -1.0)
    with service.single_requests.begin(save(None)) as first:
        feed(first, b"stale")
        with service.single_requests.begin(save(None)) as second:
            feed(second, b"bytes")
            committed = second.finish()
        with pytest.raises(UploadBusy):
            first.finish()
    assert not committed.repeated
    assert service.context.storage.content.uploads() == set()
