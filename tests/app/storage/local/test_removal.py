"""Publishing and withdrawing: the same result however often the power went in between, and no harm to others."""

import itertools
import re
from contextlib import closing

import pytest

from app.storage import manifest as manifests
from app.storage.local.disk.tree import Tree
from app.storage.local.store import LocalStorage
from tests.data.samples import below, changes, files_in, published, sealed

OLD, NEW = {"model": b"old"}, {"model": b"newer"}
OLD_SEVERAL = {"bin": b"old", "shard/0": b"0", "shard/1": b"1"}
NEW_SEVERAL = {"bin": b"newer", "shard/0": b"0"}


class PowerCut(Exception):
    """Nothing more happens."""


class CutTree(Tree):
    """A real tree in which so many more things change, and then the power goes."""

    left = 0

    def _change(self):
        if self.left == 0:
            raise PowerCut
        self.left -= 1

    def write(self, path, data):
        self._change()
        super().write(path, data)

    def move(self, source, target, **options):
        self._change()
        super().move(source, target, **options)

    def give_second_name(self, source, target):
        self._change()
        return super().give_second_name(source, target)

    def move_file_to_free_name(self, source, target):
        self._change()
        super().move_file_to_free_name(source, target)

    def unlink(self, path):
        self._change()
        super().unlink(path)

    def remove(self, path):
        self._change()
        super().remove(path)


@pytest.fixture
def storage(tmp_path):
    made = LocalStorage(tmp_path / "root", version="1")
    yield made
    made.close()


def interrupted(storage, count, act):
    """Do it with power for so many changes; whether that was enough."""
    storage.tree.__class__, storage.tree.left = CutTree, count
    try:
        act()
    except PowerCut:
        return False
    finally:
        storage.tree.__class__ = Tree
    return True


def outcomes(folder, prepare, act):
    """Yield the files on the disk after a power cut at each change in turn and two repetitions; the last had no cut."""
    for count in itertools.count():
        with closing(LocalStorage(folder / str(count), version="1")) as storage:
            given = prepare(storage)
            ended = interrupted(storage, count, lambda: act(storage, given))  # noqa: B023
            act(storage, given)
            act(storage, given)
            yield timeless(below(storage.tree.root))
        if ended:
            return


def timeless(found):
    """The same without the times in manifests, and without the checks that follow from them."""
    told = re.compile(rb'(?<="mtime_ns": )\d+|(?<="check": ")\w+')
    return {path: data and told.sub(b"0", data) for path, data in found.items()}


def replacing(old, new):
    def prepare(storage):
        standing = published(storage, old, name="model", upload_id="old") if old else None
        return sealed(storage, new, name="model", upload_id="new", sequence=2, replaces=standing and standing.id)

    return prepare


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        pytest.param({}, NEW, {"model": b"newer"}, id="a file"),
        pytest.param({}, NEW_SEVERAL, {"model/bin": b"newer", "model/shard/0": b"0"}, id="a folder"),
        pytest.param(OLD, NEW, {"model": b"newer"}, id="a file for a file"),
        pytest.param(OLD, NEW_SEVERAL, {"model/bin": b"newer", "model/shard/0": b"0"}, id="a folder for a file"),
        pytest.param(OLD_SEVERAL, NEW, {"model": b"newer"}, id="a file for a folder"),
        pytest.param(
            OLD_SEVERAL, NEW_SEVERAL, {"model/bin": b"newer", "model/shard/0": b"0"}, id="a folder for a folder"
        ),
    ],
)
def test_publishing_can_be_repeated_after_any_interruption(tmp_path, old, new, shown):
    found = list(outcomes(tmp_path, replacing(old, new), lambda storage, made: storage.content.publish("new", made)))
    assert len(found) >= (5 if old else 3)  # or the power was never cut in between
    assert all(outcome == found[-1] for outcome in found)
    assert files_in(found[-1], "runs/a") == shown
    assert manifests.load(found[-1]["runs/a/.holdfast/model.json"]).checkpoint.id == "new"
    trash = files_in(found[-1], ".holdfast/trash/old")
    assert not old or manifests.load(trash.pop("manifest.json")).checkpoint.id == "old"
    assert trash == {path if old is OLD else f"model/{path}": data for path, data in old.items()}


