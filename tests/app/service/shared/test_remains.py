"""Bytes whose removal failed while the server runs."""

import pytest

from app.core.models import Save, SharedTerms
from tests.app.service.shared.test_take_over import commit, fill


@pytest.mark.parametrize(("path", "after"), [("f", "f"), ("f", "f/below"), ("above/f", "above")])
def test_a_removal_that_failed_is_made_up_for(service, monkeypatch, path, after):
    save = Save(directory="runs/a", name="step-1", save_id="job-1", files=(), shared=SharedTerms())
    upload_id = service.shared_reservations.reserve(save).upload.id
    fill(service, upload_id, 0, path, b"A" * 100)

    def fail(*args):
        raise OSError("the disk")

    with monkeypatch.context() as patched:
        patched.setattr(service.context.storage.content, "remove_file", fail)
        with pytest.raises(OSError, match="the disk"):
            service.shared_files.remove(upload_id, "w", 0, path)
    fill(service, upload_id, 0, after, b"short")
    committed = commit(service, upload_id, 0)
    assert [(file.path, file.size_bytes) for file in committed.checkpoint.files] == [(after, 5)]
    place = service.context.storage.tree.root / "runs" / "a" / "step-1" / after
    assert place.read_bytes() == b"short"
