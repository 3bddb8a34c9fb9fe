"""The disk below a root: its space, and the reserve file that a full disk gives up."""

from contextlib import closing

import pytest

from app.storage.local import volume as local_volume
from app.storage.local.store import LocalStorage


@pytest.fixture
def storage(tmp_path):
    with closing(LocalStorage(tmp_path / "root", version="1")) as made:
        yield made


def test_a_volume_has_free_space_within_its_capacity(storage):
    assert 0 < storage.volume.free_bytes() <= storage.volume.capacity_bytes()


def test_the_reserve_file_is_kept_while_there_is_space_and_dropped_once_there_is_none(storage, monkeypatch):
    reserve = storage.tree.root / ".holdfast" / "ballast"
    assert reserve.stat().st_size == local_volume.RESERVE_FILE_BYTES
    assert not storage.volume.drop_reserve_file(), "there is plenty of space"
    monkeypatch.setattr(local_volume, "LEAST_BYTES", storage.volume.capacity_bytes() + 1)
    assert storage.volume.drop_reserve_file()
    assert not storage.volume.drop_reserve_file()
    assert not reserve.exists()
    storage.volume.keep_reserve_file()
    storage.volume.keep_reserve_file()
    assert reserve.exists()
