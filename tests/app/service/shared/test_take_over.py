"""A later attempt takes over at the worst moment: what the earlier one has under way neither harms nor replaces it."""

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from app.core.errors import AttemptSuperseded, UploadBusy
from app.core.models import Save, SharedTerms, UploadFile
from app.core.spans import Span
from app.service.upload.admission import UNCONDITIONAL
from tests.data.samples import feed


def reserve(service, attempt):
    save = Save(directory="runs/a", name="step-1", save_id="job-1", files=(), shared=SharedTerms(attempt=attempt))
    return service.shared_reservations.reserve(save)


def fill(service, upload_id, attempt, path, data):
    service.shared_files.declare(upload_id, "w", attempt, [UploadFile(path, len(data))])
    with service.transfers.receive(upload_id, path, Span(0, len(data)), attempt) as receiver:
        feed(receiver, data)
        receiver.finish()
    return service.shared_commits.ready(upload_id, "w", attempt, {}, UNCONDITIONAL)


def commit(service, upload_id, attempt):
    return service.shared_commits.commit(upload_id, attempt, (), (), UNCONDITIONAL)


@pytest.fixture
def upload_id(service):
    upload_id = reserve(service, 0).upload.id
    fill(service, upload_id, 0, "old", b"AAA")
    return upload_id


@pytest.fixture
def overtaken(service, upload_id, monkeypatch):
    """Lets attempt 1 take over, and fill the upload, just before or just after the next call of a method."""

    def arrange(owner, name, *, after):
        method = getattr(owner, name)

        def overtaking(*args, **kwargs):
            monkeypatch.setattr(owner, name, method)
            found = method(*args, **kwargs) if after else None
            reserve(service, 1)
            fill(service, upload_id, 1, "new", b"BBB")
            return found if after else method(*args, **kwargs)

        monkeypatch.setattr(owner, name, overtaking)

    return arrange


def assert_attempt_1_is_whole(service, upload_id):
    committed = commit(service, upload_id, 1)
    assert [file.path for file in committed.checkpoint.files] == ["new"]
    place = service.context.storage.tree.root / "runs" / "a" / "step-1"
    assert {path.name: path.read_bytes() for path in place.iterdir()} == {"new": b"BBB"}


def test_a_commit_that_is_overtaken_leaves_the_bytes_of_the_later_attempt(service, upload_id, overtaken):
    overtaken(service.shared_files, "progress_of", after=True)
    with pytest.raises(AttemptSuperseded):
        commit(service, upload_id, 0)
    assert_attempt_1_is_whole(service, upload_id)


def test_an_abort_that_is_overtaken_leaves_the_later_attempt(service, upload_id, overtaken):
    overtaken(service.aborts._open_uploads, "closing", after=False)
    with pytest.raises(AttemptSuperseded):
        service.aborts.abort(upload_id, 0)
    assert_attempt_1_is_whole(service, upload_id)


def test_an_abort_without_an_attempt_does_not_remove_a_later_one_than_it_saw(service, upload_id, overtaken):
    """As when a lease expires: the later attempt has renewed nothing yet."""
    overtaken(service.aborts._open_uploads, "closing", after=False)
    with pytest.raises(UploadBusy):
        service.aborts.abort(upload_id)
    assert_attempt_1_is_whole(service, upload_id)


@pytest.fixture
def amid(service, monkeypatch):
    """Runs something in another thread amid the take-over by attempt 1; the outcome is the future that it returns."""
    open_uploads = service.shared_reservations._open_uploads
    supersede = open_uploads.supersede
    with ThreadPoolExecutor(1) as pool:

        def run(work, *args):
            started = []

            def superseding(progress, later):
                monkeypatch.setattr(open_uploads, "supersede", supersede)
                started.append(pool.submit(work, *args))
                wait(started, 0.3)
                supersede(progress, later)

            monkeypatch.setattr(open_uploads, "supersede", superseding)
            reserve(service, 1)
            return started[0]

        yield run


def test_two_writers_that_reserve_a_later_attempt_at_once_get_the_same_upload(service, upload_id, amid):
    other = amid(reserve, service, 1).result(10)
    assert (other.upload.id, other.upload.shared.attempt, other.shared.terms.attempt) == (upload_id, 1, 1)
    fill(service, upload_id, 1, "new", b"BBB")
    assert_attempt_1_is_whole(service, upload_id)


def test_a_still_later_attempt_waits_for_its_turn(service, upload_id, amid):
    assert amid(reserve, service, 2).result(10).shared.terms.attempt == 2
    with pytest.raises(AttemptSuperseded):
        commit(service, upload_id, 1)


@pytest.mark.parametrize("deed", ["commit", "abort", "fill"])
def test_the_loser_of_a_take_over_is_told_so(service, upload_id, amid, deed):
    deeds = {
        "commit": (commit, service, upload_id, 0),
        "abort": (service.aborts.abort, upload_id, 0),
        "fill": (fill, service, upload_id, 0, "late", b"C"),
    }
    with pytest.raises(AttemptSuperseded):
        amid(*deeds[deed]).result(10)


def test_a_take_over_that_fails_leaves_the_earlier_attempt(service, upload_id, monkeypatch):
    def fail(*args):
        raise OSError("no space")

    with monkeypatch.context() as patched:
        patched.setattr("app.service.shared.reservation._with_facts", fail)
        with pytest.raises(OSError, match="no space"):
            reserve(service, 1)
    assert [file.path for file in commit(service, upload_id, 0).checkpoint.files] == ["old"]
