"""The promises of the two ports that only a store on a disk has: its volume, and the files of other tools."""

import os
from contextlib import closing

import pytest

from app.core.errors import ForeignFile
from tests.data.samples import manifest, published, upload

ONE = {"old.pt": b"weights"}
AT_NS = 1_700_000_000 * 10**9


@pytest.fixture
def volume(storage):
    return storage.volume or pytest.skip("this store has no volume")


@pytest.fixture
def adoption(storage):
    return storage.adoption or pytest.skip("this store sees no files of other tools")


@pytest.fixture
def external(tmp_path):
    """A folder of another tool."""
    folder = tmp_path / "external"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "old.pt").write_bytes(b"weights")
    (folder / "run" / "link").symlink_to("old.pt")
    os.mkfifo(folder / "run" / "pipe")
    os.utime(folder / "run" / "old.pt", ns=(AT_NS, AT_NS))
    return folder


def test_a_volume_tells_its_space(volume):
    assert 0 < volume.free_bytes() <= volume.capacity_bytes()
    assert volume.shares_blocks in {True, False}


def test_the_reserve_file_stays_while_there_is_space(volume):
    for _ in range(2):
        volume.keep_reserve_file()
    assert not volume.drop_reserve_file()


def test_a_folder_is_listed_without_following_links(adoption, external):
    with closing(adoption.open_folder(str(external))) as visited:
        assert (visited.within, visited.address) == (None, str(external))
        assert [(each.name, each.what) for each in visited.entries("")] == [("run", "folder")]
        assert [(each.name, each.what) for each in visited.entries("run")] == [
            ("link", "link"),
            ("old.pt", "file"),
            ("pipe", "other"),
        ]
        assert visited.entries("missing") == []
        found = visited.entry("run/old.pt")
        assert (found.size_bytes, found.mtime_ns) == (7, AT_NS)
        assert visited.entry("run/missing") is None
        with closing(visited.open("run/old.pt")) as opened:
            assert opened.read(0, 9) == b"weights"
            assert opened.version == adoption.version(AT_NS)
    with pytest.raises(FileNotFoundError):
        adoption.open_folder(str(external / "missing"))


def test_a_copy_has_its_place_only_when_it_is_put_there(storage, adoption, external):
    with closing(adoption.open_folder(str(external))) as visited:
        with adoption.copying(visited, "run/old.pt"):
            pass
        assert list(storage.records.inventory()) == []
        with adoption.copying(visited, "run/old.pt") as copy:
            adoption.put(copy, "runs/old.pt")
        with pytest.raises(FileExistsError), adoption.copying(visited, "run/old.pt") as copy:
            adoption.put(copy, "runs/old.pt")
        with pytest.raises(ForeignFile), adoption.copying(visited, "run"):
            pass
    with closing(adoption.open_root_folder()) as root:
        assert root.within == ""
        assert root.entry("runs/old.pt").mtime_ns == AT_NS
    with closing(adoption.open("runs/old.pt")) as opened:
        assert opened.read(0, 9) == b"weights"


def test_files_in_their_place_become_a_checkpoint(storage, adoption, external):
    with closing(adoption.open_folder(str(external))) as visited, adoption.copying(visited, "run/old.pt") as copy:
        adoption.put(copy, "runs/a/old.pt")
    assert adoption.manifest_at("runs/a", "old.pt") is None
    made = manifest(upload(ONE, name="old.pt"), ONE, versions={"old.pt": adoption.version(AT_NS)})
    for _ in range(2):
        adoption.make_checkpoint(made, copied=True)
    assert adoption.manifest_at("runs/a", "old.pt") == made
    with closing(storage.content.open(made.checkpoint, made.checkpoint.files[0])) as opened:
        assert opened.is_version_of(made.checkpoint.files[0])


def test_another_manifest_in_the_place_is_foreign(server, storage, adoption):
    published(storage, ONE, name="old.pt")
    key = storage.records.manifest_key("runs/a", "old.pt")
    server.store.overwrite(key, b"{")
    with pytest.raises(ForeignFile):
        adoption.manifest_at("runs/a", "old.pt")
