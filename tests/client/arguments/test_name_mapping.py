"""Mapping from local paths to names on the server."""

from datetime import UTC, datetime
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest

from holdfast import InvalidRequest
from holdfast._arguments.name_mapping import checkpoint_name, directory_name, locate

OWN = Path("runs/own")


@pytest.mark.parametrize(
    ("path", "prefix", "name"),
    [
        pytest.param(PurePosixPath("runs/a"), "", "runs/a", id="relative"),
        pytest.param(PurePosixPath("./runs/./a"), "", "runs/a", id="with dots that mean nothing"),
        pytest.param(PurePosixPath("/scratch/me/run"), "", "scratch/me/run", id="absolute"),
        pytest.param(PureWindowsPath("C:\\runs\\a"), "", "runs/a", id="on Windows"),
        pytest.param(PurePosixPath("runs/a"), "team/x", "team/x/runs/a", id="behind a prefix"),
        pytest.param(PurePosixPath("/runs/a"), "/team/", "team/runs/a", id="behind a prefix with slashes"),
    ],
)
def test_a_directory_is_named_without_its_anchor(path, prefix, name):
    assert directory_name(path, prefix) == name


@pytest.mark.parametrize("path", [".", "/", "..", "runs/../a", "../runs"])
def test_a_path_that_names_no_directory_is_refused(path):
    with pytest.raises(InvalidRequest) as caught:
        directory_name(PurePosixPath(path), "")
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "invalid_name"


@pytest.mark.parametrize(
    ("path", "directory", "name"),
    [
        pytest.param("a.pt", "team/runs/own", "a.pt", id="a bare name"),
        pytest.param("runs/own/a.pt", "team/runs/own", "a.pt", id="a path that save returned"),
        pytest.param(Path("/other/dir/a.pt"), "team/other/dir", "a.pt", id="another parent"),
    ],
)
def test_a_checkpoint_lies_where_its_path_says(path, directory, name):
    assert locate(path, OWN, "team") == (directory, name)


@pytest.mark.parametrize("path", ["", "..", "a/.."])
def test_a_path_that_names_no_checkpoint_is_refused(path):
    with pytest.raises(InvalidRequest):
        locate(path, OWN, "")


def test_saves_of_one_second_whose_ids_begin_alike_have_names_of_their_own():
    at = datetime(2026, 11, 23, 14, 5, 1, tzinfo=UTC)
    assert len({checkpoint_name("checkpoint", None, None, at, f"abcdabcdabcd{end}") for end in range(1000)}) == 1000


def test_a_checkpoint_is_named_by_its_epoch_or_by_the_time():
    at = datetime(2026, 11, 23, 14, 5, 1, tzinfo=UTC)
    assert checkpoint_name("checkpoint", 100, None, at, "3f9abc") == "checkpoint_epoch_0100.pt"
    assert checkpoint_name("best", 12345, None, at, "3f9abc") == "best_epoch_12345.pt"
    assert checkpoint_name("checkpoint", None, 12000, at, "3f9abc") == "checkpoint_step_00012000.pt"
    assert checkpoint_name("best", 3, 0, at, "3f9abc") == "best_epoch_0003_step_00000000.pt"
    assert checkpoint_name("checkpoint", None, None, at, "3f9abc") == "checkpoint_20261123T140501_5c2116a7116e.pt"
