"""Files that several writers declare: paths, places, and the sums of each writer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import InvalidName, PathTaken
from app.core.models import Chunk, SharedFile, UploadFile
from app.service.state.shared_files import DeclaredFiles, above


def file(path, size_bytes=4, digest=""):
    return UploadFile(path, size_bytes, (Chunk(size_bytes, digest),) if size_bytes else ())


def declared(*paths, writer="w"):
    files = DeclaredFiles("name")
    for path in paths:
        shared = files.compare(writer, file(path))
        assert shared is not None
        files.put(shared)
    return files


@pytest.mark.parametrize(("held", "path"), [("a", "a/b"), ("a/b", "a"), ("a/b/c", "a"), ("a", "a/b/c")])
def test_a_path_is_a_file_or_a_folder(held, path):
    files = declared(held)
    with pytest.raises(PathTaken):
        files.compare("w", file(path))
    files.remove(held)
    assert files.compare("w", file(path)) is not None


def test_what_a_declaration_says_that_is_new():
    files = declared("a")
    assert files.compare("w", file("a")) is None
    assert files.compare("w", file("a", digest="d")).file.is_hashed
    files.put(files.compare("w", file("a", digest="d")))
    assert files.compare("w", file("a")) is None, "a repeat without digests takes none away"
    for other in (file("a", digest="e"), file("a", 5)):
        with pytest.raises(PathTaken):
            files.compare("w", other)
    with pytest.raises(PathTaken, match="'w'"):
        files.compare("v", file("a"))
    with pytest.raises(InvalidName):
        files.compare("w", file("name"))


def test_what_stays_of_an_earlier_attempt_may_be_in_the_way():
    files = DeclaredFiles("name", left={path: file(path) for path in ("a", "b/c", "b/d", "e")})
    assert files.in_the_way({"a": 4}) == []
    assert files.in_the_way({"a": 5}) == ["a"]
    assert files.in_the_way({"a/x": 4}) == ["a"]
    assert files.in_the_way({"b": 4}) == ["b/c", "b/d"]
    assert files.in_the_way({"b/x": 4, "f": 1}) == []


@given(st.lists(st.tuples(st.sampled_from(["put", "remove"]), st.sampled_from(["a", "b/c", "b/d", "e/f/g"]))))
def test_sums_and_places_follow_every_change(steps):
    files, seen = DeclaredFiles("name"), set()
    for step, path in steps:
        if step == "put" and (shared := files.compare(path[0], file(path, len(path)))) is not None:
            assert shared.place not in seen
            seen.add(shared.place)
            files.put(shared)
        elif step == "remove" and path in files.by_path:
            files.remove(path)
        known = files.by_path
        assert files.totals["files"] == len(known) == sum(writer.files for writer in files.writers.values())
        assert files.totals["bytes"] == sum(len(path) for path in known)
        assert all(files.at(known[path].place) == known[path].file for path in known)
        folders = {folder for path in known for folder in above(path)}
        assert {folder for folder in ("b", "e", "e/f") if files._folders[folder]} == folders


def test_writers_that_a_commit_waits_for():
    files = declared("a", writer="x")
    files.writer("y").touch(is_ready=True)
    files.writer("idle").touch()
    assert files.unready(("z", "y")) == ("z", "x")
    assert isinstance(files.by_path["a"], SharedFile)
