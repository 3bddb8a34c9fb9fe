"""A thread never holds two sessions of the catalog: they are few, and threads that each wait for a second never end."""

import threading
from collections import Counter
from contextlib import closing

import pytest
from sqlalchemy import event

from app.bootstrap import build_authenticator, open_root
from app.core.access import ANYONE
from app.core.models import PolicyRequest, Save, UploadFile
from app.service.upload.admission import Conditions
from app.settings import Settings
from tests.data.samples import feed


@pytest.fixture
def settings(tmp_path):
    return Settings(root=tmp_path / "root")


@pytest.fixture
def service(settings):
    with closing(open_root(settings)) as opened:
        yield opened


def test_a_save_holds_one_session_at_a_time(settings, service):
    authenticator = build_authenticator(settings, service)
    conditions = Conditions(still_may=lambda: authenticator.access_of(ANYONE))
    held, nested = Counter(), []

    @event.listens_for(service.context.catalog._engine, "checkout")
    def taken(*_):
        held[threading.get_ident()] += 1
        nested.append(held[threading.get_ident()] > 1)

    @event.listens_for(service.context.catalog._engine, "checkin")
    def returned(*_):
        held[threading.get_ident()] -= 1

    policy = PolicyRequest(limits={"max_checkpoints": 1})
    for name in ("a.pt", "b.pt", "b.pt"):
        save = Save(directory="runs/a", name=name, files=(UploadFile(name, None),), policy=policy)
        with service.single_requests.begin(save, conditions=conditions) as upload:
            feed(upload, b"bytes of " + name.encode())
            upload.finish()
    assert len(nested) > 10
    assert not any(nested)