def withdrawing(files, *theirs):
    def prepare(storage):
        made = published(storage, files, name="model", upload_id="old")
        for path in theirs:
            place = storage.tree.root / "runs/a/model" / path
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(b"theirs")
        return made

    return prepare


@pytest.mark.parametrize(
    ("files", "theirs"),
    [
        pytest.param(OLD, (), id="a file"),
        pytest.param(OLD_SEVERAL, (), id="a folder"),
        pytest.param(OLD_SEVERAL, ("log",), id="a folder with a file of others"),
        pytest.param(OLD_SEVERAL, ("shard/log", "logs/1"), id="a folder with files of others further below"),
    ],
)
def test_withdrawing_can_be_repeated_after_any_interruption(tmp_path, files, theirs):
    prepare = withdrawing(files, *theirs)
    found = list(outcomes(tmp_path, prepare, lambda storage, made: storage.content.move_to_trash(made)))
    assert len(found) >= (len(files) + 2 if theirs else 3)
    for outcome in found:
        assert files_in(outcome, "runs/a") == {f"model/{path}": b"theirs" for path in theirs}
        assert ("runs/a/model/shard" in outcome) == any(path.startswith("shard/") for path in theirs)
        assert "runs/a/.holdfast/model.json" not in outcome
        kept = files_in(outcome, ".holdfast/trash/old")
        assert manifests.load(kept.pop("manifest.json")).checkpoint.id == "old"
        assert kept == {path if files is OLD else f"model/{path}": data for path, data in files.items()}


def test_withdrawing_goes_on_where_others_have_taken_their_files_away_meanwhile(storage):
    made = withdrawing(OLD_SEVERAL, "log")(storage)
    assert not interrupted(storage, 2, lambda: storage.content.move_to_trash(made))
    (storage.tree.root / "runs/a/model/log").unlink()
    storage.content.move_to_trash(made)
    assert "runs/a/model" not in below(storage.tree.root)


@pytest.mark.parametrize("files", [OLD, OLD_SEVERAL], ids=["a file", "a folder"])
def test_removing_for_good_can_be_repeated_after_any_interruption(tmp_path, files):
    def act(storage, made):
        storage.content.move_to_trash(made)
        storage.content.purge(made.id)
        assert storage.content.trash() == set()

    for outcome in outcomes(tmp_path, withdrawing(files), act):
        assert files_in(outcome, "runs") == files_in(outcome, ".holdfast/trash") == {}


def test_publishing_finishes_a_move_that_was_interrupted_within(storage):
    made = sealed(storage, OLD, name="model")
    place = storage.tree.root / "runs/a/model"
    place.parent.mkdir(parents=True)
    place.hardlink_to(storage.tree.root / ".holdfast/incoming/upload1/files/model")
    storage.content.publish("upload1", made)
    assert place.read_bytes() == b"old"
    assert place.stat().st_nlink == 1


@pytest.mark.parametrize("files", [OLD, OLD_SEVERAL], ids=["a file", "a folder"])
def test_nothing_is_published_whose_bytes_are_gone(storage, files):
    made = sealed(storage, files, name="model")
    storage.tree.remove((".holdfast", "incoming", "upload1", "files"))
    with pytest.raises(FileNotFoundError):
        storage.content.publish("upload1", made)
    assert not storage.tree.is_folder(("runs",))


def test_what_is_freed_is_no_longer_a_removal_to_finish_from_the_first_moment(storage):
    made = published(storage, OLD_SEVERAL, name="model")
    storage.content.move_to_trash(made)
    assert changes(storage.content.purge, made.id)[:2] == ["unlink", "fsync"]


def test_the_trash_names_what_was_withdrawn_and_not_freed(storage):
    made = published(storage, OLD, name="model")
    assert storage.content.trash() == set()
    storage.content.move_to_trash(made)
    assert storage.content.trash() == {made.id}


@pytest.mark.parametrize("files", [OLD, OLD_SEVERAL], ids=["a file", "a folder"])
def test_a_reader_keeps_what_it_has_open(storage, files):
    made = published(storage, files, name="model")
    with closing(storage.content.open(made, made.files[0])) as found:
        storage.content.move_to_trash(made)
        storage.content.purge(made.id)
        assert found.read(0, 99) == b"old"
