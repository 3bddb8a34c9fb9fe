"""Each store of the conformance suite, opened."""

import pytest

from tests.support.stores import STORES, Restartable


@pytest.fixture(params=STORES)
def server(request, tmp_path):
    made = Restartable(request.param(tmp_path))
    yield made
    made.close()


@pytest.fixture
def storage(server):
    return server.now


@pytest.fixture
def content(storage):
    return storage.content


@pytest.fixture
def records(storage):
    return storage.records
