"""Saves that outpace the thread that purges: they help it by either route, so that what waits is bounded."""

import threading
from contextlib import closing

import pytest

from app.bootstrap import open_root
from app.core.models import PolicyRequest, Save, UploadFile
from app.service.state.active_purges import MOST_WAITING
from app.service.upload.admission import UNCONDITIONAL
from app.settings import Settings
from tests.data.samples import feed
from tests.support.deadlines import DEADLINE_S


def small(service, save, data):
    service.small_saves.save(save, data, UNCONDITIONAL)


def alone(service, save, data):
    with service.single_requests.begin(save, conditions=UNCONDITIONAL) as upload:
        feed(upload, data)
        upload.finish()


@pytest.mark.parametrize(("route", "size_bytes"), [(small, 1), (alone, None)])
def test_what_waits_for_a_busy_thread_is_bounded(tmp_path, route, size_bytes):
    may_go_on, policy = threading.Event(), PolicyRequest(limits={"max_checkpoints": 1, "max_best_checkpoints": 0})
    with closing(open_root(Settings(root=tmp_path / "root"))) as service:
        service.purge._active._worker.submit(may_go_on.wait, DEADLINE_S)
        try:
            for number in range(MOST_WAITING + 20):
                name, files = f"{number}.pt", (UploadFile(f"{number}.pt", size_bytes),)
                save = Save(directory="runs/a", name=name, save_id=f"save-{number:04}", files=files, policy=policy)
                route(service, save, b"x")
                assert len(service.purge._active._scheduled) <= MOST_WAITING
            with service.context.catalog.reading() as session:
                assert len(session.checkpoints.to_move_to_trash()) <= MOST_WAITING
        finally:
            may_go_on.set()
    assert [path.name for path in (tmp_path / "root/runs/a").glob("*.pt")] == [name]
