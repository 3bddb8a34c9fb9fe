"""Removals: when one returns, the bytes are gone, whichever thread has deleted them."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.models import Save, UploadFile
from app.settings import Settings
from tests.data.samples import feed
from tests.support.deadlines import DEADLINE_S
from tests.support.live import eventually


@pytest.fixture
def service(tmp_path):
    with closing(open_root(Settings(root=tmp_path / "root"))) as opened:
        yield opened


def saved(service, name):
    save = Save(directory="runs/a", name=name, files=(UploadFile(name, None),))
    with service.single_requests.begin(save) as upload:
        feed(upload, b"bytes of " + name.encode())
        return upload.finish().checkpoint


@pytest.mark.parametrize("how", ["delete", "clear"])
def test_a_removal_waits_for_another_thread_that_purges_the_same(service, how):
    checkpoint = saved(service, "a.pt")
    ended = []

    def remove():
        if how == "delete":
            service.removals.delete(checkpoint.id)
        else:
            service.removals.clear("runs/a")
        ended.append(how)

    def is_removed():
        with service.context.catalog.reading() as session:
            return session.checkpoints.get(checkpoint.id).removed_at is not None

    active = service.purge._active
    assert active.begin(checkpoint.id)  # as the janitor does
    remover = threading.Thread(target=remove)
    remover.start()
    assert eventually(is_removed)
    with service.context.catalog.lock("runs/a"):  # which the janitor needs, and the removal must not hold
        remover.join(0.2)
    assert not ended
    active.end(checkpoint.id)
    remover.join()
    assert ended == [how]


def test_a_prune_that_removes_nothing_waits_for_no_other_change(service):
    """It judges without a turn at the catalog, so that saves elsewhere need not wait for it, either."""
    saved(service, "a.pt")
    with ThreadPoolExecutor() as threads, service.context.catalog.writing():
        page = threads.submit(service.removals.prune, "runs/a", limit=10).result(timeout=DEADLINE_S)
    assert (page.tally.stays, page.tally.goes) == (1, 0)
